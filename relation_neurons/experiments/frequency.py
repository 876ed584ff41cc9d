"""Do facts that survive the ablation of their relation's neurons occur in more documents of a corpus?

The paper's Figure 23: resilient facts, right with the neurons ablated, against sensitive ones, right before and wrong
after, by the number of documents that name subject and object.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray
from scipy import stats

from relation_neurons.errors import refuse
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.study import Study
from relation_neurons.relations.cooccurrence import count_cooccurrences, read_cooccurrences
from relation_neurons.relations.corpus import corpus_files
from relation_neurons.results import verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.statistics.intervals import CONFIDENCE, N_RESAMPLES
from relation_neurons.validation import validated

QUESTION = "Do facts that survive the ablating of their relation's neurons stand in more documents?"
FACT = ["relation", "subject", "object"]
"""What is counted in a corpus; a fact that a relation's file repeats counts once."""


@validated
@dataclass(frozen=True)
class FrequencyConfig:
    """Compare facts that survive the ablation of their relation's neurons with those that do not, by frequency."""

    counts: Path | None = None
    """A table (CSV or parquet) with columns relation, subject, object and n_both, the documents that name both."""
    corpus: Path | None = None
    """A folder of texts (.txt, .jsonl, also compressed) to count in, where no table is given."""


def frequency(study: Study, config: FrequencyConfig = FrequencyConfig()) -> ExperimentResult:
    """The paper's comparison of resilient and sensitive facts by how often a corpus names them.

    A fact is resilient if all its prompts that were right stay right with its relation's neurons ablated, else it is
    sensitive; facts that were wrong before do not count. The same division under each control set is the null.

    Returns:
        Tables `frequency`, from `compare_frequencies`; `facts`, which were compared; `test`, the Wilcoxon test over
        relations for the neurons and, with `draw`, for each control set; and `counts`, all facts of the corpus.

    Raises:
        RelationNeuronsError: Neither a table nor a corpus, or one that cannot be read.
    """
    counts = _counts(study, config)
    cases = [Case(study.target(name), study.evaluation(name), {"ablated": name, "draw": -1}) for name in study.names]
    for name in study.names:
        drawn = enumerate(study.controls(study.target(name)))
        cases += [Case(one, study.evaluation(name), {"ablated": name, "draw": draw}) for draw, one in drawn]
    answers = study.changes(cases)
    facts = {draw: divided(answers[answers["draw"] == draw], counts) for draw in answers["draw"].unique().tolist()}
    tables = {draw: compare_frequencies(rows, seed=study.config.seed) for draw, rows in facts.items() if len(rows)}
    tests = pd.DataFrame([{"draw": draw, **across_relations(table)._asdict()} for draw, table in tables.items()])
    own = tables.get(-1, pd.DataFrame())
    found = {"frequency": own, "facts": facts[-1], "test": tests, "counts": counts}
    return ExperimentResult("frequency", QUESTION, found, verdicts.frequency(own, tests, facts[-1]))


class PairedTest(NamedTuple):
    """Wilcoxon's signed-rank test over relations, two-sided.

    Attributes:
        statistic: The smaller sum of ranks.
        p: The p-value.
        n: Relations with facts in both groups.
        median_relative_difference: Of these relations.
    """

    statistic: float
    p: float
    n: int
    median_relative_difference: float


