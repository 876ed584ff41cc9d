"""What may not be read or written is refused in one message, before anything is changed; root is bound like others."""

import contextlib
import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest

import relation_neurons as rn
from relation_neurons.models.hooked_model import neuron_space
from tests.commands import obey_permissions, set_environment, start
from tests.helpers import full_only

pytestmark = pytest.mark.skipif(os.name != "posix", reason="permissions are others here")
CLOSED, NO_LIST, NO_PASS, NO_WRITE = 0, 0o311, 0o644, 0o555
"""Modes: of anything, then of folders: names that cannot be listed, files that cannot be reached, or made."""


def call(name, folder, out):
    """A command on the planted model."""
    asked = ["--model", folder / "model", "--relations", folder, "--k", 4, "--shots", 0, "--device", "cpu"]
    study = ["--site", "post", "--n-controls", 2, "--n-evaluation", 6, "--validation", "none"]
    return {
        "run": ["run", *asked, *study, "--out", out],
        "reproduce": ["reproduce", "intra", *asked, *study, "--n-detection-tested", 0, "--out", out],
        "neuron": ["neuron", "L1.N3", *asked, *study, "--out", out],
    }[name]


@pytest.fixture(scope="module")
def finished(planted_folder, tmp_path_factory):
    """A folder that holds a study."""
    folder = tmp_path_factory.mktemp("finished")
    ended = start(call("reproduce", planted_folder, folder / "reproduce"), folder / "said", obey_permissions).end()
    if "rights cannot be given up" in ended.err:
        pytest.skip("root cannot be bound by permissions here")
    assert ended.status == 0, ended
    return folder


@pytest.fixture
def place(finished, planted_folder, tmp_path):
    """A folder with a study, a user's own model and relations, and one to write into."""
    shutil.copytree(finished, tmp_path / "place")
    shutil.copytree(planted_folder, tmp_path / "place" / "mine")
    (tmp_path / "place" / "out").mkdir()
    return tmp_path / "place"


