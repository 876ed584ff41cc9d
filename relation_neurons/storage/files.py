"""Files: written whole or not at all, digests, tables that anyone may have altered, and free disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from relation_neurons.errors import RelationNeuronsError, reason, refuse


def unreadable(path: Path, error: OSError) -> RelationNeuronsError:
    """The error for a file that may vouch for others and that the system does not let be read."""
    return refuse(f"{path} cannot be read ({reason(error)})", do="check its permissions")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A place to write beside `path` that takes its name when the block ends well, and vanishes when it does not.

    The file is the block's to make: one that was made here would stay where Ctrl-C comes before the block begins.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        yield unfinished
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.chmod(0o644)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
