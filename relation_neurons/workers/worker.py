"""What runs in a worker: it loads the model once, and does jobs on batches."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from relation_neurons.inference.units import Identity, Job, identity_of
from relation_neurons.models.loading import load_model


class Done(NamedTuple):
    """What a worker made of a unit.

    Attributes:
        results: What the job made of each batch.
        seconds: How long it took.
        warnings: What was warned of, for the user of the driver.
    """

    results: list[Any]
    seconds: float
    warnings: tuple[str, ...]


class Worker:
    """An actor; every method is called from the driver."""

    def __init__(self, load: Mapping[str, Any], threads: int) -> None:
        """Nothing is loaded yet, so that what goes wrong then reaches the driver as it is.

        Args:
            load: Arguments of `load_model`.
            threads: Of PyTorch.
        """
        self._load = dict(load)
        torch.set_num_threads(threads)

    def start(self) -> Identity:
        """Load the model."""
        self._model = load_model(**self._load)
        return identity_of(self._model)

    def compute(self, job: Job, batches: Sequence[Sequence[Any]]) -> Done:
        """Do a job on the batches of a unit."""
        started = time.monotonic()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            results = [job(self._model, batch) for batch in batches]
        told = tuple(dict.fromkeys(str(one.message) for one in caught if one.category is UserWarning))
        return Done(results, time.monotonic() - started, told)

    def call(self, function: Callable[..., Any]) -> Any:
        """What a function makes of the model."""
        return function(self._model)
