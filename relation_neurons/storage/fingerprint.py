"""Digests of contents and of this package's code, and package versions."""

from __future__ import annotations

import contextlib
import hashlib
import platform
from importlib import metadata
from pathlib import Path

PACKAGES = ("relation-neurons", "transformer-lens", "transformers", "torch", "numpy", "pandas", "scipy", "plotly")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed[package] = metadata.version(package)
    return installed


def code_digest() -> str:
    """SHA-256 of this package's source, so that results of other code are never resumed."""
    folder = Path(__file__).parent.parent
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".html"))
    return digest(*((path.relative_to(folder).as_posix(), path.read_bytes()) for path in files))


def digest(*parts: object) -> str:
    """SHA-256 of the parts' representations."""
    return hashlib.sha256("\x1f".join(map(repr, parts)).encode()).hexdigest()
