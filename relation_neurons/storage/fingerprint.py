"""Digests of contents and of this package's code, and package versions."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import hashlib
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("relation-neurons", "transformer-lens", "transformers", "torch", "numpy", "pandas", "scipy", "plotly")
FOLDER = Path(__file__).parent.parent
WHOLE = ("",)
"""The whole package, for pages that show figures and texts as well."""
MEASURING = (
    *("relations", "models", "prompts", "inference", "activations", "scores", "neurons", "interventions", "evaluation"),
    "attribution",
    *(
        f"experiments/{name}.py"
        for name in (
            "answer_cache",
            "answer_jobs",
            "answer_plans",
            "carry_over",
            "concepts",
            "config",
            "contrast_sets",
            "critical_screen",
            "design",
            "design_choice",
            "detection",
            "detection_samples",
            "induction",
            "layers",
            "neuron_card_effects",
            "neuron_cards",
            "object_halves",
            "perplexity",
            "pilot",
            "rankings",
            "reference_values",
            "related_pairs",
            "single_neuron",
            "single_neuron_scores",
            "stability",
            "study",
            "summary",
        )
    ),
)
"""Folders and files that determine what is stored and reused: activations, rankings, answers and perplexities. What
experiments compute from these is computed anew each time."""

UNLESS_DEFAULT: Mapping[str, Any] = {"unless_default": True}
"""Metadata of a field that came later: at its default it is in no digest and no key, as if it did not exist."""


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed[package] = metadata.version(package)
    return installed


@functools.cache
def code_digest(parts: tuple[str, ...] = MEASURING, folder: Path = FOLDER) -> str:
    """SHA-256 of code without comments, docstrings and formatting, so that results of other code are never resumed.

    Args:
        parts: Folders and files, relative to `folder`; templates in folders count byte by byte.
        folder: Where the package is.
    """
    files = sorted({file for part in parts for file in _files(folder / part)})
    return digest(*((file.relative_to(folder).as_posix(), _contents(file)) for file in files))


def digest(*parts: object) -> str:
    """SHA-256 of all that the parts hold, whatever they print."""
    return hashlib.sha256("\x1f".join(map(_written, parts)).encode()).hexdigest()


def _written(part: object) -> str:
    """A value as Python writes it, and dataclasses, whose `__repr__` may leave things out, with all their fields.

    Fields that a dataclass declares with `repr=False` determine nothing and are left out.
    """
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        fields = (f"{name}={_written(value)}" for name, value in _determining(part).items())
        return f"{type(part).__qualname__}({', '.join(fields)})"
    if type(part) is dict:
        return f"{{{', '.join(f'{_written(key)}: {_written(value)}' for key, value in part.items())}}}"
    if type(part) is list:
        return f"[{', '.join(map(_written, part))}]"
    if type(part) is tuple and not all(type(one) in (str, int) for one in part):  # those write themselves, and fast
        return f"({', '.join(map(_written, part))}{',' if len(part) == 1 else ''})"
    return repr(part)


def as_key(config: Any) -> dict[str, Any]:
    """A configuration as nested dictionaries, as keys of run folders hold it; see `UNLESS_DEFAULT`."""
    return {
        name: as_key(value) if dataclasses.is_dataclass(value) else value
        for name, value in _determining(config, unprinted=True).items()
    }


def _determining(part: Any, *, unprinted: bool = False) -> dict[str, Any]:
    """The fields of a dataclass that determine something, by name."""
    named = {field.name: (field, getattr(part, field.name)) for field in dataclasses.fields(part)}
    return {
        name: value
        for name, (field, value) in named.items()
        if (field.repr or unprinted) and not ("unless_default" in field.metadata and value == field.default)
    }


def _files(path: Path) -> Iterable[Path]:
    return (file for file in path.rglob("*") if file.suffix in (".py", ".html")) if path.is_dir() else (path,)


def _contents(file: Path) -> str | bytes:
    """The syntax tree of a module without strings that stand alone, such as docstrings; other files as they are."""
    if file.suffix != ".py":
        return file.read_bytes()
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        for name, statements in ast.iter_fields(node):
            if isinstance(statements, list):
                setattr(node, name, [statement for statement in statements if not _is_text(statement)])
    return ast.dump(tree)


def _is_text(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
