import json

import numpy as np
import pandas as pd
import pytest

from relation_neurons import RelationNeuronsError
from relation_neurons.experiments.frequency import compare_frequencies
from relation_neurons.figures import (
    controls_figure,
    equal_cost_figure,
    flips_figure,
    frequency_figure,
    methods_figure,
    pairs_figure,
)
from relation_neurons.figures.style import heatmap, robust_limit
from relation_neurons.statistics.effects import compare

EFFECTS = {"alpha": -1.0, "beta": 0.02, "gamma": 0.8}
N_FACTS, N_DRAWS = 12, 20


def answers_to(ablated, relation, change, rng, draw=-1, **labels):
    """Answers to the facts of a relation, the first of which has two templates."""
    rows = []
    for number in [0, *range(N_FACTS)]:
        noise = rng.normal(0, 0.1, 2)
        rows.append(
            {
                "ablated": ablated,
                **labels,
                "draw": draw,
                "relation": relation,
                "unit": f"f{number}",
                "clean_logprob": -2.0,
                "d_logprob": change + noise[0],
                "clean_correct": float(change <= 0),
                "d_correct": float(np.sign(change) * (abs(change) > abs(noise[1] * 4))),
            }
        )
    return rows


@pytest.fixture(scope="module")
def intra():
    """Answers and effects by relation and kind of facts: alpha falls, beta stays, gamma rises."""
    rng, rows = np.random.default_rng(0), []
    for name, change in EFFECTS.items():
        for facts in ("evaluation", "detection"):
            rows += answers_to(name, name, change, rng, facts=facts)
            for draw in range(N_DRAWS):
                rows += answers_to(name, name, rng.normal(0, 0.05), rng, draw, facts=facts)
    answers = pd.DataFrame(rows)
    own, controls = answers[answers["draw"] < 0], answers[answers["draw"] >= 0]
    return answers, compare(own, controls, by=["ablated", "facts"])


@pytest.fixture(scope="module")
def evaluation(intra):
    answers, effects = intra
    return answers[answers["facts"] == "evaluation"], effects[effects["facts"] == "evaluation"]


@pytest.fixture(scope="module")
def inter():
    rng, own, controls = np.random.default_rng(1), [], []
    for ablated in EFFECTS:
        for relation in EFFECTS:
            if ablated != relation:
                change = {("alpha", "beta"): -0.6, ("gamma", "alpha"): 0.5}.get((ablated, relation), 0.0)
                own += answers_to(ablated, relation, change, rng)
                for draw in range(20):
                    controls += answers_to(ablated, relation, rng.normal(0, 0.03), rng, draw)
    return compare(pd.DataFrame(own), pd.DataFrame(controls), by=["ablated", "relation"])


def traces(figure, name):
    named = [trace for trace in figure.data if trace.name == name]
    assert named, f"no trace {name} among {[trace.name for trace in figure.data]}"
    return named


def points(figure, name):
    """Name of the row (marks are slightly above or below it) and x, for the first trace of that name."""
    (trace, *_), axis = traces(figure, name), figure.layout.yaxis
    return {axis.ticktext[round(y)]: x for x, y in zip(trace.x, trace.y, strict=True)}


def is_empty(figure):
    return not figure.data and len(figure.layout.annotations) == 1


def marks(figure, name, rows, columns):
    """Cells with a mark; a mark may be in the corner of its cell."""
    (trace,) = traces(figure, name)
    return {(rows[round(y)], columns[round(x)]) for x, y in zip(trace.x, trace.y, strict=True)}


@pytest.mark.parametrize("measure", ["logprob", "correct"])
def test_marks_of_effects_match_the_verdicts(evaluation, measure):
    _, effects = evaluation
    rows = effects[effects["measure"] == measure].set_index("ablated")
    figure = controls_figure(effects, measure)
    for verdict, name in (("falls", "decrease (Holm)"), ("rises", "increase (Holm)"), ("not shown", "not significant")):
        chosen = rows[rows["verdict"] == verdict]
        assert points(figure, name) == chosen["effect"].to_dict()
        (trace,) = traces(figure, name)
        np.testing.assert_allclose(trace.x + trace.error_x.array, chosen["effect_high"])
        np.testing.assert_allclose(trace.x - trace.error_x.arrayminus, chosen["effect_low"])
    assert points(figure, "decrease (Holm)").keys() == {"alpha"}
    assert points(figure, "increase (Holm)").keys() == {"gamma"}


