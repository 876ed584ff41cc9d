"""Relations in other languages: templates, names of subjects and objects, and how an answer is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from relation_neurons.errors import RelationNeuronsError, nearest, refuse
from relation_neurons.relations.relation import Fact, Relation, Translation, key, translation_from_dict

DEFAULT = "en"


@dataclass(frozen=True)
class Language:
    """How a language asks and answers.

    Attributes:
        name: In English.
        answer: What follows a filled template.
        joint: What stands between that and the answer.
        articles: Words in front of an answer that do not count.
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
"""Languages that shipped relations are translated into. Others are asked in the English way unless told otherwise."""


def language(code: str) -> Language:
    """A language by its code; one that is not among `LANGUAGES` has no articles and asks as English does."""
    return LANGUAGES.get(code, Language(code))


def translation(relation: Relation, code: str) -> Translation:
    """A relation's translation.

    Raises:
        RelationNeuronsError: There is none.
    """
    if code not in relation.translations:
        raise refuse(
            f"Relation '{relation.name}' is in '{relation.language}' and has no translation into '{code}'",
            expected=nearest(code, (relation.language, *relation.translations)),
            do="add it to the relation's file under 'translations', see data/README.md",
        )
    return relation.translations[code]


def translate(facts: Iterable[Fact], into: Translation) -> tuple[Fact, ...]:
    """Facts in another language, in the same order, each with the subject it has in its own as `original`.

    Left out are facts whose names have no translation, and those whose object stands in the subject in the other
    language only, so that the question would give the answer away.
    """
    found = []
    for fact in facts:
        subject, name = into.subjects.get(fact.subject), into.objects.get(fact.object)
        if subject is None or name is None:
            continue
        if key(name) in key(subject) and key(fact.object) not in key(fact.subject):
            continue
        found.append(Fact(subject, name, into.aliases.get(name, ()), fact.subject))
    return tuple(found)


def read_translations(folder: Path, name: str) -> dict[str, Translation]:
    """The translations of a relation that lie in a folder, `<language>/<relation>.json`.

    Raises:
        RelationNeuronsError: A file that cannot be read or is not a translation.
    """
    found = {}
    for path in sorted(one for one in folder.glob("*/*.json") if one.stem == name):  # a name is no pattern
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise refuse(f"{path}: is not readable as JSON in UTF-8 ({error})") from error
        try:
            found[path.parent.name] = translation_from_dict(raw)
        except RelationNeuronsError as error:
            raise RelationNeuronsError(f"{path}: {error}") from None
    return found


def translated(relation: Relation, folder: Path) -> Relation:
    """A relation with the translations that lie in a folder added to its own, which count first."""
    found = read_translations(folder, relation.name)
    return replace(relation, translations={**found, **relation.translations})
