"""Format summaries of relations as tables for a console."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table


def console_table(description: pd.DataFrame) -> Table:
    """Format a summary as a table for a console of at least 100 columns.

    Args:
        description: A result of `describe`; columns that it lacks are omitted.
    """
    caption = "templates: main + second set; (+n): n more objects are equally frequent"
    if "tokens_median" in description:
        caption += "; first shared: objects with the first token of another object"
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0, caption=caption, caption_justify="left")
    table.add_column("relation", no_wrap=True)
    table.add_column("facts,\nsubjects", justify="right")
    table.add_column("objects", justify="right")
    table.add_column("most frequent,\n95 % interval", max_width=18)
    table.add_column("tem-\nplates")
    table.add_column("detect,\nevaluate", justify="right")
    if "tokens_median" in description:
        table.add_column("tokens of\nobjects")
        table.add_column("first\nshared", justify="right")
    if "valid" in description:
        table.add_column("right of\nprompts")
    for row in description.to_dict("records"):
        table.add_row(*_cells({str(name): value for name, value in row.items()}))
    return table


def _cells(row: Mapping[str, Any]) -> list[str]:
    ties = f" (+{row['majority_ties']})" if row["majority_ties"] else ""
    cells = [escape(row["relation"]), f"{row['facts']}\n{row['subjects']}", str(row["objects"])]
    cells.append(f"{escape(row['majority'])}{ties}\n{row['majority_share']:.0%} {_range(row, 'majority')}")
    cells += [f"{row['templates']} + {row['templates_zs']}", f"{row['detection']}\n{row['evaluation']}"]
    if "tokens_median" in row:
        cells.append(f"{row['tokens_median']:g}, max {row['tokens_max']}\n{row['single_token_share']:.0%} one")
        cells.append(f"{row['shared_first_share']:.0%}")
    if "valid" in row:
        cells.append(f"{row['valid_share']:.0%} of {row['prompts']}\n{_range(row, 'valid')}")
    return cells


def _range(row: Mapping[str, Any], name: str) -> str:
    return f"[{100 * row[f'{name}_low']:.0f}, {100 * row[f'{name}_high']:.0f}]"
