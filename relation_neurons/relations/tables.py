"""Relations of your own in tables: data frames, and CSV files as spreadsheets write them.

A table has one row per fact. Its columns, in any order; further columns are ignored:

- `subject`, `object`: the fact.
- `template`: a text with one `{}` for the subject. The distinct templates of a relation, in order, are its templates;
  every one serves all its facts, so a template need stand in one row only and the other cells may be empty.
- `template_zs`, optional: the second template set, likewise.
- `aliases`, optional: other names of the object, separated by `|`. They hold for the object in all its facts.
- `relation`, optional: the relation's name, one that a file can have; without this column the file is one relation,
  named as the file.

    subject,object,template,aliases
    France,Paris,The capital of {} is,
    India,New Delhi,,Delhi
"""

from __future__ import annotations

import csv
import io
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from relation_neurons.errors import FILE_NAME, is_file_name, refuse
from relation_neurons.relations.relation import HALF_CHARACTER, Relation, key, relation_from_dict

SUFFIXES = (".csv", ".tsv")  # how the names of files end that hold tables
COLUMNS = ("subject", "object", "template", "template_zs", "aliases", "relation")
TERM = "a text of whole characters without outer spaces, not empty"
TEMPLATE = "a text with exactly one {} for the subject"
_SHORT = reprlib.Repr()
_SHORT.maxstring = 80
shown = _SHORT.repr
"""Any value as text for a message, shortened."""


class Fault(NamedTuple):
    """What is wrong in a file: the line (where there is one), the field, what it is and what it should be."""

    line: int | None
    field: str
    found: str
    expected: str


class Row(NamedTuple):
    """A row of a table by column, and the line of the file on which it begins."""

    line: int
    cells: Mapping[str, str]


class Table(NamedTuple):
    """A table as far as it could be read: rows by relation, what cannot be used, and columns that are not read."""

    relations: dict[str, list[Row]]
    faults: list[Fault]
    ignored: list[Fault]


def read_table(path: str | Path) -> tuple[Relation, ...]:
    """Read the relations of a CSV file: UTF-8, cells separated by comma, semicolon or tab.

    The separator is the one by which the header has the columns `subject` and `object`; nothing is guessed.

    Args:
        path: A file as described at the head of this module.

    Returns:
        The relations, in the order of their first rows.

    Raises:
        RelationNeuronsError: The first thing that cannot be used, with its line and field.
    """
    table = scan_table(path)
    if table.faults:
        line, column, found, expected = min(table.faults, key=lambda fault: fault.line or 0)
        place = f", line {line}" if line else ""
        raise refuse(f"{path}{place}, field '{column}': {found}", expected=expected)
    return tuple(
        _relation(str(path), name, rows, distinct(rows, "template"), distinct(rows, "template_zs"))
        for name, rows in table.relations.items()
    )


def relation_from_frame(
    frame: pd.DataFrame, *, name: str, templates: Sequence[str], templates_zs: Sequence[str] = ()
) -> Relation:
    """Make one relation of a data frame with the columns `subject`, `object` and optionally `aliases`.

    Args:
        frame: A row per fact; several aliases in a cell are separated by `|`, a missing value means none.
        name: The relation's name, one that a file can have.
        templates: Texts with one `{}` for the subject.
        templates_zs: The second template set.

    Raises:
        RelationNeuronsError: A missing column, or what a relation cannot have; names the row by its index label.

    Example:
        >>> frame = pd.DataFrame({"subject": ["France", "India"], "object": ["Paris", "New Delhi"]})
        >>> relation_from_frame(frame, name="capital", templates=["The capital of {} is"]).objects
        ('New Delhi', 'Paris')
    """
    where, labels = f"Frame of relation {shown(name)}", list(frame.columns)
    columns = [column for column in ("subject", "object", "aliases") if column in labels]
    if columns[:2] != ["subject", "object"] or any(labels.count(column) > 1 for column in columns):
        raise refuse(f"{where} has the columns {shown(labels)}", expected="'subject' and 'object', each once")
    for column in columns:
        for label, value in frame[column].dropna().items():
            if not isinstance(value, str):
                raise refuse(f"{where}, row {shown(label)}, column '{column}': is {shown(value)}", expected=TERM)
    present = frame[columns].astype(object).fillna("").itertuples(index=False, name=None)
    rows = [Row(number, dict(zip(columns, cells, strict=True))) for number, cells in enumerate(present)]
    for number, name_of_cell, found, expected in _cell_faults(rows):
        place = f"row {shown(frame.index[number or 0])}, column '{name_of_cell}'"
        raise refuse(f"{where}, {place}: {found}", expected=expected)
    return _relation(where, name, rows, templates, templates_zs)


