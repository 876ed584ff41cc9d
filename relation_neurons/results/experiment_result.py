"""The result of an experiment: tables, and a verdict in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from relation_neurons.errors import nearest, refuse
from relation_neurons.statistics.formatting import count_text, name_list
from relation_neurons.statistics.notebook_html import bullets, line, table
from relation_neurons.storage.parquet import read_parquet

KEPT = re.compile(r"-[0-9a-f]{16}$")
"""Suffix of tables that only serve to resume an experiment and are not part of its result."""


@dataclass(frozen=True)
class ExperimentResult:
    """The result of an experiment.

    Attributes:
        name: Name of the experiment, such as `intra`.
        question: The research question in one sentence.
        tables: Tidy tables by name, the main one first.
        verdict: Summary of the tables in sentences, limited to what the corrected tests show.
    """

    name: str
    question: str
    tables: Mapping[str, pd.DataFrame]
    verdict: tuple[str, ...]

    @property
    def table(self) -> pd.DataFrame:
        """The main table."""
        return next(iter(self.tables.values()))

    def __repr__(self) -> str:
        tables = name_list([f"{name} ({count_text(len(rows), 'row')})" for name, rows in self.tables.items()])
        return (
            f"ExperimentResult({self.name!r}, tables {tables}, verdict of {count_text(len(self.verdict), 'sentence')})"
        )

    def _repr_html_(self) -> str:
        rows = [(name, f"{len(found):,}", name_list(list(found.columns))) for name, found in self.tables.items()]
        return line(f"{self.name}: {self.question}") + bullets(self.verdict) + table(["table", "rows", "columns"], rows)


def read_result(folder: Path, name: str) -> ExperimentResult:
    """Read the result of an experiment from a study folder.

    Args:
        folder: Study folder, as written by `reproduce`.
        name: Name of the experiment.

    Returns:
        The result as written, except that its tables are in alphabetical order.

    Raises:
        RelationNeuronsError: If the folder is not a study folder, if the experiment was not run in
            it, or if a file cannot be read.
    """
    if not (folder / "run.json").is_file():
        raise refuse(f"{folder} is not a study folder", expected="a folder that `reproduce` wrote", do="name its --out")
    finished = carried_out(folder)
    if name not in finished:
        raise refuse(f"'{name}' was not run in {folder}", expected=nearest(name, finished) if finished else "")
    tables = {}
    for path in sorted((folder / name).glob("*.parquet")):
        if not KEPT.search(path.stem):
            tables[path.stem] = read_parquet(path, f"reproduce {name} again")
    verdict = folder / name / "verdict.md"
    lines = [line for line in verdict.read_text("utf-8", errors="replace").splitlines() if line]
    if len(lines) < 2:
        raise refuse(f"{verdict} contains no question", do=f"reproduce {name} again")
    _, question, *sentences = lines
    return ExperimentResult(name, question, tables, tuple(line.removeprefix("- ") for line in sentences))


def carried_out(folder: Path) -> list[str]:
    """Names of the finished experiments in a study folder, in alphabetical order."""
    return sorted(path.parent.name for path in folder.glob("*/verdict.md"))
