import re

import numpy as np
import pandas as pd
import pytest

import relation_neurons as rn
from relation_neurons import figures, report
from relation_neurons.experiments.ablation import effect_matrix, effects, summarise

RELATIONS = ("alpha", "beta <b>", "gamma")


@pytest.fixture(scope="module")
def results():
    """Tables with known effects: own -1, other -0.1, random 0, plus noise."""
    generator = np.random.default_rng(0)
    rows = []
    for relation in RELATIONS:
        for number in range(15):
            fact = {"relation": relation, "subject": f"s{number}", "object": "o", "template": 0, "generated": " o"}
            clean = generator.normal(-2, 0.5)
            states = [("clean", "clean", "", 0.0), ("own", relation, relation, -1.0)]
            states += [("other", other, other, -0.1) for other in RELATIONS if other != relation]
            states += [("random", f"{relation} random {i}", relation, 0.0) for i in range(2)]
            for kind, condition, silenced, effect in states:
                noise = 0 if kind == "clean" else generator.normal(0, 0.05)
                rows.append(
                    {
                        **fact,
                        "condition": condition,
                        "kind": kind,
                        "silenced": silenced,
                        "logprob": clean + effect + noise,
                        "correct_prefix": kind != "own",
                        "correct_string": kind != "own" or number % 2 == 0,
                        "object_rank": 1,
                        "n_candidates": 3,
                    }
                )
    table = pd.DataFrame(rows)
    sets = [rn.NeuronSet.from_pairs([(i, i), (i + 1, 5), (7, 7)], name=name) for i, name in enumerate(RELATIONS)]
    neurons = pd.concat([one.to_frame() for one in sets], ignore_index=True).assign(score=0.9)
    counts = pd.DataFrame(
        {
            "relation": RELATIONS,
            "n_positive": 10,
            "n_negative": 20,
            "lowest_ap": 0.5,
            "share_perfect": 0.01,
            "ap_check": 1e-8,
        }
    )
    return report.Results(table, neurons, counts, summarise(table), n_layers=8, n_neurons=80)


@pytest.fixture(scope="module")
def page(results):
    config = {"model": "toy", "k": 3, "site": "post", "n_controls": 2, "seed": 0}
    return report.write_report(results, {"config": config, "versions": {"python": "3"}})


def test_the_page_is_one_file(page):
    head = page.split("</script>", 1)[1]  # what follows plotly itself
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)\s*=", head)
    assert len(page) < 10e6


def test_the_page_says_what_the_tables_say(page, results):
    row = results.summary.query("relation == 'alpha' and measure == 'logprob'").iloc[0]
    assert f"{row['own_mean']:+.2f} [{row['own_low']:+.2f}, {row['own_high']:+.2f}]" in page
    assert "in 3 of 3 relations" in page
    assert "L7.N7 (0.900)" in page


def test_names_are_escaped(page):
    body = page.split("</script>", 1)[1]
    assert "<td>beta &lt;b&gt;</td>" in body
    assert "<td>beta <b></td>" not in body


def test_the_effects_figure_draws_the_summary(results):
    figure = figures.effects_figure(results.summary, effects(results.recall))
    rows = results.summary.query("measure == 'logprob'").sort_values("own_mean", ascending=False)
    own = next(trace for trace in figure.data if trace.name == "its own facts")
    np.testing.assert_allclose(own.x, rows["own_mean"])
    np.testing.assert_allclose(own.x + own.error_x.array, rows["own_high"])
    np.testing.assert_allclose(own.x - own.error_x.arrayminus, rows["own_low"])
    assert list(figure.layout.yaxis.ticktext) == list(rows["relation"])
    controls = next(trace for trace in figure.data if trace.name == "each control set")
    assert len(controls.x) == 2 * len(RELATIONS)


def test_the_matrix_is_centred_on_zero(results):
    matrix = effect_matrix(results.recall)
    (heat,) = figures.effect_matrix_figure(matrix).data
    assert heat.zmin == -heat.zmax
    np.testing.assert_allclose(heat.z, matrix.to_numpy())
    assert list(heat.y) == list(RELATIONS)


def test_layers_and_overlap_are_counted(results):
    (layers,) = figures.layers_figure(results.neurons, 8).data
    assert np.asarray(layers.z).sum(axis=1).tolist() == [3, 3, 3]
    assert np.asarray(layers.z)[0].tolist() == [1, 1, 0, 0, 0, 0, 0, 1]
    (overlap,) = figures.overlap_figure(results.neurons).data
    shared = np.asarray(overlap.z)
    assert np.isnan(np.diag(shared)).all()
    assert shared[0, 1] == shared[1, 0] == 1
