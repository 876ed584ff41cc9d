import json

import numpy as np
import pandas as pd
import pytest

from relation_neurons import RelationNeuronsError
from relation_neurons.experiments.cumulativity import difference_table, flip_table
from relation_neurons.figures import (
    answer_trajectories_figure,
    dose_figure,
    mean_dose_figure,
    slices_figure,
    steps_figure,
)
from relation_neurons.figures.style import robust_limit
from relation_neurons.statistics.effects import compare

KS = (10, 50, 3000, 20_000)
SLOPES = {"alpha": -0.5, "beta": 0.0, "gamma": -0.2}


def answers_to(ablated, relation, change, rng, **labels):
    return [
        {
            "ablated": ablated,
            **labels,
            "relation": relation,
            "unit": f"f{number}",
            "clean_logprob": -2.0,
            "d_logprob": change + rng.normal(0, 0.1),
            "clean_correct": 1.0,
            "d_correct": float(change < -0.4) * -1.0,
        }
        for number in range(12)
    ]


@pytest.fixture(scope="module")
def sweep():
    """Effects and others by k; for the largest k there are no controls."""
    rng, own, controls, other = np.random.default_rng(0), [], [], []
    for name, slope in SLOPES.items():
        for k in KS[::-1]:  # not in order
            own += answers_to(name, name, slope * np.log10(k / 10), rng, k=k)
            other += answers_to(name, "other", -0.05 * np.log10(k), rng, k=k)
            if k < KS[-1]:
                for draw in range(20):
                    controls += answers_to(name, name, rng.normal(0, 0.02), rng, k=k, draw=draw)
    own, controls, other = (pd.DataFrame(rows) for rows in (own, controls, other))
    by = ["ablated", "k"]
    return compare(own, controls, by=by), compare(other, other.head(0), by=by)


def lines(figure, name):
    """The lines of that name, one per panel."""
    return [trace for trace in figure.data if trace.name == name]


def bands(figure, name):
    return [trace for trace in figure.data if trace.fill == "toself" and trace.legendgroup == name]


def is_empty(figure):
    return not figure.data and len(figure.layout.annotations) == 1


OWN_LINE, RANDOM_LINE, OTHER_LINE = (
    "own facts, 95 % (filled: significant)",
    "random controls, mean and range",
    "other relations' facts",
)


@pytest.mark.parametrize("measure", ["logprob", "correct"])
def test_each_relation_has_a_panel_with_line_band_and_verdicts(sweep, measure):
    effects, others = sweep
    figure = dose_figure(effects, others, measure)
    assert [note.text for note in figure.layout.annotations] == ["alpha", "beta", "gamma"]
    table = effects[effects["measure"] == measure]
    for number, (name, line, band) in enumerate(
        zip(SLOPES, lines(figure, OWN_LINE), bands(figure, OWN_LINE), strict=True)
    ):
        rows = table[table["ablated"] == name].sort_values("k")
        assert line.xaxis == band.xaxis == ("x" if number == 0 else f"x{number + 1}")
        assert list(line.x) == list(KS)
        np.testing.assert_allclose(line.y, rows["effect"])
        filled = ["circle" if verdict in ("falls", "rises") else "circle-open" for verdict in rows["verdict"]]
        assert list(line.marker.symbol) == filled
        assert list(band.x) == [*KS, *KS[::-1]]
        np.testing.assert_allclose(band.y, [*rows["effect_high"], *rows["effect_low"][::-1]])
        assert "n = 12 facts" in line.hovertext[0]
        assert f"p = {rows['p_holm'].iloc[0]:.2g} (Holm)" in line.hovertext[0]
    symbols = {symbol for line in lines(figure, OWN_LINE) for symbol in line.marker.symbol}
    assert symbols == {"circle", "circle-open"}


