"""Checks of this machine and of a model on it.

No check raises: an error inside a check becomes its result, and the remaining checks still run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from relation_neurons.doctor.checks import Check, DtypeName, State
from relation_neurons.doctor.machine import machine_checks
from relation_neurons.doctor.model import model_checks
from relation_neurons.errors import refuse
from relation_neurons.models.placement import DeviceMap, Quantization, require_placement

__all__ = ["Check", "DtypeName", "State", "doctor"]


def doctor(
    model: str | None = None,
    *,
    device: str | None = None,
    dtype: DtypeName | None = None,
    device_map: DeviceMap | None = None,
    quantize: Quantization | None = None,
    n_prompts: int = 48,
    relations: Sequence[str | Path] = (),
    on_check: Callable[[Check], None] | None = None,
) -> list[Check]:
    """Check this machine and, if given, a model on it.

    Args:
        model: Model to check, as for `load_model`; by default none is loaded.
        device: Device of the model; by default the GPU if one is available.
        dtype: Only type to check the model in; by default float32, then the half-precision types.
        device_map: As for `load_model`.
        quantize: As for `load_model`.
        n_prompts: Number of prompts of each null run.
        relations: Relations of the prompts, as for `load_relations`; by default all shipped ones.
        on_check: Called with each result as soon as it is available.

    Returns:
        The results of all checks, in order.

    Raises:
        RelationNeuronsError: If `n_prompts` is less than 1, or a device and a device map are both given.
    """
    if n_prompts < 1:
        raise refuse(f"n_prompts is {n_prompts}", expected="at least 1")
    require_placement(device, device_map)
    placement = {"device_map": device_map, "quantize": quantize}
    checks = []
    for check in _all_checks(model, device, dtype, n_prompts, relations, placement):
        checks.append(check)
        if on_check is not None:
            on_check(check)
    return checks


def _all_checks(
    model: str | None,
    device: str | None,
    dtype: DtypeName | None,
    n_prompts: int,
    relations: Sequence[str | Path],
    placement: Mapping[str, Any],
) -> Iterator[Check]:
    yield from machine_checks(device)
    if model is not None:
        yield from model_checks(model, device, dtype, n_prompts, relations, **placement)
