"""Every scorer against scikit-learn, SciPy or a plain loop, and the comparison of scorers on the planted model."""

import math
import re
from inspect import unwrap

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pointbiserialr
from sklearn.metrics import average_precision_score, roc_auc_score

import relation_neurons as rn
from relation_neurons.cli import main
from relation_neurons.experiments.score_correlation import ScoreAgreementConfig, compare_scores, score_agreement
from relation_neurons.scores import scorers
from relation_neurons.scores.scorers import SCORERS
from relation_neurons.scores.scoring import score_neurons

CONTRASTING = ["auroc", "standardised_mean_difference", "point_biserial", "contrast_score", "attribution_t"]
OF_MEANS = [*CONTRASTING[1:], "attribution"]


def of_pairs(score):
    """An oracle that looks at one neuron and one relation at a time."""

    def oracle(values, labels, mask):
        return [
            [score(values[w, n], y[w]) for n in range(values.shape[1])] for y, w in zip(labels.T, mask.T, strict=True)
        ]

    return oracle


def slow_difference(x, y):
    a, b = x[y], x[~y]
    if np.ptp(a) == np.ptp(b) == 0:
        return math.copysign(math.inf, a[0] - b[0]) if a[0] != b[0] else 0.0
    squares = sum((v - a.mean()) ** 2 for v in a) + sum((v - b.mean()) ** 2 for v in b)
    return (a.mean() - b.mean()) / math.sqrt(squares / (len(x) - 2))


def slow_correlation(x, y):
    return 0.0 if np.ptp(x) == 0 else pointbiserialr(y, x).statistic


def slow_contrast(x, y):
    return math.sqrt(sum((v - x[~y].mean()) ** 2 for v in x[y]) / y.sum())


def slow_entropy(values, labels, mask):
    n_relations, n_neurons = labels.shape[1], values.shape[1]
    found = np.zeros((n_relations, n_neurons))
    for neuron in range(n_neurons):
        fires = [
            np.mean([values[row, neuron] > 0 for row in np.flatnonzero(labels[:, r] & mask[:, r])])
            for r in range(n_relations)
        ]
        if sum(fires) == 0:
            continue
        entropy = -sum(p / sum(fires) * math.log(p / sum(fires)) for p in fires if p > 0)
        for r in range(n_relations):
            found[r, neuron] = (math.log(n_relations) - entropy) * (1 if fires[r] == max(fires) else -1)
    return found


def slow_mean(values, labels, mask):
    return [[values[y & w, n].mean() for n in range(values.shape[1])] for y, w in zip(labels.T, mask.T, strict=True)]


def slow_moderated(values, labels, mask):
    """A t statistic for each neuron, with the median of all neurons' variances added to its own."""
    rows = []
    for y, w in zip(labels.T, mask.T, strict=True):
        own, other, n_neurons = values[y & w], values[~y & w], values.shape[1]
        freedom = max(len(own) + len(other) - 2, 1)
        squares = [
            sum((v - part[:, n].mean()) ** 2 for part in (own, other) for v in part[:, n] if np.ptp(part[:, n]) > 0)
            for n in range(n_neurons)
        ]
        variances = [float(one) / freedom for one in squares]
        known = sorted(one for one in variances if one > 0)
        typical = known[(len(known) - 1) // 2] if known else 0.0
        row = []
        for n, variance in enumerate(variances):
            difference = own[:, n].mean() - other[:, n].mean()
            if np.ptp(own[:, n]) == np.ptp(other[:, n]) == 0:
                difference = own[0, n] - other[0, n]
            error = math.sqrt((variance + typical) * (1 / len(own) + 1 / len(other)))
            row.append(0.0 if difference == 0 else difference / error if error else math.copysign(math.inf, difference))
        rows.append(row)
    return rows


ORACLES = {
    "average_precision": of_pairs(lambda x, y: average_precision_score(y, x)),
    "auroc": of_pairs(lambda x, y: roc_auc_score(y, x)),
    "standardised_mean_difference": of_pairs(slow_difference),
    "point_biserial": of_pairs(slow_correlation),
    "activation_probability_entropy": slow_entropy,
    "contrast_score": of_pairs(slow_contrast),
    "attribution": slow_mean,
    "attribution_t": slow_moderated,
}


def agrees(name, values, labels, mask):
    """Compare with the oracle, which sees the same values in float64."""
    found = SCORERS[name](values, torch.from_numpy(labels), torch.from_numpy(mask))
    assert found.dtype == torch.float32
    expected = np.asarray(ORACLES[name](values.double().numpy(), labels, mask))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6, rtol=1e-6)


