"""Warnings about likely mistakes in a relation that loads, each with its location."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain

from relation_neurons.relations.diagnostics import Diagnostic, shown
from relation_neurons.relations.lint_parser import ParsedRelation, Text
from relation_neurons.relations.lint_text import damaged_text, located, odd_name, placeholder
from relation_neurons.relations.normalization import words
from relation_neurons.relations.relation import key
from relation_neurons.relations.translations import DEFAULT, LANGUAGES, language, nearest_language

ALPHABETS = ("LATIN", "GREEK", "CYRILLIC")
"""Scripts with lookalike letters, as the first word of a letter's Unicode name."""
UNSPACED = ("CJK", "HIRAGANA", "THAI", "LAO", "MYANMAR", "KHMER")
"""Scripts without spaces between words."""
INVISIBLE = ("Cc", "Cf", "Co", "Zl", "Zp")
"""Unicode categories of invisible characters."""


def lint_warnings(relation: ParsedRelation) -> Iterator[Diagnostic]:
    """Yield all warnings about a relation."""
    for text in (*chain.from_iterable(relation.facts), *relation.templates, *relation.aliases):
        yield from _unusual_characters(text)
        yield from located(*text, damaged_text(text.text))
    for text in (*chain.from_iterable(relation.facts), *relation.aliases):
        yield from located(*text, odd_name(text.text))
    for template in relation.templates:
        yield from located(*template, placeholder(template.text))
    yield from _unknown_languages(relation.languages)
    yield from _unusual_templates(relation.templates)
    yield from _repeated_subjects(relation.facts)
    yield from _leaked_answers(relation)
    yield from _confusable_objects(relation)
    if relation.facts:
        yield from _dominant_object(relation.facts)
        yield from _mixed_scripts(relation.facts)


def only_negatives(names: Sequence[str]) -> tuple[str, str] | None:
    """What is found and expected where a study would have two relations, each the other's only negatives.

    Example:
        >>> only_negatives(("capital", "currency"))[0]
        "capital and currency are each other's only negatives: neurons that tell the two apart may be neither's own"
    """
    if len(set(names)) != 2:
        return None
    first, second = dict.fromkeys(names)
    found = (
        f"{first} and {second} are each other's only negatives: neurons that tell the two apart may be neither's own"
    )
    return found, "three or more relations, such as some that are shipped"


def _unusual_characters(text: Text) -> Iterator[Diagnostic]:
    """Invisible characters, and letters of several alphabets in one text."""
    line, field, letters = text
    joiners = "\u200c\u200d"  # part of the spelling of Persian and of Indian languages
    invisible = {letter for letter in letters if unicodedata.category(letter) in INVISIBLE} - set(joiners)
    hidden = [letter for letter in dict.fromkeys(letters) if letter in invisible or letter == "\ufffd"]
    if hidden:
        codes = ", ".join(f"U+{ord(letter):04X}" for letter in hidden)
        yield Diagnostic(line, field, f"{shown(letters)} has {codes}", "no control or replacement characters")
    scripts = [_script(letter) for letter in letters]
    alphabets = sorted(set(scripts) & set(ALPHABETS))
    if len(alphabets) > 1:
        rarest = min(alphabets, key=scripts.count)
        rare = [letter for letter in dict.fromkeys(letters) if _script(letter) == rarest]
        codes = ", ".join(f"{letter} U+{ord(letter):04X}" for letter in rare)
        found = f"{shown(letters)} mixes {' and '.join(alphabets)} ({codes})"
        yield Diagnostic(line, field, found, "one alphabet per text")


def _unusual_templates(templates: Sequence[Text]) -> Iterator[Diagnostic]:
    seen: dict[tuple[str, str], Text] = {}
    for template in templates:
        line, field, text = template
        words, quoted = text.replace("{}", ""), shown(text)
        first = seen.setdefault((field.split()[0], _plain(text)), template)
        if first is not template:
            yield Diagnostic(line, field, f"{quoted} repeats {first.location}", "each template once")
        if not _plain(words):
            yield Diagnostic(line, field, f"{quoted} has no word besides {{}}", "words that express the relation")
        if set("{}") & set(words):
            yield Diagnostic(line, field, f"{quoted} has a brace besides {{}}", "{} and words")
        if text != text.strip():
            yield Diagnostic(line, field, f"{quoted} has leading or trailing spaces", "a text without them")
        elif not text.endswith("{}") and unicodedata.category(text[-1]).startswith("P"):
            yield Diagnostic(line, field, f"{quoted} ends in {text[-1]!r}", "an end that '? Answer:' can follow")


def _repeated_subjects(facts: Sequence[tuple[Text, Text]]) -> Iterator[Diagnostic]:
    """Repeated subjects, and subjects so similar that the split may wrongly separate them."""
    facts_by_key: dict[str, list[tuple[Text, Text]]] = {}
    subjects: dict[str, Text] = {}
    for subject, answer in facts:
        line, field, text = subject
        earlier = facts_by_key.setdefault(key(text), [])
        duplicates = [other for other, object_ in earlier if key(object_.text) == key(answer.text)]
        similar = subjects.setdefault(_plain(text).replace(" ", "") or text, subject)
        if duplicates:
            found = f"{shown(text)} with {shown(answer.text)} repeats {duplicates[0].location}"
            yield Diagnostic(line, field, found, "each fact once")
        elif earlier:
            other = f"{shown(earlier[0][1].text)} ({earlier[0][0].location})"
            found = f"{shown(text)} has the objects {shown(answer.text)} and {other}"
            yield Diagnostic(line, field, found, "one object")
        elif similar is not subject:
            differences = "only by case, accents or punctuation"
            found = f"{shown(text)} differs from {shown(similar.text)} ({similar.location}) {differences}"
            yield Diagnostic(line, field, found, "one spelling, since the split treats them as two subjects")
        earlier.append((subject, answer))


