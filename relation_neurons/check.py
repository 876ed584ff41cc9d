"""Everything that is wrong with relations of your own, with line numbers, before a run is spent on them.

Errors are what the package refuses: a file has none if and only if it loads and its facts suffice for the split.
Warnings are what it accepts although you may not have meant it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

from relation_neurons.errors import RelationNeuronsError
from relation_neurons.prompts import PromptConfig
from relation_neurons.relations import Fact, Relation, key, relation_from_dict
from relation_neurons.splits import split_relations
from relation_neurons.tables import (
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
ALPHABETS = ("LATIN", "GREEK", "CYRILLIC")
"""Scripts, as they begin a letter's Unicode name, with letters that look alike."""
UNSPACED = ("CJK", "HIRAGANA", "THAI", "LAO", "MYANMAR", "KHMER")
"""Scripts without spaces between words."""
INVISIBLE = ("Cc", "Cf", "Co", "Zl", "Zp")
"""Unicode categories of characters that are not to be seen."""

_FACT = {"subject": "-", "object": "-"}
_MINIMAL = {"name": "-", "prompt_templates": ["{}"], "samples": [_FACT]}
_DEPTH = 3  # no problem is placed deeper in a JSON file than a part of a sample and one of an object's aliases
_DECODER = json.JSONDecoder()

Steps = tuple[str | int, ...]
"""The names and places in lists that lead to a value in a JSON file."""


@dataclass(frozen=True)
class Problem:
    """One thing to mend, or to look at.

    Attributes:
        level: `error` if the package refuses it, `warning` if not.
        file: The file, or the name of the relation where it was given as one.
        line: The line of the file, where there is one.
        field: The column of a table, or the field of a JSON file with list items counted from 1: `samples 3: object`.
        found: What is there.
        expected: What should be there.
    """

    level: Literal["error", "warning"]
    file: str
    line: int | None
    field: str
    found: str
    expected: str


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


def check(path_or_relation: str | Path | Relation, *, n_evaluation: int = 40, shots: int = 2) -> list[Problem]:
    """List all problems of a relation file, JSON or CSV, or of a relation.

    Args:
        path_or_relation: What to check. Of a translation in a file only the first error is listed, and a `Relation` is
            checked without its translations.
        n_evaluation: Evaluation subjects that the split shall have.
        shots: Solved examples that the split shall have.

    Returns:
        The problems by line. There is none of the level `error` if and only if the file loads and `split_relations`
        can split what it holds.

    Raises:
        RelationNeuronsError: `n_evaluation` or `shots` is no number of facts.

    Example:
        >>> facts = (Fact("Paris Saint-Germain", "Paris"), Fact("FC Porto", "Matosinhos"))
        >>> problems = check(Relation("city", ("{} plays in",), (), facts), n_evaluation=1, shots=0)
        >>> print(format_problems(problems))
        city: warning: samples 1: object: 'Paris' stands in 'Paris Saint-Germain'. Expected: an answer not given away.
        Errors: 0. Warnings: 1.
    """
    config = PromptConfig(shots=shots, n_evaluation=n_evaluation)
    if isinstance(path_or_relation, Relation):
        file = path_or_relation.name
        contents, errors, warnings = _json(_as_json(path_or_relation), {})
    else:
        file = str(path_or_relation)
        read = _read_table if Path(file).suffix.lower() in SUFFIXES else _read_json
        contents, errors, warnings = read(file)
    errors = [*errors, *_split_faults(contents, config)]
    warnings = [*warnings, *chain.from_iterable(map(_doubts, contents))]
    problems = [Problem("error", file, *fault) for fault in errors]
    problems += [Problem("warning", file, *fault) for fault in warnings]
    return sorted(problems, key=lambda problem: problem.line or 0)


def format_problems(problems: Sequence[Problem]) -> str:
    """The problems as lines for the console, with their numbers at the end."""
    lines = []
    for problem in problems:
        place = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
        lines.append(f"{place}: {problem.level}: {problem.field}: {problem.found}. Expected: {problem.expected}.")
    count = Counter(problem.level for problem in problems)
    return "\n".join([*lines, f"Errors: {count['error']}. Warnings: {count['warning']}."])


