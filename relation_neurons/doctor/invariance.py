"""Checks of invariance: answers must not depend on the batch, and rarely on the precision."""

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
"""Largest acceptable difference between log-probabilities in different batches, in nats."""
FLIPS: Mapping[DtypeName, float] = {"float32": 0.05, "float16": 0.25, "bfloat16": 0.25}
"""Share of answers that differ between null runs; a share whose interval lies above it is trouble."""


def batches_check(name: str, model: HookedModel, dtype: DtypeName, relations: Sequence[str | Path]) -> Check:
    """Compare prompts of different lengths, run one by one and in one batch."""
    prompts = [*some_prompts(relations, 4, shots=0), *some_prompts(relations, 4, shots=2)]
    alone = pd.concat([recall(model, [prompt]) for prompt in prompts], ignore_index=True)
    together = recall(model, prompts, batch_size=len(prompts))
    difference = float((alone["logprob"] - together["logprob"]).abs().max(skipna=False))
    n_different = int((alone["generated"] != together["generated"]).sum())
    lengths = [len(encoded.ids) for encoded in encode(model, prompts)]
    tolerance = LOGPROB_TOLERANCE[dtype]
    result = (
        f"{len(prompts)} prompts of {min(lengths)} to {max(lengths)} tokens, one by one and in one batch: "
        f"{n_different} answers differ, log-probabilities differ by at most {difference:.1e} nats (tolerance "
        f"{tolerance:g})"
    )
    if difference <= tolerance and (n_different == 0 or dtype != "float32"):
        return Check(name, "ok", result)
    return Check(name, "trouble", result, f"use --batch-size 1; {REPORT}")


def null_run_check(
    name: str,
    model: HookedModel,
    dtype: DtypeName,
    n: int,
    relations: Sequence[str | Path],
    answers: dict[str, list[str]],
) -> Check:
    """Share of answers of two greedy tokens that differ between runs that should agree.

    Adds the answers to `answers[dtype]`, with which later types are compared.
    """
    prompts = some_prompts(relations, n, shots=2)
    first = recall(model, prompts, max_new_tokens=2)
    if not np.isfinite(first["logprob"]).all():
        return Check(name, "trouble", "log-probabilities are not finite", "use another --dtype")
    answers[dtype] = first["generated"].tolist()
    second = recall(model, prompts, max_new_tokens=2, batch_size=max(1, min(7, len(prompts) - 1)))["generated"].tolist()
    runs = {"in other batches": second}
    if dtype != "float32" and "float32" in answers:
        runs["from float32"] = answers["float32"]
    shares = {how: proportion_interval(np.array(answers[dtype]) != np.array(run)) for how, run in runs.items()}
    result = f"two greedy tokens of {len(prompts)} prompts differ: " + "; ".join(
        f"{share.mean:.1%} {how} (95 % interval {share.low:.1%} to {share.high:.1%})" for how, share in shares.items()
    )
    if any(share.low > FLIPS[dtype] for share in shares.values()):
        return Check(name, "trouble", result, REPORT)
    if all(share.mean == 0 for share in shares.values()):
        return Check(name, "ok", result)
    do = "only compare results of the same dtype, and do not trust effects on answers below these shares"
    return Check(name, "warning" if dtype == "float32" else "note", result, do)


def some_prompts(relations: Sequence[str | Path], n: int, *, shots: int) -> tuple[Prompt, ...]:
    """At most `n` evaluation prompts, spread evenly over the relations."""
    loaded = load_relations(*relations)
    config = PromptConfig(shots=shots, templates="first", n_evaluation=math.ceil(n / len(loaded)), n_detection=1)
    prompts = make_prompts(loaded, config).evaluation
    return tuple(prompts[number * len(prompts) // n] for number in range(min(n, len(prompts))))
