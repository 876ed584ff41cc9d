"""The tree is the method: packages in the order of the data flow, imports one way, nothing done on import."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TWICE

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "relation_neurons"
FLAT = ["errors", "validation", "progress"]
PACKAGES = [
    "storage",
    "statistics",
    "relations",
    "models",
    "prompts",
    "inference",
    "activations",
    "scores",
    "neurons",
    "interventions",
    "evaluation",
    "attribution",
    "workers",
    "results",
    "figures",
    "report",
    "experiments",
    "doctor",
    "explorer",
    "cli",
]
"""A package may import those before it. Seventeen of them are steps of the method; `storage` serves them all. Models
stand before prompts, which take their tokenizers."""
WITHOUT_TORCH = {"storage", "statistics", "relations", "prompts", "figures", "report", "results"}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported(path):
    """The modules that a file imports anywhere, functions included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def module(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path): path for path in FILES}


def own_imports(path):
    """The modules of this package that a file imports."""
    for name in imported(path):
        inside = name.removeprefix("relation_neurons.")
        if inside != name:
            yield inside if inside in MODULES else inside.rpartition(".")[0]


def test_four_files_lie_flat_and_every_package_has_its_place():
    assert {path.stem for path in PACKAGE.glob("*.py")} == {"__init__", *FLAT}
    assert {path.parent.name for path in PACKAGE.glob("*/*.py")} == set(PACKAGES)


@pytest.mark.parametrize("path", FILES, ids=module)
def test_packages_import_one_way(path):
    order = [*FLAT, *PACKAGES]
    package = module(path).split(".")[0]
    for name in own_imports(path):
        assert order.index(name.split(".")[0]) <= order.index(package), f"{module(path)} imports {name}"
    roots = {name.split(".")[0] for name in imported(path)}
    assert package == "models" or "transformer_lens" not in roots
    assert package not in WITHOUT_TORCH or "torch" not in roots


def test_modules_import_without_a_circle():
    left = {name: {other for other in own_imports(path) if other != name} for name, path in MODULES.items()}
    while left:
        free = {name for name, others in left.items() if not others & left.keys()}
        assert free, f"a circle among {sorted(left)}"
        left = {name: others for name, others in left.items() if name not in free}


def test_nothing_happens_on_import(tmp_path):
    code = """
import os, logging, torch
threads, level = torch.get_num_threads(), logging.getLogger().level
import plotly.io
theme = plotly.io.templates.default
from relation_neurons import *
assert torch.is_grad_enabled() and torch.get_num_threads() == threads
assert plotly.io.templates.default == theme and logging.getLogger().level == level
assert not os.listdir(".")
print("clean")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "clean\n", done.stderr


def test_public_names_stand_in_the_package():
    import relation_neurons

    for name in relation_neurons.__all__:
        assert getattr(relation_neurons, name).__doc__


def test_what_test_bridge_runs_is_what_test_leaves_to_it():
    """`make` without a shell command to expand: a list of names in order."""
    listed = re.search(r"^MODEL_TESTS := (.*?)\n\n", (ROOT / "Makefile").read_text("utf-8"), re.M | re.S).group(1)
    with_prefix = re.compile(r"\$\(addprefix ([^,]+),([^)]+)\)")
    expanded = with_prefix.sub(lambda found: " ".join(found[1] + name for name in found[2].split()), listed)
    assert tuple(expanded.replace("\\", " ").split()) == TWICE
    assert all((ROOT / name).exists() for name in TWICE)
