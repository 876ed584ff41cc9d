"""The command `doctor`: checks on one page whether this machine, and a model on it, are ready for use."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from typing import Literal, get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from relation_neurons.doctor import Check, DtypeName, State, doctor
from relation_neurons.models.placement import Quantization

WIDTH = 100
"""Of the page, where the terminal is not narrower."""
STYLES: Mapping[State, str] = {"ok": "green", "note": "blue", "warning": "yellow", "trouble": "bold red"}


def doctor_command(
    model: str | None = None,
    device: str | None = None,
    dtype: DtypeName | None = None,
    device_map: Literal["auto"] | None = None,
    quantize: Quantization | None = None,
    n_prompts: int = 48,
    relations: tuple[str, ...] = (),
) -> None:
    """Look at this machine and, if one is named, at a model on it; exit status 1 if there is trouble.

    Each line says how it stands, what was looked at, what was found and, where something is to be done, what. A note is
    good to know, and nothing is wrong. Without a model this takes seconds, with smollm2-135m about a minute.

    Args:
        model: Also load this model, named as for `run`, and see whether hooks, batches and answers are right.
        device: Where to run it; by default the GPU if there is one.
        dtype: Look at the model in this type only; by default in float32 first, then in half precision.
        device_map: auto spreads a model over all GPUs, then over memory and disk; not with --device.
        quantize: Weights in 8 or 4 bits, on a GPU, with the package bitsandbytes.
        n_prompts: Prompts that are answered twice, to see how often answers differ without any cause.
        relations: What the prompts are of, as for `run`; all shipped relations by default.
    """
    console = Console(highlight=False)
    console.width = min(console.width, WIDTH)
    checks = doctor(
        model,
        device=device,
        dtype=dtype,
        device_map=device_map,
        quantize=quantize,
        n_prompts=n_prompts,
        relations=relations,
        on_check=lambda check: console.print(_line(check)),
    )
    count = Counter(check.state for check in checks)
    console.print("\n" + ", ".join(f"{count[state]} {state}" for state in get_args(State)))
    if count["trouble"]:
        sys.exit(1)


def _line(check: Check) -> Table:
    """One line of the page; what to do stands below what was found."""
    table = Table.grid(padding=(0, 1, 0, 0))
    for width in (7, 18, None):
        table.add_column(width=width, overflow="fold")
    text = check.result + (f"\nDo: {check.do}" if check.do else "")
    table.add_row(Text(check.state, style=STYLES[check.state]), Text(check.name), Text(text))
    return table
