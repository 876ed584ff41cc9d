"""A command that is stopped, by Ctrl-C or a batch scheduler, says so, loses nothing, and goes on when given again."""

import functools
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import nbformat
import psutil
import pytest

import relation_neurons as rn
from relation_neurons.experiments.registry import EXPERIMENTS
from relation_neurons.relations import lre_download
from relation_neurons.storage.files import file_digest
from tests.commands import PATIENCE, set_environment, set_value, signal_at, start
from tests.helpers import full_only

GOES_ON, ANEW = (f"Stopped. The same command {what}." for what in ("resumes from here", "starts over"))
RENAMED, PASSED = "os.replace", "torch.nn.Module.__call__"
"""A file is whole and gets its name; a part of a model is about to be passed."""
FEW = {name: EXPERIMENTS[name] for name in ("overlap", "intra", "frequency")}
SMALL = [
    partial(set_value, "relation_neurons.inference.units.UNIT_SECONDS", 0),
    partial(set_value, "relation_neurons.experiments.runner.EXPERIMENTS", FEW),
]
"""Units of one batch each, so that short commands have many parts; and what `all` is, so that it is short."""


def call(name, folder, out):
    """A command on the planted model."""
    model = ["--model", folder / "model"]
    asked = [*model, "--relations", folder, "--k", 4, "--shots", 0, "--device", "cpu", "--site", "post"]
    study = [*asked, "--n-controls", 2, "--n-evaluation", 6, "--validation", "none", "--rule", "string"]
    return {
        "run": ["run", *asked, "--n-controls", 2, "--n-evaluation", 8, "--out", out],
        "intra": ["reproduce", "intra", *study, "--n-detection-tested", 0, "--out", out],
        "all": ["reproduce", "all", *study, "--profile", "smoke", "--out", out],
        "methods": ["compare-methods", *study, "--n-other", 1, "--n-method-controls", 2, "--out", out],
        "neuron": ["neuron", "L1.N3", *study, "--out", out],
        "describe": ["data", "describe", folder, *model, "--shots", 0, "--n-evaluation", 8, "--out", out],
        "scores": ["compare-scores", *asked, "--n-evaluation", 6],
        "parity": ["parity", *model],
        "doctor": ["doctor", *model, "--relations", folder, "--n-prompts", 4, "--device", "cpu"],
    }[name]


def kept(out):
    """The contents of a folder that depend on nothing but what was asked: pages hold random names."""
    files = (path for path in sorted(out.rglob("*")) if path.suffix in (".parquet", ".csv", ".json"))
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files if path.name != "manifest.json"}


def leftovers(out):
    return [path for path in out.rglob(".*") if path.name != ".lock"]


def require_stopped(ended, says, out):
    assert ended.status == 130, ended
    assert "Traceback" not in ended.said
    assert ended.err.splitlines()[-1] == says
    assert "Stopped" not in ended.out
    assert leftovers(out) == []
    if (out / "run.json").exists():
        assert rn.open_run(out).damage() == {}


@pytest.fixture(scope="module")
def whole(planted_folder, tmp_path_factory):
    """The folder of a command that nothing happened to."""

    @functools.cache
    def carried_out(name):
        out = tmp_path_factory.mktemp(name) / "out"
        ended = start(call(name, planted_folder, out), out.parent / "said", *SMALL).end()
        assert ended.status == 0, ended
        return out

    return carried_out


@pytest.mark.parametrize(
    ("name", "at", "number"),
    [
        ("neuron", PASSED, 200),
        *full_only(("intra", RENAMED, 7)),
        *full_only(*(("run", RENAMED, number) for number in (1, 3, 10, 13, 19, 27))),
        *full_only(("run", PASSED, 40), ("run", PASSED, 400), ("intra", PASSED, 300)),
        *full_only(("all", RENAMED, 40), ("methods", RENAMED, 51), ("neuron", RENAMED, 23)),
    ],
)
def test_a_command_stopped_by_ctrl_c_goes_on_to_the_same_tables(planted_folder, whole, tmp_path, name, at, number):
    out = tmp_path / "out"
    command = call(name, planted_folder, out)
    require_stopped(start(command, tmp_path / "first", *SMALL, partial(signal_at, at, number)).end(), GOES_ON, out)
    again = start(command, tmp_path / "second", *SMALL).end()
    assert again.status == 0, again
    assert kept(out) == kept(whole(name))
    assert leftovers(out) == []
    assert rn.open_run(out).damage() == {}


