"""Custom relations from tables: data frames, and CSV files as exported from spreadsheets.

A table has one row per fact and the following columns, in any order; other columns are ignored:

- `subject`, `object`: the fact.
- `template`: a text with one `{}` for the subject. The templates of a relation are the distinct
  values of this column, in order. Each applies to all facts, so a template need only be given in
  one row; other cells may be empty.
- `template_zs` (optional): the second template set, in the same form.
- `aliases` (optional): other names of the object, separated by `|` or `;`, or a list in the form of
  JSON or Python. They apply to the object in all facts.
- `language` (optional): the language code of templates and names, by default `en`; one for each
  relation, so a code need only be given in one row.
- `relation` (optional): the relation's name, which must be a valid file name. Without this column
  the file holds one relation, named after the file.

A table that was not made for this package may call its columns otherwise and have no templates: see
`relations.table_layout`.

    subject,object,template,aliases
    France,Paris,The capital of {} is,
    India,New Delhi,,Delhi
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from relation_neurons.errors import FILE_NAME, is_file_name, refuse
from relation_neurons.relations.alias_cells import EXPECTED, split_aliases
from relation_neurons.relations.diagnostics import TEMPLATE, TERM, Diagnostic, is_template, is_term, read_text, shown
from relation_neurons.relations.relation import Relation, key, relation_from_dict
from relation_neurons.relations.table_layout import COLUMNS, TableLayout, no_header
from relation_neurons.relations.translations import DEFAULT

SUFFIXES = (".csv", ".tsv")  # file extensions of tables
AS_IS = TableLayout()
"""The layout of a table in the format above."""


class Row(NamedTuple):
    """The cells of a row by column, and the line of the file on which the row begins."""

    line: int
    cells: Mapping[str, str]


class Table(NamedTuple):
    """The readable part of a table.

    Attributes:
        relations: The rows of each relation.
        errors: What makes the table unusable.
        ignored: Columns that are ignored.
    """

    relations: dict[str, list[Row]]
    errors: list[Diagnostic]
    ignored: list[Diagnostic]


def read_table(path: str | Path, layout: TableLayout = AS_IS) -> tuple[Relation, ...]:
    """Read the relations of a CSV file in UTF-8, with comma, semicolon or tab as separator.

    The separator is the one that yields the header columns `subject` and `object`.

    Args:
        path: A file in the format described in `relation_neurons.relations.tables`.
        layout: Its columns' names and templates, where it is in another format.

    Returns:
        The relations, in the order of their first rows.

    Raises:
        RelationNeuronsError: The first error in the file, with its line and field.
    """
    table = scan_table(path, layout)
    if table.errors:
        line, column, found, expected = min(table.errors, key=lambda error: error.line or 0)
        place = f", line {line}" if line else ""
        raise refuse(f"{path}{place}, field '{column}': {found}", expected=expected)
    return tuple(
        build_relation(
            str(path),
            name,
            rows,
            distinct(rows, "template") or layout.templates,
            distinct(rows, "template_zs"),
            _language(rows),
        )
        for name, rows in table.relations.items()
    )


def require_table(layout: TableLayout, sources: Sequence[str | Path]) -> None:
    """Refuse a layout for relations none of which can be from a table.

    Args:
        layout: What was said about tables.
        sources: Names, files and folders; what a folder holds is not looked at.
    """
    paths = [Path(source) for source in sources]
    if layout == AS_IS or any(path.is_dir() or path.suffix.lower() in SUFFIXES for path in paths):
        return
    said = "Columns are named" if layout.columns else "Templates are given"
    raise refuse(f"{said}, but there is no table", expected="a .csv or .tsv file among the relations")


def scan_table(path: str | Path, layout: TableLayout = AS_IS) -> Table:
    """Read a CSV file as far as possible and list all errors in it."""
    text, errors = read_text(path)
    if errors:
        return Table({}, errors, [])
    candidates = [_records(text, separator) for separator in ",;\t"]
    matching = [records for records in candidates if {"subject", "object"} <= {*layout.known(records[0][0][1])}]
    if len(matching) != 1:
        widest = max((records[0][1] for records, _ in candidates), key=len)
        return Table({}, list(layout.missing(widest)) or [no_header(widest, text)], [])
    [((line, header), *records), errors] = matching[0]
    names, known = layout.known(header), ", ".join(COLUMNS)
    unknown = dict.fromkeys(theirs for theirs, name in zip(header, names, strict=True) if not name)
    ignored = [Diagnostic(line, "header", f"column {shown(name)} is ignored", f"one of {known}") for name in unknown]
    repeated = [name for name in COLUMNS if names.count(name) > 1]
    errors += [Diagnostic(line, name, "occurs twice", "each column once") for name in repeated]
    errors += layout.missing(header)
    relations: dict[str, list[Row]] = {}
    for line, record in records:
        if len(record) == len(header):
            cells = {name: cell for name, cell in zip(names, record, strict=True) if name}
            row = Row(line, {"relation": Path(path).stem, **cells})
            relations.setdefault(row.cells["relation"], []).append(row)
        else:
            errors.append(Diagnostic(line, "row", f"has {len(record)} cells", f"{len(header)}, like the header"))
    if not records and not errors:
        errors.append(Diagnostic(line, "row", "there are no rows below the header", "a row per fact"))
    for name, rows in relations.items():
        errors += _relation_errors(name, rows, layout)
    return Table(relations, errors, ignored)


def distinct(rows: Iterable[Row], column: str) -> dict[str, int]:
    """The distinct non-empty texts of a column, in order, each with its first line."""
    first_lines: dict[str, int] = {}
    for line, cells in rows:
        first_lines.setdefault(cells.get(column, ""), line)
    return {text: line for text, line in first_lines.items() if text}


def aliases_in(row: Row) -> list[str]:
    """The names in the column `aliases`, none if it cannot be read."""
    return split_aliases(row.cells.get("aliases", "")) or []


def _language(rows: Sequence[Row]) -> str:
    return next(iter(distinct(rows, "language")), DEFAULT)


def _records(text: str, separator: str) -> tuple[list[tuple[int, list[str]]], list[Diagnostic]]:
    """The non-empty records with their first lines, and the error that ended reading, if any."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    records: list[tuple[int, list[str]]] = []
    errors, line = [], 1
    try:
        for record in reader:
            if record:
                records.append((line, record))
            line = reader.line_num + 1
    except csv.Error as error:
        errors = [Diagnostic(line, "row", f"is not CSV ({error})", "cells with matching quotation marks")]
    return records or [(1, [])], errors


