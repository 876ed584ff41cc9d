import base64
import gzip
import itertools
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

import relation_neurons as rn
from relation_neurons import figures
from relation_neurons.cli import report
from relation_neurons.evaluation.examples import OWN, RANDOM
from relation_neurons.experiments.summary import summarise
from relation_neurons.report import page
from relation_neurons.report.left_out import all_zero, constants
from relation_neurons.report.table_encoding import encoded
from relation_neurons.report.words import generations_html
from relation_neurons.results.experiment_result import ExperimentResult

RELATIONS = ("alpha", "beta <b>", "gamma")
KS = (1, 10, 100)
SHARED = {
    ("alpha", "beta <b>"): 4,
    ("alpha", "gamma"): 1,
    ("beta <b>", "gamma"): 3,
    ("alpha", "delta"): 0,
    ("beta <b>", "delta"): 0,
    ("gamma", "delta"): 0,
}
RUN = {
    "config": {"model": "toy", "k": 3, "site": "post", "n_controls": 2, "seed": 0},
    "relations": dict.fromkeys(RELATIONS, "digest"),
    "versions": {"python": "3"},
}


def made_summary():
    """Tables with known effects: own -1, other -0.1, random 0, plus noise."""
    generator = np.random.default_rng(0)
    rows = []
    for relation, number in itertools.product(RELATIONS, range(15)):
        clean = generator.normal(-2, 0.5)
        states = [(other, -1, -1.0 if other == relation else -0.1) for other in RELATIONS]
        for ablated, draw, effect in [*states, (relation, 0, 0.0), (relation, 1, 0.0)]:
            change = effect + generator.normal(0, 0.05)
            row = {"relation": relation, "unit": f"s{number}", "ablated": ablated, "draw": draw}
            rows.append({**row, "clean_logprob": clean, "d_logprob": change, "clean_correct": 1.0, "d_correct": 0.0})
    answers = pd.DataFrame(rows)
    own, controls = answers[answers["draw"] < 0], answers[answers["draw"] >= 0]
    changes = ["d_logprob", "d_correct"]
    return {
        "summary": summarise(own, controls, measures=("logprob", "correct")),
        "controls": controls.groupby(["relation", "draw"], sort=False)[changes].mean().reset_index(),
    }


def made_neurons():
    """Twelve neurons of each relation; pairs share `SHARED` of them, and one neuron is in three relations."""
    alpha, beta, gamma, delta = ([("gate", layer, number) for layer in range(12)] for number in range(4))
    beta[:3], gamma[6:8] = alpha[:3], beta[6:8]
    beta[11] = gamma[11] = alpha[11]
    sets = dict(zip((*RELATIONS, "delta"), (alpha, beta, gamma, delta), strict=True))
    rows = [
        {"name": name, "rank": rank, "site": site, "layer": layer, "index": index, "score": 1 - rank / 100}
        for name, neurons in sets.items()
        for rank, (site, layer, index) in enumerate(neurons, start=1)
    ]
    return pd.DataFrame(rows)


def made_sweep():
    """Effects whose alphabetical and numerical orders differ."""
    values = itertools.cycle([-0.5, -12.25, 3.0, -2.75, 10.5, -1.125, -9.0, 0.25, -100.5])
    rows = []
    for measure, name, k in itertools.product(("logprob", "correct"), RELATIONS, KS):
        effect = next(values)
        ends = {"effect_low": effect - 0.5, "effect_high": effect + 0.25}
        random = {"n_controls": 2, "random": -0.1 * k, "random_sd": 0.1, "random_min": -0.2, "random_max": 0.0}
        tests = {
            "p": 0.01,
            "p_holm": 0.04 + 0.001 * k,
            "p_bh": 0.02,
            "verdict": "falls" if effect < -1 else "not shown",
        }
        row = {"ablated": name, "k": k, "measure": measure, "n": 25, "clean": -1.0, "effect": effect}
        rows.append({**row, **ends, **random, **tests})
    return pd.DataFrame(rows)