def test_controls_and_other_facts_are_drawn_where_available(sweep):
    effects, others = sweep
    figure = dose_figure(effects, others)
    table, other = (one[one["measure"] == "logprob"] for one in sweep)
    for name, random, band, line in zip(
        SLOPES, lines(figure, RANDOM_LINE), bands(figure, RANDOM_LINE), lines(figure, OTHER_LINE), strict=True
    ):
        rows = table[(table["ablated"] == name) & (table["k"] < KS[-1])].sort_values("k")
        assert list(random.x) == list(KS[:-1])
        np.testing.assert_allclose(random.y, rows["random"])
        np.testing.assert_allclose(band.y, [*rows["random_max"], *rows["random_min"][::-1]])
        np.testing.assert_allclose(line.y, other[other["ablated"] == name].sort_values("k")["effect"])
    assert all(not len(line.x) for line in lines(dose_figure(effects), OTHER_LINE))
    keys = [trace.name for trace in figure.data if trace.showlegend]
    assert sorted(keys) == sorted([OWN_LINE, RANDOM_LINE, OTHER_LINE])


def test_panels_share_logarithmic_axes(sweep):
    layout = dose_figure(*sweep).layout
    for axis in (layout.xaxis2, layout.xaxis3):
        assert (axis.matches, axis.type) == ("x", "log")
    assert layout.yaxis3.matches == "y"
    assert dict(zip(layout.xaxis.ticktext, layout.xaxis.tickvals, strict=True)) == {
        "10": 10,
        "100": 100,
        "1k": 1000,
        "10k": 10_000,
    }


def test_many_relations_are_selected_from_a_menu(sweep):
    effects, others = sweep
    figure = dose_figure(effects, others, max_panels=2)
    (menu,) = figure.layout.updatemenus
    assert [button.label for button in menu.buttons] == list(SLOPES)
    for name, button in zip(SLOPES, menu.buttons, strict=True):
        shown = [trace for trace, on in zip(figure.data, button.args[0]["visible"], strict=True) if on]
        (line,) = [trace for trace in shown if trace.name == OWN_LINE]
        rows = effects.query("measure == 'logprob'")
        np.testing.assert_allclose(line.y, rows[rows["ablated"] == name].sort_values("k")["effect"])
        assert len(shown) == 6
    assert [bool(trace.visible) for trace in figure.data] == list(menu.buttons[0].args[0]["visible"])


def test_the_mean_over_relations_omits_missing_values(sweep):
    effects, others = sweep
    effects = effects.copy()
    unknown = (effects["ablated"] == "alpha") & (effects["k"] == 3000)
    effects.loc[unknown, ["random", "random_min", "random_max"]] = np.nan
    figure = mean_dose_figure(effects, others)
    table, other = (one[one["measure"] == "logprob"] for one in (effects, others))
    for name, column, rows in (
        ("own facts", "effect", table),
        ("other relations' facts", "effect", other),
        ("random controls, own facts", "random", table),
    ):
        (line,) = lines(figure, name)
        known = {k: rows.loc[rows["k"] == k, column].dropna() for k in KS}
        known = {k: values for k, values in known.items() if len(values)}
        assert list(line.x) == list(known)
        np.testing.assert_allclose(line.y, [values.mean() for values in known.values()])
        for text, values in zip(line.hovertext, known.values(), strict=True):
            assert f"n = {len(values)} relations" in text
        (band,) = bands(figure, name)
        high, low = np.array(band.y[: len(known)]), np.array(band.y[len(known) :])[::-1]
        assert (low <= np.array(line.y)).all()
        assert (np.array(line.y) <= high).all()
        widest = np.array([(values.min(), values.max()) for values in known.values()])
        assert (low >= widest[:, 0] - 1e-12).all()
        assert (high <= widest[:, 1] + 1e-12).all()
    assert "n = 2 relations" in lines(figure, "random controls, own facts")[0].hovertext[2]


def test_a_single_relation_without_controls_has_no_interval_over_relations(sweep):
    one = sweep[1].query("ablated == 'alpha'")
    assert one["random"].isna().all()
    figures = [dose_figure(one), mean_dose_figure(one), dose_figure(one, max_panels=0)]
    for figure in figures:
        json.loads(figure.to_json(), parse_constant=lambda name: pytest.fail(f"{name} in the figure"))
        assert [
            len(line.x) for line in (*lines(figure, RANDOM_LINE), *lines(figure, "random controls, own facts"))
        ] == [0]
    (band,) = bands(figures[1], "own facts")
    assert not len(band.x)
    assert len(lines(figures[1], "own facts")[0].x) == len(KS)


def test_ks_within_one_decade_have_ticks(sweep):
    close = sweep[0].query("k == 10 or k == 50")
    assert list(dose_figure(close).layout.xaxis.ticktext) == ["10", "50"]