def test_effects_not_significant_after_holm_have_hollow_marks(evaluation):
    effects = evaluation[1].assign(verdict="not shown", p_bh=0.01)
    figure = controls_figure(effects)
    assert points(figure, "not significant").keys() == set(EFFECTS)
    assert traces(figure, "not significant")[0].marker.symbol == "circle-open"
    assert points(figure, "decrease (Holm)") == points(figure, "increase (Holm)") == {}


def test_rows_are_sorted_with_the_largest_decrease_on_top(evaluation):
    shuffled = evaluation[1].sample(frac=1, random_state=3)
    assert list(controls_figure(shuffled).layout.yaxis.ticktext) == ["gamma", "beta", "alpha"]


def test_controls_are_drawn_with_mean_range_and_every_set(evaluation):
    answers, effects = evaluation
    figure = controls_figure(effects, answers=answers)
    rows = effects[effects["measure"] == "logprob"].set_index("ablated")
    (trace,) = traces(figure, "control sets: mean and range")
    assert points(figure, trace.name) == rows["random"].to_dict()
    np.testing.assert_allclose(trace.x + trace.error_x.array, rows["random_max"])
    np.testing.assert_allclose(trace.x - trace.error_x.arrayminus, rows["random_min"])
    (single,) = traces(figure, "each control set")
    assert len(single.x) == N_DRAWS * len(EFFECTS)
    for number, name in enumerate(figure.layout.yaxis.ticktext):
        drawn = [x for x, y in zip(single.x, single.y, strict=True) if round(y) == number]
        assert [min(drawn), max(drawn)] == pytest.approx(rows.loc[name, ["random_min", "random_max"]].tolist())
        assert np.mean(drawn) == pytest.approx(rows.loc[name, "random"])


def test_hover_text_has_interval_facts_controls_and_p_values(evaluation):
    figure = controls_figure(evaluation[1])
    row = evaluation[1].query("ablated == 'alpha' and measure == 'logprob'").iloc[0]
    (text,) = traces(figure, "decrease (Holm)")[0].hovertext
    for shown in (
        f"{row['effect']:+.3f} [{row['effect_low']:+.3f}",
        "n = 12 facts",
        f"20 random controls: mean {row['random']:+.3f}",
    ):
        assert shown in text
    assert f"p = {row['p_holm']:.2g} (Holm)" in text


def test_few_panels_are_side_by_side_with_one_legend(intra):
    answers, effects = intra
    effects = effects.copy()
    rises = (effects["verdict"] == "rises") & (effects["facts"] == "evaluation")
    effects.loc[rises, "verdict"] = "not shown"  # gamma rises in the second panel alone
    figure = controls_figure(effects, panel="facts", answers=answers)
    assert {trace.xaxis for trace in figure.data} == {"x", "x2"}
    for axis, facts in (("x", "evaluation"), ("x2", "detection")):
        rows = effects[(effects["measure"] == "logprob") & (effects["facts"] == facts)]
        drawn = [
            trace
            for trace in figure.data
            if trace.xaxis == axis and trace.name in ("decrease (Holm)", "not significant")
        ]
        wanted = rows.loc[rows["verdict"] != "rises", "effect"]
        np.testing.assert_allclose(sorted(x for trace in drawn for x in trace.x), sorted(wanted))
    keys = [trace.name for trace in figure.data if trace.showlegend]
    assert len(keys) == len(set(keys)) == 5
    assert figure.layout.xaxis.title.text == "evaluation: change"


def test_many_panels_are_selected_from_a_menu(evaluation):
    ways = ["as configured", "all prompts", "balanced", "one template"]
    table = pd.concat(
        [evaluation[1].assign(way=way, effect=lambda t, i=i: t["effect"] - i) for i, way in enumerate(ways)]
    )
    figure = controls_figure(table, panel="way")
    (menu,) = figure.layout.updatemenus
    assert [button.label for button in menu.buttons] == ways
    assert {trace.xaxis for trace in figure.data} == {"x"}
    for number, button in enumerate(menu.buttons):
        shown = [trace for trace, is_shown in zip(figure.data, button.args[0]["visible"], strict=True) if is_shown]
        (falls,) = [trace for trace in shown if trace.name == "decrease (Holm)"]
        assert falls.x[0] == pytest.approx(evaluation[1].query("ablated == 'alpha'")["effect"].iloc[0] - number)
    assert [bool(trace.visible) for trace in figure.data] == list(menu.buttons[0].args[0]["visible"])
    low, high = figure.layout.xaxis.range
    rows = table[table["measure"] == "logprob"]
    assert low < rows["effect"].min()
    assert high > rows["effect_high"].max()


