"""What the package takes in a relation although it may not be meant, each with its place."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain

from relation_neurons.relations.lint_parser import Content, Text
from relation_neurons.relations.relation import key
from relation_neurons.relations.tables import Fault, shown

ALPHABETS = ("LATIN", "GREEK", "CYRILLIC")
"""Scripts, as they begin a letter's Unicode name, with letters that look alike."""
UNSPACED = ("CJK", "HIRAGANA", "THAI", "LAO", "MYANMAR", "KHMER")
"""Scripts without spaces between words."""
INVISIBLE = ("Cc", "Cf", "Co", "Zl", "Zp")
"""Unicode categories of characters that are not to be seen."""


def lint_warnings(content: Content) -> Iterator[Fault]:
    """All lint_warnings about a relation."""
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
