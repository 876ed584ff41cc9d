import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from relation_neurons import RelationNeuronsError
from relation_neurons.experiments import frequency
from relation_neurons.experiments.frequency import across_relations, compare_frequencies

NUMBERS = ["n_resilient", "n_sensitive", "mean_resilient", "mean_sensitive", "relative_difference", "p"]
INTERVAL = ["relative_difference_low", "relative_difference_high"]


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def facts_of(**relations):
    """For each relation the counts of its resilient and of its sensitive facts."""
    rows = [
        (relation, f"subject {kind} {number}", "object", count, kind)
        for relation, groups in relations.items()
        for kind, counts in zip((True, False), groups, strict=True)
        for number, count in enumerate(counts)
    ]
    return pd.DataFrame(rows, columns=["relation", "subject", "object", "n_both", "resilient"])


def means(*pairs):
    """A table as far as the test over relations reads it."""
    table = pd.DataFrame(pairs, columns=["mean_resilient", "mean_sensitive"], dtype=float)
    table["relative_difference"] = table["mean_resilient"] / table["mean_sensitive"] - 1
    return table.assign(
        n_resilient=table["mean_resilient"].notna() * 1, n_sensitive=table["mean_sensitive"].notna() * 1
    )


def test_a_relation_by_hand():
    # U = 7 of 9 pairs; of the 20 ways to choose 3 of 6, 4 have U of at least 7 and 4 of at most 2.
    table = compare_frequencies(facts_of(r=([3, 5, 10], [1, 2, 6])))
    (row,) = table[["relation", *NUMBERS]].to_dict("records")
    assert row == {
        "relation": "r",
        "n_resilient": 3,
        "n_sensitive": 3,
        "mean_resilient": 6.0,
        "mean_sensitive": 3.0,
        "relative_difference": 1.0,
        "p": pytest.approx(8 / 20),
    }
    assert row["p"] == stats.mannwhitneyu([1, 2, 6], [3, 5, 10], alternative="two-sided").pvalue


@pytest.mark.parametrize(
    ("resilient", "sensitive", "difference"),
    [([2, 2], [8, 8], -0.75), ([8, 8], [2, 2], 3.0), ([0, 0], [1, 9], -1), ([1, 9], [0, 0], 1), ([0, 0], [0, 0], 0)],
)
def test_relative_differences_at_and_off_zero(resilient, sensitive, difference):
    row = compare_frequencies(facts_of(r=(resilient, sensitive))).iloc[0]
    assert row["relative_difference"] == difference
    assert row[INTERVAL].isna().all() == (not any(resilient) or not any(sensitive))


def test_an_empty_group_gives_nan_and_the_relation_stays():
    table = compare_frequencies(facts_of(b=([1, 2], []), a=([], [4]), c=([5], [2])))
    assert list(table["relation"]) == ["b", "a", "c"]
    assert table[["n_resilient", "n_sensitive"]].to_numpy().tolist() == [[2, 0], [0, 1], [1, 1]]
    assert list(table["mean_resilient"].fillna(-1)) == [1.5, -1, 5]
    assert list(table["mean_sensitive"].fillna(-1)) == [-1, 4, 2]
    assert list(table["relative_difference"].fillna(-9)) == [-9, -9, 1.5]
    assert list(table["p"].fillna(-1)) == [-1, -1, 1]
    assert table[INTERVAL].isna().all(axis=None)  # of c too: one fact shows no spread


def test_no_facts_give_an_empty_table_that_can_be_tested():
    table = compare_frequencies(facts_of(r=([1], [2])).iloc[:0])
    assert table.empty
    assert set(table.columns) == {"relation", *NUMBERS, *INTERVAL}
    assert across_relations(table)[2] == 0