def test_without_controls_only_the_effects_are_drawn():
    rng = np.random.default_rng(2)
    own = pd.DataFrame([row for name, change in EFFECTS.items() for row in answers_to(name, name, change, rng)])
    table = compare(own, own.head(0), by=["ablated"])
    assert table["random"].isna().all()
    figure = controls_figure(table)
    assert points(figure, "control sets: mean and range") == {}
    assert (
        len(points(figure, "decrease (Holm)") | points(figure, "increase (Holm)") | points(figure, "not significant"))
        == 3
    )
    json.loads(figure.to_json(), parse_constant=lambda name: pytest.fail(f"{name} in the figure"))


def test_an_infinite_interval_is_not_drawn(evaluation):
    one = evaluation[1].query("ablated == 'alpha'").assign(effect_low=-np.inf, effect_high=np.inf)
    figure = controls_figure(one)
    (trace,) = traces(figure, "decrease (Holm)")
    assert list(trace.error_x.array) == list(trace.error_x.arrayminus) == [0]
    assert np.isfinite(figure.layout.xaxis.range).all()
    assert list(figure.layout.yaxis.ticktext) == ["alpha"]


@pytest.mark.parametrize("empty", [pd.DataFrame(), "rows"])
def test_empty_tables_give_a_note(intra, inter, empty):
    none, pairs = (intra[1].head(0), inter.head(0)) if isinstance(empty, str) else (empty, empty)
    assert is_empty(controls_figure(none, panel="facts"))
    assert is_empty(pairs_figure(pairs))
    assert is_empty(flips_figure(none))
    assert is_empty(frequency_figure(none))
    assert is_empty(methods_figure(none))


def test_invalid_tables_are_refused(intra):
    answers, effects = intra
    with pytest.raises(RelationNeuronsError, match="several rows for the same ablated"):
        controls_figure(effects)
    with pytest.raises(RelationNeuronsError, match="did you mean 'logprob'"):
        controls_figure(effects, "log_prob", panel="facts")
    with pytest.raises(RelationNeuronsError, match="no column p_holm, verdict"):
        controls_figure(effects.drop(columns=["verdict", "p_holm"]), panel="facts")
    with pytest.raises(RelationNeuronsError, match="answers have no column draw"):
        controls_figure(effects, panel="facts", answers=answers.drop(columns="draw"))


def test_the_colour_scale_of_pairs_is_symmetric_and_counts_the_diagonal(inter, evaluation):
    names = ["alpha", "beta", "gamma"]
    figure = pairs_figure(inter, own=evaluation[1])
    heat = figure.data[0]
    wide = inter[inter["measure"] == "logprob"].pivot(index="ablated", columns="relation", values="effect")
    order = list(figure.layout.yaxis.ticktext)
    assert sorted(order) == names
    assert list(figure.layout.xaxis.ticktext) == order
    drawn = pd.DataFrame(np.asarray(heat.z), order, order).loc[names, names]
    own = evaluation[1].query("measure == 'logprob'").set_index("ablated")["effect"]
    for a in names:
        for b in names:
            assert drawn.loc[a, b] == pytest.approx(own[a] if a == b else wide.loc[a, b])
    assert heat.zmax == -heat.zmin == pytest.approx(max(wide.abs().max().max(), own.abs().max()))
    assert np.isnan(np.diag(np.asarray(pairs_figure(inter).data[0].z))).all()
    row = inter.query("ablated == 'alpha' and relation == 'beta' and measure == 'logprob'").iloc[0]
    text = heat.hovertext[order.index("alpha")][order.index("beta")]
    assert f"{row['effect']:+.3f} [{row['effect_low']:+.3f}" in text
    assert f"{row['p_holm']:.2g} (Holm), {row['p_bh']:.2g} (Benj" in text


def test_stars_mark_significance_after_holm_and_dots_only_after_benjamini_hochberg(inter):
    table = inter.copy()
    logprob = table["measure"] == "logprob"
    only = logprob & (table["ablated"] == "beta") & (table["relation"] == "gamma")
    table.loc[only, ["p_bh", "verdict"]] = [0.03, "not shown"]
    not_quite = logprob & (table["ablated"] == "beta") & (table["relation"] == "alpha")
    table.loc[not_quite, ["p_bh", "verdict"]] = [0.05, "not shown"]
    figure = pairs_figure(table)
    names = list(figure.layout.yaxis.ticktext)
    assert marks(figure, "significant (Holm)", names, names) == {("alpha", "beta"), ("gamma", "alpha")}
    assert marks(figure, "only after Benjamini-Hochberg", names, names) == {("beta", "gamma")}


