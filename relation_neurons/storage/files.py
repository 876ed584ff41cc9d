"""Files: written whole or not at all, digests, tables that anyone may have altered, and free disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa

from relation_neurons.errors import RelationNeuronsError, reason, refuse, shortened

DAMAGED = (
    pa.ArrowException,
    OSError,
    LookupError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What pandas and pyarrow raise of files that are not what they wrote."""


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


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that exists; of a link that leads nowhere, above where it leads."""
    return next(one for one in (folder, *Path(os.path.realpath(folder)).parents) if one.exists())


def free_bytes(folder: Path) -> int:
    """Bytes that are free on the disk of a folder, there or not."""
    return shutil.disk_usage(existing(folder)).free


def read_parquet(path: Path, do: str) -> pd.DataFrame:
    """A table.

    Args:
        path: Of the file.
        do: What the user may do where it cannot be read.

    Raises:
        RelationNeuronsError: There is no such file, or it cannot be read.
    """
    try:
        return pd.read_parquet(path)
    except DAMAGED as error:
        raise refuse(f"{path} cannot be read ({shortened(str(error))})", do=do) from error
