"""Start workers: join or start Ray, see that it has room for them, and let them load the model."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relation_neurons.errors import refuse
from relation_neurons.inference.units import Identity
from relation_neurons.statistics.formatting import count_text
from relation_neurons.storage.fingerprint import code_digest, versions
from relation_neurons.workers.config import WorkersConfig

if TYPE_CHECKING:
    from relation_neurons.workers.ray_pool import RayPool

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nobody is told of this run
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # no warning of GPUs that workers without any do not see
    "RAY_worker_niceness": "0",  # or workers give way to every other process, which on a busy machine stops them
}
"""Of a Ray that is started here."""
SETTLED = 5.0
"""Seconds until Ray knows that what ended workers had is free again."""
LOAD = ("device", "dtype", "device_map", "quantize")
"""Fields of a study's configuration that `load_model` takes beside the model."""


def start_workers(config: WorkersConfig, study: Any) -> RayPool:
    """Start workers, each of which loads the model that a study names.

    Ray is joined where this process has joined it already, and there it is not ended with the workers.

    Args:
        config: How many, and where.
        study: A `StudyConfig`, of which the model and how it is loaded are read.

    Raises:
        RelationNeuronsError: Ray is not installed or cannot be reached, the cluster is too small, a large model without
            a device map, or workers with other code or packages than this process.
    """
    if importlib.util.find_spec("ray") is None:
        raise refuse("Ray is not installed", do="pip install 'relation-neurons[ray]', or leave out workers")
    cpus = config.cpus_per_worker or 1
    owns = _join(config, cpus)
    from relation_neurons.workers.ray_pool import RayPool

    try:
        n_workers, gpus = _room(config, cpus, study.device)
        if gpus > 1 and study.device_map is None:
            raise refuse(f"gpus_per_worker is {gpus:g}", do="set device_map to auto, which spreads the model over them")
        load = {name: getattr(study, name) for name in LOAD} | {"source": _everywhere(study.model)}
        if not gpus and load["device"] is None and load["device_map"] is None:
            load["device"] = "cpu"
        pool = RayPool(load, n_workers, gpus, cpus)
        _require_same_code(pool.identity)
    except BaseException:
        if owns:
            _shutdown()
        raise
    pool.owns_ray = owns
    return pool


def _join(config: WorkersConfig, cpus: int) -> bool:
    """Join the cluster, or start one on this machine; whether it was this that did it."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return False
    here: dict[str, Any] = {"address": config.ray_address or "local"}
    if config.ray_address is None:
        here |= {"include_dashboard": False, "num_cpus": max(os.cpu_count() or 1, (config.workers or 1) * cpus)}
    ended_by = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **here)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        where = "on this machine" if config.ray_address is None else f"at '{config.ray_address}'"
        raise refuse(f"Ray cannot be used {where} ({first})", do="start it with `ray start --head`") from error
    if ended_by is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, ended_by)  # Ray's own handler prints the stack, as if of a crash
    return True


def _shutdown() -> None:
    import ray

    ray.shutdown()


def _room(config: WorkersConfig, cpus: int, device: str | None) -> tuple[int, float]:
    """How many workers there are to be, and the GPUs of each.

    Raises:
        RelationNeuronsError: They do not fit into the cluster.
    """
    import ray

    whole = ray.cluster_resources()
    on_gpu = whole.get("GPU", 0) > 0 and not (device or "").startswith("cpu")
    gpus = config.gpus_per_worker if config.gpus_per_worker is not None else float(on_gpu)
    each, limit = {"GPU": gpus, "CPU": float(cpus)}, time.monotonic() + SETTLED
    wanted = config.workers or max(1, _most(whole, each))
    free = ray.available_resources()
    while _most(free, each) < wanted <= _most(whole, each) and time.monotonic() < limit:
        time.sleep(0.1)
        free = ray.available_resources()
    if _most(free, each) < wanted:
        raise refuse(
            f"{count_text(wanted, 'worker')} would take {wanted * gpus:g} GPUs and {wanted * cpus} CPUs",
            expected=f"at most the {free.get('GPU', 0):g} GPUs and {free.get('CPU', 0):g} CPUs that are free",
            do="ask for fewer workers or fewer gpus_per_worker, add nodes, or close the workers of other studies",
        )
    return wanted, gpus


def _most(free: Mapping[str, float], each: Mapping[str, float]) -> int:
    """How many workers there is room for."""
    return int(min(free.get(name, 0.0) // need for name, need in each.items() if need))


def _everywhere(model: str) -> str:
    """A path that holds from any folder; names stay as they are."""
    return str(Path(model).resolve()) if Path(model).exists() else model


def _require_same_code(identity: Identity) -> None:
    """Refuse workers that would compute otherwise than this process says."""
    here = code_digest(), tuple(sorted(versions().items()))
    if here != (identity.code, identity.versions):
        differing = [name for name, version in identity.versions if dict(here[1]).get(name) != version]
        raise refuse(
            f"Workers have other {', '.join(differing) or 'code of relation_neurons'} than this process",
            do="install the same versions on all nodes",
        )
