"""Where a folder that may not be there yet would be, and what is free on its disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that exists; of a link that leads nowhere, above where it leads."""
    return next(one for one in (folder, *Path(os.path.realpath(folder)).parents) if one.exists())


def free_bytes(folder: Path) -> int:
    """Bytes that are free on the disk of a folder, there or not."""
    return shutil.disk_usage(existing(folder)).free
