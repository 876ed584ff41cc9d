"""What a check answers, and how an error inside it becomes its answer."""

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
"""Free memory or disk that deserves a warning, and that is trouble."""
REPORT = "report this with the versions above, and do not trust results until it is mended"


@dataclass(frozen=True)
class Check:
    """The answer to one question.

    Attributes:
        name: What was looked at.
        state: `ok`, `note` (good to know, nothing is wrong), `warning` or `trouble`.
        found: What was found.
        do: What to do, unless all is well.
    """

    name: str
    state: State
    found: str
    do: str = ""


def guarded(name: str, do: str, look: Callable[..., Check], *args: Any) -> Check:
    """What a check finds; an error inside it is trouble, in the error's own words."""
    try:
        return look(name, *args)
    except Exception as error:  # whatever it is: the other checks must go on
        text = (str(error).strip().splitlines() or ["no message"])[0]
        token = huggingface_hub.get_token()
        text = text.replace(token, "***") if token else text
        if not isinstance(error, RelationNeuronsError):
            return Check(name, "trouble", f"{type(error).__name__}: {text}", do)
        found, _, advice = text.partition(" Do this: ")
        return Check(name, "trouble", found, "; ".join(filter(None, [advice.rstrip("."), do])))


def scarce(name: str, free: int, found: str, do: str) -> Check:
    """Judge free memory or disk."""
    state: State = "trouble" if free < FULL else "warning" if free < SCARCE else "ok"
    return Check(name, state, found, "" if state == "ok" else do)


def gib(n_bytes: float) -> str:
    """A number of bytes as people read it."""
    return f"{n_bytes / GIB:.1f} GiB" if n_bytes >= GIB else f"{1024 * n_bytes / GIB:.0f} MiB"
