"""Where downloads are kept: relations, translations and models."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

ENVIRONMENT = "RELATION_NEURONS_DATA"
"""Variable that names another folder than the user's cache."""


def cache_root() -> Path:
    """The folder of all downloads, which need not exist."""
    return Path(os.environ.get(ENVIRONMENT) or platformdirs.user_cache_dir("relation-neurons")).expanduser()
