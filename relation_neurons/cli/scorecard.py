"""The command `scorecard`: the claims of the paper beside what runs found."""

from __future__ import annotations

from pathlib import Path

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from relation_neurons.errors import refuse
from relation_neurons.results.scorecard import (
    ABOUT,
    HOW_TO_READ,
    as_json,
    as_markdown,
    scorecards,
    side_by_side,
    summary,
)


def scorecard_command(folders: tyro.conf.Positional[tuple[Path, ...]], out: Path | None = None) -> None:
    """Judge every claim of the paper by the experiments of one folder or of several; no model is loaded.

    Args:
        folders: What `run` or `reproduce` wrote; several stand side by side.
        out: Also write the scorecard to a file, .json for machines or .md.
    """
    if out is not None and out.suffix not in (".json", ".md"):
        raise refuse(f"--out is {out}", expected="a name that ends in .json or .md")
    found, console = scorecards(folders), Console()
    rows = side_by_side(found)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    columns = ["claim", "unit", "paper", *rows.columns[len(ABOUT) :]]
    for column in columns:
        table.add_column(escape(column), overflow="fold")
    for row in rows.to_dict("records"):
        table.add_row(*(escape(str(row[column])) for column in columns))
    console.print(table)
    for folder, judged in found.items():
        console.print(f"{folder}: {summary(judged)[0]}", soft_wrap=True, markup=False, highlight=False)
    console.print(HOW_TO_READ, soft_wrap=True, markup=False, highlight=False)
    if out is not None:
        out.write_text(as_json(found) if out.suffix == ".json" else as_markdown(rows), encoding="utf-8")
