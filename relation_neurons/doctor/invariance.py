"""Checks that ask a model for facts: batches against single prompts, and answers that flip without a cause."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from relation_neurons.doctor.checks import REPORT, Check, DtypeName
from relation_neurons.evaluation.recall import recall
from relation_neurons.models.types import HookedModel
from relation_neurons.prompts.prompts import Prompt, PromptConfig, make_prompts
from relation_neurons.prompts.tokenization import encode
from relation_neurons.relations.loading import load_relations
from relation_neurons.statistics.intervals import proportion_interval

LOGPROB_TOLERANCE: Mapping[DtypeName, float] = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.5}
"""Nats by which the log-probability of an answer may depend on its batch."""
FLIPS: Mapping[DtypeName, float] = {"float32": 0.05, "float16": 0.25, "bfloat16": 0.25}
"""Share of answers that flip without any cause, above which, by the interval's lower end, something is broken."""


def batches_check(name: str, model: HookedModel, dtype: DtypeName, relations: Sequence[str | Path]) -> Check:
    """Prompts of different lengths, each alone and all in one batch."""
    prompts = [*some_prompts(relations, 4, shots=0), *some_prompts(relations, 4, shots=2)]
    alone = pd.concat([recall(model, [prompt]) for prompt in prompts], ignore_index=True)
    together = recall(model, prompts, batch_size=len(prompts))
    difference = float((alone["logprob"] - together["logprob"]).abs().max(skipna=False))
    other = int((alone["generated"] != together["generated"]).sum())
    lengths = [len(one.ids) for one in encode(model, prompts)]
    tolerance = LOGPROB_TOLERANCE[dtype]
    found = (
        f"{len(prompts)} prompts of {min(lengths)} to {max(lengths)} tokens, alone and together: {other} answers "
        f"differ, log-probabilities by at most {difference:.1e} nats (tolerance {tolerance:g})"
    )
    if difference <= tolerance and (other == 0 or dtype != "float32"):
        return Check(name, "ok", found)
    return Check(name, "trouble", found, f"use --batch-size 1; {REPORT}")


def null_run_check(
    name: str, model: HookedModel, dtype: DtypeName, n: int, relations: Sequence[str | Path], said: dict[str, list[str]]
) -> Check:
    """How often two greedy tokens differ between runs that should be alike; puts them into `said`."""
    prompts = some_prompts(relations, n, shots=2)
    whole = recall(model, prompts, max_new_tokens=2)
    if not np.isfinite(whole["logprob"]).all():
        return Check(name, "trouble", "log-probabilities are not finite", "use another --dtype")
    said[dtype] = whole["generated"].tolist()
    other = recall(model, prompts, max_new_tokens=2, batch_size=max(1, min(7, len(prompts) - 1)))["generated"].tolist()
    runs = {"in other batches": other}
    if dtype != "float32" and "float32" in said:
        runs["from float32"] = said["float32"]
    shares = {how: proportion_interval(np.array(said[dtype]) != np.array(run)) for how, run in runs.items()}
    found = f"two greedy tokens of {len(prompts)} prompts differ: " + "; ".join(
        f"{share.mean:.1%} {how} (95 % interval {share.low:.1%} to {share.high:.1%})" for how, share in shares.items()
    )
    if any(share.low > FLIPS[dtype] for share in shares.values()):
        return Check(name, "trouble", found, REPORT)
    if all(share.mean == 0 for share in shares.values()):
        return Check(name, "ok", found)
    do = "compare results of one dtype only, and trust no effect on answers that is not above these shares"
    return Check(name, "warning" if dtype == "float32" else "note", found, do)


def some_prompts(relations: Sequence[str | Path], n: int, *, shots: int) -> tuple[Prompt, ...]:
    """So many evaluation prompts, spread over the relations."""
    loaded = load_relations(*relations)
    config = PromptConfig(shots=shots, templates="first", n_evaluation=math.ceil(n / len(loaded)), n_detection=1)
    prompts = make_prompts(loaded, config).evaluation
    return tuple(prompts[number * len(prompts) // n] for number in range(min(n, len(prompts))))