@pytest.mark.full
@pytest.mark.parametrize("written", ["run.json", "answers/*.parquet"])
def test_a_run_stopped_from_outside_goes_on_to_the_same_tables(planted_folder, whole, tmp_path, written):
    out = tmp_path / "out"
    command = call("run", planted_folder, out)
    working = start(command, tmp_path / "first", *SMALL)
    working.wait_for(lambda: any(out.glob(written)))
    os.kill(working.process.pid, signal.SIGINT)
    require_stopped(working.end(), GOES_ON, out)
    assert start(command, tmp_path / "second", *SMALL).end().status == 0
    assert kept(out) == kept(whole("run"))


@pytest.mark.full
def test_ctrl_c_is_understood_by_the_program_as_it_is_installed(planted_folder, tmp_path):
    out = tmp_path / "out"
    # A shell may have told what it runs in the background to ignore the signal, which is passed on to this process.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from relation_neurons.cli.main import main; sys.exit(main())"
    words = [sys.executable, "-c", code, *map(str, call("run", planted_folder, out))]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not any(out.glob("rankings/*.parquet")):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert err.splitlines()[-1] == GOES_ON
    assert leftovers(out) == []
    assert rn.open_run(out).damage() == {}


@pytest.mark.parametrize(
    ("at", "number"),
    [(RENAMED, 13), *full_only((RENAMED, 1), (PASSED, 400))],
)
def test_a_study_ended_by_a_scheduler_goes_on_to_the_same_tables(planted_folder, whole, tmp_path, at, number):
    out = tmp_path / "out"
    command = call("intra", planted_folder, out)
    ended = start(command, tmp_path / "first", *SMALL, partial(signal_at, at, number, signal.SIGTERM)).end()
    assert ended.status == -signal.SIGTERM
    assert "Traceback" not in ended.said
    assert len(leftovers(out)) == (at != PASSED)  # what was being written has no name yet
    assert start(command, tmp_path / "second", *SMALL).end().status == 0
    assert kept(out) == kept(whole("intra"))
    assert rn.open_run(out).damage() == {}
    assert start(["runs", "clean", out], tmp_path / "third").end().status == 0
    assert leftovers(out) == []


@pytest.mark.full
@pytest.mark.parametrize(("name", "number"), [("scores", 40), ("parity", 60), ("doctor", 500)])
def test_a_command_that_keeps_nothing_says_that_it_begins_anew(planted_folder, tmp_path, name, number):
    command = call(name, planted_folder, tmp_path / "out")
    require_stopped(start(command, tmp_path / "said", partial(signal_at, PASSED, number)).end(), ANEW, tmp_path / "out")


def test_a_second_ctrl_c_while_the_first_is_answered_changes_nothing(planted_folder, tmp_path):
    stops = partial(signal_at, PASSED, 60), partial(signal_at, "relation_neurons.cli.main._stopped", 1)
    ended = start(call("parity", planted_folder, tmp_path / "out"), tmp_path / "said", *stops).end()
    require_stopped(ended, ANEW, tmp_path / "out")


@pytest.mark.full
def test_a_stopped_description_begins_anew_and_ends_in_the_same_table(planted_folder, whole, tmp_path):
    out = tmp_path / "out"
    command = call("describe", planted_folder, out)
    stop = partial(signal_at, "plotly.basedatatypes.BaseFigure.write_html", 2)
    require_stopped(start(command, tmp_path / "first", stop).end(), ANEW, out)
    assert start(command, tmp_path / "second").end().status == 0
    assert kept(out) == kept(whole("describe"))


def test_reading_a_study_is_stopped_without_a_change_to_it(whole, tmp_path):
    study, drawn = whole("intra"), tmp_path / "figures"
    before = {path: path.read_bytes() for path in study.rglob("*") if path.is_file()}
    stops = {
        ("runs", "verify", study): ("relation_neurons.storage.run_files.file_digest", 5),
        ("report", study): (RENAMED, 1),
        ("figures", study, "--format", "html", "--out", drawn): ("plotly.basedatatypes.BaseFigure.to_html", 2),
    }
    for number, (command, stop) in enumerate(stops.items()):
        ended = start(command, tmp_path / f"{number}", partial(signal_at, *stop)).end()
        require_stopped(ended, ANEW, study)
        assert {path: path.read_bytes() for path in study.rglob("*") if path.is_file()} == before
    for number, command in enumerate(stops):
        ended = start(command, tmp_path / f"again-{number}").end()
        assert ended.status == 0, ended
    assert rn.open_run(study).damage() == {}
    assert {path.stem for path in drawn.rglob("*.html")} == {"effects_logprob", "effects_accuracy"}