def write_study(folder):
    """A study folder with three experiments and the properties, as written by `reproduce`."""
    names = {"name": "toy", "weights": "", "dtype": "float32", "device": "cpu"}
    config = {"model": "toy", "site": "ffn", "k": None, "n_controls": 2, "match": "layer", "seed": 0}
    config |= {"scorer": "average_precision", "prompts": {"n_evaluation": 25}}
    run = {"format": 2, "config": config, "relations": RUN["relations"], "model": names, "versions": {}}
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    made_neurons().to_parquet(folder / "neurons.parquet")
    pairs = pd.DataFrame([{"first": a, "second": b, "count": n} for (a, b), n in SHARED.items()])
    pairs = pairs.assign(share=pairs["count"] / 12, expected=1.0, low=0, high=3, p_holm=0.5, verdict="not shown")
    pairs = pairs.assign(count_as_negatives=1, expected_as_negatives=1.0)
    shared = pd.DataFrame(
        [
            {"relations": f"{a}, {b}", "site": "gate", "layer": layer, "index": 0, "ranks": f"{layer}, {layer + 1}"}
            for (a, b), n in SHARED.items()
            for layer in range(n)
        ]
    )
    shown = pd.DataFrame({"property": ["cumulativity"], "what": ["alpha"], "effect": [-1.0], "shown": [True]})
    tables = {
        "summary": made_summary(),
        "overlap": {"pairs": pairs, "shared": shared},
        "sweep": {"effects": made_sweep(), "others": made_sweep(), "answers-0123456789abcdef": shown},
        "properties": {"properties": shown},
    }
    for name, kept in tables.items():
        (folder / name).mkdir()
        verdict = f"## {name}\n\nIs this {name}?\n\n- First <i>{name}</i>.\n- Second {name}.\n"
        (folder / name / "verdict.md").write_text(verdict, encoding="utf-8")
        for label, table in kept.items():
            table.to_parquet(folder / name / f"{label}.parquet")
    return folder


def contents(text):
    """The compressed contents of the page, by the id of their element."""
    matches = re.findall(r'id="(\S+)"[^>]*>\s*<script type="application/gzip">([^<]*)</script>', text)
    return {name: json.loads(gzip.decompress(base64.b64decode(packed))) for name, packed in matches}


def column(table, title):
    """The cells of a column of a table on the page."""
    (encoding,) = (column for column in table if column["title"] == title)
    return [encoding["text"][code] for code in encoding["codes"]] if "codes" in encoding else encoding["values"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("report") / "study")


@pytest.fixture(scope="module")
def study_page(study):
    return report.rebuild(study).read_text(encoding="utf-8")


def test_the_page_is_self_contained_and_makes_no_requests(study_page):
    text = study_page
    assert (
        "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src data: blob:" in text
    )
    body = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)\s*=", body)
    assert text.count('id="plotly"') == text.count('id="datatables"') == 1
    assert len(text.encode()) < 4e6


def test_the_summary_contains_its_table(study_page):
    held, rows = contents(study_page), made_summary()["summary"]
    table = held["summary-table-summary"]
    assert column(table, "own [low, high]") == pytest.approx(rows["own"].tolist(), rel=1e-5)
    (own,) = (column for column in table if column["title"] == "own [low, high]")
    np.testing.assert_allclose(own["low"], rows["own_low"], rtol=1e-5)
    np.testing.assert_allclose(own["high"], rows["own_high"], rtol=1e-5)
    assert {"summary-figure-summary", "summary-figure-accuracy"} <= set(held)


def test_the_summary_comes_first_and_every_verdict_is_included(study_page):
    headings = re.findall(r"<h2>(.*?)</h2>", study_page)
    assert headings == ["Summary", "Properties", "Overlap", "Sweep", "Neurons", "Methods and configuration"]
    assert re.findall(r"<li>(.*?)</li>", study_page)[2:4] == [
        "First &lt;i&gt;properties&lt;/i&gt;.",
        "Second properties.",
    ]
    assert '<p class="question">Is this sweep?</p>' in study_page
    assert "<dd>12</dd>" in study_page  # neurons per relation
    assert not [name for name in contents(study_page) if "0123456789abcdef" in name]