# Reading: what of a file can be used, and what the loader refuses.


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
    contents, errors, warnings = _json(raw, lines)
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


def _as_json(relation: Relation) -> dict[str, Any]:
    aliases: dict[str, dict[str, None]] = {}
    for fact in relation.facts:
        aliases.setdefault(fact.object, {}).update(dict.fromkeys(fact.aliases))
    return {
        "name": relation.name,
        "prompt_templates": list(relation.templates),
        "prompt_templates_zs": list(relation.templates_zs),
        "language": relation.language,
        "samples": [{"subject": fact.subject, "object": fact.object} for fact in relation.facts],
        "aliases": {name: list(others) for name, others in aliases.items()},
    }


def _json(raw: Any, lines: Mapping[Steps, int]) -> Reading:
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


def _split_faults(contents: Sequence[Content], config: PromptConfig) -> Iterator[Fault]:
    """Relations with too few facts by themselves or, if there is none, beside the others of the file."""
    relations = []
    for content in contents:
        facts = tuple(Fact(subject.text, answer.text) for subject, answer in content.facts)
        relations.append(Relation(content.name, (), (), facts))
    relations = [relation for relation in relations if relation.facts]
    alone = [refusal for relation in relations if (refusal := _too_few([relation], config))]
    for refusal in alone or filter(None, [_too_few(relations, config)]):
        yield Fault(None, "samples", refusal, f"enough for n_evaluation={config.n_evaluation}, shots={config.shots}")


def _too_few(relations: Sequence[Relation], config: PromptConfig) -> str:
    try:
        split_relations(relations, n_evaluation=config.n_evaluation, n_shots=config.shots, seed=config.split_seed)
    except RelationNeuronsError as error:
        return str(error).partition(". Do this: ")[0]
    return ""


# Doubts: what the loader takes although it may not be meant.


def _doubts(content: Content) -> Iterator[Fault]:
    for text in (*chain.from_iterable(content.facts), *content.templates, *content.aliases):
        yield from _odd_letters(text)
    yield from _odd_templates(content.templates)
    yield from _repeats(content.facts)
    yield from _given_away(content)
    if content.facts:
        yield from _one_sided(content.facts)


def _odd_letters(text: Text) -> Iterator[Fault]:
    line, field, letters = text
    joiners = "\u200c\u200d"  # part of the spelling of Persian and of Indian languages
    hidden = [
        one for one in letters if (unicodedata.category(one) in INVISIBLE and one not in joiners) or one == "\ufffd"
    ]
    if hidden:
        codes = ", ".join(f"U+{ord(one):04X}" for one in dict.fromkeys(hidden))
        yield Fault(line, field, f"{shown(letters)} has {codes}", "no control or replacement characters")
    alphabets = sorted({_script(one) for one in letters} & set(ALPHABETS))
    if len(alphabets) > 1:
        rarest = min(alphabets, key=[_script(one) for one in letters].count)
        strange = ", ".join(f"{one} U+{ord(one):04X}" for one in dict.fromkeys(letters) if _script(one) == rarest)
        yield Fault(
            line, field, f"{shown(letters)} mixes {' and '.join(alphabets)} ({strange})", "one alphabet in a text"
        )


def _odd_templates(templates: Sequence[Text]) -> Iterator[Fault]:
    seen: dict[tuple[str, str], Text] = {}
    for template in templates:
        line, field, text = template
        beside, said = text.replace("{}", ""), shown(text)
        before = seen.setdefault((field.split()[0], _plain(text)), template)
        if before is not template:
            yield Fault(line, field, f"{said} is {before.place} again", "each template once")
        if not _plain(beside):
            yield Fault(line, field, f"{said} has no word beside {{}}", "words that say the relation")
        if set("{}") & set(beside):
            yield Fault(line, field, f"{said} has a brace beside {{}}", "{} and words")
        if text != text.strip():
            yield Fault(line, field, f"{said} has outer spaces", "a text without them")
        elif not text.endswith("{}") and unicodedata.category(text[-1]).startswith("P"):
            yield Fault(line, field, f"{said} ends in {text[-1]!r}", "an end that '? Answer:' can follow")


