"""What can be asked of workers, by arguments and by the environment."""

import subprocess
import sys

import pytest

import relation_neurons as rn
from relation_neurons.cli import main, notebooks
from relation_neurons.experiments import session
from relation_neurons.workers import starting
from relation_neurons.workers.config import ENVIRONMENT, NO_WORKERS, WorkersConfig, put_in_environment
from relation_neurons.workers.config import workers_from_environment as from_environment


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"workers": 0}, "workers is 0"),
        ({"workers": 2, "gpus_per_worker": -1.0}, "gpus_per_worker is -1"),
        ({"workers": 2, "gpus_per_worker": 1.5}, "a whole number, or a share of one GPU"),
        ({"workers": 2, "cpus_per_worker": 0}, "cpus_per_worker is 0"),
        ({"cpus_per_worker": 2}, "there are no workers"),
        ({"gpus_per_worker": 1.0}, "there are no workers"),
    ],
)
def test_what_makes_no_sense_is_refused(fields, says):
    with pytest.raises(rn.RelationNeuronsError, match=says):
        WorkersConfig(**fields)


def test_nothing_is_wanted_unless_it_is_asked_for():
    assert not NO_WORKERS.wanted
    assert WorkersConfig(workers=1).wanted
    assert WorkersConfig(ray_address="auto").wanted


def test_the_environment_carries_what_a_command_was_asked(monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, "")
    assert from_environment() == NO_WORKERS
    put_in_environment(NO_WORKERS)
    assert from_environment() == NO_WORKERS
    asked = WorkersConfig(workers=3, gpus_per_worker=0.5, ray_address="auto")
    put_in_environment(asked)
    assert from_environment() == asked
    monkeypatch.setenv(ENVIRONMENT, "4")
    assert from_environment() == WorkersConfig(workers=4)
    for wrong in ("many", "[1]"):
        monkeypatch.setenv(ENVIRONMENT, wrong)
        with pytest.raises(rn.RelationNeuronsError, match="a number of workers"):
            from_environment()


def test_notebooks_are_told_of_workers(monkeypatch):
    told = []
    monkeypatch.setenv(ENVIRONMENT, "")
    monkeypatch.setattr(notebooks, "run_notebooks", lambda *_, **__: told.append(from_environment()) or [])
    for words, expected in (([], NO_WORKERS), (["--workers", "2"], WorkersConfig(workers=2))):
        monkeypatch.setattr("sys.argv", ["relation-neurons", "notebooks", "run", "00", *words])
        main.main()
        assert told.pop() == expected


@pytest.mark.parametrize(
    ("given", "environment", "expected"),
    [
        (2, "", WorkersConfig(workers=2)),
        (WorkersConfig(ray_address="auto"), "3", WorkersConfig(ray_address="auto")),
        (None, "3", WorkersConfig(workers=3)),
    ],
)
def test_a_study_starts_the_workers_that_it_is_asked_for(planted_folder, monkeypatch, given, environment, expected):
    def start(workers, config):
        assert workers == expected
        assert config.model == str(planted_folder / "model")
        raise rn.RelationNeuronsError("started")

    monkeypatch.setenv(ENVIRONMENT, environment)
    monkeypatch.setattr(session, "start_workers", start)
    with pytest.raises(rn.RelationNeuronsError, match="started"):
        rn.open_study(str(planted_folder / "model"), [planted_folder], workers=given)


def test_workers_that_do_not_fit_into_memory_are_refused_before_they_start(planted_folder, monkeypatch):
    monkeypatch.setattr(session, "start_workers", lambda *_: pytest.fail("started"))
    with pytest.raises(rn.RelationNeuronsError, match=r"1000000 workers, each with a copy.*GB that are free"):
        rn.open_study(str(planted_folder / "model"), [planted_folder], workers=1_000_000, device="cpu")


def test_without_ray_workers_are_refused_and_all_else_works(monkeypatch):
    monkeypatch.setattr(starting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(rn.RelationNeuronsError, match=r"Ray is not installed.*pip install"):
        starting.start_workers(WorkersConfig(workers=2), rn.StudyConfig())


def test_ray_is_imported_only_for_workers(planted_folder, tmp_path):
    code = f"""
import sys
from relation_neurons.cli.main import main
sys.argv = ["relation-neurons", "reproduce", "layers", "--model", {str(planted_folder / "model")!r}, "--relations",
    {str(planted_folder)!r}, "--k", "4", "--shots", "0", "--site", "post", "--validation", "none", "--n-controls", "2",
    "--n-evaluation", "6", "--keep-critical", "--device", "cpu", "--n-shuffles", "2",
    "--out", {str(tmp_path / "out")!r}]
main()
assert "ray" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
