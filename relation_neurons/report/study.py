"""The page of a study: all experiments in its folder, read from their tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from relation_neurons.errors import refuse
from relation_neurons.report.figure_registry import FIGURES, draw
from relation_neurons.report.left_out import all_zero, constants
from relation_neurons.report.neuron_cards import CARDS_PAGE, card_links
from relation_neurons.report.page import Section, Table, neurons_section, write_page
from relation_neurons.report.words import GENERATIONS, generations_html
from relation_neurons.results.experiment_result import ExperimentResult, carried_out, read_result
from relation_neurons.results.neuron_cards import NeuronCards
from relation_neurons.results.neuron_verdicts import tie_rule
from relation_neurons.results.scorecard import ABOUT, NOT_MEASURED, QUESTION, estimate_text, scorecard, summary
from relation_neurons.results.sentences import critical
from relation_neurons.storage.parquet import read_parquet

MOST_ROWS = 10_000
"""Largest number of rows of an experiment's main table on the page."""
MOST_OTHER_ROWS = 1000
"""Other tables with more rows are only listed by name."""
SHARED = "shared"
LISTED = "At most 50 of each group of relations, the best first."
"""The table of `overlap` that a click on its matrix filters, and its note."""
WORDS = ("became_wrong",)
"""Tables of answers in words, open at first."""
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
"""Columns that the page shows of tables of tested effects."""


def write_study_report(folder: Path, run: Mapping[str, Any], cards: NeuronCards | None) -> str:
    """Render the page of all experiments in a study folder.

    Args:
        folder: Study folder, as written by `reproduce`.
        run: Contents of its `run.json`.
        cards: Those in the folder, to which neurons are linked.

    Raises:
        RelationNeuronsError: If no experiment is finished, or a table is missing or cannot be read.
    """
    names = experiments_in(folder)
    if not names:
        raise refuse(f"{folder} contains no finished experiment", do="run one: relation-neurons reproduce NAME")
    sections = [_section(folder, name) for name in names] + _scorecard(folder)
    neurons = _neurons(folder)
    k = "unknown (no neurons.parquet)" if neurons is None else f"{int(neurons['rank'].max()):,}"
    if neurons is not None:
        sections.append(neurons_section(neurons, links=card_links(cards) if cards else None))
    config, relations = run["config"], list(run["relations"])
    about = {
        "model": str(run["model"]["name"]),
        "relations": f"{len(relations)}: {', '.join(relations)}",
        "site": str(config["site"]),
        "neurons per relation": k,
        "evaluation facts per relation": str(config["prompts"]["n_evaluation"]),
        "random control sets": f"{config['n_controls']}, matched by {config['match']}",
        "critical neurons": _critical(folder, config),
        "ranked by": str(config["scorer"]).replace("_", " "),
        "seed": str(config["seed"]),
    }
    if neurons is not None and "by_tie_rule" in neurons:  # absent from older folders
        about["equal scores"] = tie_rule(neurons)
    if cards:
        about["best neurons"] = Markup(f'<a href="{CARDS_PAGE}">cards</a>')
    return write_page(f"Relation neurons of {about['model']}", about, sections, run)


def _scorecard(folder: Path) -> list[Section]:
    """The claims of the paper that the folder's experiments judge, if there are any."""
    rows = scorecard(folder)
    measured = rows[rows["status"] != NOT_MEASURED]
    if measured.empty:
        return []
    shown = measured[ABOUT].assign(here=[estimate_text(row) for row in measured.to_dict("records")])
    n_left_out = len(rows) - len(measured)
    note = f"{n_left_out} more are not measured here; relation-neurons scorecard says why." * (n_left_out > 0)
    return [Section("scorecard", QUESTION, summary(rows), tables=[Table("claims", shown, note, shown=True)])]


def experiments_in(folder: Path) -> list[str]:
    """Names of the finished experiments in a folder, `summary` and `properties` first."""
    order = ["summary", "properties", *FIGURES]
    return sorted(carried_out(folder), key=lambda name: (order.index(name) if name in order else len(order), name))


def _in_order(result: ExperimentResult) -> dict[str, pd.DataFrame]:
    """The tables of a result, those used in figures first."""
    in_figures = [table for _, tables in FIGURES.get(result.name, {}).values() for table in tables]
    return {name: result.tables[name] for name in dict.fromkeys([*in_figures, *result.tables]) if name in result.tables}


def _critical(folder: Path, config: Mapping[str, Any]) -> str:
    path = folder / "critical.parquet"
    if not path.is_file():
        return "unknown (no critical.parquet)"
    table = read_parquet(path, "reproduce any experiment again")
    return critical(table, str(config["site"]), kept=bool(config.get("keep_critical")))


def _neurons(folder: Path) -> pd.DataFrame | None:
    path = folder / "neurons.parquet"
    return read_parquet(path, "reproduce any experiment again") if path.is_file() else None


def _section(folder: Path, name: str) -> Section:
    result = read_result(folder, name)
    shown: list[Table] = []
    omitted = []
    for label, rows in _in_order(result).items():
        if label == GENERATIONS:
            continue
        main = not shown
        if len(rows) == 0 or (not main and len(rows) > MOST_OTHER_ROWS):
            omitted.append(f"{label}.parquet ({len(rows):,} rows)")
        else:
            shown.append(_table(name, label, rows, main))
    notes = [f"Further tables in the folder {name}: {', '.join(omitted)}."] if omitted else []
    pairs = "pairs" if name == "overlap" else ""
    words = generations_html(result.tables.get(GENERATIONS, pd.DataFrame(columns=["ablated"])))
    figures, zeros = draw(name, result), all_zero(result)
    drawn = {label: figure for label, figure in figures.items() if label not in zeros}
    return Section(name, result.question, result.verdict, drawn, shown, pairs, [*zeros.values(), *notes], words)


def _table(name: str, label: str, rows: pd.DataFrame, main: bool) -> Table:
    columns = list(rows.columns)
    if {"measure", *TESTED} <= {*columns}:
        columns = [*columns[: columns.index("measure") + 1], *TESTED]
    hidden = [column for column in rows.columns if column not in columns]
    same = constants(rows[columns])
    columns = [column for column in columns if column not in same]
    notes = [
        f"In all rows: {', '.join(filter(None, same.values()))}." if any(same.values()) else "",
        LISTED if label == SHARED else "",
        f"Only the first {MOST_ROWS:,} of {len(rows):,} rows." if len(rows) > MOST_ROWS else "",
        f"Further columns in {name}/{label}.parquet: {_listed(hidden)}." if hidden else "",
    ]
    pairs = name == "overlap" and label == SHARED
    return Table(label, rows[columns].head(MOST_ROWS), " ".join(filter(None, notes)), main or label in WORDS, pairs)


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(column for column in columns if not column.endswith(("_low", "_high")))