@pytest.mark.parametrize(("largest", "digits"), [(9.9, 2), (-10.0, 1), (np.nan, 2)])
def test_hundredths_stand_in_cells_only_where_they_matter(inter, largest, digits):
    table = inter.copy()
    table.loc[table["measure"] == "logprob", "effect"] = [largest, *[0.25] * 5]
    assert pairs_figure(table).data[0].texttemplate == f"%{{z:.{digits}f}}"


def test_a_single_pair_or_only_the_diagonal_is_drawn(inter, evaluation):
    one = inter.query("ablated == 'alpha' and relation == 'beta'")
    assert np.isfinite(np.asarray(pairs_figure(one).data[0].z, dtype=float)).sum() == 1
    alone = pairs_figure(inter.head(0), own=evaluation[1])
    assert np.isfinite(np.diag(np.asarray(alone.data[0].z, dtype=float))).all()
    assert alone.data[0].zmax > 0


def test_each_cell_has_counts_of_lost_and_gained_answers():
    rows = [("alpha", "beta", "lost")] * 3 + [("alpha", "beta", "gained")] + [("gamma", "alpha", "gained")] * 2
    flips = pd.DataFrame(rows, columns=["ablated", "relation", "flip"])
    names = ["alpha", "beta", "gamma", "delta"]
    heat = flips_figure(flips, names).data[0]
    z = np.asarray(heat.z, dtype=float)
    assert z.shape == (4, 8)
    assert z[0, 2:4].tolist() == [-3, 1]
    assert z[2, 0:2].tolist() == [0, 2]
    assert np.nansum(np.abs(z)) == 6
    assert np.isnan(z).sum() == 8  # no own facts
    assert list(heat.customdata[0][3]) == ["beta", 3, 1]
    assert list(heat.x[2:4]) == [0.75, 1.25]
    assert heat.zmax == -heat.zmin == 3
    assert list(flips_figure(flips).layout.xaxis.ticktext) == ["alpha", "gamma", "beta"]


@pytest.fixture(scope="module")
def frequencies():
    groups = {
        "more": ([100, 300], [10, 30]),
        "never resilient": ([0, 0], [5, 5]),
        "never sensitive": ([7, 9], [0, 0]),
        "rare": ([20, 40, 60], [0, 0, 0, 0, 40]),
        "one group": ([50], []),
    }
    facts = [
        {"relation": name, "subject": f"{kind}{i}", "object": "o", "n_both": count, "resilient": kind == 0}
        for name, pair in groups.items()
        for kind, counts in enumerate(pair)
        for i, count in enumerate(counts)
    ]
    return compare_frequencies(pd.DataFrame(facts))


def test_frequencies_are_drawn_with_zeros_and_ratios(frequencies):
    figure = frequency_figure(frequencies)
    zero = figure.layout.xaxis.tickvals[0]
    assert figure.layout.xaxis.ticktext[0] == "0"
    assert 0 < zero < 1
    resilient, sensitive = (points(figure, f"{kind} facts, mean") for kind in ("resilient", "sensitive"))
    assert resilient == {"more": 200, "never resilient": zero, "never sensitive": 8, "rare": 40, "one group": 50}
    assert sensitive["more"] == 20
    assert sensitive["never sensitive"] == zero
    assert np.isnan(sensitive["one group"])
    edge = figure.layout.xaxis2.range[1]
    ratios = points(figure, "relative difference, 95 %")
    assert ratios["more"] == pytest.approx(10)
    assert ratios["never resilient"] == pytest.approx(10**-edge)
    assert ratios["never sensitive"] == 2
    assert np.isnan(ratios["one group"])
    assert list(figure.layout.yaxis.ticktext)[-1] == "one group"


def test_an_infinite_relative_difference_is_at_the_edge(frequencies):
    row = frequencies.set_index("relation").loc["rare"]
    assert row["relative_difference_high"] == np.inf
    figure = frequency_figure(frequencies)
    (trace,) = traces(figure, "relative difference, 95 %")
    place = list(figure.layout.yaxis.ticktext).index("rare")
    assert trace.x[place] + trace.error_x.array[place] == pytest.approx(10 ** figure.layout.xaxis2.range[1])
    low = trace.x[place] - trace.error_x.arrayminus[place]
    assert low == pytest.approx(1 + row["relative_difference_low"])
    assert "+inf%" in trace.hovertext[place]


