"""The page of a study: the properties, then every experiment that its folder holds; from the tables alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from relation_neurons.errors import refuse
from relation_neurons.report.figure_registry import FIGURES, draw
from relation_neurons.report.page import Section, Table, neurons_section, write_page
from relation_neurons.results.experiment_result import ExperimentResult, carried_out, read_result
from relation_neurons.storage.files import read_parquet

MOST_ROWS = 10_000
"""Rows of an experiment's main table on the page."""
MOST_OTHER_ROWS = 1000
"""Rows beyond which its other tables are only named."""
TESTED = (
    "n",
    "clean",
    "effect",
    "effect_low",
    "effect_high",
    "random",
    "random_min",
    "random_max",
    "p_holm",
    "verdict",
)
"""Of tested effects, what is shown."""


def write_study_report(folder: Path, run: Mapping[str, Any]) -> str:
    """The page of all experiments in the folder of a study.

    Args:
        folder: The folder, as `reproduce` leaves it.
        run: Its `run.json`.

    Raises:
        RelationNeuronsError: No finished experiment, or tables that are missing or cannot be read.
    """
    names = experiments_in(folder)
    if not names:
        raise refuse(f"{folder} holds no finished experiment", do="carry one out: relation-neurons reproduce NAME")
    sections = [_section(folder, name) for name in names]
    neurons = _neurons(folder)
    k = "unknown: there is no neurons.parquet" if neurons is None else f"{int(neurons['rank'].max()):,}"
    if neurons is not None:
        sections.append(neurons_section(neurons, pairs_in="overlap"))
    config, relations = run["config"], list(run["relations"])
    about = {
        "model": str(run["model"]["name"]),
        "relations": f"{len(relations)}: {', '.join(relations)}",
        "site": str(config["site"]),
        "neurons per relation": k,
        "evaluation facts per relation": str(config["prompts"]["n_evaluation"]),
        "random control sets": f"{config['n_controls']}, matched by {config['match']}",
        "ranked by": str(config["scorer"]).replace("_", " "),
        "seed": str(config["seed"]),
    }
    return write_page(f"Relation neurons of {about['model']}", about, sections, run)


def experiments_in(folder: Path) -> list[str]:
    """Names of the finished experiments in a folder, the summary and the properties first."""
    order = ["summary", "properties", *FIGURES]
    return sorted(carried_out(folder), key=lambda name: (order.index(name) if name in order else len(order), name))


def _in_order(result: ExperimentResult) -> dict[str, pd.DataFrame]:
    """Its tables, those that figures are drawn from first."""
    drawn = [table for _, tables in FIGURES.get(result.name, {}).values() for table in tables]
    return {name: result.tables[name] for name in dict.fromkeys([*drawn, *result.tables]) if name in result.tables}


def _neurons(folder: Path) -> pd.DataFrame | None:
    path = folder / "neurons.parquet"
    return read_parquet(path, "reproduce any experiment again") if path.is_file() else None


def _section(folder: Path, name: str) -> Section:
    result = read_result(folder, name)
    shown: list[Table] = []
    named = []
    for label, rows in _in_order(result).items():
        main = not shown
        if len(rows) == 0 or (not main and len(rows) > MOST_OTHER_ROWS):
            named.append(f"{label}.parquet ({len(rows):,} rows)")
        else:
            shown.append(_table(name, label, rows, main))
    notes = [f"Not on this page, in the folder {name}: {', '.join(named)}."] if named else []
    pairs = "pairs" if name == "overlap" else ""
    return Section(name, result.question, result.verdict, draw(name, result), shown, pairs, notes)


def _table(name: str, label: str, rows: pd.DataFrame, main: bool) -> Table:
    columns = list(rows.columns)
    if {"measure", *TESTED} <= {*columns}:
        columns = [*columns[: columns.index("measure") + 1], *TESTED]
    left = [column for column in rows.columns if column not in columns]
    said = [
        f"The first {MOST_ROWS:,} of {len(rows):,} rows." if len(rows) > MOST_ROWS else "",
        f"Also in {name}/{label}.parquet: {_listed(left)}." if left else "",
    ]
    return Table(label, rows[columns].head(MOST_ROWS), " ".join(filter(None, said)), shown=main)


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(column for column in columns if not column.endswith(("_low", "_high")))
