"""Is this machine fit for use, and does a model do here what it should? Each question is one small check.

No check raises: whatever goes wrong inside one is its answer, and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from relation_neurons.doctor.checks import Check, DtypeName, State
from relation_neurons.doctor.machine import machine_checks
from relation_neurons.doctor.model import model_checks
from relation_neurons.errors import refuse

__all__ = ["Check", "DtypeName", "State", "doctor"]


def doctor(
    model: str | None = None,
    *,
    device: str | None = None,
    dtype: DtypeName | None = None,
    n_prompts: int = 48,
    relations: Sequence[str | Path] = (),
    say: Callable[[Check], None] | None = None,
) -> list[Check]:
    """Look at this machine and, if one is named, at a model on it.

    Args:
        model: As for `load_model`; by default none is loaded.
        device: Where to run it; by default the GPU if there is one.
        dtype: Look at the model in this type only; by default in float32 first, then in half precision.
        n_prompts: Prompts that each null run asks.
        relations: What the prompts are of, as for `load_relations`; all shipped relations by default.
        say: Called with each answer as soon as it is known.

    Raises:
        RelationNeuronsError: Fewer than one prompt.
    """
    if n_prompts < 1:
        raise refuse(f"n_prompts is {n_prompts}", expected="at least 1")
    checks = []
    for check in _all(model, device, dtype, n_prompts, relations):
        checks.append(check)
        if say is not None:
            say(check)
    return checks


def _all(
    model: str | None, device: str | None, dtype: DtypeName | None, n_prompts: int, relations: Sequence[str | Path]
) -> Iterator[Check]:
    yield from machine_checks(device)
    if model is not None:
        yield from model_checks(model, device, dtype, n_prompts, relations)