def test_the_page_contains_figures_and_tables(study_page):
    held = contents(study_page)
    drawn = {name for name in held if "-figure-" in name}
    assert {"overlap-figure-pairs", "sweep-figure-dose_logprob"} <= drawn
    assert 'id="overlap-figure-pairs" style="min-height' in study_page
    assert study_page.count("data-pairs") > 1
    table, rows = held["sweep-table-effects"], made_sweep()
    assert column(table, "effect [low, high]") == rows["effect"].tolist()
    assert column(table, "random [min, max]") == rows["random"].tolist()
    assert column(table, "p (Holm)") == rows["p_holm"].tolist()
    assert "random sd" not in [column["title"] for column in table]
    assert "Further columns in sweep/effects.parquet: n_controls, random_sd, p, p_bh." in study_page


def test_the_table_of_neurons_lists_the_relations_that_share_them(study_page):
    table, rows = contents(study_page)["neurons-table-neurons"], made_neurons()
    owners = rows.groupby(["site", "layer", "index"])["name"].agg(set)
    for relation, neuron, others in zip(
        column(table, "relation"), column(table, "neuron"), column(table, "shared with"), strict=True
    ):
        site, layer, index = re.fullmatch(r"(\w+):L(\d+)\.N(\d+)", neuron).groups()
        assert {relation, *others} == owners[site, int(layer), int(index)]
    assert column(table, "score") == [pytest.approx(score) for score in rows["score"]]


def test_columns_with_one_value_are_a_sentence(study_page):
    table = contents(study_page)["sweep-table-effects"]
    assert {"n", "clean"}.isdisjoint(column["title"] for column in table)
    assert "In all rows: n 25, clean -1." in study_page
    assert constants(pd.DataFrame({"a": [1, 1], "verdict": ["x", "x"], "b": [np.nan] * 2})) == {"b": "b unknown"}
    both = pd.DataFrame({"a": [1, 2], "c": [0.0, 0.0], "c_low": [0.0, 0.0], "d": [1, 1], "d_low": [0, 1]})
    assert constants(both) == {"c_low": "", "c": "c 0"}
    assert constants(both.head(1)) == {}


def test_continuations_are_shown_in_words_with_their_differences_marked():
    row = {"ablated": "alpha", "relation": "alpha", "prompt": "a <b> is", "agrees": " x\ny", "differs": False}
    rows = [row | {"condition": name, "generated": " x\ny"} for name in ("clean", RANDOM)]
    rows.append(row | {"condition": OWN, "generated": " x <z>", "agrees": " x", "differs": True})
    other = [one | {"prompt": "c", "relation": "beta"} for one in rows]
    html = generations_html(pd.DataFrame(rows + other))
    assert "<caption>Neurons of alpha</caption>" in html
    assert "<td>a &lt;b&gt; is</td><td> x⏎y</td><td> x<mark> &lt;z&gt;</mark></td>" in html
    assert "<td>c <small>(beta)</small></td>" in html
    assert generations_html(pd.DataFrame(columns=["ablated"])) == ""


def test_figures_of_zeros_are_a_sentence():
    table = pd.DataFrame({"measure": ["correct", "correct", "logprob"], "effect": [0.0, 0.0, -1.0]})
    said = all_zero(ExperimentResult("intra", "", {"effects": table}, ()))
    assert said == {"effects_accuracy": "The accuracy changed in none of the 2 rows of effects."}


def test_a_report_does_not_depend_on_where_it_lies(study, study_page, tmp_path):
    moved = shutil.copytree(study, tmp_path / "moved")
    assert report.rebuild(moved).read_text(encoding="utf-8") == study_page


def test_names_are_escaped(study_page):
    assert "beta &lt;b&gt;" in study_page
    assert "beta <b>" not in study_page


