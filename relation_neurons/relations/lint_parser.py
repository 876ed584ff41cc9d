"""What a relation file holds, as far as it can be used, and all that the loader refuses, each with its place."""

from __future__ import annotations

import json
import re
from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from relation_neurons.errors import RelationNeuronsError
from relation_neurons.relations.relation import key, relation_from_dict
from relation_neurons.relations.tables import (
    SUFFIXES,
    Fault,
    aliases_in,
    distinct,
    is_template,
    is_term,
    read_text,
    scan_table,
    shown,
)

TEMPLATE_SETS = ("prompt_templates", "prompt_templates_zs")
FIELDS = ("name", *TEMPLATE_SETS, "properties", "source", "language", "aliases", "samples", "translations")
_FACT = {"subject": "-", "object": "-"}
_MINIMAL = {"name": "-", "prompt_templates": ["{}"], "samples": [_FACT]}
_DEPTH = 3  # no problem is placed deeper in a JSON file than a part of a sample and one of an object's aliases
_DECODER = json.JSONDecoder()

Steps = tuple[str | int, ...]
"""The names and places in lists that lead to a value in a JSON file."""


class Text(NamedTuple):
    """A text and where it stands."""

    line: int | None
    field: str
    text: str

    @property
    def place(self) -> str:
        """The place in words."""
        return self.field if self.line is None else f"{self.field}, line {self.line}"


class Content(NamedTuple):
    """What of a relation can be used; each fact is a subject and an object."""

    name: str
    facts: list[tuple[Text, Text]]
    templates: list[Text]
    aliases: list[Text]


Reading = tuple[list[Content], list[Fault], list[Fault]]
"""What was read, errors and warnings."""


def read_contents(path: str) -> Reading:
    """Read a relation file, JSON or CSV, as far as that is possible."""
    return (_read_table if Path(path).suffix.lower() in SUFFIXES else _read_json)(path)


def _read_table(path: str) -> Reading:
    table = scan_table(path)
    contents = []
    for name, rows in table.relations.items():
        facts = [[Text(row.line, part, row.cells[part]) for part in ("subject", "object")] for row in rows]
        columns = [(column, distinct(rows, column)) for column in ("template", "template_zs")]
        templates = [Text(line, column, text) for column, texts in columns for text, line in texts.items()]
        aliases = {alias: Text(row.line, "aliases", alias) for row in reversed(rows) for alias in aliases_in(row)}
        contents.append(_content(name, facts, templates, aliases.values()))
    return contents, table.faults, table.ignored


def _read_json(path: str) -> Reading:
    text, faults = read_text(path)
    if faults:
        return [], faults, []
    places: list[tuple[Steps, int]] = []
    try:
        raw = json.loads(text)
        _walk(text, _skip(text, 0), (), places)
    except json.JSONDecodeError as error:
        return [], [Fault(error.lineno, "file", f"is not JSON at column {error.colno}: {error.msg}", "JSON")], []
    except RecursionError:
        return [], [Fault(None, "file", "is nested too deeply", "a relation file in the LRE schema")], []
    except ValueError as error:  # Python makes no number of more than some thousand digits
        return [], [Fault(None, "file", f"holds a number that is too long ({error})", "shorter numbers")], []
    ends = [match.start() for match in re.finditer("\n", text)]
    lines = {steps: bisect(ends, offset) + 1 for steps, offset in places}
    contents, errors, warnings = contents_of(raw, lines)
    count = Counter(steps for steps, _ in places)
    again = [steps for steps, n in count.items() if n > 1 and count[steps[:-1]] == 1]
    hidden = [Fault(lines[steps], _field(steps), "hides another of this name", "each name once") for steps in again]
    return contents, errors, warnings + hidden


def _walk(text: str, at: int, steps: Steps, places: list[tuple[Steps, int]]) -> int:
    """Note where each value of a valid JSON text begins, the one at `at` and those in it; return where it ends."""
    places.append((steps, at))
    if text[at] not in "[{" or len(steps) == _DEPTH:
        return _DECODER.raw_decode(text, at)[1]
    is_list, number = text[at] == "[", 0
    at = _skip(text, at + 1)
    while text[at] not in "]}":
        step: str | int = number
        if not is_list:
            step, at = _DECODER.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)  # the colon
        at = _skip(text, _walk(text, at, (*steps, step), places))
        at = _skip(text, at + 1) if text[at] == "," else at
        number += 1
    return at + 1


def _skip(text: str, at: int) -> int:
    while text[at] in " \t\n\r":
        at += 1
    return at


def _field(steps: Steps) -> str:
    words = ""
    for step in steps:
        if isinstance(step, int):
            words += f" {step + 1}"
        else:
            words += (": " if words else "") + (step if step.isidentifier() and len(step) < 80 else shown(step))
    return words or "file"