def test_a_single_relation_with_an_empty_group_is_drawn(frequencies):
    figure = frequency_figure(frequencies[frequencies["relation"] == "one group"])
    assert points(figure, "resilient facts, mean") == {"one group": 50}


def methods_table():
    rows = []
    for number, scorer in enumerate(("average_precision", "auroc")):
        for k in (3000, 300):
            own, other = -0.1 * k / 300 - number, -0.01 * number
            ends = {"own_low": own - 0.2, "own_high": own + 0.1, "other_low": other - 0.02, "other_high": other + 0.03}
            rows.append({"scorer": scorer, "k": k, "measure": "logprob", "n": 12, "own": own, "other": other, **ends})
    return pd.DataFrame(rows)


def test_own_effects_are_drawn_against_other_effects_by_scorer_and_k():
    table = methods_table()
    figure = methods_figure(table)
    symbols = {trace.name: trace.marker.symbol for trace in figure.data if trace.name.startswith("k = ")}
    assert symbols.keys() == {"k = 300", "k = 3,000"}
    for scorer, group in table.groupby("scorer"):
        (trace,) = traces(figure, scorer)
        group = group.sort_values("k")
        np.testing.assert_allclose(trace.y, [0, *group["own"]])
        np.testing.assert_allclose(trace.x, [0, *group["other"]])
        np.testing.assert_allclose((trace.y + trace.error_y.array)[1:], group["own_high"])
        np.testing.assert_allclose((trace.x - trace.error_x.arrayminus)[1:], group["other_low"])
        assert list(trace.marker.symbol[1:]) == [symbols["k = 300"], symbols["k = 3,000"]]
        assert "n = 12 relations" in trace.hovertext[1]
    assert len({trace.line.color for trace in figure.data if trace.name in ("auroc", "average_precision")}) == 2
    one = table[table["scorer"] == "auroc"]
    many = methods_figure(pd.concat([one.assign(scorer=f"scorer {number}") for number in range(10)]))
    looks = [(trace.line.color, trace.line.dash) for trace in many.data if trace.name.startswith("scorer ")]
    assert len(set(looks)) == len(looks) == 10
    far = one.assign(scorer="far", other=-50.0, other_low=-60.0, own=-70.0, own_low=-80.0)
    wider = methods_figure(pd.concat([table, far]))
    assert wider.layout.xaxis.range[0] > -1
    assert wider.layout.yaxis.range[0] > -3


def test_scorers_are_drawn_at_equal_cost_and_open_where_others_lose_less():
    ends = {"measure": "logprob", "cost": 0.1, "n": 4, "own_low": -2.5, "own_high": -0.5}
    scorers = [("auroc", -1.0, False), ("attribution_t", -2.0, True)]
    table = pd.DataFrame([{"scorer": name, "own": own, "reached": reached, **ends} for name, own, reached in scorers])
    (trace,) = equal_cost_figure(table).data
    drawn = zip(trace.y, trace.x, trace.marker.symbol, strict=True)
    assert set(drawn) == {("auroc", -1.0, "circle-open"), ("attribution_t", -2.0, "circle")}
    np.testing.assert_allclose(trace.x - trace.error_x.arrayminus, [-2.5, -2.5])
    assert is_empty(equal_cost_figure(table.iloc[:0]))


def test_one_outlier_does_not_rule_the_colours():
    values = np.linspace(-1, 1, 100).reshape(10, 10)
    assert robust_limit(values) == 1
    values[0, 0] = 40
    figure = heatmap(values, range(10), range(10), hover="", diverging=True)
    assert (figure.data[0].zmin, figure.data[0].zmax) == (-1, 1)
    assert list(figure.data[0].colorbar.ticktext) == ["≤ -1", "0", "≥ 1"]
    assert robust_limit(np.zeros((2, 2))) == robust_limit(np.full((2, 2), np.nan)) == 1


def test_the_diagonal_is_the_mean_change_of_own_facts(inter):
    rng = np.random.default_rng(0)
    own = answers_to("alpha", "alpha", -1.0, rng)
    heat = pairs_figure(inter, answers=pd.DataFrame([*own, *answers_to("alpha", "beta", 0.5, rng)])).data[0]
    place = list(pairs_figure(inter).layout.yaxis.ticktext).index("alpha")
    by_fact = pd.DataFrame(own).groupby("unit")["d_logprob"].mean()
    assert np.asarray(heat.z, dtype=float)[place, place] == pytest.approx(by_fact.mean())
    assert f"own facts: mean {by_fact.mean():+.3f}, n = {N_FACTS} facts" in heat.hovertext[place][place]
