"""The error type of the package, and helpers for its messages."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable


class RelationNeuronsError(Exception):
    """Invalid input or state; the message states the problem and what to do next."""

    def __init__(self, message: str) -> None:
        """Escape characters of the message that cannot be encoded."""
        super().__init__(message.encode("utf-8", "backslashreplace").decode("utf-8"))


class TooFewNeuronsError(RelationNeuronsError):
    """There are not enough neurons outside a target to draw matched random controls."""


def refuse(
    found: str, *, expected: str = "", do: str = "", kind: type[RelationNeuronsError] = RelationNeuronsError
) -> RelationNeuronsError:
    """Build an error whose message states the problem, what is expected and what to do.

    Args:
        found: The problem and its place, without a full stop.
        expected: Valid input.
        do: The next step for the user.
        kind: Class of the error.

    Returns:
        The error, ready to raise.
    """
    parts = [found, f"Expected: {expected}" if expected else "", f"Do this: {do}" if do else ""]
    return kind(". ".join(part.rstrip(".") for part in parts if part) + ".")


def reason(error: OSError) -> str:
    """Reason for an error of the operating system, without text added by libraries."""
    return os.strerror(error.errno) if error.errno else str(error)


def unusable(error: OSError) -> RelationNeuronsError:
    """The error for a file or folder that cannot be used."""
    path = "A file" if error.filename is None else f"'{shortened(str(error.filename))}'"
    return refuse(
        f"{path} cannot be used ({error.strerror or error})", do="check the path, its permissions and the free space"
    )


def shortened(text: str, most: int = 200) -> str:
    """Shorten a long text for a message by omitting its middle."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


FILE_NAME = "a name of at most 200 bytes that contains no / \\ : or NUL and does not start with a dot"


def is_file_name(name: str) -> bool:
    """Whether a name is a valid file name without path separators: see `FILE_NAME`."""
    return 0 < len(name.encode("utf-8", "replace")) <= 200 and not set(name) & set("/\\:\0") and name[0] != "."


def file_name(name: str) -> str:
    """Return a valid file name unchanged, and refuse any other."""
    if not is_file_name(name):
        raise refuse(f"{shortened(name)!r} cannot be the name of a file", expected=FILE_NAME)
    return name


def require_at_least(config: object, **limits: int) -> None:
    """Refuse a configuration with a field below its lower limit; fields that are None pass."""
    for name, least in limits.items():
        value = getattr(config, name)
        if value is not None and value < least:
            raise refuse(f"{name} is {number_text(value)}", expected=f"at least {least}")


def number_text(value: object) -> str:
    """Format a number; Python refuses to format very long integers."""
    try:
        return repr(value)
    except ValueError:
        return "a number of thousands of digits"


def nearest(name: str, valid: Iterable[str]) -> str:
    """List the valid options, preceded by the one most similar to `name` if any is close."""
    options = sorted(valid)
    close = difflib.get_close_matches(name[:200], options, n=1)  # long names are slow to compare
    listing = ", ".join(options)
    return f"did you mean '{close[0]}'? One of: {listing}" if close else f"one of: {listing}"
