"""Work in units, runs of whole batches: sized by measured seconds, done in this process or by workers."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from relation_neurons.models.fingerprint import weights_digest
from relation_neurons.models.placement import devices_in_words
from relation_neurons.models.types import HookedModel
from relation_neurons.progress import Progress, silent
from relation_neurons.storage.fingerprint import code_digest, versions

UNIT_SECONDS = 10.0
"""What a unit should take: long beside handing it out, short beside what a worker that is lost takes with it."""
Result = TypeVar("Result")
Job = Callable[[HookedModel, Sequence[Any]], Any]
"""Makes what is wanted of one batch; it can be pickled, so that workers can do it."""
Batches = Mapping[int, Sequence[Any]]
"""The items of batches by their numbers, in the order in which they are handed out."""
Store = Callable[[Sequence[int], Sequence[Any]], None]
"""Takes the numbers of the batches of a unit, and what the job made of each."""


@dataclass(frozen=True)
class Identity:
    """What measures: two models with the same identity give the same numbers, within the rounding of their hardware.

    Attributes:
        kind: The wrapper's class.
        weights: Digest of the weights.
        dtype: Type of the weights, such as `float32`.
        devices: Where they are, in words, such as `cuda:0`.
        device: Kind of the device, such as `cuda`.
        code: Digest of the code that measures.
        versions: Of Python and the packages that results depend on.
    """

    kind: str
    weights: str
    dtype: str
    devices: str
    device: str
    code: str
    versions: tuple[tuple[str, str], ...]


def identity_of(model: HookedModel) -> Identity:
    """The identity of a model in this process."""
    return Identity(
        type(model).__name__,
        weights_digest(model),
        str(model.cfg.dtype).removeprefix("torch."),
        devices_in_words(model),
        str(model.cfg.device).partition(":")[0],
        code_digest(),
        tuple(sorted(versions().items())),
    )


class Pool(ABC):
    """Whoever has the model and does the work.

    Attributes:
        n_workers: How many units are done at a time.
        n_units: Units done so far.
        lost: Why units were tried again, a sentence each.
    """

    n_workers: int
    n_units: int
    lost: list[str]

    @property
    @abstractmethod
    def identity(self) -> Identity:
        """What measures."""

    @abstractmethod
    def compute(
        self, job: Job, batches: Batches, store: Store, *, most_rows: int | None = None, progress: Progress = silent
    ) -> None:
        """Do a job on batches, whatever the order, and store each unit as it is done.

        Args:
            job: What to do with each batch.
            batches: The batches that are left to do.
            store: Called in this process with each unit.
            most_rows: The most rows of a unit, unless a batch has more.
            progress: Called with the number of items done.
        """

    @abstractmethod
    def close(self) -> None:
        """End what was started for it."""

    @abstractmethod
    def call(self, function: Callable[..., Result], progress: Progress | None = None) -> Result:
        """What a function makes of the model; it can be pickled, and takes `progress` where one is given."""


class UnitSizes:
    """Cuts units from batches: as many as take `UNIT_SECONDS` at the speed last seen, and fewer towards the end."""

    def __init__(self, batches: Batches, n_workers: int = 1, most_rows: int | None = None) -> None:
        """Begin with units of a single batch, since nothing has been measured."""
        self._rows = {number: len(items) for number, items in batches.items()}
        self._left = deque(self._rows)
        self._n_workers, self._most = n_workers, most_rows or math.inf
        self._rows_per_second = 0.0

    @property
    def n_left(self) -> int:
        """Batches that are in no unit yet."""
        return len(self._left)

    def next(self) -> tuple[int, ...]:
        """The next unit, consecutive numbers of batches; empty when there are none left."""
        if not self._left:
            return ()
        room = min(self._most, self._rows_per_second * UNIT_SECONDS)
        share = len(self._left) if self._n_workers == 1 else math.ceil(len(self._left) / (2 * self._n_workers))
        unit = [self._left.popleft()]
        rows = self._rows[unit[0]]
        while self._left and len(unit) < share and self._left[0] == unit[-1] + 1:
            rows += self._rows[self._left[0]]
            if rows > room:
                break
            unit.append(self._left.popleft())
        return tuple(unit)

    def took(self, unit: Sequence[int], seconds: float) -> None:
        """Learn how long a unit took."""
        self._rows_per_second = sum(self._rows[number] for number in unit) / max(seconds, 1e-3)


@dataclass
class InProcess(Pool):
    """The work is done here, one unit after the other."""

    model: HookedModel
    n_workers: int = 1
    n_units: int = 0
    lost: list[str] = field(default_factory=list)

    @property
    def identity(self) -> Identity:
        """What measures."""
        return identity_of(self.model)

    def compute(
        self, job: Job, batches: Batches, store: Store, *, most_rows: int | None = None, progress: Progress = silent
    ) -> None:
        """See `Pool`."""
        sizes = UnitSizes(batches, most_rows=most_rows)
        while unit := sizes.next():
            started, results = time.monotonic(), []
            for number in unit:
                results.append(job(self.model, batches[number]))
                progress(len(batches[number]))
            sizes.took(unit, time.monotonic() - started)
            store(unit, results)
            self.n_units += 1

    def call(self, function: Callable[..., Result], progress: Progress | None = None) -> Result:
        """See `Pool`."""
        return function(self.model) if progress is None else function(self.model, progress=progress)

    def close(self) -> None:
        """See `Pool`."""
