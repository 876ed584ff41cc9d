"""`relation-neurons run` on the planted model, saved to a folder as a user would have it."""

import dataclasses
import json
import re

import pandas as pd
import pytest

import relation_neurons as rn
from relation_neurons.cli import main
from relation_neurons.experiments import answer_jobs
from relation_neurons.experiments.neuron_cards import CardsConfig
from relation_neurons.experiments.registry import DEMO_RELATIONS, RUN, RUN_OPTIONS
from relation_neurons.experiments.runner import reproduce, run
from relation_neurons.results.neuron_verdicts import tie_rule
from relation_neurons.storage.run_folder import RunFolder
from tests.helpers import full_only
from tests.planted import planted_config


@pytest.fixture(scope="module")
def config(planted_folder):
    return planted_config(rn.StudyConfig, 10, planted_folder, n_controls=3)


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "one"
    return {result.name: result for result in run(config, out)}, out


def tables(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*.parquet"))}


def test_a_run_is_a_study_of_chosen_experiments(finished, planted):
    results, out = finished
    assert list(results) == [*RUN_OPTIONS, "properties"]
    written = set(json.loads((out / "manifest.json").read_text(encoding="utf-8")))
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == written | {
        "run.json",
        "manifest.json",
        ".lock",
    }
    assert {"report.html", "neurons.parquet", "summary/summary.parquet", "intra/effects.parquet"} <= written
    for name, neurons in rn.open_run(out).neurons().items():
        assert set(neurons) == set(planted.neurons[name])
    key = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert key["config"]["k"] == 6
    assert key["versions"]["transformer-lens"]
    assert set(key["relations"]) == {"lives", "eats", "plays"}


def test_a_run_says_how_many_neurons_the_tie_rule_chose(finished):
    _, out = finished
    neurons = pd.read_parquet(out / "neurons.parquet")
    assert neurons["by_tie_rule"].dtype == bool
    for page in ("verdicts.md", "report.html"):
        assert tie_rule(neurons) in (out / page).read_text(encoding="utf-8")


def test_the_preset_is_what_was_chosen_on_detection_facts():
    assert (RUN.site, RUN.k, RUN.n_controls, RUN.validation, RUN.rule) == ("gate", 100, 20, "none", "string")
    assert RUN.scorer == "average_precision_x_attribution_t"
    assert (RUN.prompts, RUN.relations) == (rn.PromptConfig(), DEMO_RELATIONS)
    assert (RUN.prompts.shots, RUN.prompts.n_evaluation) == (2, 40)


@pytest.mark.full
def test_two_runs_with_one_seed_write_identical_tables(finished, config, tmp_path):
    run(config, tmp_path / "two")
    assert tables(tmp_path / "two") == tables(finished[1])


def test_a_run_on_a_bare_table_is_that_on_the_relation_itself(finished, planted, planted_folder, tmp_path, monkeypatch):
    lives = planted.relations[0]
    rows = [f"{fact.object}\t{fact.subject}" for fact in lives.facts]
    (tmp_path / "lives.tsv").write_text("\n".join(["Place\tPerson", *rows]), encoding="utf-8")
    files = [planted_folder / "eats.json", tmp_path / "lives.tsv", planted_folder / "plays.json"]
    words = ["run", "--relations", *files, "--template", "{} lives in", "--columns", "subject=Person", "object=Place"]
    words += ["--model", planted_folder / "model", "--site", "post", "--k", 6, "--n-controls", 3, "--device", "cpu"]
    words += ["--shots", 0, "--n-evaluation", 10, "--scorer", "average_precision", "--negatives", "balanced"]
    monkeypatch.setattr("sys.argv", ["relation-neurons", *map(str, [*words, "--out", tmp_path / "bare"])])
    main.main()
    found, expected = tables(tmp_path / "bare"), tables(finished[1])
    assert found["neurons.parquet"] == expected["neurons.parquet"]
    assert found["intra/effects.parquet"] == expected["intra/effects.parquet"]


def test_another_seed_draws_other_controls(finished, config, tmp_path):
    run(dataclasses.replace(config, seed=1), tmp_path / "other", cards=None)
    before, after = tables(finished[1]), tables(tmp_path / "other")
    assert before["summary/controls.parquet"] != after["summary/controls.parquet"]
    assert before["neurons.parquet"] == after["neurons.parquet"]


def test_a_finished_run_is_not_asked_again(finished, config, monkeypatch):
    monkeypatch.setattr(answer_jobs, "recall_under", lambda *a, **k: pytest.fail("asked again"))
    before = tables(finished[1])
    run(config, finished[1])
    reproduce(["intra"], config, finished[1], options=RUN_OPTIONS)  # the same study: the folder has its answers
    assert tables(finished[1]) == before


@pytest.mark.full
def test_validation_on_a_model_that_knows_everything_changes_nothing(finished, config, tmp_path):
    run(dataclasses.replace(config, validation="string"), tmp_path / "valid", cards=None)
    assert tables(tmp_path / "valid")["neurons.parquet"] == tables(finished[1])["neurons.parquet"]


@pytest.mark.parametrize("site", ["ffn", *full_only("gate", "up", "down")])
def test_every_site_runs(config, tmp_path, site):
    cards = CardsConfig(n_cards=1) if site in ("down", "ffn") else None
    run(dataclasses.replace(config, site=site, n_controls=2), tmp_path / site, cards=cards)
    neurons = pd.read_parquet(tmp_path / site / "neurons.parquet")
    assert set(neurons["site"]) <= ({"gate", "up", "down"} if site == "ffn" else {site})


def test_a_folder_of_another_run_is_refused(finished, config, tmp_path):
    with pytest.raises(rn.RelationNeuronsError, match=r"holds another run \(config"):
        run(dataclasses.replace(config, k=5), finished[1])
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(rn.RelationNeuronsError, match="is not a run folder"):
        run(config, tmp_path)
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_folder_of_an_older_version_is_refused_in_one_sentence(config, tmp_path, capsys, monkeypatch):
    old = tmp_path / "runs" / "old"
    old.mkdir(parents=True)
    (old / "run.json").write_text(json.dumps({"config": {"k": 400}, "relations": {}}), encoding="utf-8")
    said = r"was written by another version of relation_neurons \(format 1\)\. Expected: format 2\. Do this: choose"
    for read in (lambda: run(config, old), lambda: rn.open_run(old)):
        with pytest.raises(rn.RelationNeuronsError, match=said):
            read()
    assert [path.name for path in old.iterdir() if path.name != ".lock"] == ["run.json"]
    monkeypatch.setattr("sys.argv", ["relation-neurons", "runs", "list", str(tmp_path / "runs")])
    main.main()
    assert "another version" in capsys.readouterr().out


def test_a_table_that_fails_leaves_nothing(tmp_path):
    folder = RunFolder(tmp_path / "run", {"a": 1})

    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        folder.table("t", fail)
    assert {path.name for path in folder.path.iterdir()} == {"run.json", "manifest.json", ".lock"}
    assert not folder.has("t")


def test_the_command_line_runs_and_reports(config, planted_folder, tmp_path, capsys, monkeypatch):
    arguments = ["run", "--model", config.model, "--relations", str(planted_folder), "--k", "6", "--n-controls", "2"]
    arguments += ["--shots", "0", "--n-evaluation", "8", "--device", "cpu", "--out", str(tmp_path / "cli")]
    monkeypatch.setattr("sys.argv", ["relation-neurons", *arguments])
    main.main()
    printed = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "in 3 of 3 relations (eats, lives, plays)" in printed
    assert (tmp_path / "cli" / "report.html").is_file()


@pytest.mark.full
def test_the_default_folder_tells_runs_apart(config, planted_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    base = ["relation-neurons", "run", "--model", config.model, "--relations", str(planted_folder), "--shots", "0"]
    for k in ("3", "4"):
        monkeypatch.setattr("sys.argv", [*base, "--k", k, "--n-controls", "2", "--n-evaluation", "5", "--n-cards", "0"])
        main.main()
    assert len(list((tmp_path / "runs").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--relations", "country_capitol", "person_father"], "did you mean 'country_capital'"),
        (["run", "--relations", "person_father"], "at least two"),
        (["run", "--model", "/no/such/folder"], "no file or folder"),
        (["run", "--k", "0"], "k is 0"),
        (["relations", "nothing"], "'nothing' is neither"),
        (["parity", "--model", "./none"], "no file or folder"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, says, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["relation-neurons", *arguments])
    with pytest.raises(SystemExit) as status:
        main.main()
    assert status.value.code == 2
    error = capsys.readouterr().err
    assert "Error:" in error
    assert says in error
    assert "Traceback" not in error
