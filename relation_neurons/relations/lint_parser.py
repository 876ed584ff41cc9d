"""Parse relation files leniently: usable parts, errors and warnings, each with its location."""

from __future__ import annotations

import json
import re
from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from relation_neurons.errors import RelationNeuronsError
from relation_neurons.relations.diagnostics import Diagnostic, is_template, is_term, read_text, shown
from relation_neurons.relations.json_text import (
    CONVERT,
    DEPTH,
    JSON_LINES,
    NOT_JSON_LINES,
    JsonPath,
    is_json_lines,
    offsets_of_values,
)
from relation_neurons.relations.relation import key, relation_from_dict
from relation_neurons.relations.table_layout import TableLayout
from relation_neurons.relations.tables import AS_IS, SUFFIXES, aliases_in, distinct, scan_table

TEMPLATE_SETS = ("prompt_templates", "prompt_templates_zs")
FIELDS = ("name", *TEMPLATE_SETS, "properties", "source", "language", "aliases", "samples", "translations")
_FACT = {"subject": "-", "object": "-"}
_MINIMAL = {"name": "-", "prompt_templates": ["{}"], "samples": [_FACT]}


class Text(NamedTuple):
    """A text and its location in a file."""

    line: int | None
    field: str
    text: str

    @property
    def location(self) -> str:
        """The location as text."""
        return self.field if self.line is None else f"{self.field}, line {self.line}"


class ParsedRelation(NamedTuple):
    """The usable parts of a relation.

    Attributes:
        name: The relation's name.
        facts: Pairs of subject and object.
        templates: The templates of both sets.
        aliases: The aliases of all objects.
        languages: The language codes of the relation and of its translations.
    """

    name: str
    facts: list[tuple[Text, Text]]
    templates: list[Text]
    aliases: list[Text]
    languages: list[Text]


ParseResult = tuple[list[ParsedRelation], list[Diagnostic], list[Diagnostic]]
"""The relations, the errors and the warnings."""


def parse_file(path: str, layout: TableLayout = AS_IS) -> ParseResult:
    """Parse a JSON or CSV relation file as far as possible."""
    return _parse_table(path, layout) if Path(path).suffix.lower() in SUFFIXES else _parse_json(path)


def _parse_table(path: str, layout: TableLayout) -> ParseResult:
    table = scan_table(path, layout)
    relations = []
    for name, rows in table.relations.items():
        facts = [[Text(row.line, part, row.cells[part]) for part in ("subject", "object")] for row in rows]
        columns = [(column, distinct(rows, column)) for column in ("template", "template_zs")]
        templates = [Text(line, column, text) for column, texts in columns for text, line in texts.items()]
        if not columns[0][1]:
            templates += [Text(None, "template", text) for text in layout.templates]
        aliases = {alias: Text(row.line, "aliases", alias) for row in reversed(rows) for alias in aliases_in(row)}
        languages = [Text(line, "language", code) for code, line in distinct(rows, "language").items()]
        relations.append(_usable(name, facts, templates, aliases.values(), languages))
    return relations, table.errors, table.ignored


def _parse_json(path: str) -> ParseResult:
    text, errors = read_text(path)
    if errors:
        return [], errors, []
    try:
        raw, offsets = json.loads(text), offsets_of_values(text)
    except json.JSONDecodeError as error:
        if is_json_lines(text):
            return [], [Diagnostic(error.lineno, "file", JSON_LINES, f"{NOT_JSON_LINES}: {CONVERT}")], []
        return [], [Diagnostic(error.lineno, "file", f"is not JSON at column {error.colno}: {error.msg}", "JSON")], []
    except RecursionError:
        return [], [Diagnostic(None, "file", "is nested too deeply", "a relation file in the LRE schema")], []
    except ValueError as error:  # Python limits the number of digits of an integer
        return [], [Diagnostic(None, "file", f"has a number that is too long ({error})", "shorter numbers")], []
    line_ends = [match.start() for match in re.finditer("\n", text)]
    lines = {path: bisect(line_ends, offset) + 1 for path, offset in offsets}
    relations, errors, warnings = parse_relation(raw, lines)
    count = Counter(path for path, _ in offsets)
    repeated = [path for path, n in count.items() if n > 1 and count[path[:-1]] == 1]
    found = "overrides an earlier field of the same name"
    overrides = [Diagnostic(lines[path], _field(path), found, "each name once") for path in repeated]
    return relations, errors, warnings + overrides


def _field(path: JsonPath) -> str:
    words = ""
    for step in path:
        if isinstance(step, int):
            words += f" {step + 1}"
        else:
            words += (": " if words else "") + (step if step.isidentifier() and len(step) < 80 else shown(step))
    return words or "file"