@st.composite
def problems(draw):
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_examples, n_neurons = draw(st.integers(2, 40)), draw(st.integers(1, 5))
    n_relations = draw(st.integers(2, 4))
    kinds = ["plain", "ties", "constant", "constant in each", "relu", "half", "bfloat16", "double", "far from zero"]
    kind = draw(st.sampled_from(kinds))
    mask = generator.random((n_examples, n_relations)) < draw(st.sampled_from([0.3, 0.8, 1.0]))
    labels = generator.random((n_examples, n_relations)) < draw(st.sampled_from([0.0, 0.05, 0.5, 1.0]))
    for column in range(n_relations):  # at least one positive and one negative take part
        first, second = generator.choice(n_examples, size=2, replace=False)
        mask[[first, second], column] = True
        labels[first, column], labels[second, column] = True, False
    values = torch.from_numpy(generator.normal(size=(n_examples, n_neurons)))
    if kind == "ties":
        values = values.round()
    elif kind == "constant":
        values[:] = 0.1
    elif kind == "constant in each":
        values[:] = torch.from_numpy(np.where(labels[:, :1], 0.1, 0.7))
    elif kind == "relu":
        values = values.clamp(min=0)
    elif kind == "far from zero":
        values += 1000
    dtype = {"half": torch.float16, "bfloat16": torch.bfloat16, "double": torch.float64}.get(kind, torch.float32)
    return values.to(dtype), labels, mask


@pytest.mark.parametrize("name", SCORERS)
@given(problem=problems())
def test_equal_to_a_slow_oracle(name, problem):
    agrees(name, *problem)


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float_type_is_scored_without_rounding(name, dtype):
    torch.manual_seed(0)
    labels = (torch.rand(80, 3) < 0.3).numpy()
    agrees(name, torch.randn(80, 9).to(dtype), labels, np.ones_like(labels))


@pytest.mark.parametrize("name", SCORERS)
def test_one_positive_is_enough(name):
    torch.manual_seed(1)
    labels = np.eye(30, 3, dtype=bool)
    agrees(name, torch.randn(30, 6), labels, np.ones_like(labels))


@pytest.mark.parametrize("name", SCORERS)
def test_masked_examples_do_not_count(name):
    torch.manual_seed(2)
    values, labels, mask = torch.randn(40, 5), torch.rand(40, 2) < 0.4, torch.rand(40, 1) < 0.6
    other = torch.where(mask, values, 100 * torch.randn(40, 5))
    both = mask.expand(-1, 2).contiguous()
    kept = SCORERS[name](values[mask[:, 0]], labels[mask[:, 0]])
    torch.testing.assert_close(SCORERS[name](other, labels, both), kept, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", SCORERS)
def test_the_neuron_of_a_relation_scores_highest_there(name):
    torch.manual_seed(3)
    own = torch.arange(4).repeat_interleave(15)
    labels = own[:, None] == torch.arange(4)
    values = torch.randn(60, 12) * 0.1 - 1
    values[:, :4] += 3 * labels  # neuron r fires for relation r
    assert SCORERS[name](values, labels).argmax(dim=1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", list(SCORERS)[1:])
def test_chunks_change_nothing_and_inputs_are_unchanged(name, monkeypatch):
    torch.manual_seed(4)
    values, labels = torch.randn(50, 33).round(decimals=1), torch.rand(50, 3) < 0.4
    before = values.clone()
    whole = SCORERS[name](values, labels)
    monkeypatch.setattr(scorers, "CHUNK_BYTES", 50 * 96 * 4)  # four neurons at a time, or a few more
    torch.testing.assert_close(SCORERS[name](values, labels), whole, rtol=1e-6, atol=1e-7)
    assert torch.equal(values, before)


def test_numpy_arrays_and_one_dimensional_labels_are_accepted():
    values, labels = np.array([[0.9], [0.8], [0.8], [0.1]]), np.array([True, True, False, False])
    assert scorers.auroc(values, labels).item() == pytest.approx(7 / 8)  # 3 pairs won, one tied
    assert scorers.contrast_score(values, labels).item() == pytest.approx(math.sqrt((0.45**2 + 0.35**2) / 2))


@pytest.mark.parametrize(("name", "constant"), [(name, 0.5 if name == "auroc" else 0.0) for name in CONTRASTING])
def test_a_constant_neuron_is_uninformative(name, constant):
    labels = torch.tensor([True, False, True, False, False, False, True])
    assert SCORERS[name](torch.full((7, 1), 0.1), labels).item() == constant


def test_a_neuron_constant_within_each_class_has_an_infinite_difference():
    labels = torch.tensor([True, True, True, False, False, False, False])
    values = torch.where(labels[:, None], torch.tensor([0.1, -0.1]), torch.tensor([-0.1, 0.1]))
    assert scorers.standardised_mean_difference(values, labels).tolist() == [[math.inf, -math.inf]]
    assert scorers.point_biserial(values, labels).tolist() == [[1.0, -1.0]]


def test_worked_examples_of_activation_probability_entropy():
    labels = torch.tensor([0, 0, 1, 1])[:, None] == torch.arange(2)
    own, other = [1.0, 1.0, -1.0, 0.0, 1.0], [-1.0, 1.0, -1.0, 0.0, 1.0]
    values = torch.tensor([own, own, other, [-1.0, 1.0, -1.0, 0.0, -1.0]])
    found = scorers.activation_probability_entropy(values, labels)
    third = math.log(2) + 2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)  # shares 1 and 1/2
    expected = [[math.log(2), 0, 0, 0, third], [-math.log(2), 0, 0, 0, -third]]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-7, rtol=0)


