"""Imports run one way, and nothing happens on import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "relation_neurons"
ORDER = [
    "errors",
    "annotations",
    "edge",
    "progress",
    "disk",
    "parquet",
    "relations",
    "languages",
    "splits",
    "tables",
    "wikidata_api",
    "wikidata",
    "corpus",
    "cooccurrence",
    "lre_files",
    "lre",
    "packs",
    "prompts",
    "concepts",
    "contents",
    "doubts",
    "check",
    "sites",
    "sources",
    "models",
    "writing",
    "encoding",
    "model_sizes",
    "batch_sizes",
    "batches",
    "needs",
    "memory",
    "activations",
    "ranking_numba",
    "ranking",
    "ranking_triton",
    "scores",
    "scorers",
    "neurons",
    "controls",
    "reference",
    "values",
    "interventions",
    "answers",
    "generation",
    "recall_rows",
    "recall",
    "perplexity",
    "statistics",
    "significance",
    "describe",
    "keys",
    "runs",
    "run_reading",
    "shard_files",
    "shards",
    "neuron_files",
    "experiments",
    "profiles",
    "studies",
    "figures",
    "export",
    "page",
    "report",
    "pipeline",
    "drawing",
    "study_report",
    "figure_commands",
    "reproduce",
    "reproduce_commands",
    "report_command",
    "close_up_command",
    "data_commands",
    "rerun",
    "notebook_commands",
    "run_commands",
    "doctor",
    "doctor_command",
    "cli",
]
WITHOUT_TORCH = {
    "errors",
    "annotations",
    "edge",
    "progress",
    "disk",
    "parquet",
    "relations",
    "languages",
    "splits",
    "tables",
    "wikidata_api",
    "wikidata",
    "corpus",
    "cooccurrence",
    "lre_files",
    "lre",
    "packs",
} | {
    *(
        "prompts",
        "concepts",
        "contents",
        "doubts",
        "check",
        "sites",
        "answers",
        "statistics",
        "significance",
        "figures",
        "export",
        "page",
        "report",
        "runs",
    )
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def place(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_module_has_its_place():
    assert {place(path) for path in FILES} == set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_imports_run_one_way(path):
    own = ORDER.index(place(path))
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "relation_neurons" and len(parts) > 1 and parts[1] in ORDER:
            assert ORDER.index(parts[1]) <= own, f"{path.name} imports {name}, which comes after it"
    roots = {name.split(".")[0] for name in imported(path)}
    if place(path) != "models":
        assert "transformer_lens" not in roots
    if place(path) in WITHOUT_TORCH:
        assert "torch" not in roots


def test_nothing_happens_on_import(tmp_path):
    code = """
import os, logging, torch
threads, level = torch.get_num_threads(), logging.getLogger().level
import plotly.io
theme = plotly.io.templates.default
import relation_neurons
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