def scan_table(path: str | Path) -> Table:
    """Read a CSV file as far as that is possible and list all that cannot be used in it."""
    text, faults = read_text(path)
    if faults:
        return Table({}, faults, [])
    readings = [_records(text, separator) for separator in ",;\t"]
    fitting = [reading for reading in readings if {"subject", "object"} <= {*reading[0][0][1]}]
    if len(fitting) != 1:
        expected = "a header with the columns subject and object, separated by comma, semicolon or tab"
        return Table({}, [Fault(1, "header", f"the file begins with {shown(text[:80])}", expected)], [])
    [((line, header), *records), faults] = fitting[0]
    unknown = [shown(name) for name in dict.fromkeys(header) if name not in COLUMNS]
    ignored = [Fault(line, "header", f"column {name} is not read", f"one of {', '.join(COLUMNS)}") for name in unknown]
    faults += [Fault(line, name, "stands twice", "each column once") for name in COLUMNS if header.count(name) > 1]
    relations: dict[str, list[Row]] = {}
    for line, record in records:
        if len(record) == len(header):
            row = Row(line, {"relation": Path(path).stem, **dict(zip(header, record, strict=True))})
            relations.setdefault(row.cells["relation"], []).append(row)
        else:
            faults.append(Fault(line, "row", f"has {len(record)} cells", f"{len(header)}, as the header has"))
    if not records and not faults:
        faults.append(Fault(line, "row", "there is none below the header", "a row per fact"))
    for name, rows in relations.items():
        faults += _relation_faults(name, rows)
    return Table(relations, faults, ignored)


def read_text(path: str | Path) -> tuple[str, list[Fault]]:
    """Read a file as UTF-8, without its byte order mark; the text is empty where there is a fault."""
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        return "", [Fault(None, "file", f"cannot be read ({reason})", "a file that exists and may be read")]
    try:
        return data.decode("utf-8").removeprefix("\ufeff"), []
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"byte {error.start} (0x{data[error.start]:02x}) is not UTF-8"
        return "", [Fault(line, "file", found, "a file saved as UTF-8")]


def is_term(value: object) -> bool:
    """Whether a value can be a name: `TERM`."""
    return isinstance(value, str) and value != "" and value == value.strip() and not HALF_CHARACTER.search(value)


def is_template(value: object) -> bool:
    """Whether a value can be a template: `TEMPLATE`."""
    return isinstance(value, str) and value.count("{}") == 1 and not HALF_CHARACTER.search(value)


def distinct(rows: Iterable[Row], column: str) -> dict[str, int]:
    """The distinct texts of a column, the empty one left out, in order, each with its first line."""
    found: dict[str, int] = {}
    for line, cells in rows:
        found.setdefault(cells.get(column, ""), line)
    return {text: line for text, line in found.items() if text}


def aliases_in(row: Row) -> list[str]:
    """The names in the column `aliases`, if there is one; spaces beside the separator do not count."""
    cell = row.cells.get("aliases", "")
    return [alias.strip() for alias in cell.split("|")] if cell.strip() else []


def _records(text: str, separator: str) -> tuple[list[tuple[int, list[str]]], list[Fault]]:
    """Records with their first lines, without empty ones but at least one, and where reading ended early, if it did."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    records: list[tuple[int, list[str]]] = []
    faults, line = [], 1
    try:
        for record in reader:
            if record:
                records.append((line, record))
            line = reader.line_num + 1
    except csv.Error as error:
        faults = [Fault(line, "row", f"is not CSV ({error})", "cells with matching quotation marks")]
    return records or [(1, [])], faults


def _relation_faults(name: str, rows: Sequence[Row]) -> Iterator[Fault]:
    if not is_term(name):
        yield Fault(rows[0].line, "relation", f"is {shown(name)}", TERM)
    elif not is_file_name(name):
        yield Fault(rows[0].line, "relation", f"is {shown(name)}, which cannot be the name of a file", FILE_NAME)
    for column in ("template", "template_zs"):
        for template, line in distinct(rows, column).items():
            if not is_template(template):
                yield Fault(line, column, f"is {shown(template)}", TEMPLATE)
    if not distinct(rows, "template"):
        yield Fault(rows[0].line, "template", f"no row of relation {shown(name)} has one", TEMPLATE)
    yield from _cell_faults(rows)


def _cell_faults(rows: Sequence[Row]) -> Iterator[Fault]:
    """What cannot be used in the subjects, objects and aliases of one relation."""
    objects = {key(row.cells["object"]) for row in rows}
    spelt: dict[tuple[str, str], str] = {}
    for row in rows:
        for column in ("subject", "object"):
            if not is_term(row.cells[column]):
                yield Fault(row.line, column, f"is {shown(row.cells[column])}", TERM)
        for alias in aliases_in(row):
            before = spelt.setdefault((row.cells["object"], key(alias)), alias)
            if not is_term(alias):
                yield Fault(row.line, "aliases", f"has {shown(alias)}", TERM)
            elif key(alias) in objects:
                yield Fault(row.line, "aliases", f"{shown(alias)} is an object itself", "other names")
            elif before != alias:
                yield Fault(row.line, "aliases", f"{shown(alias)} is {shown(before)} elsewhere", "one spelling")


def _relation(where: str, name: str, rows: Sequence[Row], templates: Iterable[str], zs: Iterable[str]) -> Relation:
    aliases: dict[str, dict[str, None]] = {}
    for row in rows:
        aliases.setdefault(row.cells["object"], {}).update(dict.fromkeys(aliases_in(row)))
    raw = {
        "name": name,
        "prompt_templates": list(templates),
        "prompt_templates_zs": list(zs),
        "samples": [{column: row.cells[column] for column in ("subject", "object")} for row in rows],
        "aliases": {name: list(others) for name, others in aliases.items()},
    }
    return relation_from_dict(raw, where)