def test_the_interval_is_that_of_resampling_within_groups():
    # Two facts of 0 and 4: means 0, 2, 4 with shares 1/4, 1/2, 1/4 against a constant 2 give -1, 0 and 1.
    row = compare_frequencies(facts_of(r=([0, 4], [2, 2]))).iloc[0]
    assert list(row[INTERVAL]) == [-1, 1]
    generator = np.random.default_rng(0)
    resilient, sensitive = generator.poisson(20, 60), generator.poisson(10, 40)
    row = compare_frequencies(facts_of(r=(resilient, sensitive))).iloc[0]
    expected = stats.bootstrap(
        (resilient, sensitive),
        lambda one, other, axis: one.mean(axis) / other.mean(axis) - 1,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert list(row[INTERVAL]) == pytest.approx(list(expected), abs=0.03)


def test_a_difference_to_almost_nothing_has_no_upper_bound():
    row = compare_frequencies(facts_of(r=([10, 20, 30], [0, 0, 1]))).iloc[0]
    assert row["relative_difference"] == pytest.approx(59)
    assert row["relative_difference_low"] > 10
    assert row["relative_difference_high"] == np.inf


def test_a_relation_does_not_depend_on_the_others():
    groups = {"a": ([5, 7, 30], [1, 4]), "b": ([3, 3, 9], [8, 2, 5])}
    together, alone = compare_frequencies(facts_of(**groups)), compare_frequencies(facts_of(b=groups["b"]))
    pd.testing.assert_frame_equal(together.iloc[[1]].reset_index(drop=True), alone)
    interleaved = facts_of(**groups).sort_values("object", key=lambda _: [4, 1, 7, 2, 9, 0, 3, 5, 6, 8, 10])
    assert list(compare_frequencies(interleaved)["relation"]) == ["b", "a"]


def test_the_seed_chooses_the_resamples():
    facts = facts_of(r=np.random.default_rng(0).gamma(2, size=(2, 20)))
    first, again, other = (compare_frequencies(facts, seed=seed) for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first[INTERVAL].equals(other[INTERVAL])
    assert first[NUMBERS].equals(other[NUMBERS])


def test_wilcoxon_by_hand():
    # Differences 1, 2, 3, 4, 5 and -6: the negative rank is 6; of 64 sign patterns 14 have a sum of at most 6.
    pairs = [(2, 1), (4, 2), (6, 3), (8, 4), (10, 5), (6, 12)]
    found = across_relations(means(*pairs))
    assert found.statistic == 6
    assert found.p == pytest.approx(2 * 14 / 64)
    assert (found.n, found.median_relative_difference) == (6, 1)
    direct = stats.wilcoxon(*np.array(pairs, dtype=float).T, alternative="two-sided", method="exact")
    assert found[:2] == pytest.approx((direct.statistic, direct.pvalue))


def test_ties_are_still_tested_exactly():
    # Ranks 1.5, 1.5, 3.5, 3.5 all positive: only one of 16 patterns is as large, and one as small.
    found = across_relations(means((2, 1), (3, 2), (4, 2), (5, 3)))
    assert (found.statistic, found.p, found.n) == (0, pytest.approx(2 / 16), 4)


def test_more_relations_than_the_exact_test_takes():
    values = np.random.default_rng(0).gamma(3, size=(80, 2)) + 1
    found = across_relations(means(*values))
    direct = stats.wilcoxon(values[:, 0], values[:, 1], method="asymptotic")
    assert found[:2] == pytest.approx((direct.statistic, direct.pvalue))


def test_equal_means_have_no_sign():
    found = across_relations(means((1, 1), (5, 5), (2, 2)))
    assert found == (0, 1, 3, 0)
    pairs = [(2, 1), (4, 2), (6, 3), (8, 4), (10, 5), (12, 6)]
    assert across_relations(means((7, 7), *pairs))[:3] == (0, pytest.approx(2 / 64), 7)
    assert across_relations(means(*pairs))[:3] == (0, pytest.approx(2 / 64), 6)


def test_too_few_relations():
    assert across_relations(means((3, 1))) == (0, 1, 1, 2)
    found = across_relations(means((np.nan, 1), (2, np.nan)))
    assert found.n == 0
    assert np.isnan([found.statistic, found.p, found.median_relative_difference]).all()


def test_relations_with_an_empty_group_are_left_out():
    table = compare_frequencies(facts_of(a=([6], [2]), b=([], [9]), c=([3, 5], [1]), d=([8], [])))
    assert across_relations(table) == across_relations(table.iloc[[0, 2]])
    assert across_relations(table)[2:] == (2, 2.5)


@pytest.mark.full
def test_both_tests_keep_their_level_where_frequency_does_not_matter(monkeypatch):
    monkeypatch.setattr(frequency, "N_RESAMPLES", 2)
    generator = np.random.default_rng(0)
    counts = np.floor(generator.lognormal(4, 1.5, size=(600 * 6, 24)))
    table = compare_frequencies(facts_of(**{f"r{number}": (row[:12], row[12:]) for number, row in enumerate(counts)}))
    within = (table["p"] <= 0.05).mean()
    across = np.mean([across_relations(table.iloc[start : start + 6]).p <= 0.05 for start in range(0, 3600, 6)])
    assert 0.035 <= within <= 0.0612  # 3600 draws: 0.05 + 3 standard errors
    assert 0.011 <= across <= 0.0526  # six relations reach 0.03125 at most below 0.05; 600 draws, 3 standard errors


def test_both_tests_find_what_is_there():
    generator = np.random.default_rng(0)
    groups = {f"r{number}": (generator.poisson(30, 20), generator.poisson(15, 20)) for number in range(12)}
    table = compare_frequencies(facts_of(**groups))
    assert (table["p"] < 0.001).all()
    assert (table["relative_difference_low"] > 0.5).all()
    assert across_relations(table).p == 2 / 2**12


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("n_both", -1, "n_both has values"),
        ("n_both", np.nan, "n_both has values"),
        ("n_both", np.inf, "n_both has values"),
        ("n_both", "3", "n_both has values"),
        ("n_both", True, "n_both has values"),
        ("resilient", 1, "resilient has values"),
        ("resilient", None, "resilient has values"),
        ("relation", None, "cells without a relation"),
        ("subject", "subject True 1", "r, subject True 1, object occurs twice"),
    ],
)
def test_facts_that_cannot_be_used_are_refused(column, value, says):
    facts = facts_of(r=([1, 2], [3])).astype(object)
    compare_frequencies(facts)
    facts.loc[0, column] = value
    with pytest.raises(RelationNeuronsError, match=says):
        compare_frequencies(facts)


@pytest.mark.parametrize("column", ["relation", "subject", "object", "n_both", "resilient"])
def test_a_missing_column_is_refused(column):
    with pytest.raises(RelationNeuronsError, match=f"no column {column}"):
        compare_frequencies(facts_of(r=([1], [2])).drop(columns=column))
