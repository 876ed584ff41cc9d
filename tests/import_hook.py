"""Which of the package's modules are imported so that calls are checked against their annotations.

By default those with shapes of arrays in them; with `--full` all, which takes a quarter more time. What libraries are
imported below the hook take three times as long to import: import them before.
"""

import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import transformer_lens  # noqa: F401
from jaxtyping import install_import_hook

ROOT = Path(__file__).parent.parent


def checked_import() -> AbstractContextManager:
    """A block in which the package is imported."""
    if "--full" in sys.argv:
        os.environ["TESTS_FULL"] = "1"  # for the processes that xdist starts
    with_shapes = [path for path in ROOT.glob("relation_neurons/**/*.py") if "jaxtyping" in path.read_text("utf-8")]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in with_shapes]
    return install_import_hook(["relation_neurons"] if "TESTS_FULL" in os.environ else names, "beartype.beartype")
