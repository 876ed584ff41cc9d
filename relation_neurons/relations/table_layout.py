"""What is said about a table from outside: how its columns are called, and templates where it has none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from relation_neurons.errors import nearest, refuse
from relation_neurons.relations.diagnostics import TEMPLATE, Diagnostic, is_template, shown

COLUMNS = ("subject", "object", "template", "template_zs", "aliases", "relation", "language")
"""The columns of a table, as it calls them unless a layout says otherwise."""
MOST_NAMED = 12
"""Columns that a message names."""


class TableLayout(NamedTuple):
    """How tables that were not made for this package are read.

    Attributes:
        templates: Of relations that have no template in their table.
        columns: The names of columns in the table by ours, such as `{"subject": "Element"}`.
    """

    templates: tuple[str, ...] = ()
    columns: Mapping[str, str] = {}

    def known(self, header: Sequence[str]) -> list[str]:
        """Our names of the columns of a header; empty for columns that are ignored.

        Example:
            >>> TableLayout(columns={"subject": "Element"}).known(["Element", "object", "Z"])
            ['subject', 'object', '']
        """
        ours = {theirs: name for name, theirs in self.columns.items() if theirs in header}
        replaced = set(ours.values())
        return [ours.get(name, name if name in COLUMNS and name not in replaced else "") for name in header]

    def missing(self, header: Sequence[str]) -> Iterator[Diagnostic]:
        """Columns that the layout names and the header lacks, under either name."""
        for name, theirs in self.columns.items():
            if theirs not in header and name not in header:
                yield Diagnostic(1, "header", f"there is no column {shown(theirs)}", nearest(theirs, header))


def table_layout(templates: Sequence[str] = (), columns: Mapping[str, str] | Sequence[str] = ()) -> TableLayout:
    """A layout, whose columns may be given as texts such as `subject=Element`.

    Args:
        templates: Texts with one `{}` for the subject.
        columns: Names in the table by ours, or as texts `NAME=COLUMN`.

    Raises:
        RelationNeuronsError: A template or column that cannot be used.
    """
    for template in templates:
        if not is_template(template):
            raise refuse(f"Template {shown(template)} cannot be used", expected=TEMPLATE)
    given = list(columns.items()) if isinstance(columns, Mapping) else [_named(text) for text in columns]
    for name, theirs in given:
        if name not in COLUMNS:
            raise refuse(f"'{name}' is not a column of relations", expected=nearest(name, COLUMNS))
        if not theirs:
            raise refuse(f"Column '{name}' has no name in the table", expected=f"{name}=COLUMN")
    for names in zip(*given, strict=True):
        if twice := [name for name in names if names.count(name) > 1]:
            raise refuse(f"Column {shown(twice[0])} is named twice", expected="each column once")
    return TableLayout(tuple(templates), dict(given))


def _named(text: str) -> tuple[str, str]:
    name, equals, theirs = text.partition("=")
    if not equals:
        raise refuse(
            f"{shown(text)} does not say which column it is",
            expected="NAME=COLUMN, such as subject=Element",
            do="name files before --columns",
        )
    return name.strip(), theirs.strip()


def no_header(header: Sequence[str], text: str) -> Diagnostic:
    """The error for a table whose header lacks subject or object.

    Args:
        header: Its columns, by the separator with which there are most.
        text: Its beginning, which is shown where no separator gives columns.
    """
    more = f" and {len(header) - MOST_NAMED} more" if len(header) > MOST_NAMED else ""
    columns = f"the columns are {', '.join(map(shown, header[:MOST_NAMED]))}{more}"
    found = columns if len(header) > 1 else f"the file begins with {shown(text[:80])}"
    expected = "a header with the columns subject and object, separated by comma, semicolon or tab"
    return Diagnostic(1, "header", found, f"{expected}, or their names: --columns subject=NAME object=NAME")
