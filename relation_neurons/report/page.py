"""One offline page of a study: verdicts, interactive figures, and tables to sort and search."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import plotly.graph_objects as go
import plotly.offline
from markupsafe import Markup, escape

from relation_neurons.errors import refuse
from relation_neurons.report.table_encoding import encoded

MOST_NEURONS = 30_000
"""Rows of the table of neurons, in addition to shared neurons, so that a page stays below 10 MB."""


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        name: Name of the table.
        rows: The data; columns such as `effect`, `effect_low` and `effect_high` are shown as one.
        note: Note for the reader, such as which rows are omitted.
        shown: Whether the table is open initially.
        pairs: Whether the table's first column is a pair of relations, "first, second", to filter by.
        links: Addresses of texts in cells.
    """

    name: str
    rows: pd.DataFrame
    note: str = ""
    shown: bool = False
    pairs: bool = False
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def anchor(self) -> str:
        """HTML id within the section."""
        return _anchor(self.name)


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        name: Name in the table of contents and in links.
        question: Research question of the section.
        verdict: Sentences that answer the question.
        figures: Figures by label.
        tables: Tables in order.
        pairs: Label of the figure whose cells are pairs of relations.
        notes: Notes at the end of the section.
        words: Continuations in words, as HTML, between verdict and figures.
    """

    name: str
    question: str = ""
    verdict: Sequence[str] = ()
    figures: Mapping[str, go.Figure] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    pairs: str = ""
    notes: Sequence[str] = ()
    words: Markup | str = ""

    @property
    def anchor(self) -> str:
        """HTML id on the page."""
        return _anchor(self.name)


def write_page(title: str, about: Mapping[str, str], sections: Sequence[Section], run: Mapping[str, Any]) -> str:
    """Render a self-contained page.

    Args:
        title: Heading of the page.
        about: Settings of the study by label, such as model, relations and site.
        sections: Sections in order.
        run: Configuration and versions, shown at the end.

    Returns:
        HTML of a few megabytes that includes plotly.js and DataTables and makes no network requests.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("relation_neurons.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"figure": _figure, "table": _table, "phrase": _phrase, "heading": _heading}
    return environment.get_template("report.html").render(
        title=title,
        about=about,
        sections=sections,
        run=run,
        has_pairs=any(table.pairs for section in sections for table in section.tables),
        plotlyjs=packed(plotly.offline.get_plotlyjs()),
        datatables=packed(_read_datatables("dt_bundle.js")),
        datatables_css=_inline(_read_datatables("dt_bundle.css")),
        css=_inline(_template("page.css")),
        js=_inline(_template("page.js")),
    )


def neurons_section(
    neurons: pd.DataFrame, *, links: Mapping[str, str] | None = None, most: int = MOST_NEURONS
) -> Section:
    """The section with the table of neurons and the relations that have the same ones.

    Args:
        neurons: Rows of `NeuronSet.to_frame` of all relations.
        links: Where the cards of neurons are.
        most: Number of rows beyond which only shared neurons and the best ones of each relation are
            included.
    """
    rows = neurons.reset_index(drop=True)
    site = rows["site"].map(lambda name: "" if name == "post" else f"{name}:")
    neuron = site + "L" + rows["layer"].astype(str) + ".N" + rows["index"].astype(str)
    shared_with = _shared_with(rows)
    columns = {"relation": rows["name"], "rank": rows["rank"], "neuron": neuron, "score": rows["score"]}
    n_relations = shared_with.map(len) + 1
    table = pd.DataFrame({**columns, "relations": n_relations, "shared_with": shared_with})
    best = max(1, most // rows["name"].nunique()) if len(rows) > most else len(rows)
    included = (rows["rank"] <= best) | (n_relations > 1)
    note = f"{len(rows):,} rows, one per relation and neuron."
    if not included.all():
        note = (
            f"{included.sum():,} of {len(rows):,} rows: the best {best:,} neurons of each relation and all neurons "
            "that several relations share. The file neurons.parquet contains all rows."
        )
    question = (
        "Which neurons were selected for each relation, and for which others too? Here each relation is among the "
        "other's negatives, as in the paper, so that these are fewer than what pairs share in the section overlap."
    )
    return Section("neurons", question, tables=[Table("neurons", table[included], note, True, links=links or {})])


def _shared_with(rows: pd.DataFrame) -> pd.Series:
    """For each row of `NeuronSet.to_frame`, the other relations that have the same neuron."""
    location = ["site", "layer", "index"]
    is_shared = rows.duplicated(location, keep=False)
    relations = rows[is_shared].groupby(location, sort=False)["name"].agg(list)
    of_row = relations.reindex(rows[is_shared].set_index(location).index)
    others: list[list[str]] = [[] for _ in range(len(rows))]
    for row, name, names in zip(rows.index[is_shared], rows["name"][is_shared], of_row, strict=True):
        others[row] = [other for other in names if other != name]
    return pd.Series(others, index=rows.index, dtype=object)


def packed(text: str) -> Markup:
    """Compress a text and encode it as base64, which is small and contains no markup."""
    return Markup(base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode())


def _figure(figure: go.Figure) -> Markup:
    return packed(str(figure.to_json()))


def _table(table: Table) -> Markup:
    columns = encoded(table.rows, table.links)
    return packed(json.dumps(columns, separators=(",", ":"), ensure_ascii=False, allow_nan=False))


def _phrase(sentence: str) -> Markup:
    """Prevent line breaks within the intervals and percentages of a sentence."""
    joined = re.sub(r"(\d) %", "\\1\u00a0%", sentence)
    return Markup(re.sub(r"\[[^\[\]]{1,24}\]", lambda match: match[0].replace(" ", "\u00a0"), str(escape(joined))))


def _heading(name: str) -> str:
    """A name with a capital, as all headings of the page have."""
    return name[:1].upper() + name[1:].replace("_", " ")


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-") or "section"


def _inline(source: str) -> Markup:
    """Escape CSS or JavaScript so that it cannot close the element that contains it."""
    return Markup(re.sub(r"<(/(?:script|style))", r"<\\\1", source, flags=re.IGNORECASE))


def _template(name: str) -> str:
    return (resources.files("relation_neurons.report") / "templates" / name).read_text(encoding="utf-8")


def _read_datatables(name: str) -> str:
    """Read a file of DataTables from the package itables, without importing that package."""
    path = Path(str(metadata.distribution("itables").locate_file(f"itables/html/{name}")))
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise refuse(f"itables has no {name} ({error.strerror})", do="install itables 2.7 or later") from error
