"""How many workers share the work of a study, and where."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass

from relation_neurons.errors import refuse, require_at_least
from relation_neurons.validation import validated

ENVIRONMENT = "RELATION_NEURONS_WORKERS"
"""The environment variable by which a command tells the notebooks that it executes."""


@validated
@dataclass(frozen=True)
class WorkersConfig:
    """Processes that share the work; results do not depend on how many there are."""

    workers: int | None = None
    """Processes that each hold the model and share the work, started by Ray; by default this process does it all, or,
    with ray_address, as many as the cluster holds."""
    ray_address: str | None = None
    """A Ray cluster to join, such as auto or 10.0.0.1:6379; by default Ray is started on this machine."""
    gpus_per_worker: float | None = None
    """GPUs of each worker; by default 1 where there are GPUs. With 2 or more, use device_map auto."""
    cpus_per_worker: int | None = None
    """CPU threads of each worker; by default 1."""

    def __post_init__(self) -> None:
        require_at_least(self, workers=1, gpus_per_worker=0, cpus_per_worker=1)
        if not self.wanted and (self.gpus_per_worker, self.cpus_per_worker) != (None, None):
            raise refuse(
                "gpus_per_worker or cpus_per_worker is set, but there are no workers", do="set workers or ray_address"
            )
        if self.gpus_per_worker is not None and self.gpus_per_worker > 1 and self.gpus_per_worker % 1:
            raise refuse(f"gpus_per_worker is {self.gpus_per_worker}", expected="a whole number, or a share of one GPU")

    @property
    def wanted(self) -> bool:
        """Whether there are to be workers at all."""
        return self.workers is not None or self.ray_address is not None


NO_WORKERS = WorkersConfig()
"""This process does it all."""


def workers_from_environment() -> WorkersConfig:
    """The workers of the environment variable: a number of them, or the fields of a `WorkersConfig` in JSON.

    Raises:
        RelationNeuronsError: It says something else.
    """
    text = os.environ.get(ENVIRONMENT, "")
    if not text:
        return NO_WORKERS
    try:
        found = json.loads(text)
        return WorkersConfig(workers=found) if isinstance(found, int) else WorkersConfig(**found)
    except (ValueError, TypeError) as error:
        raise refuse(f"{ENVIRONMENT} is {text!r}", expected="a number of workers") from error


def put_in_environment(workers: WorkersConfig) -> None:
    """Let processes that this one starts have workers."""
    if workers.wanted:
        os.environ[ENVIRONMENT] = json.dumps(asdict(workers))