def test_empty_tables_give_a_note(sweep):
    effects, others = sweep
    for none in (pd.DataFrame(), effects.head(0)):
        assert is_empty(dose_figure(none, others.head(0)))
        assert is_empty(mean_dose_figure(none))
        assert is_empty(steps_figure(none))
        assert is_empty(slices_figure(none))
        assert is_empty(answer_trajectories_figure(none))


def nested_answers(courses, ks):
    """Right (1) and wrong (0) answers from clean through every k, by relation and fact."""
    return pd.DataFrame(
        [
            {
                "ablated": relation,
                "k": k,
                "relation": relation,
                "subject": f"{relation} s{number}",
                "object": "o",
                "template": 0,
                "fact": f"{relation} s{number} = o",
                "unit": f"{relation} s{number}",
                "clean_correct": float(course[0] == "1"),
                "correct": float(right == "1"),
            }
            for relation, several in courses.items()
            for number, course in enumerate(several)
            for k, right in zip(ks, course[1:], strict=True)
        ]
    )


@pytest.fixture(scope="module")
def steps():
    """Over 10 to 50 two answers of alpha and one of beta turn wrong, over 50 to 3000 one of alpha."""
    ks = KS[:3]
    nested = nested_answers({"alpha": ["1100", "1100", "1110", "1111"], "beta": ["1100", "1111", "0000"]}, ks)
    parts = []
    for small, large in ((10, 50), (50, 3000)):
        for kind in ("part", "random"):
            if (kind, large) != ("random", 3000):
                rows = nested[nested["k"] == small].drop(columns="k")
                wrong = rows["unit"].isin(["alpha s0"] if kind == "part" else ["beta s0"])
                parts.append(rows.assign(k_small=small, k=large, kind=kind, correct=1.0 - wrong))
    return difference_table(nested, pd.concat(parts, ignore_index=True))


def test_cumulativity_is_shown_above_the_counts(steps):
    figure = steps_figure(steps)
    assert list(figure.layout.xaxis2.ticktext) == ["10<br>to 50", "50<br>to 3k", "all<br>steps"]
    (micro,), (macro,) = lines(figure, "micro average, 95 %"), lines(figure, "macro average")
    assert list(np.round(micro.x)) == list(np.round(macro.x)) == [0, 1, 2]
    np.testing.assert_allclose(micro.y, [2 / 3, 1, 3 / 4])
    np.testing.assert_allclose(macro.y, [(1 / 2 + 1) / 2, 1, (2 / 3 + 1) / 2])
    every = steps[steps["relation"] == "all"]
    np.testing.assert_allclose(micro.y + micro.error_y.array, every["high"])
    np.testing.assert_allclose(micro.y - micro.error_y.arrayminus, every["low"])
    (each,) = lines(figure, "each relation")
    singles = sorted(zip(each.x, each.y, strict=True))
    np.testing.assert_allclose(singles, [(0, 0.5), (0, 1.0), (1, 1.0), (2, 2 / 3), (2, 1.0)])
    counts = {trace.name: list(trace.y) for trace in figure.data if trace.type == "bar"}
    assert counts["answers lost"] == [3, 1]
    assert counts["lost by the added neurons alone"] == [1, 0]
    assert counts["lost by random controls"][0] == 1
    assert np.isnan(counts["lost by random controls"][1])
    assert "3 answers lost, 1 of them by the added neurons alone, 1 by random controls" in micro.hovertext[0]
    assert "n = 3 facts<br>macro average 0.75" in micro.hovertext[0]


def test_steps_without_lost_answers_are_empty(steps):
    still = nested_answers({"alpha": ["1111", "0000"]}, KS[:3])
    parts = [
        still[still["k"] == small].assign(k_small=small, k=large, kind="part")
        for small, large in ((10, 50), (50, 3000))
    ]
    figure = steps_figure(difference_table(still, pd.concat(parts, ignore_index=True)))
    (micro,) = lines(figure, "micro average, 95 %")
    assert np.isnan(micro.y).all()
    assert {trace.name: list(trace.y) for trace in figure.data if trace.type == "bar"}["answers lost"] == [0, 0]


