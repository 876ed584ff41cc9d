"""What the page says in a sentence instead of showing it: columns with one value, and figures of zeros."""

from __future__ import annotations

import pandas as pd

from relation_neurons.figures.style import MEASURE_TITLES
from relation_neurons.report.figure_registry import FIGURES
from relation_neurons.report.table_encoding import TITLES
from relation_neurons.results.experiment_result import ExperimentResult

KEPT = ("verdict", "measure", "effect", "count")
"""Columns that are shown even if all rows have the same value."""
ENDINGS = ("_low", "_high", "_min", "_max")


def all_zero(result: ExperimentResult) -> dict[str, str]:
    """Figures that would show zeros alone, by label, each with the sentence that says it instead."""
    found = {}
    for label, (make, tables) in FIGURES.get(result.name, {}).items():
        measure, rows = getattr(make, "keywords", {}).get("measure"), result.tables[tables[0]]
        if measure and {"measure", "effect"} <= {*rows.columns}:
            effects = rows.loc[rows["measure"] == measure, "effect"]
            if len(effects) and (effects == 0).all():
                found[label] = (
                    f"The {MEASURE_TITLES[measure]} changed in none of the {len(effects)} rows of {tables[0]}."
                )
    return found


def constants(rows: pd.DataFrame) -> dict[str, str]:
    """Columns with one value in all of several rows, which a sentence says better, each with its text.

    The first column and verdicts stay. A column and its ends, such as `effect` and `effect_low`, go together; the ends'
    texts are empty.

    Example:
        >>> constants(pd.DataFrame({"relation": ["a", "b"], "site": ["up", "up"], "n": [20, 20], "count": [1, 2]}))
        {'site': 'site up', 'n': 'n 20'}
    """
    if len(rows) < 2:
        return {}
    found: dict[str, str] = {}
    for column in rows.columns[1:]:
        parts = [one for one in (column, *(f"{column}{end}" for end in ENDINGS)) if one in rows]
        is_end = column.endswith(ENDINGS) and column.rpartition("_")[0] in rows
        if column in KEPT or is_end or any(_distinct(rows[part]) > 1 for part in parts):
            continue
        title = TITLES.get(column, column.replace("_", " "))
        found |= dict.fromkeys(parts[1:], "") | {column: f"{title} {_value(rows[column])}"}
    return found


def _distinct(values: pd.Series) -> int:
    return int(values.map(str).nunique())  # lists among them


def _value(values: pd.Series) -> str:
    value = values.iloc[0]
    if isinstance(value, float):
        return "unknown" if value != value else f"{value:.3g}"
    return str(value) if str(value) else "none"
