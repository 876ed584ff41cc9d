"""Split a cell of a table into the aliases that it lists."""

from __future__ import annotations

import ast
import json
import warnings

EXPECTED = (
    """names separated by |, or a list such as ["New York, NY", "NYC"]; a name with a comma stands in such a list"""
)


def split_aliases(cell: str) -> list[str] | None:
    """The names in a cell: separated by `|` or `;`, or a list in the form of JSON or Python.

    Spaces around separators are ignored.

    Returns:
        The names, or None if the cell cannot be read in one way: a damaged list, a list with other
        values than texts, or commas, which may separate names or be part of one.

    Example:
        >>> split_aliases("USA | US"), split_aliases('["Washington, D.C."]'), split_aliases("Washington, D.C.")
        (['USA', 'US'], ['Washington, D.C.'], None)
    """
    cell = cell.strip()
    if cell[:1] == "[" and cell[-1:] == "]":
        return _literal_list(cell)
    separator = next((sign for sign in "|;" if sign in cell), None)
    if separator is None and "," in cell:
        return None
    return [name.strip() for name in cell.split(separator)] if separator else [cell] * bool(cell)


def _literal_list(cell: str) -> list[str] | None:
    """A list of texts written as JSON or Python, without outer spaces; None if it is anything else."""
    for parse in (json.loads, ast.literal_eval):
        try:
            with warnings.catch_warnings(action="ignore"):
                names = parse(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return [name.strip() for name in names]
    return None