def contents_of(raw: Any, lines: Mapping[Steps, int]) -> Reading:
    """What a parsed relation file holds, what cannot be used in it and what is not read."""

    def placed(steps: Steps, text: Any) -> Text:
        known = (lines[steps[:n]] for n in range(len(steps), -1, -1) if steps[:n] in lines)
        return Text(next(known, None), _field(steps), text)

    if not isinstance(raw, dict):
        return [], [Fault(*placed((), f"holds {shown(raw)}"), "one JSON object")], []
    refused = [(steps, refusal) for steps, part in _parts(raw) if (refusal := _refusal(part))]
    refused = refused or [((), refusal) for refusal in [_refusal(raw)] if refusal]
    errors = [Fault(*placed(steps, found), expected) for steps, (found, expected) in refused]
    nodes = dict(_nodes(raw))
    warnings = [Fault(*placed(steps, "is not read"), expected) for steps in nodes if (expected := _unread(steps))]
    samples = [steps for steps in nodes if steps[:1] == ("samples",) and len(steps) == 2]
    pairs = [[placed((*steps, part), nodes.get((*steps, part))) for part in _FACT] for steps in samples]
    templates = [placed(steps, nodes[steps]) for steps in nodes if len(steps) == 2 and steps[0] in TEMPLATE_SETS]
    aliases = [placed(steps, nodes[steps]) for steps in nodes if len(steps) == 3 and steps[0] == "aliases"]
    name = raw["name"] if is_term(raw.get("name")) else "without a name"
    return [_content(name, pairs, templates, aliases)], errors, warnings


def _content(name: str, pairs: Iterable[Sequence[Text]], templates: Iterable[Text], aliases: Iterable[Text]) -> Content:
    return Content(
        name,
        [(subject, answer) for subject, answer in pairs if is_term(subject.text) and is_term(answer.text)],
        [template for template in templates if is_template(template.text)],
        [alias for alias in aliases if is_term(alias.text)],
    )


def _nodes(value: Any, steps: Steps = ()) -> Iterator[tuple[Steps, Any]]:
    """The values in a parsed file, each with what leads to it."""
    yield steps, value
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, part in inside if len(steps) < _DEPTH else ():
        yield from _nodes(part, (*steps, step))


def _unread(steps: Steps) -> str:
    """What is read in place of this, if it is not."""
    match steps:
        case (str(field),) if field not in FIELDS:
            return f"one of {', '.join(FIELDS)}"
        case ("samples", int(), str(field)) if field not in _FACT:
            return "subject and object alone"
    return ""


def _refusal(raw: Mapping[str, Any]) -> tuple[str, str] | None:
    """What the loader says that it found and expected, if it refuses this."""
    try:
        relation_from_dict(raw, "file")
    except RelationNeuronsError as error:
        found, _, expected = str(error).removeprefix("file: ").rstrip(".").partition(". Expected: ")
        return found.removeprefix("sample 1: "), expected
    return None


def _parts(raw: Mapping[str, Any]) -> Iterator[tuple[Steps, dict[str, Any]]]:
    """Files that are right but for one part of this one, so that the loader judges each part."""
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
                yield from _alias_parts(raw)
            case "translations", dict() as translations:
                yield from (((field, code), {**_MINIMAL, field: {code: one}}) for code, one in translations.items())
            case _, value:
                yield (field,), {**_MINIMAL, field: value}


def _alias_parts(raw: Mapping[str, Any]) -> Iterator[tuple[Steps, dict[str, Any]]]:
    """Files with one alias each, with an equal one before it and the objects that it equals."""
    listed = raw.get("samples")
    samples = [sample for sample in listed if isinstance(sample, dict)] if isinstance(listed, list) else []
    facts = {
        sample["object"]: {**_FACT, "object": sample["object"]} for sample in samples if is_term(sample.get("object"))
    }
    alike: dict[str, list[dict[str, str]]] = {}
    for name, fact in facts.items():
        alike.setdefault(key(name), []).append(fact)
    for name, others in raw["aliases"].items():
        if name not in facts or not isinstance(others, list):
            fact = facts.get(name, {**_FACT, "object": f"not {name}"})
            yield ("aliases", name), {**_MINIMAL, "samples": [fact], "aliases": {name: others}}
            continue
        seen: dict[str, str] = {}
        for number, alias in enumerate(others):
            spelling = key(alias) if isinstance(alias, str) else ""
            before = [seen[spelling]] if spelling in seen else []
            samples = [facts[name], *alike.get(spelling, [])]
            yield ("aliases", name, number), {**_MINIMAL, "samples": samples, "aliases": {name: [*before, alias]}}
            if is_term(alias):
                seen.setdefault(spelling, alias)