def parse_relation(raw: Any, lines: Mapping[JsonPath, int]) -> ParseResult:
    """Collect the usable parts of a decoded relation file, its errors and ignored fields.

    Args:
        raw: The decoded JSON.
        lines: The line of each value of the file, if known.
    """

    def located(path: JsonPath, text: Any) -> Text:
        known = (lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in lines)
        return Text(next(known, None), _field(path), text)

    if not isinstance(raw, dict):
        return [], [Diagnostic(*located((), f"is {shown(raw)}"), "one JSON object")], []
    failures = [(path, failure) for path, variant in _single_part_variants(raw) if (failure := _load_error(variant))]
    failures = failures or [((), failure) for failure in [_load_error(raw)] if failure]
    errors = [Diagnostic(*located(path, found), expected) for path, (found, expected) in failures]
    nodes = dict(_nodes(raw))
    ignored = [(path, expected) for path in nodes if (expected := _ignored(path))]
    warnings = [Diagnostic(*located(path, "is ignored"), expected) for path, expected in ignored]
    samples = [path for path in nodes if path[:1] == ("samples",) and len(path) == 2]
    pairs = [[located((*path, part), nodes.get((*path, part))) for part in _FACT] for path in samples]
    templates = [located(path, nodes[path]) for path in nodes if len(path) == 2 and path[0] in TEMPLATE_SETS]
    aliases = [located(path, nodes[path]) for path in nodes if len(path) == 3 and path[0] == "aliases"]
    languages = [located(path, nodes[path]) for path in nodes if path == ("language",)]
    languages += [located(path, path[1]) for path in nodes if len(path) == 2 and path[0] == "translations"]
    name = raw["name"] if is_term(raw.get("name")) else "without a name"
    return [_usable(name, pairs, templates, aliases, languages)], errors, warnings


def _usable(
    name: str,
    pairs: Iterable[Sequence[Text]],
    templates: Iterable[Text],
    aliases: Iterable[Text],
    languages: Iterable[Text],
) -> ParsedRelation:
    return ParsedRelation(
        name,
        [(subject, answer) for subject, answer in pairs if is_term(subject.text) and is_term(answer.text)],
        [template for template in templates if is_template(template.text)],
        [alias for alias in aliases if is_term(alias.text)],
        [code for code in languages if is_term(code.text)],
    )


def _nodes(value: Any, path: JsonPath = ()) -> Iterator[tuple[JsonPath, Any]]:
    """All values of a decoded file down to `DEPTH`, each with its path."""
    yield path, value
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, child in children if len(path) < DEPTH else ():
        yield from _nodes(child, (*path, step))


def _ignored(path: JsonPath) -> str:
    """The fields that are read instead, if the field at `path` is ignored; otherwise empty."""
    match path:
        case (str(field),) if field not in FIELDS:
            return f"one of {', '.join(FIELDS)}"
        case ("samples", int(), str(field)) if field not in _FACT:
            return "only subject and object"
    return ""


def _load_error(raw: Mapping[str, Any]) -> tuple[str, str] | None:
    """What the loader found and what it expected, if it cannot load the relation."""
    try:
        relation_from_dict(raw, "file")
    except RelationNeuronsError as error:
        found, _, expected = str(error).removeprefix("file: ").rstrip(".").partition(". Expected: ")
        return found.removeprefix("sample 1: "), expected
    return None


def _single_part_variants(raw: Mapping[str, Any]) -> Iterator[tuple[JsonPath, dict[str, Any]]]:
    """Valid minimal files with one part of `raw` each, to validate each part alone."""
    for field in {**_MINIMAL, **raw}:
        match field, raw.get(field):
            case "samples", [_, *_] as samples:
                for number, sample in enumerate(samples):
                    if isinstance(sample, dict):
                        for part in _FACT:
                            fact = {**_FACT, part: sample.get(part)}
                            yield (field, number, part), {**_MINIMAL, field: [fact]}
                    else:
                        yield (field, number), {**_MINIMAL, field: [sample]}
            case "prompt_templates" | "prompt_templates_zs", [_, *_] as templates:
                yield from (((field, number), {**_MINIMAL, field: [text]}) for number, text in enumerate(templates))
            case "aliases", dict():
                yield from _alias_variants(raw)
            case "translations", dict() as translations:
                for code, translation in translations.items():
                    yield (field, code), {**_MINIMAL, field: {code: translation}}
            case _, value:
                yield (field,), {**_MINIMAL, field: value}


def _alias_variants(raw: Mapping[str, Any]) -> Iterator[tuple[JsonPath, dict[str, Any]]]:
    """Minimal files with one alias each, with the alias and objects that it may duplicate."""
    samples = raw.get("samples")
    samples = [sample for sample in samples if isinstance(sample, dict)] if isinstance(samples, list) else []
    facts = {
        sample["object"]: {**_FACT, "object": sample["object"]} for sample in samples if is_term(sample.get("object"))
    }
    facts_by_key: dict[str, list[dict[str, str]]] = {}
    for name, fact in facts.items():
        facts_by_key.setdefault(key(name), []).append(fact)
    for name, aliases in raw["aliases"].items():
        if name not in facts or not isinstance(aliases, list):
            fact = facts.get(name, {**_FACT, "object": f"not {name}"})
            yield ("aliases", name), {**_MINIMAL, "samples": [fact], "aliases": {name: aliases}}
            continue
        seen: dict[str, str] = {}
        for number, alias in enumerate(aliases):
            alias_key = key(alias) if isinstance(alias, str) else ""
            earlier = [seen[alias_key]] if alias_key in seen else []
            samples = [facts[name], *facts_by_key.get(alias_key, [])]
            yield ("aliases", name, number), {**_MINIMAL, "samples": samples, "aliases": {name: [*earlier, alias]}}
            if is_term(alias):
                seen.setdefault(alias_key, alias)
