"""What workers gain and cost on this machine: the same answers without workers, by one and by two, in turn.

Every worker has one thread. Starting them is apart. Answers are compared by their bytes.

    python benchmarks/workers.py --runs 3 --out docs/results/workers.json
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
import tyro

import relation_neurons as rn
from relation_neurons.experiments.answer_cache import AnswerCache, Request
from relation_neurons.inference.units import InProcess, Pool
from relation_neurons.storage.fingerprint import digest
from relation_neurons.workers.config import WorkersConfig
from relation_neurons.workers.starting import SETTINGS, start_workers

RELATIONS = ("country_capital", "country_language", "person_occupation")


@dataclass(frozen=True)
class Options:
    """What is measured."""

    runs: int = 3
    n_prompts: int = 300
    n_conditions: int = 6
    """The clean model, and sets of random neurons ablated."""
    k: int = 200
    batch_size: int = 16
    """Small, so that two workers have as much to do each."""
    model: str = "smollm2-135m"
    out: Path | None = None


def main(options: Options) -> None:
    config = rn.StudyConfig(model=options.model, relations=RELATIONS, device="cpu")
    torch.set_num_threads(1)
    model = rn.load_model(options.model, device="cpu")
    requests = make_requests(model, options)
    pools: dict[str, Pool] = {"none": InProcess(model), "none, two threads": InProcess(model)}
    startup: dict[str, float] = {}
    join(n_cpus=3)
    for number in (1, 2):
        started = time.monotonic()
        pools[f"{number} workers"] = start_workers(WorkersConfig(workers=number), config)
        startup[f"{number} workers"] = time.monotonic() - started
        print(f"{number} workers started in {startup[f'{number} workers']:.0f} s", flush=True)
    rows = []
    rehearsal: list[Request] = [(None, requests[0][1][:32])]
    for run in range(-1, options.runs):
        for name, pool in pools.items():
            torch.set_num_threads(2 if name == "none, two threads" else 1)
            row = {"run": run, "who": name, **timed(pool, model, rehearsal if run < 0 else requests, options)}
            print(row, flush=True)
            rows += [] if run < 0 else [row]
        torch.set_num_threads(1)
        if run >= 0:
            rows.append({"run": run, "who": "plain call", **timed_plain(model, requests, options)})
            report = summary(rows, options) | {"startup_seconds": startup, "rows": rows}
            if options.out:  # after each run, for a busy machine may not come to the last
                options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for pool in pools.values():
        pool.close()
    print(json.dumps({name: value for name, value in report.items() if name != "rows"}, indent=1))


def join(n_cpus: int) -> None:
    """Start Ray with room for all pools."""
    import logging

    import ray

    os.environ.update(SETTINGS)
    ray.init(
        address="local", num_cpus=n_cpus, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )


def make_requests(model: rn.models.types.HookedModel, options: Options) -> list[Request]:
    """The same prompts under every condition."""
    made = rn.make_prompts(rn.load_relations(*RELATIONS), rn.PromptConfig(shots=0, templates="all"))
    prompts = (*made.detection, *made.evaluation)[: options.n_prompts]
    assert len(prompts) == options.n_prompts
    generator = torch.Generator().manual_seed(0)
    requests: list[Request] = [(None, prompts)]
    for number in range(options.n_conditions - 1):
        places = torch.randperm(model.cfg.n_layers * model.cfg.d_mlp, generator=generator)[: options.k].tolist()
        pairs = [divmod(place, model.cfg.d_mlp) for place in places]
        requests.append((rn.Intervention(rn.NeuronSet.from_pairs(pairs, name=f"random {number}")), prompts))
    return requests


def timed(
    pool: Pool, model: rn.models.types.HookedModel, requests: list[Request], options: Options
) -> dict[str, object]:
    """Seconds of wall and of processor time, of this process and those that work for it."""
    cache, before = AnswerCache(model, pool=pool, batch_size=options.batch_size), pool.n_units
    cpu, started, load = processor_seconds(), time.monotonic(), os.getloadavg()[0]
    table = cache.get(requests, generate=False)
    wall, cpu = time.monotonic() - started, processor_seconds() - cpu
    bits = digest(table.to_csv(float_format="%.17g"))[:16]
    found = {"wall": wall, "cpu": cpu, "answers": len(table), "units": pool.n_units - before}
    return found | {"twice": cache.n_twice, "load": load, "digest": bits}


def timed_plain(model: rn.models.types.HookedModel, requests: list[Request], options: Options) -> dict[str, object]:
    """The same answers by one call of `recall_under`, which cuts its batches itself and keeps nothing."""
    conditions = [
        rn.Condition(str(number), prompts, (one,) if one else ()) for number, (one, prompts) in enumerate(requests)
    ]
    cpu, started, load = processor_seconds(), time.monotonic(), os.getloadavg()[0]
    table = rn.recall_under(model, conditions, generate=False, batch_size=options.batch_size)
    wall, cpu = time.monotonic() - started, processor_seconds() - cpu
    return {"wall": wall, "cpu": cpu, "answers": len(table), "load": load}


def processor_seconds() -> float:
    """User and system seconds so far, of this process and all below it."""
    here = psutil.Process()
    total = 0.0
    for process in (here, *here.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def summary(rows: list[dict], options: Options) -> dict[str, object]:
    """Medians, and ratios of medians."""
    names = dict.fromkeys(row["who"] for row in rows)
    medians = {
        name: {what: statistics.median(row[what] for row in rows if row["who"] == name) for what in ("wall", "cpu")}
        for name in names
    }
    wall = {name: median["wall"] for name, median in medians.items()}
    made = [row for row in rows if "digest" in row]
    one_thread = {row["digest"] for row in made if row["who"] != "none, two threads"}
    return {
        "model": options.model,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "answers": options.n_prompts * options.n_conditions,
        "conditions": options.n_conditions,
        "batch_size": options.batch_size,
        "medians": medians,
        "speed_of_2_workers_over_1": wall["1 workers"] / wall["2 workers"],
        "1_worker_over_none": wall["1 workers"] / wall["none"],
        "1_worker_over_none_cpu": medians["1 workers"]["cpu"] / medians["none"]["cpu"],
        "none_over_plain_call_cpu": medians["none"]["cpu"] / medians["plain call"]["cpu"],
        "2_workers_over_1_cpu": medians["2 workers"]["cpu"] / medians["1 workers"]["cpu"],
        "none_two_threads_over_2_workers": wall["none, two threads"] / wall["2 workers"],
        "same_bytes_at_one_thread": len(one_thread) == 1,
        "same_bytes_at_two_threads": len({row["digest"] for row in made}) == 1,
        "load": [min(row["load"] for row in rows), max(row["load"] for row in rows)],
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
