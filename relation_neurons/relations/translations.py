"""Relations in other languages: translated templates and names, and answer cues."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from relation_neurons.errors import RelationNeuronsError, nearest, refuse
from relation_neurons.relations.relation import Fact, Relation, Translation, key, translation_from_dict

DEFAULT = "en"


@dataclass(frozen=True)
class Language:
    """Language-specific parts of prompts and answers.

    Attributes:
        name: The English name of the language.
        answer: The text after a filled template.
        joint: The text between prompt and answer.
        articles: Words before an answer that are ignored in scoring.
    """

    name: str
    answer: str = "? Answer:"
    joint: str = " "
    articles: tuple[str, ...] = ()


LANGUAGES: Mapping[str, Language] = {
    "en": Language("English", articles=("the", "a", "an")),
    "de": Language(
        "German",
        "? Antwort:",
        articles=("der", "die", "das", "den", "dem", "des", "ein", "eine", "einen", "einem", "einer", "eines"),
    ),
    "es": Language("Spanish", "? Respuesta:", articles=("el", "la", "los", "las", "un", "una", "unos", "unas")),
    "fr": Language("French", "? Réponse :", articles=("le", "la", "les", "l", "un", "une", "des", "du")),
    "ja": Language("Japanese", "？答え：", joint=""),  # noqa: RUF001
    "zh": Language("Chinese", "？答案：", joint=""),  # noqa: RUF001
}
"""Languages of the shipped translations. Other languages use the English defaults of `Language`."""


def language(code: str) -> Language:
    """A language by its code, with the English defaults if it is not in `LANGUAGES`."""
    return LANGUAGES.get(code, Language(code))


_SIMILAR = {"jp": "ja", "jpn": "ja", "cn": "zh", "zho": "zh", "chi": "zh", "ger": "de", "deu": "de", "eng": "en"}
_SIMILAR |= {"us": "en", "gb": "en", "fra": "fr", "fre": "fr", "spa": "es", "sp": "es"}


def nearest_language(code: str) -> str | None:
    """The code in `LANGUAGES` that was probably meant, if any.

    Example:
        >>> nearest_language("zh-CN"), nearest_language("jp"), nearest_language("German"), nearest_language("it")
        ('zh', 'ja', 'de', None)
    """
    base = re.split("[-_]", code.casefold())[0]
    by_name = {known.name.casefold(): known_code for known_code, known in LANGUAGES.items()}
    return base if base in LANGUAGES else _SIMILAR.get(base, by_name.get(base))


def translation(relation: Relation, code: str) -> Translation:
    """A relation's translation into a language.

    Raises:
        RelationNeuronsError: The relation has no such translation.
    """
    if code not in relation.translations:
        raise refuse(
            f"Relation '{relation.name}' is in '{relation.language}' and has no translation into '{code}'",
            expected=nearest(code, (relation.language, *relation.translations)),
            do="add it to the relation's file under 'translations' (see data/README.md)",
        )
    return relation.translations[code]


def translate(facts: Iterable[Fact], into: Translation) -> tuple[Fact, ...]:
    """Translate facts, in the same order; `original` is the subject in the original language.

    Facts are dropped if a name has no translation, or if only the translated subject contains the
    object, since the prompt would then reveal the answer.
    """
    translated_facts = []
    for fact in facts:
        subject, name = into.subjects.get(fact.subject), into.objects.get(fact.object)
        if subject is None or name is None:
            continue
        if key(name) in key(subject) and key(fact.object) not in key(fact.subject):
            continue
        translated_facts.append(Fact(subject, name, into.aliases.get(name, ()), fact.subject))
    return tuple(translated_facts)


def read_translations(folder: Path, name: str) -> dict[str, Translation]:
    """Read a relation's translations, `<language>/<relation>.json`, from a folder.

    Raises:
        RelationNeuronsError: A file cannot be read or is not a valid translation.
    """
    translations = {}
    for path in sorted(path for path in folder.glob("*/*.json") if path.stem == name):  # a name may contain wildcards
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise refuse(f"{path}: cannot be read as JSON in UTF-8 ({error})") from error
        try:
            translations[path.parent.name] = translation_from_dict(raw)
        except RelationNeuronsError as error:
            raise RelationNeuronsError(f"{path}: {error}") from None
    return translations


def translated(relation: Relation, folder: Path) -> Relation:
    """Add the translations in a folder to a relation; its own take precedence."""
    return replace(relation, translations={**read_translations(folder, relation.name), **relation.translations})