def contents(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@contextlib.contextmanager
def mode(path, wanted):
    before = path.stat().st_mode
    path.chmod(wanted)
    try:
        yield
    finally:
        path.chmod(before)


def refused(place, forbidden, wanted, command, says, *before):
    """What a command says while a file or folder is forbidden; nothing may be written."""
    there = contents(place)
    with mode(place / forbidden, wanted):
        ended = start(command, place.parent / "said", obey_permissions, *before).end()
    assert contents(place) == there
    assert ended.status == 2, ended
    assert "Traceback" not in ended.said
    assert ended.err.count("Error: ") == 1
    error = ended.err.partition("Error: ")[2]
    assert error.count("\n") == 1
    assert says in error
    assert "Do this: " in error
    return error


@pytest.mark.parametrize(
    ("forbidden", "wanted", "says"),
    [
        ("mine/lives.json", CLOSED, "lives.json: cannot be read (Permission denied)"),
        ("mine", CLOSED, "mine' cannot be used (Permission denied)"),
        ("mine/model/model.safetensors", CLOSED, "model.safetensors cannot be read (Permission denied)"),
        *full_only(
            ("mine", NO_LIST, "mine' cannot be used (Permission denied)"),
            ("mine", NO_PASS, "eats.json: cannot be read (Permission denied)"),
            ("mine/model", CLOSED, "config.json' cannot be used (Permission denied)"),
            ("mine/model", NO_PASS, "config.json' cannot be used (Permission denied)"),
            ("mine/model", NO_LIST, "model cannot be read (Permission denied)"),
            ("mine/model/config.json", CLOSED, "config.json cannot be read (Permission denied)"),
            ("mine/model/tokenizer.json", CLOSED, "tokenizer.json cannot be read (Permission denied)"),
        ),
    ],
)
def test_input_that_may_not_be_read_is_named(place, forbidden, wanted, says):
    refused(place, forbidden, wanted, call("reproduce", place / "mine", place / "new"), says)


def test_a_model_file_that_may_not_be_read_is_named(place):
    (place / "mine.gguf").write_bytes(b"GGUF")
    command = ["parity", "--model", place / "mine.gguf"]
    refused(place, "mine.gguf", CLOSED, command, "mine.gguf' cannot be used (Permission denied)")


def test_the_commands_that_look_for_faults_name_what_may_not_be_read(place):
    weights = place / "mine" / "model" / "model.safetensors"
    with mode(place / "mine" / "lives.json", CLOSED), mode(weights, CLOSED):
        checked = start(["data", "check", place / "mine" / "lives.json"], place / "1", obey_permissions).end()
        looked = start(["doctor", "--model", place / "mine" / "model"], place / "2", obey_permissions).end()
    assert (checked.status, looked.status) == (1, 1)
    assert "lives.json: error: file: cannot be read (Permission denied)" in checked.said
    assert "Permission denied" in looked.said
    assert "Traceback" not in checked.said + looked.said


@pytest.mark.parametrize("name", ["reproduce", *full_only("neuron", "run")])
def test_an_out_that_may_not_be_written_is_named(place, planted_folder, name):
    for out in ("out", "out/new"):
        command = call(name, planted_folder, place / out)
        refused(place, "out", NO_WRITE, command, f"{out} cannot be written (Permission denied). Do this: choose")
    refused(place, "out", CLOSED, command, "cannot be used (Permission denied)")


def test_folders_for_copies_and_figures_that_may_not_be_written_are_named(place):
    relations = [place / "mine" / f"{name}.json" for name in ("lives", "eats")]
    commands = {
        "description.csv": ["data", "describe", *relations, "--n-evaluation", 8, "--out", place / "out"],
        "effects_logprob.html": ["figures", place / "reproduce", "--format", "html", "--out", place / "out"],
        "00_quickstart.ipynb": ["notebooks", "copy", place / "out", "00"],
    }
    for name, command in commands.items():
        error = refused(place, "out", NO_WRITE, command, name)
        assert "(Permission denied)" in error


@pytest.mark.parametrize("out", ["out", *full_only("out/new")])
def test_a_folder_for_notebooks_that_may_not_be_written_is_named(place, out):
    pytest.importorskip("papermill")
    command = ["notebooks", "run", "00", "--profile", "smoke", "--out", place / out]
    refused(place, "out", NO_WRITE, command, "cannot be used (Permission denied)")


@pytest.mark.parametrize(
    ("forbidden", "commands"),
    [
        ("reproduce/manifest.json", ("reproduce", "runs show", "runs verify", "runs clean", "report")),
        *full_only(
            ("reproduce/run.json", ("reproduce", "runs show", "runs verify", "runs clean", "report")),
            ("reproduce/.lock", ("reproduce", "report")),
            ("reproduce/intra/effects.parquet", ("runs verify", "report", "figures")),
        ),
        ("reproduce/answers", ("reproduce",)),
    ],
)
def test_a_file_of_a_run_that_may_not_be_read_is_named_and_not_made_anew(place, planted_folder, forbidden, commands):
    folder = place / Path(forbidden).parts[0]
    for command in commands:
        words = call(command, planted_folder, folder) if command == folder.name else [*command.split(), folder]
        error = refused(place, forbidden, CLOSED, words, "Permission denied")
        assert forbidden.removesuffix("/.lock") in error


def test_a_folder_of_runs_that_may_not_be_listed_is_not_called_empty(place):
    refused(place, ".", NO_LIST, ["runs", "list", place], "cannot be used (Permission denied)")


def test_a_run_that_may_not_be_read_is_named_beside_the_others(place):
    shutil.copytree(place / "reproduce", place / "other")
    with mode(place / "other" / "run.json", CLOSED):
        ended = start(["runs", "list", place], place.parent / "said", obey_permissions).end()
    assert ended.status == 0, ended
    assert "other/run.json cannot be read (Permission denied)" in ended.out
    assert " reproduce " in ended.out


def test_a_finished_run_that_may_not_be_written_is_as_it_was(place, planted_folder):
    for command in (call("reproduce", planted_folder, place / "reproduce"), ["report", place / "reproduce"]):
        refused(place, "reproduce", NO_WRITE, command, "cannot be written (Permission denied)")


def load(path):
    try:
        rn.load_neurons(path)
    except rn.RelationNeuronsError as error:
        sys.exit(f"Error: {error}")


def test_a_neuron_file_that_may_not_be_read_is_not_called_damaged(place, planted):
    space = neuron_space(planted.model, "post")
    rn.save_neurons(place / "mine.parquet", planted.neurons, space=space, score="planted")
    with mode(place / "mine.parquet", CLOSED):
        ended = start([], place.parent / "said", obey_permissions, partial(load, place / "mine.parquet")).end()
    assert (
        ended.err
        == f"Error: {place / 'mine.parquet'} cannot be read (Permission denied). Do this: check its permissions.\n"
    )


def test_caches_that_may_not_be_read_or_written_are_named(place):
    data = partial(set_environment, RELATION_NEURONS_DATA=place / "out" / "data")
    origin = place / "origin"
    origin.mkdir()
    fetch = ["data", "fetch", "--source", origin]
    assert "RELATION_NEURONS_DATA" in refused(place, "out", NO_WRITE, fetch, "cannot be stored in", data)
    refused(place, "out", CLOSED, ["relations", "paper"], "cannot be read (Permission denied)", data)
    (place / "out" / "data" / "wikidata").mkdir(parents=True)
    kept = place / "out" / "data" / "wikidata" / "en.json"
    kept.write_text(json.dumps({"endpoint": "http://127.0.0.1:9", "searches": {}, "items": {}}), encoding="utf-8")
    translate = ["data", "translate", place / "mine" / "lives.json", "--lang", "de", "--templates", "{} x"]
    translate += ["--endpoint", "http://127.0.0.1:9"]
    refused(place, kept.relative_to(place), CLOSED, translate, "en.json: cannot be read (Permission denied)", data)


def compile_nowhere():
    """What numba finds where neither the package's folder nor the user's can be written."""
    from numba.core import caching

    implementation = getattr(caching, "CacheImpl", None) or caching._CacheImpl
    implementation._locator_classes = []


def test_a_study_needs_no_folder_to_keep_compiled_code_in(finished, planted_folder, tmp_path):
    pytest.importorskip("numba")
    ended = start(call("reproduce", planted_folder, tmp_path / "new"), tmp_path / "said", compile_nowhere).end()
    assert ended.status == 0, ended
    before = finished / "reproduce"
    tables = [path.relative_to(before) for path in before.rglob("*.parquet")]
    assert tables
    for name in tables:
        assert (tmp_path / "new" / name).read_bytes() == (before / name).read_bytes()
