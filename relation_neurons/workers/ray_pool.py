"""A pool of workers that Ray holds: one actor each, which is given one unit after the other.

Ray starts and places processes, carries units there and results back, and tells when a process is gone. What is added
here is which unit is next, and what becomes of a unit that failed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from relation_neurons.errors import RelationNeuronsError, refuse
from relation_neurons.inference.units import Batches, Identity, Job, Pool, Result, Store, UnitSizes
from relation_neurons.progress import Progress, silent
from relation_neurons.workers.worker import Done, Worker

TRIES = 3
"""How often a unit is tried, and how often a worker in a row is started that does not come up."""
PATIENCE = 1800
"""Seconds to wait for a first worker, which may load a large model from a slow disk."""
TICK = 5.0
"""Seconds after which the progress is looked at though nothing happened."""


@dataclass
class _Unit:
    """Batches that are given to a worker together.

    Attributes:
        numbers: Of the batches.
        failed: Numbers of the workers that it failed on.
        reason: Why it failed last.
    """

    numbers: tuple[int, ...]
    failed: list[int] = field(default_factory=list)
    reason: BaseException | None = None


class RayPool(Pool):
    """Workers that share the work.

    Attributes:
        n_workers: How many there are to be.
        n_units: Units done so far.
        lost: Why units were tried again, a sentence each.
        owns_ray: Whether Ray was started for these workers and ends with them.
    """

    def __init__(self, load: Mapping[str, Any], n_workers: int, gpus: float, cpus: int) -> None:
        """Start the workers, and wait until the first of them has loaded the model.

        Args:
            load: Arguments of `load_model`.
            n_workers: How many.
            gpus: Of each.
            cpus: Threads of each.

        Raises:
            RelationNeuronsError: The model cannot be loaded, or no worker comes up.
        """
        self.n_workers, self.n_units, self.lost = n_workers, 0, list[str]()
        self.owns_ray = False
        self._make = ray.remote(Worker).options(num_gpus=gpus, num_cpus=cpus, max_restarts=0).remote
        self._arguments = dict(load), cpus
        self._numbers, self._not_started = 0, 0
        self._actors: dict[int, Any] = {}
        self._starting: dict[Any, int] = {}
        self._identity: Identity | None = None
        for _ in range(n_workers):
            self._start()
        while self._identity is None:
            self._wait([], PATIENCE)

    @property
    def identity(self) -> Identity:
        """What measures; every worker has the same."""
        assert self._identity is not None
        return self._identity

    def compute(
        self, job: Job, batches: Batches, store: Store, *, most_rows: int | None = None, progress: Progress = silent
    ) -> None:
        """See `relation_neurons.inference.units.Pool`.

        Raises:
            RelationNeuronsError: A unit failed wherever it was tried. What others did meanwhile is stored.
        """
        sizes, shared = UnitSizes(batches, self.n_workers, most_rows), ray.put(job)
        running: dict[Any, tuple[int, _Unit]] = {}
        again: list[_Unit] = []
        failed: _Unit | None = None

        def give(number: int) -> None:
            """Hand the next unit to a worker that has none."""
            unit = None if failed else self._next(number, again, sizes)
            if unit is not None:
                asked = [batches[one] for one in unit.numbers]
                running[self._actors[number].compute.remote(shared, asked)] = number, unit

        while True:
            busy = {number for number, _ in running.values()}
            for number in [number for number in self._ready() if number not in busy]:
                give(number)
            if not running and (failed or not (again or sizes.n_left)):
                break
            for reference in self._wait([*running], TICK if self._ready() else PATIENCE):
                number, unit = running.pop(reference)
                done = self._result(reference, number, unit)
                if done is None:
                    failed = failed or self._again(unit, again)
                    continue
                sizes.took(unit.numbers, done.seconds)
                give(number)  # first, so that it works while this process stores
                store(unit.numbers, done.results)
                self.n_units += 1
                progress(sum(len(batches[one]) for one in unit.numbers))
            progress(0)
        if failed:
            raise _failure(failed)

    def call(self, function: Callable[..., Result], progress: Progress | None = None) -> Result:
        """See `relation_neurons.inference.units.Pool`."""
        unit = _Unit(())
        again: list[_Unit] = []
        while True:
            while not self._ready():
                self._wait([], PATIENCE)
            number = next((one for one in self._ready() if one not in unit.failed), self._ready()[0])
            reference = self._actors[number].call.remote(function)
            try:
                return ray.get(reference)
            except RayError as error:
                self._note(error, number, unit)
            if self._again(unit, again):
                raise _failure(unit)

    def close(self) -> None:
        """End the workers."""
        for actor in self._actors.values() if ray.is_initialized() else ():
            ray.kill(actor)
        self._actors.clear()
        self._starting.clear()
        if self.owns_ray:
            ray.shutdown()

    def _start(self) -> None:
        number = self._numbers
        self._numbers += 1
        self._actors[number] = self._make(*self._arguments)
        self._starting[self._actors[number].start.remote()] = number

    def _ready(self) -> list[int]:
        """The workers that have their model."""
        starting = set(self._starting.values())
        return [number for number in self._actors if number not in starting]

    def _next(self, number: int, again: list[_Unit], sizes: UnitSizes) -> _Unit | None:
        """A unit that failed on others, or on all there are; else a new one."""
        others = set(self._ready()) - {number}
        for unit in again:
            if number not in unit.failed or others <= set(unit.failed):
                again.remove(unit)
                return unit
        numbers = sizes.next()
        return _Unit(numbers) if numbers else None

    def _wait(self, running: list[Any], seconds: float) -> list[Any]:
        """The units that ended, if any did in time; workers that came up meanwhile are ready."""
        ended, _ = ray.wait([*running, *self._starting], num_returns=1, timeout=seconds)
        for reference in [one for one in ended if one in self._starting]:
            self._started(reference)
        if not ended and not running and seconds >= PATIENCE:
            raise refuse(
                f"No worker has come up within {PATIENCE} s",
                do="see `ray status` for what the cluster lacks, and ask for fewer workers, or fewer GPUs for each",
            )
        return [one for one in ended if one in running]

    def _started(self, reference: Any) -> None:
        number = self._starting.pop(reference)
        try:
            identity = ray.get(reference)
        except RayError as error:
            cause = _cause(error)
            self._not_started += 1
            self._actors.pop(number)
            if isinstance(cause, RelationNeuronsError) or self._not_started >= TRIES:
                if self._actors and self._identity is not None:
                    self.lost.append(f"a worker did not come up ({_in_words(cause)})")
                    return
                raise _as_error(cause, f"{self._not_started} workers in a row did not come up") from error
            self._start()
            return
        if self._identity is not None and identity != self._identity:
            raise refuse(
                f"Workers differ: {_difference(self._identity, identity)}",
                expected="the same code, packages, model and kind of device on all nodes",
            )
        self._identity, self._not_started = identity, 0

    def _result(self, reference: Any, number: int, unit: _Unit) -> Done | None:
        """What a unit came to; none if it failed, and then another worker is started where this one is gone."""
        try:
            done: Done = ray.get(reference)
        except RayError as error:
            self._note(error, number, unit)
            return None
        for message in done.warnings:
            warnings.warn(message, stacklevel=4)
        return done

    def _note(self, error: RayError, number: int, unit: _Unit) -> None:
        """Note why a unit failed."""
        unit.failed.append(number)
        unit.reason = _cause(error)
        self.lost.append(f"{'worker' if unit.numbers else 'a call on worker'} {number}: {_in_words(unit.reason)}")
        if not isinstance(error, RayTaskError):  # the process is gone, or does not answer
            ray.kill(self._actors.pop(number))
            self._start()

    def _again(self, unit: _Unit, again: list[_Unit]) -> _Unit | None:
        """Put a unit that failed before all others, or return it if it failed too often."""
        everywhere = set(self._ready()) <= set(unit.failed) and not self._starting
        if len(unit.failed) >= TRIES or (everywhere and isinstance(unit.reason, RelationNeuronsError)):
            return unit
        again.append(unit)
        return None


def _cause(error: RayError) -> BaseException:
    """What was raised in the worker, or what became of it."""
    return error.cause if isinstance(error, RayTaskError) and error.cause is not None else error


def _in_words(error: BaseException) -> str:
    """One line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}{': ' + lines[0] if lines else ''}"


def _failure(unit: _Unit) -> RelationNeuronsError:
    assert unit.reason is not None
    return _as_error(unit.reason, f"The same work failed on {len(unit.failed)} workers")


def _as_error(reason: BaseException, what: str) -> RelationNeuronsError:
    """A refusal as it is; any other error is named."""
    if isinstance(reason, RelationNeuronsError):
        return reason
    return refuse(
        f"{what}: {_in_words(reason)}",
        do="give the same command again, which resumes from here, perhaps with a smaller batch_size",
    )


def _difference(one: Identity, other: Identity) -> str:
    pairs = ((name, getattr(one, name), getattr(other, name)) for name in vars(one))
    return "; ".join(f"{name} is {before} and {after}" for name, before, after in pairs if before != after)
