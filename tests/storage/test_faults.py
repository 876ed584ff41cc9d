"""A study that is killed, starved or damaged ends, when it is called again, in the tables of one that was not."""

import fnmatch
import itertools
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

import relation_neurons as rn
from relation_neurons.experiments import session
from relation_neurons.experiments.registry import options
from relation_neurons.experiments.runner import reproduce
from relation_neurons.inference import units
from tests.commands import signal_at
from tests.helpers import full_only
from tests.planted import planted_config

ROWS = 40
"""Answers after which a study keeps what it has, so that a short one has many parts."""
ANSWERS = "parts/[gl]*.parquet"


@pytest.fixture(scope="module")
def config(planted_folder):
    return planted_config(rn.StudyConfig, 6, planted_folder, k=4, batch_size=ROWS)


def carry_out(config, out):
    """A study with one experiment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "UNIT_SECONDS", 0)  # each batch is a unit
        reproduce(["intra"], config, out, options={"intra": options("intra", "smoke")})


def tables(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*.parquet"))}


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """The folder of a study that nothing happened to."""
    out = tmp_path_factory.mktemp("whole") / "study"
    carry_out(config, out)
    return out


@pytest.fixture(scope="module")
def whole(finished):
    return tables(finished)


def die_writing(place, after, config, out):
    """Carry it out in a process that is killed as a file gets its name: before it has it, or after.

    The file is the first whose path is like a pattern, or the nth.
    """
    rename, done = Path.replace, []

    def replace(self, target):
        done.append(target)
        name = Path(target).relative_to(out).as_posix()
        fatal = len(done) == place if isinstance(place, int) else fnmatch.fnmatch(name, place)
        if fatal and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        found = rename(self, target)
        if fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    Path.replace = replace
    carry_out(config, out)


def die_reading(number, config, out):
    """Carry it out in a process that is killed as it passes a part of the model for the nth time."""
    signal_at("torch.nn.Module.__call__", number, signal.SIGKILL)
    carry_out(config, out)


@pytest.fixture(scope="module")
def start():
    """Starts a process that has the package imported and nothing else done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["relation_neurons.cli.main"])

    def process(function, *arguments):
        made = context.Process(target=function, args=arguments)
        made.start()
        return made

    return process


def require_killed(process):
    process.join()
    assert process.exitcode == -signal.SIGKILL


def require_resumed(config, out, whole):
    carry_out(config, out)
    assert tables(out) == whole
    assert rn.open_run(out).damage() == {}


@pytest.mark.parametrize(
    ("place", "after"),
    [
        ("intra/effects.parquet", True),
        *full_only(
            ("run.json", False),
            (ANSWERS, False),
            ("manifest.json", True),
            *itertools.product(range(1, 39), (False, True)),
        ),
    ],
)
def test_a_study_killed_as_it_writes_resumes(start, config, whole, tmp_path, place, after):
    out = tmp_path / "study"
    require_killed(start(die_writing, place, after, config, out))
    require_resumed(config, out, whole)


@pytest.mark.parametrize("number", [300, *full_only(1, 60, 200, 400, 500)])
def test_a_study_killed_as_the_model_reads_resumes(start, config, whole, tmp_path, number):
    out = tmp_path / "study"
    require_killed(start(die_reading, number, config, out))
    require_resumed(config, out, whole)


@pytest.mark.full
def test_two_processes_in_one_folder_do_not_harm_each_other(start, config, whole, tmp_path):
    out = tmp_path / "study"
    working = [start(carry_out, config, out) for _ in range(2)]
    for process in working:
        process.join()
    assert [process.exitcode for process in working] == [0, 0]
    assert tables(out) == whole
    assert rn.open_run(out).damage() == {}


def one_of_each_kind(names):
    """The first of the files in each folder that have the same ending."""
    return {(Path(name).parent, Path(name).suffix): name for name in reversed(names)}.values()


@pytest.mark.full
def test_a_flipped_byte_in_any_file_is_named_and_mended(config, finished, whole, tmp_path, full):
    names = sorted(rn.open_run(finished).files)
    chosen = sorted(names if full else one_of_each_kind(names))
    assert len(chosen) >= 8
    for number, name in enumerate(chosen):
        for place in (10, -20) if full else (10, -20)[number % 2 :][:1]:
            out = tmp_path / f"{name.replace('/', '-')}{place}"
            shutil.copytree(finished, out)
            content = bytearray((out / name).read_bytes())
            content[len(content) // 10 if place > 0 else place] ^= 4
            (out / name).write_bytes(bytes(content))
            assert list(rn.open_run(out).damage()) == [name]
            if name.startswith(("answers", "rankings", "plotly")):  # others are only written
                with pytest.warns(UserWarning, match=re.escape(f"{name} is damaged")):
                    require_resumed(config, out, whole)
            else:
                require_resumed(config, out, whole)
            shutil.rmtree(out)


def test_a_damaged_key_is_refused_and_nothing_is_lost(config, finished, whole, tmp_path):
    out = tmp_path / "study"
    shutil.copytree(finished, out)
    text = (out / "run.json").read_text(encoding="utf-8")
    (out / "run.json").write_text(text.replace('"k": 4', '"k": 5'), encoding="utf-8")
    with pytest.raises(rn.RelationNeuronsError, match="holds another run"):
        carry_out(config, out)
    (out / "run.json").write_text(text[:-9], encoding="utf-8")
    with pytest.raises(rn.RelationNeuronsError, match="cannot be read"):
        carry_out(config, out)
    assert tables(out) == whole


@pytest.mark.full
def test_a_model_file_that_vanishes_is_named_and_nothing_is_lost(start, config, whole, planted_folder, tmp_path):
    out, away = tmp_path / "study", tmp_path / "away"
    require_killed(start(die_writing, ANSWERS, True, config, out))
    before = tables(out)
    assert before
    weights = next((planted_folder / "model").glob("*.safetensors"))
    shutil.move(weights, away)
    try:
        with pytest.raises(rn.RelationNeuronsError, match="model"):
            carry_out(config, out)
        assert tables(out) == before
    finally:
        shutil.move(away, weights)
    require_resumed(config, out, whole)


@pytest.mark.parametrize("kilobytes", [150, *full_only(48, 1000)])
def test_a_full_disk_is_named_and_the_study_resumes_when_there_is_room(config, whole, tmp_path, kilobytes, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        with pytest.raises(rn.RelationNeuronsError, match="too little disk"):
            carry_out(config, disk / "study")
        monkeypatch.setattr(session, "require_memory", lambda needed, say: None)  # as if others filled it meanwhile
        with pytest.raises(rn.RelationNeuronsError, match=r"disk.*run the same command again to resume"):
            carry_out(config, disk / "study")
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        require_resumed(config, disk / "study", whole)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