def test_scorers_say_what_they_read():
    read = {name: scorers.reads(name) for name in SCORERS}
    assert {name for name, what in read.items() if what == "attributions"} == {"attribution", "attribution_t"}


def test_a_neuron_that_contributes_next_to_nothing_evenly_does_not_score_high():
    torch.manual_seed(6)
    labels = torch.arange(40) < 20
    values = torch.randn(40, 30)
    values[:, 0] += 3 * labels
    values[:, 1] = 1e-4 * labels + 1e-6 * torch.randn(40)
    assert scorers.standardised_mean_difference(values, labels).argmax() == 1
    assert scorers.attribution_t(values, labels).argmax() == 0
    assert abs(scorers.attribution_t(values, labels)[0, 1]) < 0.01


@pytest.mark.parametrize("name", ["auroc", "activation_probability_entropy"])
def test_infinities_have_a_rank_and_a_sign(name):
    values = torch.tensor([[math.inf], [1.0], [-math.inf], [-1.0]])
    labels = torch.tensor([[True, False], [True, False], [False, True], [False, True]])
    expected = SCORERS[name](values.clamp(-2, 2), labels)
    assert torch.equal(SCORERS[name](values, labels), expected)


@pytest.mark.parametrize("name", OF_MEANS)
def test_infinities_are_refused_by_scorers_based_on_means(name):
    with pytest.raises(rn.RelationNeuronsError, match="infinite"):
        SCORERS[name](torch.tensor([[math.inf], [1.0]]), torch.tensor([True, False]))


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize(
    ("values", "labels", "says"),
    [
        (torch.tensor([[math.nan], [1.0]]), torch.tensor([[True, False], [False, True]]), "NaN"),
        (torch.ones(2, 1), torch.tensor([[True, False], [False, False]]), r"\[1\] have no positive"),
        (torch.ones(3, 1), torch.tensor([True, False]), "shape"),
        (torch.ones(2, 1), torch.tensor([1, 0]), "booleans"),
    ],
)
def test_invalid_scores_and_labels_are_refused(name, values, labels, says):
    with pytest.raises(rn.RelationNeuronsError, match=says):
        unwrap(SCORERS[name])(values, labels)  # as users have it, without the tests' check of shapes


@pytest.mark.parametrize("name", CONTRASTING)
def test_a_relation_without_negatives_is_refused(name):
    labels, mask = torch.tensor([[True, True], [False, True]]), torch.ones(2, 2, dtype=torch.bool)
    with pytest.raises(rn.RelationNeuronsError, match=r"\[1\] have no negative"):
        SCORERS[name](torch.ones(2, 1), labels)
    mask[1, 0] = False  # the only negative takes no part
    with pytest.raises(rn.RelationNeuronsError, match=r"\[0, 1\] have no negative"):
        SCORERS[name](torch.ones(2, 1), labels, mask)


