"""The commands under `relation-neurons data`, called as from a shell."""

import json
import os
import re
from pathlib import Path

import pandas as pd
import pytest

import relation_neurons as rn
from relation_neurons.cli.main import main
from tests.relations.test_wikidata import api, waits  # noqa: F401 (fixtures)

GUIDE = (Path(__file__).parents[2] / "docs/how-to/your-own-relations.md").read_text(encoding="utf-8")
FACTUAL = Path(os.environ.get("LRE_FOLDER", Path(__file__).parents[3] / "shared/lre/data/factual"))


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RELATION_NEURONS_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["relation-neurons", "data", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = stop.code
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return call


def test_check_says_what_is_wrong_and_where(call, tmp_path):
    content = {
        "name": "colour",
        "prompt_templates": ["The colour of {} is"],
        "samples": [{"subject": f"thing {n}", "object": f"c{n % 5}"} for n in range(60)],
    }
    good, bad = tmp_path / "good.json", tmp_path / "bad.csv"
    good.write_text(json.dumps(content, indent=1), encoding="utf-8")
    bad.write_text("subject,object,template\nsnow,white,{} is\ncoal,,{} is\n", encoding="utf-8")
    assert call("check", good)[0] == 0
    status, out, err = call("check", good, bad)
    assert status == 1
    assert re.search(r"bad\.csv.*3.*object", out)
    assert not err
    status, _, err = call("check")
    assert status == 2
    assert "No file was named" in err


def test_check_reads_a_bare_table_and_names_its_columns(call, tmp_path):
    table = tmp_path / "elements.tsv"
    table.write_text("Element\tSymbol\nHydrogen\tH\nHelium\tHe\nLithium\tLi\n", encoding="utf-8")
    few = ("--n-evaluation", 1, "--shots", 1)
    status, out, _ = call("check", table, *few)
    assert status == 1
    assert "the columns are 'Element', 'Symbol'. Expected: a header with the columns subject and object" in out
    named = ("--columns", "subject=Element", "object=Symbol")
    status, out, _ = call("check", table, *few, *named)
    assert status == 1
    assert 'or --template "..."' in out
    status, out, _ = call("check", table, *few, *named, "--template", "{} has the symbol", "--template", "The {}?")
    assert (status, out.count("warning")) == (0, 1)
    assert "template: 'The {}?' ends in '?'" in out
    assert "'elements.tsv' does not say which" in call("check", *named[:2], "elements.tsv")[2]


def test_check_warns_where_two_relations_are_each_others_only_negatives(call, tmp_path):
    files = []
    for name in ("one", "two", "three"):
        facts = "".join(f"{name} {n},o{n % 3}\n" for n in range(60))
        files.append(tmp_path / f"{name}.csv")
        files[-1].write_text(f"subject,object\n{facts}", encoding="utf-8")
    said = "one and two are each other's only negatives"
    assert said in call("check", *files[:2], "--template", "{} is")[1]
    for some in (files[:1], files):
        assert "only negatives" not in call("check", *some, "--template", "{} is")[1]


def test_the_guides_relation_is_what_check_and_load_take(call, tmp_path):
    table = re.search(r"```csv\n(.*?)```", GUIDE, flags=re.DOTALL)[1]
    path = tmp_path / "rivers.csv"
    path.write_text(table, encoding="utf-8")
    (relation,) = rn.load_relations(path)
    assert relation.name == "river_sea"
    assert relation.templates == ("{} flows into the",)
    assert relation.facts[2] == rn.Fact("Nile", "Mediterranean Sea", ("Mediterranean",))
    status, out, _ = call("check", path, "--n-evaluation", "1", "--shots", "1")
    assert status == 0, out
    assert call("check", path)[0] == 1  # three facts are too few for forty


def test_describe_shows_a_table_and_writes_figures(call, tmp_path):
    status, out, _ = call("describe", "country_capital", "country_currency", "--out", tmp_path / "described")
    assert status == 0
    assert "country_currency" in out
    table = pd.read_csv(tmp_path / "described" / "description.csv")
    assert list(table["facts"]) == [151, 137]
    shared = pd.read_csv(tmp_path / "described" / "shared_subjects.csv", index_col=0)
    subjects = [
        {f.subject for f in relation.facts} for relation in rn.load_relations("country_capital", "country_currency")
    ]
    assert shared.iloc[0, 1] == len(subjects[0] & subjects[1])
    pages = {path.name for path in (tmp_path / "described").glob("*.html")}
    assert pages == {"facts.html", "shared_subjects.html", "shared_objects.html"}


def test_describe_counts_tokens_and_valid_prompts_with_a_model(call, planted_folder, tmp_path):
    options = ["--model", planted_folder / "model", "--validate", "string", "--shots", 0, "--n-evaluation", 10]
    status, out, _ = call("describe", planted_folder, *options, "--out", tmp_path / "out")
    assert status == 0, out
    table = pd.read_csv(tmp_path / "out" / "description.csv")
    assert (table["valid"] == 30).all()  # the planted model knows everything
    assert (table["tokens_max"] == 1).all()


@pytest.mark.skipif(not FACTUAL.is_dir(), reason="there is no copy of LRE; LRE_FOLDER can name its folder data/factual")
def test_what_was_fetched_is_loaded_by_name(call, api):  # noqa: F811
    status, out, _ = call("fetch", "lre", "--source", FACTUAL.parent)
    assert status == 0
    assert "47 relations are in" in out
    assert len(rn.load_relations("paper")) == 12
    name = next(fact.subject for fact in rn.load_relations("lre:country_capital_city")[0].facts)
    (relation,) = rn.load_relations("lre:country_capital_city")
    api.add(*{n for fact in relation.facts for n in (fact.subject, fact.object)})
    options = ["--lang", "de", "--templates", "{} hat als Hauptstadt", "--endpoint", api.endpoint]
    status, out, err = call("translate", "lre:country_capital_city", *options)
    assert status == 0, err
    (relation,) = rn.load_relations("lre:country_capital_city")
    assert relation.translations["de"].subjects[name] == f"{name} auf Deutsch"
    config = rn.PromptConfig(language="de", shots=0, n_evaluation=5)
    asked = rn.make_prompts([relation], config).evaluation
    assert all(prompt.text == f"{prompt.unit} auf Deutsch hat als Hauptstadt? Antwort:" for prompt in asked)


def test_what_was_not_fetched_says_how_to_get_it(call):
    with pytest.raises(rn.RelationNeuronsError, match="relation-neurons data fetch lre"):
        rn.load_relations("paper")
    status, _, err = call("fetch", "lre", "--source", "/does/not/exist")
    assert status == 2
    assert "Error:" in err
    assert "Traceback" not in err