def paths_in(folder):
    return {path.stem: path for path in sorted(folder.glob("*.ipynb"))}


def test_a_stopped_notebook_takes_its_process_along_and_is_executed_again(tmp_path):
    pytest.importorskip("papermill")
    out, begun, going = tmp_path / "out", tmp_path / "begun", tmp_path / "going"
    waits = f"import os, pathlib, time\npathlib.Path({str(begun)!r}).write_text(str(os.getpid()))\n"
    waits += f"while not pathlib.Path({str(going)!r}).exists():\n    time.sleep(0.02)"
    for name, source in {"00_waits": waits, "01_after": "1 + 1"}.items():
        given = nbformat.v4.new_code_cell("profile = relations = site = k = folder = None")
        given.metadata["tags"] = ["parameters"]
        notebook = nbformat.v4.new_notebook(cells=[given, nbformat.v4.new_code_cell(source)])
        notebook.metadata["language_info"] = {"name": "python"}
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    books = partial(set_value, "relation_neurons.cli.notebook_runner.notebook_paths", partial(paths_in, tmp_path))
    command = ["notebooks", "run", "--profile", "smoke", "--out", out]
    working = start(command, tmp_path / "first", books)
    working.wait_for(lambda: begun.exists() and begun.read_text())
    os.kill(working.process.pid, signal.SIGINT)
    require_stopped(working.end(), GOES_ON, out)
    assert list(out.iterdir()) == []
    assert not psutil.pid_exists(int(begun.read_text()))
    going.touch()
    again = start(command, tmp_path / "second", books).end()
    assert again.status == 0, again
    assert {path.name for path in out.glob("*.ipynb")} == {"00_waits.ipynb", "01_after.ipynb"}


def registry_of(folder):
    known = {path.relative_to(folder).as_posix(): file_digest(path) for path in sorted(folder.rglob("*.json"))}
    return lre_download.Registry("c0ffee", known, {})


@pytest.mark.parametrize(
    ("at", "number"),
    [
        ("relation_neurons.relations.lre_download._copy", 3),
        *full_only(("shutil.move", 5)),
    ],
)
def test_a_stopped_download_keeps_the_files_that_are_whole(tmp_path, at, number):
    origin, out = tmp_path / "origin", tmp_path / "data"
    for one in range(6):
        path = origin / "factual" / f"relation {one}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = [{"subject": "a ", "object": "b"}]
        path.write_text(json.dumps({"name": "r", "prompt_templates": ["{} is"], "samples": samples}), encoding="utf-8")
    registry = partial(set_value, "relation_neurons.relations.lre_download.registry", partial(registry_of, origin))
    command = ["data", "fetch", "--source", origin, "--folder", out]
    require_stopped(start(command, tmp_path / "first", registry, partial(signal_at, at, number)).end(), GOES_ON, out)
    there = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert len(there) == number - 1
    again = start(command, tmp_path / "second", registry).end()
    assert again.status == 0, again
    assert kept(out) == kept(origin)
    assert all(path.stat().st_mtime_ns == time for path, time in there.items())


@pytest.fixture
def labels():
    """A server that knows no name, and the names that it was asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = json.dumps({"search": [], "success": 1}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api", asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("number", [20, *full_only(45)])
def test_a_stopped_translation_asks_for_no_name_twice(planted_folder, labels, tmp_path, number):
    endpoint, asked = labels
    out, cache = tmp_path / "out", tmp_path / "cache"
    own = partial(set_environment, RELATION_NEURONS_DATA=cache, NO_PROXY="127.0.0.1")
    command = ["data", "translate", planted_folder / "lives.json", "--lang", "de", "--templates", "{} wohnt in"]
    command += ["--endpoint", endpoint, "--out", out]
    stopped = start(command, tmp_path / "first", own, partial(signal_at, RENAMED, number)).end()
    require_stopped(stopped, GOES_ON, tmp_path)
    assert not list(out.rglob("*.json"))
    again = start(command, tmp_path / "second", own).end()
    assert again.status == 0, again
    assert len(json.loads((out / "de" / "lives.json").read_text(encoding="utf-8"))["missing"]) == 44
    assert len(asked) == 44 + (number < 45)  # the answer that was being written is asked for again
