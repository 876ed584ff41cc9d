"""A run that is killed, starved or damaged ends, when it is called again, in the tables of one that was not."""

import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

import relation_neurons as rn
from relation_neurons.experiments import ablation, answer_cache, pipeline
from relation_neurons.experiments.pipeline import RunConfig, run
from relation_neurons.experiments.registry import options
from relation_neurons.experiments.runner import reproduce
from tests.planted import planted_config

PART_ROWS = 40
"""Answers after which a run keeps what it has, so that a short run has many parts."""


@pytest.fixture(scope="module")
def config(planted_folder):
    return planted_config(RunConfig, 8, planted_folder, k=4)


@pytest.fixture(scope="module")
def study_config(planted_folder):
    return planted_config(rn.StudyConfig, 6, planted_folder, k=4)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(ablation, "PART_ROWS", PART_ROWS)
    monkeypatch.setattr(answer_cache, "PART_ROWS", PART_ROWS)


def tables(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*.parquet"))}


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The tables of a run that nothing happened to."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablation, "PART_ROWS", PART_ROWS)
        run(config, out)
    return tables(out), out


@pytest.fixture(scope="module")
def whole_study(study_config, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer_cache, "PART_ROWS", PART_ROWS)
        carry_out(study_config, out)
    return tables(out)


def carry_out(config, out):
    """A run, or a study with one experiment."""
    if isinstance(config, RunConfig):
        run(config, out)
    else:
        reproduce(["intra"], config, out, options={"intra": options("intra", "smoke")})


def die_at(number, after, config, out):
    """Carry it out in a process that is killed at its nth change of a file's name: before it, or after."""
    ablation.PART_ROWS = answer_cache.PART_ROWS = PART_ROWS
    rename, done = Path.replace, []

    def replace(self, target):
        done.append(target)
        if len(done) == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        found = rename(self, target)
        if len(done) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    Path.replace = replace
    carry_out(config, out)


def go(config, out):
    ablation.PART_ROWS = answer_cache.PART_ROWS = PART_ROWS
    carry_out(config, out)


@pytest.fixture(scope="module")
def start():
    """Starts a process that has the package imported and nothing else done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["relation_neurons.experiments.runner", "relation_neurons.experiments.pipeline"])

    def process(function, *arguments):
        made = context.Process(target=function, args=arguments)
        made.start()
        return made

    return process


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(1, 17))
def test_a_run_killed_as_it_writes_goes_on_where_it_was(start, config, whole, tmp_path, number, after):
    out = tmp_path / "run"
    process = start(die_at, number, after, config, out)
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    run(config, out)
    assert tables(out) == whole[0]
    assert rn.open_run(out).damage() == {}


@pytest.mark.parametrize("number", [2, 5, 8, 11, 14])
def test_a_study_killed_as_it_writes_goes_on_where_it_was(start, study_config, whole_study, tmp_path, number):
    out = tmp_path / "study"
    process = start(die_at, number, False, study_config, out)
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    carry_out(study_config, out)
    assert tables(out) == whole_study


@pytest.mark.parametrize("seed", range(6))
def test_a_run_killed_at_any_moment_goes_on_where_it_was(start, config, whole, tmp_path, seed):
    out = tmp_path / "run"
    process = start(go, config, out)
    while process.is_alive() and not (out / "run.json").exists():
        time.sleep(0.01)
    time.sleep(random.Random(seed).uniform(0, 1.0))
    process.kill()
    process.join(60)
    run(config, out)
    assert tables(out) == whole[0]


def test_two_processes_in_one_folder_do_not_harm_each_other(start, config, whole, tmp_path):
    out = tmp_path / "run"
    working = [start(go, config, out) for _ in range(2)]
    for process in working:
        process.join(120)
    assert [process.exitcode for process in working] == [0, 0]
    assert tables(out) == whole[0]
    assert rn.open_run(out).damage() == {}


@pytest.mark.parametrize("place", ["early", "late"])
def test_a_flipped_byte_in_any_file_is_named_and_mended(config, whole, tmp_path, place):
    names = sorted(rn.open_run(whole[1]).files)
    assert len(names) >= 7
    for name in names:
        out = tmp_path / name.replace("/", "-")
        shutil.copytree(whole[1], out)
        content = bytearray((out / name).read_bytes())
        content[len(content) // 10 if place == "early" else -20] ^= 4
        (out / name).write_bytes(bytes(content))
        if name.endswith(".parquet"):
            with pytest.warns(UserWarning, match=re.escape(f"{name} is damaged")):
                run(config, out)
        else:
            run(config, out)
        assert tables(out) == whole[0], name
        assert rn.open_run(out).damage() == {}


def test_a_damaged_key_is_refused_and_nothing_is_lost(config, whole, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole[1], out)
    text = (out / "run.json").read_text(encoding="utf-8")
    (out / "run.json").write_text(text.replace('"k": 4', '"k": 5'), encoding="utf-8")
    with pytest.raises(rn.RelationNeuronsError, match="holds another run"):
        run(config, out)
    (out / "run.json").write_text(text[:-9], encoding="utf-8")
    with pytest.raises(rn.RelationNeuronsError, match="cannot be read"):
        run(config, out)
    assert tables(out) == whole[0]


def test_a_model_file_that_vanishes_is_said_and_nothing_is_lost(start, config, whole, planted_folder, tmp_path):
    out, away = tmp_path / "run", tmp_path / "away"
    process = start(die_at, 9, False, config, out)
    process.join(120)
    before = tables(out)
    assert before
    weights = next((planted_folder / "model").glob("*.safetensors"))
    shutil.move(weights, away)
    try:
        with pytest.raises(rn.RelationNeuronsError, match="model"):
            run(config, out)
        assert tables(out) == before
    finally:
        shutil.move(away, weights)
    run(config, out)
    assert tables(out) == whole[0]


@pytest.mark.parametrize("kilobytes", [48, 150, 1000])
def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(config, whole, tmp_path, kilobytes, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        with pytest.raises(rn.RelationNeuronsError, match="too little disk"):
            run(config, disk / "run")
        monkeypatch.setattr(pipeline, "require_memory", lambda needed: None)  # as if others filled it meanwhile
        with pytest.raises(rn.RelationNeuronsError, match=r"disk.*goes on from here"):
            run(config, disk / "run")
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        run(config, disk / "run")
        assert tables(disk / "run") == whole[0]
    finally:
        subprocess.run(["umount", str(disk)], check=True)