def test_activation_probability_entropy_of_one_relation_is_refused():
    with pytest.raises(rn.RelationNeuronsError, match="at least two"):
        scorers.activation_probability_entropy(torch.ones(2, 1), torch.tensor([True, False]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", SCORERS)
def test_cuda_equals_cpu(name):
    torch.manual_seed(5)
    values, labels = torch.randn(300, 500).round(decimals=2), torch.rand(300, 4) < 0.2
    on_gpu = SCORERS[name](values.cuda(), labels.cuda())
    torch.testing.assert_close(on_gpu.cpu(), SCORERS[name](values, labels), rtol=1e-6, atol=1e-6)


def test_what_a_scorer_of_ones_own_returns_is_checked(monkeypatch):
    values, labels = torch.rand(6, 4), torch.tensor([[True, False], [False, True]] * 3)
    means = torch.stack([values[column].mean(0) for column in labels.T])
    returned = {"array": means.numpy(), "whole": (100 * means).long(), "flat": means[0], "nan": means * torch.nan}
    for name, scores in returned.items():
        monkeypatch.setitem(SCORERS, name, lambda *arguments, scores=scores: scores)
    assert torch.equal(score_neurons("array", values, labels), means)
    assert torch.equal(score_neurons("whole", values, labels), (100 * means).long().double())
    with pytest.raises(rn.RelationNeuronsError, match=r"'flat' returned scores of shape \(4,\)\. Expected: \(2, 4\)"):
        score_neurons("flat", values, labels)
    with pytest.raises(rn.RelationNeuronsError, match="'nan' returned NaN"):
        score_neurons("nan", values, labels)


def test_the_comparison_counts_common_neurons(planted):
    prompts = rn.make_prompts(planted.relations, rn.PromptConfig(shots=0, n_evaluation=10))
    activations = rn.collect_activations(planted.model, prompts.detection, site="gate")
    table = compare_scores(activations, k=20, seed=3).set_index(["first", "second"])
    assert len(table) == 15
    assert list(table.index[0]) == ["average_precision", "auroc"]
    labels, mask = rn.contrast(prompts.detection, seed=3)
    scores = {name: scorer(activations.values, labels, mask).numpy() for name, scorer in SCORERS.items()}
    effects = scores["standardised_mean_difference"]
    for (first, second), row in table.iterrows():
        shares = []
        for relation in range(3):
            one, two = (set(np.lexsort((-effects[relation], -scores[name][relation]))[:20]) for name in (first, second))
            shares.append(len(one & two) / 20)
        assert row.tolist() == pytest.approx([3, np.mean(shares), min(shares), max(shares), 20 / 256])
    with pytest.raises(rn.RelationNeuronsError, match="k is 257"):
        compare_scores(activations, k=257)


@pytest.fixture(scope="module")
def config(planted_folder):
    return ScoreAgreementConfig(
        model=str(planted_folder / "model"),
        relations=(str(planted_folder),),
        k=6,
        device="cpu",
        prompts=rn.PromptConfig(shots=0, n_evaluation=10),
    )


def test_rank_scorers_agree_on_planted_neurons(config):
    table = score_agreement(config).set_index(["first", "second"])
    assert set(table["n"]) == {3}
    assert table.loc[("average_precision", "auroc"), "low"] == 1
    assert table.loc[("average_precision", "point_biserial"), "low"] == 1
    assert table.loc[("standardised_mean_difference", "point_biserial"), "low"] == 1
    assert ((table["low"] <= table["mean"]) & (table["mean"] <= table["high"])).all()


def test_the_command_line_prints_a_row_per_pair(config, planted_folder, capsys, monkeypatch):
    arguments = ["compare-scores", "--model", config.model, "--relations", str(planted_folder), "--k", "6"]
    arguments += ["--shots", "0", "--n-evaluation", "10", "--device", "cpu"]
    monkeypatch.setattr("sys.argv", ["relation-neurons", *arguments])
    monkeypatch.setenv("COLUMNS", "90")
    main.main()
    printed = capsys.readouterr().out
    assert "among the 6 best: mean over 3 relations" in printed
    assert re.search(r"average_precision +auroc +1\.00 \[1\.00, 1\.00\] +0\.02", printed)
    assert len(re.findall(r"\d\.\d\d \[\d\.\d\d, \d\.\d\d\]", printed)) == 45
    assert "…" not in printed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--k", "0"], "k is 0"), (["--batch-size", "0"], "batch_size is 0"), (["--relations", "person_father"], "two")],
)
def test_bad_options_are_one_line_and_status_2(arguments, says, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["relation-neurons", "compare-scores", *arguments])
    with pytest.raises(SystemExit) as status:
        main.main()
    assert status.value.code == 2
    assert says in capsys.readouterr().err
