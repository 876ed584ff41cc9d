"""Format numbers and lists of names as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def name_list(names: Sequence[object], *, most: int = 8) -> str:
    """Join names by commas, at most `most` of them; `none` if there are none.

    Example:
        >>> name_list(["a", "b", "c"], most=2), name_list([])
        ('a, b and 1 more', 'none')
    """
    if not names:
        return "none"
    shown = ", ".join(str(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def interval_text(row: Mapping[Any, Any], name: str = "effect", *, decimals: int = 2) -> str:
    """Format an estimate of a table row with its 95 % interval.

    Example:
        >>> interval_text({"effect": -1.5, "effect_low": -2.0, "effect_high": -1.0})
        '-1.50 [-2.00, -1.00]'
        >>> interval_text({"effect": -0.001, "effect_low": -0.02, "effect_high": 0.01})  # zero has one sign
        '+0.00 [-0.02, +0.01]'
    """
    mean, low, high = (float(row[key]) for key in (name, f"{name}_low", f"{name}_high"))
    return f"{mean:+z.{decimals}f} [{low:+z.{decimals}f}, {high:+z.{decimals}f}]"


def count_text(n: int, one: str, several: str = "") -> str:
    """A number with what is counted.

    Example:
        >>> count_text(1, "fact"), count_text(1200, "fact"), count_text(0, "family", "families")
        ('1 fact', '1,200 facts', '0 families')
    """
    return f"{n:,} {one if n == 1 else several or one + 's'}"


def range_text(values: Iterable[Any]) -> str:
    """Format several numbers as their range, or as one number if all are equal.

    Example:
        >>> range_text([25, 25]), range_text([25, 40, 30])
        ('25', '25 to 40')
    """
    ordered = sorted(set(values))
    return str(ordered[0]) if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"