def _leaked_answers(relation: ParsedRelation) -> Iterator[Diagnostic]:
    """Subjects and templates that contain an object."""
    for subject, answer in relation.facts:
        if _contains(subject.text, answer.text):
            found = f"{shown(answer.text)} occurs in {shown(subject.text)}"
            yield Diagnostic(answer.line, answer.field, found, "a subject without the object")
    objects = dict.fromkeys(answer.text for _, answer in relation.facts)
    for line, field, text in relation.templates:
        for name in objects:
            if _contains(text, name):
                found = f"{shown(text)} has the object {shown(name)}"
                yield Diagnostic(line, field, found, "a template without objects")


def _confusable_objects(relation: ParsedRelation) -> Iterator[Diagnostic]:
    """Objects that a rule of correctness cannot tell apart, and objects that another begins with."""
    code = next((language.text for language in relation.languages), DEFAULT)
    objects: dict[str, Text] = {}
    for _, answer in relation.facts:
        objects.setdefault(answer.text, answer)
    first: dict[tuple[str, ...], Text] = {}
    for answer in objects.values():
        first.setdefault(words(answer.text, code), answer)
    for answer in objects.values():
        line, field, text = answer
        parts = words(text, code)
        if parts and first[parts] is not answer:
            found = f"{shown(text)} differs from {shown(first[parts].text)} ({first[parts].location})"
            yield Diagnostic(line, field, f"{found} only by case, accents or punctuation", "one spelling")
    longer: dict[str, list[Text]] = {}
    for answer in first.values():
        parts = words(answer.text, code)
        for shorter in filter(None, (first.get(parts[:n]) for n in range(1, len(parts)))):
            longer.setdefault(shorter.text, []).append(answer)
    for text, others in longer.items():
        line, field, _ = objects[text]
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        found = f"{shown(text)} is the beginning of {shown(others[0].text)} ({others[0].location}){more}"
        yield Diagnostic(line, field, found, "objects of which none begins another, since only the longest is right")


def _unknown_languages(codes: Sequence[Text]) -> Iterator[Diagnostic]:
    """Languages without prompts and articles of their own."""
    for line, field, code in codes:
        if code not in LANGUAGES:
            near = nearest_language(code)
            found = f"{shown(code)} is unknown, so its prompts end in {shown(language(code).answer)}, as in English"
            known = f"one of {', '.join(LANGUAGES)}"
            yield Diagnostic(line, field, found, f"{shown(near)}, or {known}" if near else known)


def _dominant_object(facts: Sequence[tuple[Text, Text]]) -> Iterator[Diagnostic]:
    """An object of more than half of the facts."""
    ((answer, n),) = Counter(answer.text for _, answer in facts).most_common(1)
    if 2 * n > len(facts):
        field = facts[0][1].field.split()[0]
        found = f"{n} of {len(facts)} facts have the object {shown(answer)}"
        expected = "no object in more than half of the facts, so that a constant answer is not mostly right"
        yield Diagnostic(None, field, found, expected)


def _mixed_scripts(facts: Sequence[tuple[Text, Text]]) -> Iterator[Diagnostic]:
    """Subjects or objects in another script than most subjects or objects."""
    for texts in zip(*facts, strict=True):
        scripts = [_main_script(text.text) for text in texts]
        (usual, _), *others = Counter(filter(None, scripts)).most_common() or [("", 0)]
        for script, n in others:
            line, field, text = texts[scripts.index(script)]
            more = f" and {n - 1} more" if n > 1 else ""
            found = f"{shown(text)}{more} in {script} letters, most in {usual}"
            yield Diagnostic(line, field, found, "one script per file")


def _plain(text: str) -> str:
    """The words of a text without case, accents and punctuation."""
    # Marks with a combining class below 200 are not accents: they form letters, as in か and が.
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    bare = (letter for letter in decomposed if unicodedata.combining(letter) < 200)
    spaced = (letter if letter.isalnum() or unicodedata.category(letter)[0] == "M" else " " for letter in bare)
    return " ".join("".join(spaced).split())


def _contains(text: str, name: str) -> bool:
    """Whether a text contains a name as whole words; in scripts without spaces, as a substring."""
    text, name = _plain(text), _plain(name)
    if any(_script(letter) in UNSPACED for letter in name):
        return name in text
    return bool(name) and f" {name} " in f" {text} "


def _main_script(text: str) -> str:
    """The script of most letters; Chinese characters and Kana count as one, as in Japanese."""
    scripts = Counter(filter(None, map(_script, text)))
    japanese = sum(scripts.pop(kana, 0) for kana in ("HIRAGANA", "KATAKANA"))
    scripts["CJK"] += japanese
    return max(scripts, key=scripts.__getitem__) if any(scripts.values()) else ""


@lru_cache(maxsize=1 << 16)
def _script(letter: str) -> str:
    """The script of a letter, from its Unicode name; empty for symbols, digits and modifiers."""
    letter = unicodedata.normalize("NFKC", letter)[0]
    if unicodedata.category(letter) not in ("Lu", "Ll", "Lt", "Lo"):
        return ""
    return unicodedata.name(letter, "").partition(" ")[0]
