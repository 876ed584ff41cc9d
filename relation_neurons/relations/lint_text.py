"""Warnings about texts that another program has damaged, or that belong to another format."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator

from relation_neurons.relations.diagnostics import Diagnostic, shown

_ENTITY = re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|[A-Za-z]+\d*);")
_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|[nrt])")
# French typography has a no-break space inside « » and before : ; ! ?
_SPACE = re.compile(r"(?<!«)[\u00a0\u1680\u2000-\u200a\u202f\u205f](?![:;!?»])| {2,}")
_PLACEHOLDER = re.compile(r"\[(?:X|Y|Z|MASK|BLANK|SUBJECT|OBJECT)\]|<(?:mask|blank|extra_id_\d+)>|_{2,}", re.IGNORECASE)
_MISSING = {"nan", "NaN", "None", "null", "NULL", "N/A", "n/a", "#N/A", "<NA>", "NaT"}
_BYTES = {letter: code for code in range(0x80, 0xA0) if (letter := bytes([code]).decode("cp1252", "ignore"))}
"""The bytes from 80 to 9F by the characters of Windows-1252."""
_RUN = re.compile("[" + "".join(map(re.escape, _BYTES)) + "\u0080-\u00ff]{2,}")
# Letters of European alphabets, typographic punctuation, currency signs, and Asian scripts: what names have.
_PLAUSIBLE = re.compile("[\u00a0-\u017f\u0370-\u052f\u0590-\u06ff\u0900-\u0fff\u1e00-\u1fff\u2010-\u20cf\u3000-\ud7af]")


def damaged_text(text: str) -> Iterator[tuple[str, str]]:
    """Signs of damage in a name or template: what was found and what was expected.

    Example:
        >>> list(damaged_text("LomÃ©"))
        [("is 'Lomé' read in the wrong encoding", 'the text in UTF-8')]
    """
    if spaces := _SPACE.search(text):
        codes = " ".join(f"U+{ord(letter):04X}" for letter in spaces[0])
        yield f"has the spaces {codes}" if len(spaces[0]) > 1 else f"has the space {codes}", "single plain spaces"
    if (repaired := _RUN.sub(_decoded, text)) != text:
        yield f"is {shown(repaired)} read in the wrong encoding", "the text in UTF-8"
    if (entity := _ENTITY.search(text)) and html.unescape(entity[0]) != entity[0]:
        yield f"has the HTML entity {entity[0]}", f"the character {shown(html.unescape(entity[0]))}"
    if escape := _ESCAPE.search(text):
        yield f"has {escape[0]}, an escaped character", "the character itself"


def odd_name(name: str) -> Iterator[tuple[str, str]]:
    """Signs that a subject, object or alias is not a name: what was found and what was expected."""
    if "_" in name:
        yield "has an underscore", "the name as it stands in a text"
    if re.fullmatch(r"Q[1-9]\d*", name):
        yield "is an identifier of Wikidata", "its label"
    if name in _MISSING:
        yield "is a missing value", "a name, or no row"
    if re.fullmatch(r"\d+\.0", name):
        yield "is an integer written as a float", name[:-2]
    if re.fullmatch(r"\[.*\]|\{.*\}|\(['\"].*\)", name, re.DOTALL):
        yield "is a list", "one name; a row per object, and further names in aliases"


def placeholder(template: str) -> Iterator[tuple[str, str]]:
    """Placeholders of other formats in a template: what was found and what was expected."""
    if match := _PLACEHOLDER.search(template):
        yield f"has the placeholder {match[0]}", "a text that ends where the object follows, with {} for the subject"


def located(line: int | None, field: str, text: str, findings: Iterable[tuple[str, str]]) -> Iterator[Diagnostic]:
    """Diagnostics about a text, with its location."""
    for found, expected in findings:
        yield Diagnostic(line, field, f"{shown(text)} {found}", expected)


def _decoded(run: re.Match[str]) -> str:
    """A run of characters decoded as UTF-8 if its bytes are UTF-8 and yield plausible characters."""
    try:
        text = bytes(_BYTES.get(letter, ord(letter)) for letter in run[0]).decode("utf-8")
    except UnicodeDecodeError:
        return run[0]
    return text if all(map(_PLAUSIBLE.match, text)) else run[0]
