"""Continuations in words, before and after ablation, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from relation_neurons.evaluation.examples import OWN, RANDOM
from relation_neurons.evaluation.generations import CLEAN, marked

GENERATIONS = "generations"
"""The table of an experiment that is shown in words, as of `evaluation.examples`."""
NOTE = (
    "Greedy continuations of the first evaluation prompts that the model answers rightly, and of one of another "
    "relation, all chosen before anything is ablated; few-shot examples are not shown. What differs from the "
    "clean model is marked."
)


def generations_html(table: pd.DataFrame) -> Markup:
    """A table for each relation: a row per prompt, with the clean model, own and random neurons ablated beside it.

    Args:
        table: From `example_generations`; nothing is shown of an empty one.
    """
    parts = []
    for ablated, rows in table.groupby("ablated", sort=False):
        head = "".join(f"<th>{escape(name)}</th>" for name in ("prompt", CLEAN, OWN, RANDOM))
        body = "".join(_row(group) for _, group in rows.groupby("prompt", sort=False))
        caption = f"<caption>Neurons of {escape(ablated)}</caption>"
        parts.append(f'<table class="words">{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')
    return Markup("".join([*parts, f'<p class="note">{NOTE}</p>'] if parts else []))


def _row(group: pd.DataFrame) -> str:
    by_condition: Mapping[str, Mapping[Any, Any]] = {row["condition"]: row for row in group.to_dict("records")}
    first = by_condition[CLEAN]
    cells = "".join(f"<td>{_text(by_condition[name])}</td>" for name in (CLEAN, OWN, RANDOM))
    of = "" if first["relation"] == first["ablated"] else f" <small>({escape(first['relation'])})</small>"
    return f"<tr><td>{escape(first['prompt'])}{of}</td>{cells}</tr>"


def _text(row: Mapping[Any, Any]) -> str:
    """A continuation whose line breaks are signs, so that rows stay low."""
    return marked({**row, **{name: str(row[name]).replace("\n", "⏎") for name in ("agrees", "generated")}})
