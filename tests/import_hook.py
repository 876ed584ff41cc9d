"""Which of the package's functions are checked against their annotations while tests run.

By default those with shapes of arrays in them; with `--full` all of all modules. Each check takes some 10 microseconds,
and a function inside another is wrapped anew, for a millisecond, whenever the other is called: checking all functions
of the modules that have shapes took 40 % of the time of tests with small models. What libraries are imported below the
hook take three times as long to import: import them before.
"""

import ast
import contextlib
import functools
import os
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from unittest.mock import patch

import transformer_lens  # noqa: F401
from beartype import beartype  # noqa: F401
from jaxtyping import _import_hook, install_import_hook

ROOT = Path(__file__).parent.parent


WITH_SHAPES = [path for path in ROOT.glob("relation_neurons/**/*.py") if "jaxtyping" in path.read_text("utf-8")]


def occur_in(node: ast.AST, names: set[str]) -> bool:
    return any(isinstance(part, ast.Name) and part.id in names for part in ast.walk(node))


def imported(module: ast.Module, names: Collection[str] = ()) -> set[str]:
    """The types of jaxtyping that a module imports, and those of some names that it imports from elsewhere."""
    froms = [one for one in module.body if isinstance(one, ast.ImportFrom)]
    return {alias.name for one in froms for alias in one.names if one.module == "jaxtyping" or alias.name in names}


def named(module: ast.Module) -> set[str]:
    """The names that a module gives to shapes."""
    assigned = [one for one in module.body if isinstance(one, ast.Assign) and occur_in(one.value, imported(module))]
    return {target.id for one in assigned for target in one.targets if isinstance(target, ast.Name)}


@functools.cache
def named_anywhere() -> set[str]:
    return {name for path in WITH_SHAPES for name in named(ast.parse(path.read_text("utf-8")))}


class OnlyShapes(_import_hook.JaxtypingTransformer):
    """Decorates functions and classes in which a type of jaxtyping occurs, or a name given to one, and no others."""

    def visit_Module(self, node):
        self.types = imported(node, named_anywhere()) | named(node)
        return super().visit_Module(node)

    def visit_ClassDef(self, node):
        return super().visit_ClassDef(node) if occur_in(node, self.types) else node

    def visit_FunctionDef(self, node):
        return super().visit_FunctionDef(node) if occur_in(node, self.types) else node


@contextlib.contextmanager
def checked_import() -> Iterator[None]:
    """A block in which the package is imported."""
    if "--full" in sys.argv:
        os.environ["TESTS_FULL"] = "1"  # for the processes that xdist starts
    if "TESTS_FULL" in os.environ:
        with install_import_hook("relation_neurons", "beartype.beartype"):
            yield
        return
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in WITH_SHAPES]
    # By the name of the checker jaxtyping tells apart the bytecode that it keeps.
    checked = install_import_hook(names, "tests.import_hook.beartype")
    with checked, patch.object(_import_hook, "JaxtypingTransformer", OnlyShapes):
        yield