@pytest.fixture(scope="module")
def slices():
    rng, own, controls = np.random.default_rng(1), [], []
    for name, slope in SLOPES.items():
        for number in (2, 1, 3):
            own += answers_to(name, name, 2 * slope if number == 1 else 0.0, rng, slice=number)
            for draw in range(20):
                controls += answers_to(name, name, rng.normal(0, 0.02), rng, slice=number, draw=draw)
    return compare(pd.DataFrame(own), pd.DataFrame(controls), by=["ablated", "slice"])


def test_slices_form_a_matrix_with_stars_for_significance(slices):
    figure = slices_figure(slices)
    heat, stars = figure.data[0], next(trace for trace in figure.data if trace.name == "significant (Holm)")
    assert list(figure.layout.xaxis.ticktext) == ["1", "2", "3"]
    rows = slices[slices["measure"] == "logprob"]
    wide = rows.pivot(index="ablated", columns="slice", values="effect")
    np.testing.assert_allclose(np.asarray(heat.z), wide.loc[list(figure.layout.yaxis.ticktext)])
    assert heat.zmax == -heat.zmin == pytest.approx(robust_limit(wide.to_numpy()))
    assert heat.zmax < wide.abs().max().max()  # one slice of three does not rule the colours
    names = list(figure.layout.yaxis.ticktext)
    starred = {(names[round(y)], round(x) + 1) for x, y in zip(stars.x, stars.y, strict=True)}
    shown = rows[rows["verdict"] != "not shown"]
    assert starred == set(zip(shown["ablated"], shown["slice"], strict=True)) == {("alpha", 1), ("gamma", 1)}
    assert "20 random controls" in heat.hovertext[0][0]


def test_outcomes_match_hand_counts():
    #          stays   lost    lost, back, lost   gained, lost again   never right
    courses = {"alpha": ["11111", "11000", "10101"], "beta": ["00110", "00000"]}
    figure = answer_trajectories_figure(flip_table(nested_answers(courses, KS)), KS)
    titles = [note.text for note in figure.layout.annotations]
    assert titles == ["all relations (5)", "alpha (3)", "beta (2)"]
    assert list(figure.layout.xaxis.ticktext) == ["0", "10", "50", "3k", "20k"]
    panels = {}
    for trace in figure.data:
        panels.setdefault(trace.xaxis, {})[trace.name] = np.array(trace.y)
    expected = {
        "always right": [3, 2, 1, 1, 1],
        "regained": [0, 0, 1, 0, 1],
        "gained": [0, 0, 1, 1, 0],
        "lost": [0, 1, 1, 2, 1],
        "wrong without ablation": [2, 2, 1, 1, 2],
    }
    assert panels["x"].keys() == expected.keys()
    for name, counts in expected.items():
        np.testing.assert_allclose(panels["x"][name] * 5, counts, err_msg=name)
    np.testing.assert_allclose(panels["x2"]["lost"] * 3, [0, 1, 1, 2, 1])
    np.testing.assert_allclose(panels["x3"]["gained"] * 2, [0, 0, 1, 1, 0])
    for shares in panels.values():
        np.testing.assert_allclose(sum(shares.values()), 1)
    lost = next(trace for trace in figure.data if trace.name == "lost")
    assert lost.hovertext[3] == "k = 3k<br>2 of 5 lost, 1 of them new at this k"


def test_ks_are_read_from_first_changes_of_answers():
    facts = flip_table(nested_answers({"alpha": ["11000", "00011", "11111"]}, KS))
    assert list(answer_trajectories_figure(facts).layout.xaxis.ticktext) == ["0", "?", "50", "3k", "?"]
    with pytest.raises(RelationNeuronsError, match=r"There are 2 values of k\. Expected: 4"):
        answer_trajectories_figure(facts, (10, 50))


def test_outcomes_of_many_relations_are_selected_from_a_menu():
    courses = {f"r{number}": ["11100", "11111"] for number in range(4)}
    facts = flip_table(nested_answers(courses, KS))
    assert not answer_trajectories_figure(facts, KS, max_panels=4).layout.updatemenus
    figure = answer_trajectories_figure(facts, KS, max_panels=3)
    (menu,) = figure.layout.updatemenus
    assert [button.label for button in menu.buttons] == ["all relations (8)", *(f"r{i} (2)" for i in range(4))]
    shown = [sum(button.args[0]["visible"]) for button in menu.buttons]
    assert shown == [5] * 5