def _relation_errors(name: str, rows: Sequence[Row], layout: TableLayout) -> Iterator[Diagnostic]:
    if not is_term(name):
        yield Diagnostic(rows[0].line, "relation", f"is {shown(name)}", TERM)
    elif not is_file_name(name):
        yield Diagnostic(rows[0].line, "relation", f"is {shown(name)}, which cannot be the name of a file", FILE_NAME)
    for column in ("template", "template_zs"):
        for template, line in distinct(rows, column).items():
            if not is_template(template):
                yield Diagnostic(line, column, f"is {shown(template)}", TEMPLATE)
    if not distinct(rows, "template") and not layout.templates:
        found = f"no row of relation {shown(name)} has a template"
        yield Diagnostic(rows[0].line, "template", found, f'{TEMPLATE}, or --template "..."')
    codes = distinct(rows, "language")
    for code, line in codes.items():
        if not is_term(code):
            yield Diagnostic(line, "language", f"is {shown(code)}", TERM)
    for code, line in list(codes.items())[1:]:
        found = f"{shown(code)} is {shown(next(iter(codes)))} in an earlier row"
        yield Diagnostic(line, "language", found, f"one language for relation {shown(name)}")
    yield from cell_errors(rows)


def cell_errors(rows: Sequence[Row]) -> Iterator[Diagnostic]:
    """Errors in the subjects, objects and aliases of one relation."""
    objects = {key(row.cells["object"]) for row in rows}
    spellings: dict[tuple[str, str], str] = {}
    for row in rows:
        for column in ("subject", "object"):
            if not is_term(row.cells[column]):
                yield Diagnostic(row.line, column, f"is {shown(row.cells[column])}", TERM)
        if split_aliases(cell := row.cells.get("aliases", "")) is None:
            yield Diagnostic(row.line, "aliases", f"{shown(cell)} is not clearly a list of names", EXPECTED)
        for alias in aliases_in(row):
            first = spellings.setdefault((row.cells["object"], key(alias)), alias)
            if not is_term(alias):
                yield Diagnostic(row.line, "aliases", f"has {shown(alias)}", TERM)
            elif key(alias) in objects:
                yield Diagnostic(row.line, "aliases", f"{shown(alias)} is an object itself", "other names")
            elif first != alias:
                yield Diagnostic(row.line, "aliases", f"{shown(alias)} is {shown(first)} elsewhere", "one spelling")


def build_relation(
    where: str, name: str, rows: Sequence[Row], templates: Iterable[str], zs: Iterable[str], language: str
) -> Relation:
    """Create a relation from rows, templates and a language.

    Args:
        where: The name of the table in error messages.
        name: The relation's name.
        rows: A row per fact.
        templates: The first template set.
        zs: The second template set.
        language: Language code of templates and names.

    Raises:
        RelationNeuronsError: The contents are invalid; the message names the field.
    """
    aliases: dict[str, dict[str, None]] = {}
    for row in rows:
        aliases.setdefault(row.cells["object"], {}).update(dict.fromkeys(aliases_in(row)))
    raw = {
        "name": name,
        "prompt_templates": list(templates),
        "prompt_templates_zs": list(zs),
        "language": language,
        "samples": [{column: row.cells[column] for column in ("subject", "object")} for row in rows],
        "aliases": {name: list(others) for name, others in aliases.items()},
    }
    return relation_from_dict(raw, where)
