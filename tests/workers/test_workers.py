"""Tables are the same, byte for byte, whoever computes them and whatever befalls them; and nothing is computed twice.

Every function that a worker is to call is local, so that it travels by value: workers know the package, not its tests.
"""

import copy
import logging
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pandas as pd
import pytest
import torch

import relation_neurons as rn
from relation_neurons.attribution.cache import kept_attributions
from relation_neurons.experiments import critical_screen, registry, session
from relation_neurons.experiments.answer_plans import PlanFolder
from relation_neurons.experiments.registry import options
from relation_neurons.experiments.runner import reproduce
from relation_neurons.inference import units
from relation_neurons.workers import starting
from relation_neurons.workers.config import WorkersConfig
from relation_neurons.workers.starting import start_workers
from tests.helpers import full_only
from tests.planted import planted_config

ray = pytest.importorskip("ray")
EXPERIMENTS = ("intra", "inter")
ROWS = 8
"""Of a batch, so that there are many; each is a unit."""


class Killed(BaseException):
    """Stands for the end of the driver."""


@pytest.fixture(scope="module")
def config(planted_folder):
    return planted_config(rn.StudyConfig, 6, planted_folder, k=4, batch_size=ROWS)


@pytest.fixture(scope="module")
def cluster():
    """Ray on this machine, in which there may be more workers than cores."""
    for name, value in starting.SETTINGS.items():
        os.environ.setdefault(name, value)
    ray.init(
        address="local",
        num_cpus=6,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def pool(cluster, config):
    """Two workers; those that are killed are replaced."""
    started = start_workers(WorkersConfig(workers=2), config)
    yield started
    started.close()


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    monkeypatch.setattr(units, "UNIT_SECONDS", 0)


@pytest.fixture
def carry_out(request, config, monkeypatch):
    """Carries out two experiments with some of the workers, or without any; returns their folder."""

    def run(out, n_workers):
        workers = WorkersConfig(workers=n_workers)
        if n_workers:
            part = some_of(request.getfixturevalue("pool"), n_workers)
            monkeypatch.setattr(session, "start_workers", lambda workers, config: part)
        chosen = {name: options(name, "smoke") for name in EXPERIMENTS}
        reproduce(EXPERIMENTS, config, out, options=chosen, workers=workers)
        return out

    return run


def some_of(pool, n):
    """The same workers, but no more than n of them, which nobody ends."""
    while len(pool._ready()) < 2:
        pool._wait([], 600)
    part = copy.copy(pool)
    part._actors = dict(list(pool._actors.items())[:n])
    part._starting, part.n_workers, part.lost, part.close = {}, n, [], lambda: None
    part.whole = pool
    return part


def tables(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*.parquet"))}


def n_answers(out, place="answers"):
    return sum(len(pd.read_parquet(path)) for path in (out / place).glob("[gl]*.parquet"))


def told(err):
    """Units, answers, and those computed twice, as the run says."""
    (found,) = re.findall(r"did ([\d,]+) units?, ([\d,]+) answers among them, ([\d,]+) of these twice", err)
    return tuple(int(number.replace(",", "")) for number in found)


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The folder of two experiments without workers."""
    out = tmp_path_factory.mktemp("whole") / "study"
    chosen = {name: options(name, "smoke") for name in EXPERIMENTS}
    reproduce(EXPERIMENTS, config, out, options=chosen)
    return out


@pytest.mark.parametrize("n_workers", [1, 2])
def test_tables_do_not_depend_on_the_number_of_workers(carry_out, whole, tmp_path, capsys, n_workers):
    out = carry_out(tmp_path / "study", n_workers)
    assert tables(out) == tables(whole)
    _, computed, twice = told(capsys.readouterr().err)
    assert computed == n_answers(whole) > 20 * ROWS
    assert twice == 0
    assert rn.open_run(out).damage() == {}


@pytest.mark.full
def test_four_workers_make_the_same_tables(cluster, config, whole, tmp_path):
    out = tmp_path / "study"
    chosen = {name: options(name, "smoke") for name in EXPERIMENTS}
    reproduce(EXPERIMENTS, config, out, options=chosen, workers=WorkersConfig(workers=4))
    assert tables(out) == tables(whole)


def stop_storing(monkeypatch, number, how):
    """Do something as the nth unit of answers is to be stored."""
    store, count = PlanFolder.store, []

    def stopping(self, plan, unit, answers):
        count.append(len(answers))
        if len(count) == number:
            how()
        store(self, plan, unit, answers)

    monkeypatch.setattr(PlanFolder, "store", stopping)


def raise_killed():
    raise Killed


@pytest.mark.parametrize(("before", "after"), [(2, 1), *full_only((1, 2), (2, None), (None, 2), (2, 2))])
@pytest.mark.parametrize("number", [30, *full_only(1, 7, 50)])
def test_a_driver_that_is_killed_resumes_with_another_number_of_workers(
    carry_out, whole, tmp_path, capsys, monkeypatch, before, after, number
):
    out = tmp_path / "study"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_storing(patch, number, raise_killed)
        carry_out(out, before)
    stored = n_answers(out) + n_answers(out, "parts")
    assert 0 < stored < n_answers(whole) or number == 1
    capsys.readouterr()
    carry_out(out, after)
    assert tables(out) == tables(whole)
    if after:
        _, computed, twice = told(capsys.readouterr().err)
        assert (stored + computed, twice) == (n_answers(whole), 0)


def process_of(pool, number):
    return ray.get(pool._actors[number].call.remote(lambda model: os.getpid()))


@pytest.mark.parametrize("number", [5, *full_only(1, 20, 45)])
def test_a_worker_that_is_killed_loses_nothing(carry_out, pool, whole, tmp_path, capsys, monkeypatch, number):
    part = some_of(pool, 2)
    victim = process_of(part, next(iter(part._actors)))
    stop_storing(monkeypatch, number, lambda: os.kill(victim, signal.SIGKILL))
    monkeypatch.setattr(sys.modules[__name__], "some_of", lambda pool, n: part)
    out = carry_out(tmp_path / "study", 2)
    pool._actors, pool._starting, pool._numbers = part._actors, part._starting, part._numbers
    assert tables(out) == tables(whole)
    err = capsys.readouterr().err
    assert told(err)[1:] == (n_answers(whole), 0)
    assert re.search(r"Tried again: .*worker \d+: ActorDiedError", err)


def computed(pool, job, n=6):
    """What a job makes of batches of three numbers each."""
    found = {}

    def store(unit, results):
        assert not found.keys() & set(unit)
        found.update(zip(unit, results, strict=True))

    batches = {number: [3 * number, 3 * number + 1, 3 * number + 2] for number in range(n)}
    pool.compute(job, batches, store)
    return found


def test_what_fails_on_one_worker_is_done_by_another(pool, tmp_path):
    once, n_lost = str(tmp_path / "once"), len(pool.lost)

    def out_of_memory_once(model, numbers):
        if numbers[0] == 6 and not os.path.exists(once):
            open(once, "x").close()
            raise torch.OutOfMemoryError("CUDA out of memory")
        return sum(numbers), os.getpid()

    found = computed(some_of(pool, 2), out_of_memory_once)
    assert {number: total for number, (total, _) in found.items()} == {number: 9 * number + 3 for number in range(6)}
    assert len(pool.lost) == n_lost
    part = some_of(pool, 2)
    os.unlink(once)
    computed(part, out_of_memory_once)
    assert re.search("worker .*OutOfMemoryError: CUDA out of memory", part.lost[0])


def test_what_fails_everywhere_is_the_error_itself(pool):
    def refusing(model, numbers):
        if numbers[0] == 6:
            raise rn.RelationNeuronsError("Some log-probabilities are NaN.")
        return sum(numbers)

    found = {}

    def store(unit, results):
        found.update(zip(unit, results, strict=True))

    batches = {number: [3 * number] for number in range(5)}
    with pytest.raises(rn.RelationNeuronsError, match=r"^Some log-probabilities are NaN\.$"):
        some_of(pool, 2).compute(refusing, batches, store)
    assert {0, 1} <= found.keys()  # what others did is stored

    def broken(model, numbers):
        return 1 / 0

    with pytest.raises(rn.RelationNeuronsError, match=r"failed on 3 workers: ZeroDivisionError.*resumes"):
        computed(some_of(pool, 2), broken)


def test_a_worker_warns_the_user_of_the_driver(pool):
    def warning(model, numbers):
        warnings.warn("Memory ran out on 64 prompts at a time", stacklevel=1)
        return 0

    with pytest.warns(UserWarning, match="Memory ran out on 64"):
        computed(some_of(pool, 1), warning)


@pytest.mark.full
def test_work_that_kills_every_worker_is_named(cluster, config):
    def deadly(model, numbers):
        os.kill(os.getpid(), signal.SIGKILL)

    started = start_workers(WorkersConfig(workers=1), config)
    with pytest.raises(rn.RelationNeuronsError, match="failed on 3 workers: ActorDiedError"):
        computed(started, deadly)
    started.close()


def test_attributions_are_the_same_and_resumed(pool, config, planted, planted_folder, tmp_path):
    model = rn.load_model(config.model, device="cpu")
    prompts = rn.make_prompts(rn.load_relations(planted_folder), config.prompts).detection[:20]
    alone = kept_attributions(model, prompts, tmp_path / "alone", batch_size=4).values
    part = some_of(pool, 2)
    for n_units in (5, 0):  # the second time from the folder
        before = part.n_units
        found = kept_attributions(model, prompts, tmp_path / "shared", batch_size=4, pool=part).values
        assert torch.equal(found, alone)
        assert part.n_units - before == n_units


def test_a_model_in_memory_is_not_what_workers_load(pool, planted, config):
    with pytest.raises(rn.RelationNeuronsError, match=r"in memory only.*save it in a folder"):
        rn.Study(planted.model, planted.relations, config, pool=pool)


@pytest.mark.parametrize(
    ("asked", "changes", "says"),
    [
        ({"workers": 99}, {}, r"99 workers would take 0 GPUs and 99 CPUs.*at most the 0 GPUs and \d CPUs"),
        ({"workers": 1, "cpus_per_worker": 7}, {}, "1 worker would take 0 GPUs and 7 CPUs"),
        ({"workers": 1, "gpus_per_worker": 1.0}, {}, "1 worker would take 1 GPUs"),
    ],
)
def test_what_the_cluster_cannot_hold_is_refused(cluster, config, asked, changes, says):
    with pytest.raises(rn.RelationNeuronsError, match=says):
        start_workers(WorkersConfig(**asked), config)


def test_other_code_on_the_nodes_is_refused(pool, monkeypatch):
    starting._require_same_code(pool.identity)
    monkeypatch.setattr(starting, "code_digest", lambda: "other")
    with pytest.raises(rn.RelationNeuronsError, match="Workers have other code of relation_neurons"):
        starting._require_same_code(pool.identity)
    monkeypatch.setattr(starting, "versions", lambda: {"torch": "0"})
    with pytest.raises(rn.RelationNeuronsError, match=r"other .*torch"):
        starting._require_same_code(pool.identity)


def test_a_cluster_that_is_not_there_is_named(monkeypatch, config):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)

    def refused(**options):
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "init", refused)
    with pytest.raises(rn.RelationNeuronsError, match=r"at 'auto' \(Could not find.*ray start --head"):
        start_workers(WorkersConfig(ray_address="auto"), config)


def command(folder, out, n_workers):
    words = ["reproduce", "intra", "--model", folder / "model", "--relations", folder, "--k", 4, "--shots", 0]
    words += ["--device", "cpu", "--site", "post", "--n-controls", 20, "--n-evaluation", 12, "--validation", "none"]
    words += ["--rule", "string", "--n-detection-tested", 0, "--batch-size", ROWS, "--out", out]
    words += ["--workers", n_workers] if n_workers else []
    code = "from relation_neurons.inference import units; units.UNIT_SECONDS = 0\n"
    code += "from relation_neurons.cli.main import main; main()"
    return [sys.executable, "-c", code, *map(str, words)]


@pytest.mark.full
@pytest.mark.parametrize(
    ("before", "after", "by"), [(2, None, signal.SIGKILL), (2, 1, signal.SIGTERM), (1, 3, signal.SIGKILL)]
)
def test_a_command_killed_by_force_resumes(planted_folder, tmp_path, before, after, by):
    whole, out = tmp_path / "whole", tmp_path / "out"
    subprocess.run(command(planted_folder, whole, None), check=True, capture_output=True)
    said = tmp_path / "said"
    with said.open("w") as err, subprocess.Popen(command(planted_folder, out, before), stderr=err) as driver:
        while driver.poll() is None and len(list(out.glob("parts/generated-*"))) < 3:
            time.sleep(0.01)
        driver.send_signal(by)
    assert driver.returncode == -by
    assert "***" not in said.read_text(encoding="utf-8")  # the stack, as after a crash
    stored = n_answers(out) + n_answers(out, "parts")
    assert 0 < stored < n_answers(whole)
    subprocess.run(command(planted_folder, out, after), check=True, capture_output=True)
    assert tables(out) == tables(whole)
    assert Path(whole / "run.json").read_bytes() == Path(out / "run.json").read_bytes()


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.full
@pytest.mark.model
@pytest.mark.usefixtures("one_thread", "cluster")
def test_the_embedded_model_has_the_same_tables_whoever_runs_it(embedded, tmp_path, monkeypatch, capsys):
    relations = ("country_capital", "country_language", "person_occupation")
    asked = registry.study_config("smoke", relations=relations, site="gate", k=200, device="cpu", batch_size=16)

    monkeypatch.setattr(critical_screen, "N_CANDIDATES", 2)  # the screen takes longer than all the rest

    def run(name, workers):
        chosen = {name: options(name, "smoke") for name in EXPERIMENTS}
        reproduce(EXPERIMENTS, asked, tmp_path / name, options=chosen, workers=WorkersConfig(workers=workers))
        return tables(tmp_path / name)

    expected = run("none", None)
    for n_workers in (1, 2, 4):
        capsys.readouterr()
        assert run(str(n_workers), n_workers) == expected
        assert told(capsys.readouterr().err)[1:] == (n_answers(tmp_path / "none"), 0)
    started = start_workers(WorkersConfig(workers=2), asked)
    monkeypatch.setattr(session, "start_workers", lambda workers, config: started)
    victim = process_of(some_of(started, 2), 0)
    stop_storing(monkeypatch, 3, lambda: os.kill(victim, signal.SIGKILL))
    assert run("killed", 2) == expected
    assert re.search(r"Tried again: .*worker \d+: ActorDiedError", capsys.readouterr().err)
