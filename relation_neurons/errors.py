"""The one error type of the package."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable


class RelationNeuronsError(Exception):
    """Input or state that the package refuses; the message says what was found and what to do next."""

    def __init__(self, message: str) -> None:
        """Keep the message printable, whatever it quotes."""
        super().__init__(message.encode("utf-8", "backslashreplace").decode("utf-8"))


def refuse(found: str, *, expected: str = "", do: str = "") -> RelationNeuronsError:
    """Build an error whose message reads: what was found; what was expected; what to do.

    Args:
        found: What is wrong and where, as a clause without a full stop.
        expected: What would have been accepted.
        do: The next step for the reader.

    Returns:
        The error, ready to raise.
    """
    parts = [found, f"Expected: {expected}" if expected else "", f"Do this: {do}" if do else ""]
    return RelationNeuronsError(". ".join(part.rstrip(".") for part in parts if part) + ".")


def reason(error: OSError) -> str:
    """Why the system refuses a file, in its own words; libraries add theirs."""
    return os.strerror(error.errno) if error.errno else str(error)


def unusable(error: OSError) -> RelationNeuronsError:
    """The error for a file or folder that the system refuses."""
    path = "A file" if error.filename is None else f"'{shortened(str(error.filename))}'"
    return refuse(
        f"{path} cannot be used ({error.strerror or error})", do="check the path, its permissions and the room left"
    )


def shortened(text: str, most: int = 200) -> str:
    """A text for a message, its middle left out where it is long."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


FILE_NAME = "a name of at most 200 bytes, without / \\ : or NUL, and without a dot first"


def is_file_name(name: str) -> bool:
    """Whether a name can become that of a file, and lead nowhere else: `FILE_NAME`."""
    return 0 < len(name.encode("utf-8", "replace")) <= 200 and not set(name) & set("/\\:\0") and name[0] != "."


def file_name(name: str) -> str:
    """A name that becomes that of a file."""
    if not is_file_name(name):
        raise refuse(f"{shortened(name)!r} cannot be the name of a file", expected=FILE_NAME)
    return name


def require_at_least(config: object, **limits: int) -> None:
    """Refuse a configuration with a field below its limit; none is no number and passes."""
    for name, least in limits.items():
        value = getattr(config, name)
        if value is not None and value < least:
            raise refuse(f"{name} is {number_text(value)}", expected=f"at least {least}")


def number_text(value: object) -> str:
    """A number as text; Python refuses to write very long ones."""
    try:
        return repr(value)
    except ValueError:
        return "a number of thousands of digits"


def nearest(name: str, valid: Iterable[str]) -> str:
    """Name the valid options, the one most like `name` first if there is such a one."""
    options = sorted(valid)
    close = difflib.get_close_matches(name[:200], options, n=1)  # longer ones take long, and are like none
    listing = ", ".join(options)
    return f"did you mean '{close[0]}'? One of: {listing}" if close else f"one of: {listing}"
