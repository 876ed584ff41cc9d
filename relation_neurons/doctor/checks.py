"""The result of a check, and the conversion of errors to results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import huggingface_hub

from relation_neurons.errors import RelationNeuronsError

State = Literal["ok", "note", "warning", "trouble"]
DtypeName = Literal["float32", "bfloat16", "float16"]
GIB = 2**30
SCARCE, FULL = 2 * GIB, GIB // 10
"""Bytes of free memory or disk space below which a check warns, and below which it reports trouble."""
REPORT = "report this with the versions above, and do not trust any results until it is fixed"


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: Name of the check.
        state: `ok`, `note` (information only, nothing is wrong), `warning` or `trouble`.
        result: The result in words.
        do: What to do; empty if nothing needs to be done.
    """

    name: str
    state: State
    result: str
    do: str = ""


def guarded(name: str, do: str, check: Callable[..., Check], *args: Any) -> Check:
    """Run a check; an error inside it becomes trouble, with the error's own message."""
    try:
        return check(name, *args)
    except Exception as error:  # of any kind: the remaining checks must still run
        text = (str(error).strip().splitlines() or ["no message"])[0]
        token = huggingface_hub.get_token()
        text = text.replace(token, "***") if token else text
        if not isinstance(error, RelationNeuronsError):
            return Check(name, "trouble", f"{type(error).__name__}: {text}", do)
        problem, _, advice = text.partition(" Do this: ")
        return Check(name, "trouble", problem, "; ".join(filter(None, [advice.rstrip("."), do])))


def free_space_check(name: str, free: int, result: str, do: str) -> Check:
    """Rate the free memory or disk space, in bytes."""
    state: State = "trouble" if free < FULL else "warning" if free < SCARCE else "ok"
    return Check(name, state, result, "" if state == "ok" else do)


def gib(n_bytes: float) -> str:
    """Format a number of bytes in GiB or MiB."""
    return f"{n_bytes / GIB:.1f} GiB" if n_bytes >= GIB else f"{1024 * n_bytes / GIB:.0f} MiB"
