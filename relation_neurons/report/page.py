"""One offline page for a run or a study: words, figures drawn when they are seen, tables to sort and search."""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.offline
from markupsafe import Markup, escape

from relation_neurons.errors import refuse

MOST_NEURONS = 30_000
"""Rows of the table of neurons, beside the neurons that relations share, so that a page stays below 10 MB."""
ENDS = (("_low", "_high", "[low, high]"), ("_min", "_max", "[min, max]"))
"""Columns that are shown in brackets behind the column which they are the ends of."""
TITLES = {"p_holm": "p (Holm)", "p_bh": "p (BH)", "name": "relation"}


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        name: What it is called there.
        rows: What is shown; `effect`, `effect_low` and `effect_high` become one column, and so on.
        note: What the reader has to know of it, such as what was left out.
        shown: Whether it is shown at once, not opened by the reader.
        pairs: Whether its column of lists says which relations share a neuron, so that a pair of them can be chosen.
    """

    name: str
    rows: pd.DataFrame
    note: str = ""
    shown: bool = False
    pairs: bool = False

    @property
    def anchor(self) -> str:
        """Its place in its section."""
        return _anchor(self.name)


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        name: In the list of contents and in links.
        question: What it answers.
        verdict: The answer, in sentences.
        figures: By label.
        tables: In order.
        pairs: The label of the figure whose cells are pairs of relations.
        notes: What is said below.
    """

    name: str
    question: str = ""
    verdict: Sequence[str] = ()
    figures: Mapping[str, go.Figure] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    pairs: str = ""
    notes: Sequence[str] = ()

    @property
    def anchor(self) -> str:
        """Its place on the page."""
        return _anchor(self.name)