def test_large_studies_stay_below_ten_megabytes_and_state_omitted_rows():
    generator, n, k = np.random.default_rng(0), 47, 3000
    flat = np.concatenate([generator.choice(835_584, k, replace=False) for _ in range(n)])
    names = np.repeat([f"relation_{number}" for number in range(n)], k)
    columns = {"site": np.array(["gate", "up", "down"])[flat % 3], "layer": flat // 3 % 32, "index": flat // 96}
    rows = pd.DataFrame({"name": names, "rank": np.tile(np.arange(1, k + 1), n), **columns})
    section = page.neurons_section(rows.assign(score=generator.random(n * k)))
    (table,) = section.tables
    several = rows.duplicated(["site", "layer", "index"], keep=False)
    best = page.MOST_NEURONS // n
    assert len(table.rows) == (several | (rows["rank"] <= best)).sum() < n * k
    assert table.note.startswith(f"{len(table.rows):,} of 141,000 rows: the best {best:,} neurons of each relation")
    assert len(page.write_page("large", {}, [section], RUN).encode()) < 10e6


def test_tables_encode_numbers_text_and_missing_values():
    rows = pd.DataFrame(
        {
            "count": [1200, 7, 9],
            "mean": [np.nan, np.inf, -0.123456789],
            "mean_low": [np.nan, -np.inf, -1],
            "mean_high": [np.nan, np.inf, 1],
            "p": [1e-9, 0.5, 1],
            "known": [True, False, True],
            "text": ["a", None, "a"],
            "names": [["x", "y"], [], np.array(["x"])],
        }
    )
    count, mean, p, known, text, names = encoded(rows)
    assert (count["values"], count["decimals"]) == ([1200, 7, 9], 0)
    assert mean["values"] == [None, "Infinity", -0.123457]
    assert mean["low"] == [None, "-Infinity", -1]
    assert (p["values"], p["decimals"]) == ([1e-9, 0.5, 1], -2)
    assert column([known], "known") == ["yes", "no", "yes"]
    assert (text["text"], text["codes"]) == (["a", ""], [0, 1, 0])
    assert column([names], "names") == [("x", "y"), (), ("x",)]


def test_folders_that_are_not_runs_are_refused(tmp_path):
    def refused(folder, match):
        with pytest.raises(rn.RelationNeuronsError, match=match):
            report.rebuild(folder)

    refused(tmp_path / "nowhere", "There is no folder")
    refused(tmp_path, "is not a run folder: it has no run.json")
    (tmp_path / "run.json").write_text("{", encoding="utf-8")
    refused(tmp_path, "run.json cannot be read")
    (tmp_path / "run.json").write_text("[]", encoding="utf-8")
    refused(tmp_path, "does not describe a run")
    (tmp_path / "run.json").write_text(json.dumps(RUN), encoding="utf-8")
    refused(tmp_path, "written by another version")
    (tmp_path / "run.json").write_text(json.dumps({"format": 2} | RUN), encoding="utf-8")
    refused(tmp_path, "has no results yet")
    study = write_study(tmp_path / "study")
    (study / "sweep" / "others.parquet").unlink()
    refused(study, "The tables of sweep have no 'others'")
    (study / "sweep" / "effects.parquet").write_bytes(b"no table")
    refused(study, "effects.parquet cannot be read")


def test_the_summary_figure_matches_its_table():
    tables = made_summary()
    figure = figures.summary_figure(tables["summary"], tables["controls"])
    rows = tables["summary"].query("measure == 'logprob'").sort_values("own", ascending=False)
    own = next(trace for trace in figure.data if trace.name == "own facts")
    np.testing.assert_allclose(own.x, rows["own"])
    np.testing.assert_allclose(own.x + own.error_x.array, rows["own_high"])
    np.testing.assert_allclose(own.x - own.error_x.arrayminus, rows["own_low"])
    assert list(figure.layout.yaxis.ticktext) == list(rows["relation"])
    controls = next(trace for trace in figure.data if trace.name == "each control set")
    assert len(controls.x) == 2 * len(RELATIONS)
