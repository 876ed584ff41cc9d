"""Does a relation's recall rest on many neurons together? (Paper, section 5.3, Figure 6 and Table 3.)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from relation_neurons.errors import require_at_least
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.k_sweep import PAPER_KS, check_ks, doses, nested_controls, own_answers
from relation_neurons.experiments.study import Study
from relation_neurons.experiments.synergy import synergy
from relation_neurons.results import property_verdicts, verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.statistics.effects import compare
from relation_neurons.statistics.intervals import N_RESAMPLES
from relation_neurons.validation import validated

QUESTION = "Are facts lost because of the neurons added last, or because of all that are ablated together?"


@validated
@dataclass(frozen=True)
class CumulativityConfig:
    """Ablate nested sets of neurons, the differences between them, and disjoint slices of the ranking."""

    ks: tuple[int, ...] = PAPER_KS
    """Sizes of the nested sets for Llama-2-7B; of a smaller model as large a share."""
    scale: bool = True
    """Whether ks are scaled to the size of the model."""
    n_slices: int = 5
    """Disjoint slices of k neurons each, from the best downwards."""
    n_slice_controls: int = 25
    """Control sets of each slice, and of the sets that are split into parts."""
    n_parts: int = 4
    """Disjoint parts whose effects are summed and compared with that of the whole."""

    def __post_init__(self) -> None:
        check_ks(self.ks)
        require_at_least(self, n_slices=1, n_slice_controls=2, n_parts=2)


def cumulativity(study: Study, config: CumulativityConfig = CumulativityConfig()) -> ExperimentResult:
    """The paper's difference-set test with intervals and a control, and the effect of each part of the ranking alone.

    Returns:
        Tables `steps`, from `difference_table`; `synergy` and `pooled_synergy`, from `synergy.synergy`, the change
        under the k neurons minus the changes under disjoint parts of them; `slices`, from `effects.compare` by
        `ablated` and `slice`; `facts`, from `flip_table`; `answers`, to nested sets; and `parts`, to the
        differences alone.
    """
    ks = doses(study, config.ks, config.scale)
    nested = own_answers(study, ks)
    parts = _difference_answers(study, ks)
    steps = difference_table(nested, parts, seed=study.config.seed)
    slices = _slices(study, config)
    beyond, pooled = synergy(study, config.n_parts, config.n_slice_controls)
    facts = flip_table(nested)
    tables = {
        "steps": steps,
        "synergy": beyond,
        "pooled_synergy": pooled,
        "slices": slices,
        "facts": facts,
        "answers": nested,
        "parts": parts,
    }
    sentences = verdicts.cumulativity(steps, slices, facts)
    return ExperimentResult("cumulativity", QUESTION, tables, (*property_verdicts.synergy(beyond, pooled), *sentences))


def _difference_answers(study: Study, ks: Sequence[int]) -> pd.DataFrame:
    """Own facts with only the neurons ablated that a larger k adds to a smaller one, and with random ones instead."""
    cases = []
    for name in study.names:
        prompts, whole = study.evaluation(name), study.target(name, ks[-1])
        random = {k: one for k, _, one in nested_controls(study, name, ks, 1)}
        for small, large in pairwise(ks):
            labels = {"ablated": name, "k_small": small, "k": large}
            cases.append(Case(whole.part(small, large), prompts, labels | {"kind": "part"}))
            if large in random:
                control = random[large].part(small, large)
                cases.append(Case(control, prompts, labels | {"kind": "random"}))
    return study.changes(cases)


def difference_table(nested: pd.DataFrame, parts: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """The arithmetic of the paper's Table 3.

    Args:
        nested: Answers with the labels `ablated` and `k`.
        parts: Answers with the labels `ablated`, `k_small`, `k` and `kind`: `part`, only the neurons between two k
            ablated, or `random`, as many random neurons.
        seed: Of resamples.

    Returns:
        A row per step of k and relation, and one per step with relation `all`: `total`, prompts right at the smaller k
        and wrong at the larger; `affected`, how many of them are wrong with the difference alone; `affected_random`,
        with random neurons instead (NaN without a control); `cumulativity`, 1 - affected / total, with `low` and
        `high` (95 %, resampled over facts) and `n` facts; for `all` it is the micro average, over prompts, beside
        `macro`, the mean over the relations that have a total. With k_small and k 0, all steps together.
    """
    turned = _turned(nested, parts)
    rows = []
    steps = parts[["k_small", "k"]].drop_duplicates().sort_values("k").to_numpy().tolist()
    for small, large in [*steps, (0, 0)]:
        there = turned if large == 0 else turned[turned["k"] == large]
        by_relation = [
            _step("all" if name is None else name, there if name is None else there[there["relation"] == name], seed)
            for name in (None, *nested["relation"].unique())
        ]
        single = [float(str(row["cumulativity"])) for row in by_relation[1:] if row["total"]]
        by_relation[0]["macro"] = np.mean(single) if single else np.nan
        rows += [{"k_small": small, "k": large, **row} for row in by_relation]
    return pd.DataFrame(rows)


def _turned(nested: pd.DataFrame, parts: pd.DataFrame) -> pd.DataFrame:
    """Prompts right at a smaller k and wrong at a larger; `part`, `random`: wrong under the difference alone."""
    prompt = ["ablated", "relation", "fact", "unit", "template"]
    step = [*prompt, "k_small", "k"]
    table = parts.loc[parts["kind"] == "part", [*step, "correct"]].rename(columns={"correct": "part"})
    random = parts.loc[parts["kind"] == "random", [*step, "correct"]].rename(columns={"correct": "random"})
    table = table.merge(random, on=step, how="left", validate="1:1")
    for k in ("k_small", "k"):
        found = nested[[*prompt, "k", "correct"]].rename(columns={"k": k, "correct": f"at_{k}"})
        table = table.merge(found, on=[*prompt, k], how="left", validate="m:1")
    table[["part", "random"]] = 1 - table[["part", "random"]]
    return table[(table["at_k_small"] == 1) & (table["at_k"] == 0)]


def _step(name: str, turned: pd.DataFrame, seed: int) -> dict[str, object]:
    total, affected = len(turned), int(turned["part"].sum())
    row: dict[str, object] = {"relation": name, "total": total, "affected": affected}
    row["affected_random"] = turned["random"].sum(min_count=1) if total else np.nan
    row["cumulativity"] = 1 - affected / total if total else np.nan
    counts = turned.groupby(["relation", "unit"])["part"].agg(["sum", "size"]).to_numpy(dtype=float)
    low = high = np.nan
    if len(counts):
        drawn = np.random.default_rng(seed).integers(len(counts), size=(N_RESAMPLES, len(counts)))
        shares = 1 - counts[drawn, 0].sum(axis=1) / counts[drawn, 1].sum(axis=1)
        low, high = np.quantile(shares, [0.025, 0.975])
    return row | {"low": low, "high": high, "n": len(counts), "macro": np.nan}


def flip_table(nested: pd.DataFrame) -> pd.DataFrame:
    """When each fact is lost, and whether it comes back.

    Args:
        nested: Answers with the labels `ablated` and `k`.

    Returns:
        A row per prompt: `relation`, `subject`, `object`, `template`, `fact`, `unit`; `clean`, right without ablating;
        `course`, right (1) or wrong (0) from clean through every k; `lost_at`, the first k with a wrong answer to a
        prompt that was right, else NaN; `gained_at`, the reverse; `back`, how often the answer turned right again.
    """
    about = ["relation", "subject", "object", "template", "fact", "unit"]
    wide = nested.pivot_table(index=about, columns="k", values="correct", sort=False)
    clean = nested.groupby(about, sort=False)["clean_correct"].first().reindex(wide.index)
    course = np.column_stack([clean.to_numpy(), wide.to_numpy()]).astype(int)
    ks = wide.columns.to_numpy(dtype=float)
    changed = course[:, 1:] != course[:, :1]
    first = np.where(changed.any(axis=1), ks[changed.argmax(axis=1)], np.nan)
    table = wide.index.to_frame(index=False)
    table["clean"] = course[:, 0].astype(bool)
    table["course"] = ["".join(map(str, row)) for row in course]
    table["lost_at"] = np.where(table["clean"], first, np.nan)
    table["gained_at"] = np.where(table["clean"], np.nan, first)
    table["back"] = (np.diff(course, axis=1) > 0).sum(axis=1) - np.isfinite(table["gained_at"])
    return table


def _slices(study: Study, config: CumulativityConfig) -> pd.DataFrame:
    """Own facts under the best k neurons, the next k, and so on."""
    cases = []
    for name in study.names:
        best, prompts = study.ranking().best[name], study.evaluation(name)
        for number in range(min(config.n_slices, len(best) // study.k)):
            piece = best.part(number * study.k, (number + 1) * study.k)
            cases.append(Case(piece, prompts, {"ablated": name, "slice": number + 1}))
    own, controls = study.with_controls(cases, n=config.n_slice_controls, stop=True)
    return compare(own, controls, by=["ablated", "slice"], seed=study.config.seed)
