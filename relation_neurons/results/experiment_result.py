"""What an experiment found: tables, and what they say in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from relation_neurons.errors import nearest, refuse
from relation_neurons.storage.files import read_parquet

KEPT = re.compile(r"-[0-9a-f]{16}$")
"""How the names of tables end that an experiment keeps to go on from, which are none of its findings."""


@dataclass(frozen=True)
class ExperimentResult:
    """The outcome of an experiment.

    Attributes:
        name: Of the experiment, such as `intra`.
        question: What it asks, in a sentence.
        tables: Tidy tables by name, the main one first.
        verdict: What the tables say, a sentence or two each; never more than their corrected tests show.
    """

    name: str
    question: str
    tables: Mapping[str, pd.DataFrame]
    verdict: tuple[str, ...]

    @property
    def table(self) -> pd.DataFrame:
        """The main table."""
        return next(iter(self.tables.values()))


def read_result(folder: Path, name: str) -> ExperimentResult:
    """What an experiment found, from the folder that `reproduce` wrote.

    Args:
        folder: Of the study.
        name: Of the experiment.

    Returns:
        The finding as it was written, but for the order of its tables, which is that of their names.

    Raises:
        RelationNeuronsError: A folder that is no study's, an experiment that was not carried out in it, or a file that
            cannot be read.
    """
    if not (folder / "run.json").is_file():
        raise refuse(f"{folder} is no study folder", expected="a folder that `reproduce` wrote", do="name its --out")
    there = carried_out(folder)
    if name not in there:
        raise refuse(f"'{name}' was not carried out in {folder}", expected=nearest(name, there) if there else "")
    tables = {}
    for path in sorted((folder / name).glob("*.parquet")):
        if not KEPT.search(path.stem):
            tables[path.stem] = read_parquet(path, f"reproduce {name} again")
    verdict = folder / name / "verdict.md"
    said = [line for line in verdict.read_text("utf-8", errors="replace").splitlines() if line]
    if len(said) < 2:
        raise refuse(f"{verdict} holds no question and no verdict", do=f"reproduce {name} again")
    _, question, *rest = said
    return ExperimentResult(name, question, tables, tuple(line.removeprefix("- ") for line in rest))


def carried_out(folder: Path) -> list[str]:
    """The experiments whose findings are in a study's folder, in order of their names."""
    return sorted(path.parent.name for path in folder.glob("*/verdict.md"))
