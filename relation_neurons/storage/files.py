"""Atomic writes, file digests, and free disk space."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from relation_neurons.errors import RelationNeuronsError, reason, refuse


def unreadable(path: Path, error: OSError) -> RelationNeuronsError:
    """The error for a file that the operating system does not allow to be read."""
    return refuse(f"{path} cannot be read ({reason(error)})", do="check its permissions")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path that is renamed to `path` after the block, or deleted if it fails.

    The block must create the file. If this function created it, an interrupt before the block could
    leave it behind.
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
    """The folder or its nearest existing parent; for a broken link, that of its target."""
    return next(path for path in (folder, *Path(os.path.realpath(folder)).parents) if path.exists())


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist."""
    return shutil.disk_usage(existing(folder)).free