def _repeats(facts: Sequence[tuple[Text, Text]]) -> Iterator[Fault]:
    """Subjects that occur again, or nearly so, which is where the split would not keep them together."""
    known: dict[str, list[tuple[Text, Text]]] = {}
    near: dict[str, Text] = {}
    for subject, answer in facts:
        line, field, text = subject
        others = known.setdefault(key(text), [])
        same = [one for one, other in others if key(other.text) == key(answer.text)]
        alike = near.setdefault(_plain(text).replace(" ", "") or text, subject)
        if same:
            yield Fault(
                line, field, f"{shown(text)} with {shown(answer.text)} is {same[0].place} again", "each fact once"
            )
        elif others:
            also = f"{shown(others[0][1].text)} ({others[0][0].place})"
            yield Fault(line, field, f"{shown(text)} has the objects {shown(answer.text)} and {also}", "one object")
        elif alike is not subject:
            found = f"{shown(text)} is {shown(alike.text)} ({alike.place}) but for case, accents and punctuation"
            yield Fault(line, field, found, "one spelling, since the split takes them for two subjects")
        others.append((subject, answer))


def _given_away(content: Content) -> Iterator[Fault]:
    for subject, answer in content.facts:
        if _stands_in(answer.text, subject.text):
            found = f"{shown(answer.text)} stands in {shown(subject.text)}"
            yield Fault(answer.line, answer.field, found, "an answer not given away")
    answers = dict.fromkeys(answer.text for _, answer in content.facts)
    for line, field, text in content.templates:
        for name in answers:
            if _stands_in(name, text):
                yield Fault(line, field, f"{shown(text)} has the object {shown(name)}", "a template without answers")


def _one_sided(facts: Sequence[tuple[Text, Text]]) -> Iterator[Fault]:
    """An object that most facts have, and names in another script than most of their kind."""
    ((answer, n),) = Counter(answer.text for _, answer in facts).most_common(1)
    if 2 * n > len(facts):
        field = facts[0][1].field.split()[0]
        found = f"{n} of {len(facts)} facts have the object {shown(answer)}"
        yield Fault(None, field, found, "no object in more than half, else one answer is mostly right")
    for texts in zip(*facts, strict=True):
        scripts = [_main_script(text.text) for text in texts]
        (usual, _), *others = Counter(filter(None, scripts)).most_common() or [("", 0)]
        for script, n in others:
            line, field, text = texts[scripts.index(script)]
            also = f" and {n - 1} more" if n > 1 else ""
            yield Fault(
                line, field, f"{shown(text)}{also} in {script} letters, most in {usual}", "one script in a file"
            )


def _plain(text: str) -> str:
    """The words of a text without case, accents and punctuation."""
    # Marks of a lower class than 200 are no accents: they make other letters, as in か and が.
    bare = (one for one in unicodedata.normalize("NFKD", text.casefold()) if unicodedata.combining(one) < 200)
    spaced = "".join(one if one.isalnum() or unicodedata.category(one)[0] == "M" else " " for one in bare)
    return " ".join(spaced.split())


def _stands_in(part: str, whole: str) -> bool:
    """Whether a text has a name as whole words; in scripts without spaces, at all."""
    part, whole = _plain(part), _plain(whole)
    if any(_script(one) in UNSPACED for one in part):
        return part in whole
    return bool(part) and f" {part} " in f" {whole} "


def _main_script(text: str) -> str:
    """The script of most letters; Chinese characters and both Kana are one, as Japanese has it."""
    scripts = Counter(filter(None, map(_script, text)))
    japanese = sum(scripts.pop(kana, 0) for kana in ("HIRAGANA", "KATAKANA"))
    scripts["CJK"] += japanese
    return max(scripts, key=scripts.__getitem__) if any(scripts.values()) else ""


@lru_cache(maxsize=1 << 16)
def _script(letter: str) -> str:
    """The script of a letter, as its Unicode name begins; empty for signs, digits and modifiers."""
    letter = unicodedata.normalize("NFKC", letter)[0]
    if unicodedata.category(letter) not in ("Lu", "Ll", "Lt", "Lo"):
        return ""
    return unicodedata.name(letter, "").partition(" ")[0]
