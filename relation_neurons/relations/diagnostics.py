"""Problems in relation files, and the checks that the readers of tables and JSON share."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import NamedTuple

from relation_neurons.relations.relation import UNPAIRED_SURROGATE

TERM = "a non-empty text without surrounding spaces or unpaired surrogates"
TEMPLATE = "a text with exactly one {} for the subject"
_SHORT = reprlib.Repr()
_SHORT.maxstring = 80
shown = _SHORT.repr
"""The shortened representation of a value, for messages."""


class Diagnostic(NamedTuple):
    """A problem in a file: its line (if known) and field, what was found, and what was expected."""

    line: int | None
    field: str
    found: str
    expected: str


def read_text(path: str | Path) -> tuple[str, list[Diagnostic]]:
    """Read a file as UTF-8, without its byte order mark; the text is empty if there is an error."""
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        return "", [Diagnostic(None, "file", f"cannot be read ({reason})", "a readable file")]
    try:
        return data.decode("utf-8").removeprefix("\ufeff"), []
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"byte {error.start} (0x{data[error.start]:02x}) is not UTF-8"
        return "", [Diagnostic(line, "file", found, "a file saved as UTF-8")]


def is_term(value: object) -> bool:
    """Whether a value is a valid name (see `TERM`)."""
    return isinstance(value, str) and value != "" and value == value.strip() and not UNPAIRED_SURROGATE.search(value)


def is_template(value: object) -> bool:
    """Whether a value is a valid template (see `TEMPLATE`)."""
    return isinstance(value, str) and value.count("{}") == 1 and not UNPAIRED_SURROGATE.search(value)
