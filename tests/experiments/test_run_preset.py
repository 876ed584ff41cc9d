"""Whole runs on the planted model, saved to a folder as a user would have it."""

import dataclasses
import json
import re

import pandas as pd
import pytest

import relation_neurons as rn
from relation_neurons.cli import main
from relation_neurons.experiments import pipeline
from relation_neurons.experiments.pipeline import RunConfig, run
from relation_neurons.storage.run_folder import RunFolder

TABLES = ("neurons", "controls", "counts", "recall", "summary", "space")


@pytest.fixture(scope="module")
def config(planted_folder):
    return RunConfig(
        model=str(planted_folder / "model"),
        relations=(str(planted_folder),),
        k=6,
        n_controls=3,
        device="cpu",
        prompts=rn.PromptConfig(shots=0, n_evaluation=10),
    )


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "one"
    return run(config, out), out


def test_a_run_writes_its_folder(finished, planted):
    results, out = finished
    written = {*(f"{name}.parquet" for name in TABLES), "report.html"}
    assert {path.name for path in out.iterdir()} == {*written, "run.json", "manifest.json", ".lock"}
    assert set(json.loads((out / "manifest.json").read_text(encoding="utf-8"))) == written
    neurons = pd.read_parquet(out / "neurons.parquet")
    for name, rows in neurons.groupby("name"):
        assert set(zip(rows["layer"], rows["index"], strict=True)) == {
            (neuron.layer, neuron.index) for neuron in planted.neurons[name]
        }
    recall = pd.read_parquet(out / "recall.parquet")
    assert len(recall) == 3 * 10 * (1 + 3 + 3)
    pd.testing.assert_frame_equal(recall, results.recall)
    manifest = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert manifest["config"]["k"] == 6
    assert manifest["versions"]["transformer-lens"]
    assert set(manifest["relations"]) == {"lives", "eats", "plays"}


def test_two_runs_with_one_seed_write_identical_tables(finished, config, tmp_path):
    run(config, tmp_path / "two")
    for name in TABLES:
        assert (tmp_path / "two" / f"{name}.parquet").read_bytes() == (finished[1] / f"{name}.parquet").read_bytes()


def test_another_seed_draws_other_controls(finished, config, tmp_path):
    run(dataclasses.replace(config, seed=1), tmp_path / "other")
    before, after = (pd.read_parquet(folder / "controls.parquet") for folder in (finished[1], tmp_path / "other"))
    assert not before.equals(after)
    assert (tmp_path / "other" / "neurons.parquet").read_bytes() == (finished[1] / "neurons.parquet").read_bytes()


def test_a_stopped_run_goes_on_where_it_was(config, tmp_path, monkeypatch):
    from relation_neurons.experiments import ablation

    monkeypatch.setattr(ablation, "PART_ROWS", 25)
    run(config, tmp_path / "whole")
    asked, interrupted = [], []

    def stopping(model, conditions, **options):
        asked.append({condition.name for condition in conditions})
        if "eats random 1" in asked[-1] and not interrupted:
            interrupted.append(len(asked))
            raise KeyboardInterrupt
        return rn.recall_under(model, conditions, **options)

    monkeypatch.setattr(ablation, "recall_under", stopping)
    out = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        run(config, out)
    assert not (out / "recall.parquet").exists()
    done = set().union(*(pd.read_parquet(path)["condition"] for path in (out / "parts").glob("*.parquet")))
    assert done == set().union(*asked[:-1])
    assert {"clean", "lives", "eats", "plays"} <= done
    assert "eats random 1" not in done
    assert [path.name for path in out.rglob(".*")] == [".lock"]  # nothing half-written
    run(config, out)
    assert not done & set().union(*asked[interrupted[0] :])
    assert (out / "recall.parquet").read_bytes() == (tmp_path / "whole" / "recall.parquet").read_bytes()
    assert not (out / "parts").exists()


def test_a_finished_run_is_not_asked_again(finished, config, monkeypatch):
    monkeypatch.setattr(pipeline, "measure", lambda *a, **k: pytest.fail("asked again"))
    results = run(config, finished[1])
    pd.testing.assert_frame_equal(results.recall, finished[0].recall)


def test_validation_on_a_model_that_knows_everything_changes_nothing(finished, config, tmp_path):
    run(dataclasses.replace(config, validation="string"), tmp_path / "valid")
    assert (tmp_path / "valid" / "neurons.parquet").read_bytes() == (finished[1] / "neurons.parquet").read_bytes()


@pytest.mark.parametrize("site", ["gate", "up", "down", "ffn"])
def test_every_site_runs(config, tmp_path, site):
    results = run(dataclasses.replace(config, site=site, n_controls=1), tmp_path / site)
    assert set(results.neurons["site"]) <= {"gate", "up", "down"}
    if site == "ffn":
        assert results.n_neurons == 2 * (128 + 128 + 96)
    else:
        assert set(results.neurons["site"]) == {site}


def test_a_folder_of_another_run_is_refused(finished, config, tmp_path):
    with pytest.raises(rn.RelationNeuronsError, match=r"holds another run \(config"):
        run(dataclasses.replace(config, k=5), finished[1])
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(rn.RelationNeuronsError, match="is no run folder"):
        run(config, tmp_path)
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"


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


def test_the_default_folder_tells_runs_apart(config, planted_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    base = ["relation-neurons", "run", "--model", config.model, "--relations", str(planted_folder), "--shots", "0"]
    for k in ("3", "4"):
        monkeypatch.setattr("sys.argv", [*base, "--k", k, "--n-controls", "1", "--n-evaluation", "5"])
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
