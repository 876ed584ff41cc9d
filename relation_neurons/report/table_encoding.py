"""Encode tables as JSON columns for the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

ENDS = (("_low", "_high", "[low, high]"), ("_min", "_max", "[min, max]"))
"""Suffixes of columns that are shown in brackets after their main column."""
NEEDED = ("verdict", "effect", "status", "here", "own_minus_random", "gain", "before", "after")
"""Columns that stay longest."""
MINOR = (
    *("n", "clean", "random", "seed", "template", "language", "fact", "unit"),
    *("least_apart", "dispersion", "common_subjects"),
)
"""Columns that give way first."""
TITLES = {"p_holm": "p (Holm)", "p_bh": "p (BH)", "name": "relation"}


def encoded(rows: pd.DataFrame, links: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Encode a table for the page by columns, as numbers or as codes of distinct texts, with the links of these."""
    columns = list(rows.columns)
    ends = {
        str(name): (f"{name}{low}", f"{name}{high}", title)
        for name in columns
        for low, high, title in ENDS
        if f"{name}{low}" in columns and f"{name}{high}" in columns
    }
    bounds = {end for low, high, _ in ends.values() for end in (low, high)}
    encoded_columns: list[dict[str, object]] = []
    for name in (name for name in columns if name not in bounds):
        column = _column(str(name), rows[name])
        if found := {text: links[text] for text in column.get("text", ()) if links and text in links}:
            column["links"] = found
        if name in ends:
            low, high, title = ends[name]
            column |= {"title": f"{column['title']} {title}"}
            column |= {"low": _numbers(rows[low], column["decimals"]), "high": _numbers(rows[high], column["decimals"])}
        encoded_columns.append(column | {"rank": rank(str(name), len(encoded_columns))})
    return encoded_columns


def rank(name: str, place: int) -> int:
    """How soon a column gives way where a table is wider than the page: the highest rank first.

    Args:
        name: Of the column.
        place: From the left.
    """
    if place == 0 or name in NEEDED:
        return 0
    return place + 100 * (name in MINOR or name.endswith("_n"))


def _column(name: str, values: pd.Series) -> dict[str, Any]:
    title = TITLES.get(name, name.replace("_", " "))
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        decimals = _decimals(name, values)
        return {"title": title, "decimals": decimals, "values": _numbers(values, decimals)}
    has_lists = any(isinstance(value, list | tuple | np.ndarray) for value in values)
    texts = [_cell_text(value, has_lists) for value in values]
    codes = {text: code for code, text in enumerate(dict.fromkeys(texts))}
    return {"title": title, "lists": has_lists, "text": list(codes), "codes": [codes[text] for text in texts]}


def _cell_text(value: Any, as_list: bool) -> str | tuple[str, ...]:
    if as_list:
        return tuple(map(str, value)) if value is not None else ()
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return "" if value is None or value is pd.NA or value != value else str(value)


def _decimals(name: str, values: pd.Series) -> int:
    """Number of decimals of a column; -2 stands for two significant digits."""
    numbers = values.to_numpy(dtype=float, na_value=np.nan)
    numbers = numbers[np.isfinite(numbers)]
    if name == "p" or name.startswith("p_"):
        return -2
    if not (numbers % 1).any():
        return 0
    return 4 if name == "score" else 3 if np.abs(numbers).max() < 10 else 2


def _numbers(values: pd.Series, decimals: int) -> list[int | float | str | None]:
    """Convert numbers to JSON, which has neither NaN nor infinity."""

    def encode(value: float) -> int | float | str | None:
        if math.isnan(value):
            return None
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return int(value) if decimals == 0 and value % 1 == 0 else float(f"{value:.6g}")

    return [encode(value) for value in values.to_numpy(dtype=float, na_value=np.nan).tolist()]