def compare_frequencies(facts: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Compare the documents of resilient and of sensitive facts, relation by relation.

    Args:
        facts: A row per fact that was right before: `relation`, `subject`, `object`, `n_both` (documents that name
            both) and `resilient`, true if it stays right.
        seed: Of the resampling.

    Returns:
        A row per relation, in the order of their first rows: `n_resilient` and `n_sensitive` facts; their means of
        `n_both`, `mean_resilient` and `mean_sensitive`; `relative_difference`, which is (mean_resilient -
        mean_sensitive) / mean_sensitive, so -1 where only the resilient mean is 0; where only the sensitive one is 0,
        1 as the mirror of this; and 0 where both are. `relative_difference_low` and `_high` are its 95 % percentile
        bootstrap interval, facts resampled within each group; a resample without sensitive documents counts as
        infinitely large. It is NaN if a mean is 0 or a group has fewer than two facts. `p` is that of the two-sided
        Mann-Whitney U test. An empty group has no mean, and its relation no difference and no `p`: these are NaN.

    Raises:
        RelationNeuronsError: A missing column, a fact that occurs twice, or values that cannot be used.
    """
    _check(facts)
    difference = [f"relative_difference{part}" for part in ("", "_low", "_high")]
    columns = ["n_resilient", "n_sensitive", "mean_resilient", "mean_sensitive", *difference, "p"]
    rows = []
    for relation, group in facts.groupby("relation", sort=False):
        counts, is_resilient = group["n_both"].to_numpy(dtype=float), group["resilient"].to_numpy(dtype=bool)
        rows.append((relation, *_compare(counts[is_resilient], counts[~is_resilient], seed)))
    table = pd.DataFrame(rows, columns=["relation", *columns])
    return table.astype({name: int if name in columns[:2] else float for name in columns})


def across_relations(table: pd.DataFrame) -> PairedTest:
    """Test over relations whether resilient and sensitive facts differ in their mean number of documents.

    Relations without facts in both groups are left out. Relations whose means are equal have no sign and do not count
    in the test (Wilcoxon's way with zeros). The p-value is exact for up to 50 relations, or for up to 13 if two
    differences are of the same size; beyond, it is the normal approximation. With five relations or fewer it cannot
    fall below 0.05.

    The test supposes differences that are symmetrical about 0 where frequency does not matter. Means of skewed counts
    in groups of unequal size are not: with log-normal counts (sigma 2), 45 facts against 5 and 12 relations, it finds
    a difference at 0.05 in 19 % of cases where there is none, and in 10 % with 40 against 10. Read it beside the
    relations' own p-values, which keep to their level.

    Args:
        table: From `compare_frequencies`.

    Returns:
        The test. If all means are equal in pairs, its statistic is 0 and p is 1; without any pair all is NaN.
    """
    pairs = table[(table["n_resilient"] > 0) & (table["n_sensitive"] > 0)]
    if pairs.empty:
        return PairedTest(np.nan, np.nan, 0, np.nan)
    median = float(pairs["relative_difference"].median())
    differences = (pairs["mean_resilient"] - pairs["mean_sensitive"]).to_numpy()
    differences = differences[differences != 0]
    if len(differences) == 0:
        return PairedTest(0.0, 1.0, len(pairs), median)
    found = stats.wilcoxon(differences, alternative="two-sided", method="auto")
    return PairedTest(float(found.statistic), float(found.pvalue), len(pairs), median)


def _compare(resilient: Float[ndarray, " one"], sensitive: Float[ndarray, " other"], seed: int) -> tuple[Any, ...]:
    """The row of one relation."""
    counts = (len(resilient), len(sensitive))
    means = tuple(float(group.mean()) if len(group) else np.nan for group in (resilient, sensitive))
    if not min(counts):
        return (*counts, *means, np.nan, np.nan, np.nan, np.nan)
    difference = float(_relative(*(np.array([mean]) for mean in means), without=1.0)[0])
    p = float(stats.mannwhitneyu(resilient, sensitive, alternative="two-sided").pvalue)
    return (*counts, *means, difference, *_interval(resilient, sensitive, seed), p)


def _relative(
    resilient: Float[ndarray, " mean"], sensitive: Float[ndarray, " mean"], *, without: float
) -> Float[ndarray, " mean"]:
    """Relative differences of means; `without` is that of something to nothing."""
    found = np.where(resilient > 0, without, 0.0)
    return np.divide(resilient - sensitive, sensitive, out=found, where=sensitive > 0)


def _interval(resilient: Float[ndarray, " one"], sensitive: Float[ndarray, " other"], seed: int) -> tuple[float, float]:
    if min(len(resilient), len(sensitive)) < 2 or not resilient.any() or not sensitive.any():
        return np.nan, np.nan
    generator = np.random.default_rng(seed)
    means = (generator.choice(group, (N_RESAMPLES, len(group))).mean(axis=1) for group in (resilient, sensitive))
    tail = (1 - CONFIDENCE) / 2
    # An order statistic: between a number and infinity nothing can be interpolated.
    low, high = np.quantile(_relative(*means, without=np.inf), [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)


def _check(facts: pd.DataFrame) -> None:
    wanted = [*FACT, "n_both", "resilient"]
    if missing := [name for name in wanted if name not in facts]:
        raise refuse(f"The facts have no column {', '.join(missing)}", expected=f"the columns {', '.join(wanted)}")
    if facts.duplicated(FACT).any():
        twice = facts.loc[facts.duplicated(FACT), FACT].iloc[0]
        raise refuse(f"The fact {', '.join(map(str, twice))} occurs twice", expected="one row for each fact")
    if facts[FACT].isna().any(axis=None):
        raise refuse("The facts have cells without a relation, subject or object", expected="a name in each")
    counts = facts["n_both"].to_numpy(dtype=object)
    numbers = (isinstance(count, int | float | np.number) and not isinstance(count, bool) for count in counts)
    if not all(numbers) or not all(0 <= count < np.inf for count in counts):
        raise refuse("The column n_both has values that are not numbers of documents", expected="finite numbers from 0")
    if not all(isinstance(value, bool | np.bool_) for value in facts["resilient"]):
        raise refuse("The column resilient has values that are not true or false", expected="a truth value for each")


def divided(answers: pd.DataFrame, counts: pd.DataFrame) -> pd.DataFrame:
    """Facts that were right and are counted, with `resilient`, whether they stay right, and `n_both`."""
    right = answers.loc[answers["clean_correct"] == 1, ["relation", "fact", "correct"]]
    counted = right.merge(counts[[*FACT, "fact", "n_both"]], on=["relation", "fact"], how="inner", validate="m:1")
    facts = counted.groupby(FACT, sort=False).agg({"n_both": "first", "correct": "min"}).reset_index()
    return facts.assign(resilient=facts.pop("correct").eq(1))


def _counts(study: Study, config: FrequencyConfig) -> pd.DataFrame:
    if config.counts is not None:
        return read_cooccurrences(config.counts, study.relations)
    if config.corpus is None:
        raise refuse("There is nothing to count co-occurrences in", do="give --counts TABLE or --corpus FOLDER")
    files = len(list(corpus_files(config.corpus)))
    with study.show("Counting co-occurrences", files) as progress:
        return count_cooccurrences(study.relations, config.corpus, progress=progress)