def write_page(title: str, about: Mapping[str, str], sections: Sequence[Section], run: Mapping[str, Any]) -> str:
    """A page that needs nothing but itself.

    Args:
        title: Its heading.
        about: What was done, by label: model, relations, site and so on.
        sections: What was found; the first stands on top.
        run: What determined it (configuration, versions), shown at the end.

    Returns:
        HTML with plotly.js and DataTables inside, some megabytes; it may ask the network for nothing.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("relation_neurons.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"figure": _figure, "table": _table, "phrase": _phrase}
    return environment.get_template("report.html").render(
        title=title,
        about=about,
        sections=sections,
        run=run,
        has_pairs=any(table.pairs for section in sections for table in section.tables),
        plotlyjs=packed(plotly.offline.get_plotlyjs()),
        datatables=packed(_of_itables("dt_bundle.js")),
        datatables_css=_inline(_of_itables("dt_bundle.css")),
        css=_inline(_template("page.css")),
        js=_inline(_template("page.js")),
    )


def neurons_section(neurons: pd.DataFrame, *, pairs_in: str, most: int = MOST_NEURONS) -> Section:
    """The table of neurons, and which relations share each.

    Args:
        neurons: Rows of `NeuronSet.to_frame`, all relations.
        pairs_in: The name of the section whose figure chooses pairs.
        most: Rows beyond which only the best of each relation are shown, and all that relations share.
    """
    rows, place = neurons.reset_index(drop=True), ["site", "layer", "index"]
    several = rows.duplicated(place, keep=False)
    groups = rows[several].groupby(place, sort=False)["name"].agg(list)
    keys = rows[several].set_index(place).index
    others: list[list[str]] = [[] for _ in range(len(rows))]
    for row, name, sharing in zip(rows.index[several], rows["name"][several], groups.reindex(keys), strict=True):
        others[row] = [one for one in sharing if one != name]
    site = rows["site"].map(lambda one: "" if one == "post" else f"{one}:")
    neuron = site + "L" + rows["layer"].astype(str) + ".N" + rows["index"].astype(str)
    columns = {"relation": rows["name"], "rank": rows["rank"], "neuron": neuron, "score": rows["score"]}
    shown = pd.DataFrame({**columns, "relations": [1 + len(one) for one in others], "shared_with": others})
    best = max(1, most // rows["name"].nunique()) if len(rows) > most else len(rows)
    kept = (rows["rank"] <= best) | several
    note = f"All {len(rows):,}: a row for each relation and neuron."
    if not kept.all():
        note = (
            f"{kept.sum():,} of {len(rows):,} rows: the best {best:,} neurons of each relation and every neuron that "
            "relations share. All are in neurons.parquet."
        )
    table = Table("neurons", shown[kept], note, shown=True, pairs=True)
    question = (
        f"Which neurons are each relation's? A click on a cell of the overlap, under {pairs_in}, shows those of both."
    )
    return Section("neurons", question, tables=[table])


def encoded(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """A table for the page, column by column: numbers as numbers, text once however often it occurs."""
    columns = list(rows.columns)
    ends = {
        str(name): (f"{name}{low}", f"{name}{high}", title)
        for name in columns
        for low, high, title in ENDS
        if f"{name}{low}" in columns and f"{name}{high}" in columns
    }
    within = {end for low, high, _ in ends.values() for end in (low, high)}
    found = []
    for name in (name for name in columns if name not in within):
        column = _column(str(name), rows[name])
        if name in ends:
            low, high, title = ends[name]
            column |= {"title": f"{column['title']} {title}"}
            column |= {end: _numbers(rows[one], column["decimals"]) for end, one in (("low", low), ("high", high))}
        found.append(column)
    return found


def packed(text: str) -> Markup:
    """Compressed text as base64: nothing in it can be read as markup, and large studies stay small."""
    return Markup(base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode())


def _column(name: str, values: pd.Series) -> dict[str, Any]:
    title = TITLES.get(name, name.replace("_", " "))
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        decimals = _decimals(name, values)
        return {"title": title, "decimals": decimals, "values": _numbers(values, decimals)}
    known = [value for value in values if isinstance(value, list | tuple | np.ndarray)]
    said = [_said(value, bool(known)) for value in values]
    codes = {value: code for code, value in enumerate(dict.fromkeys(said))}
    return {"title": title, "lists": bool(known), "text": list(codes), "codes": [codes[value] for value in said]}


def _said(value: Any, as_list: bool) -> str | tuple[str, ...]:
    if as_list:
        return tuple(map(str, value)) if value is not None else ()
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return "" if value is None or value is pd.NA or value != value else str(value)


def _decimals(name: str, values: pd.Series) -> int:
    """Decimal places of a column; -2 stands for two significant digits."""
    numbers = values.to_numpy(dtype=float, na_value=np.nan)
    numbers = numbers[np.isfinite(numbers)]
    if name == "p" or name.startswith("p_"):
        return -2
    if not (numbers % 1).any():
        return 0
    return 4 if name == "score" else 3 if np.abs(numbers).max() < 10 else 2


def _numbers(values: pd.Series, decimals: int) -> list[int | float | str | None]:
    """JSON knows no NaN and no infinity."""

    def said(value: float) -> int | float | str | None:
        if math.isnan(value):
            return None
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return int(value) if decimals == 0 and value % 1 == 0 else float(f"{value:.6g}")

    return [said(value) for value in values.to_numpy(dtype=float, na_value=np.nan).tolist()]


def _figure(figure: go.Figure) -> Markup:
    return packed(str(figure.to_json()))


def _table(rows: pd.DataFrame) -> Markup:
    return packed(json.dumps(encoded(rows), separators=(",", ":"), ensure_ascii=False, allow_nan=False))


def _phrase(sentence: str) -> Markup:
    """A sentence whose intervals and percentages are not broken over lines."""
    kept = re.sub(r"(\d) %", "\\1\u00a0%", sentence)
    return Markup(re.sub(r"\[[^\[\]]{1,24}\]", lambda found: found[0].replace(" ", "\u00a0"), str(escape(kept))))


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-") or "part"


def _inline(source: str) -> Markup:
    """Source that the page holds as it is: nothing in it may end the element that it stands in."""
    return Markup(re.sub(r"<(/(?:script|style))", r"<\\\1", source, flags=re.IGNORECASE))


def _template(name: str) -> str:
    return (resources.files("relation_neurons.report") / "templates" / name).read_text(encoding="utf-8")


def _of_itables(name: str) -> str:
    """DataTables as the package itables brings it, read without importing that package."""
    path = Path(str(metadata.distribution("itables").locate_file(f"itables/html/{name}")))
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise refuse(f"itables has no {name} ({error.strerror})", do="install itables 2.7 or later") from error
