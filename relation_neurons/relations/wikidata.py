"""Names in other languages: the labels of Wikidata's items, as its public API gives them.

They are often right and never certain: of several items with a name the search's first is taken, whatever the relation.
`Label` says which, so read a translation before you measure with it. The API is asked politely: one request at a time,
never twice the same (answers are kept on disk), never while its servers lag. The responses in the tests are written by
the API's documentation; none was recorded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import platformdirs
import requests

from relation_neurons.errors import refuse
from relation_neurons.progress import Progress, silent
from relation_neurons.relations.relation import Relation, key
from relation_neurons.relations.wikidata_client import BATCH, CODES, EVERY, Answers, Api, Candidates

ENDPOINT = "https://www.wikidata.org/w/api.php"


@dataclass(frozen=True)
class Label:
    """What a name is called in another language.

    Attributes:
        text: The item's label.
        item: The item, such as "Q142".
        matched: Whether the name is the item's English label or another English name of it.
        n_candidates: How many of the items found have the name; the first was taken.
        aliases: The item's other names.
        code: Wikidata's code of what `text` is in: the language, or "mul" for a name meant for every language without
            one of its own, whatever its script.
        english: The item's English label.
    """

    text: str
    item: str
    matched: Literal["label", "alias"]
    n_candidates: int
    aliases: tuple[str, ...] = ()
    code: str = ""
    english: str = ""


@dataclass(frozen=True)
class Translations:
    """Names in another language, and for each that has none why: "no item", "no label in de", "ambiguous: Q1, Q2"."""

    language: str
    found: dict[str, Label]
    missing: dict[str, str]


def translate_names(
    names: Sequence[str],
    language: str,
    *,
    endpoint: str = ENDPOINT,
    cache: Path | None = None,
    skip_ambiguous: bool = False,
    contact: str = "",
    progress: Progress = silent,
    timeout: float = 30.0,
) -> Translations:
    """Look up English names; an item has a name as its English label or alias, case aside, accents not.

    Args:
        names: In English.
        language: A code that Wikidata knows, such as "de".
        endpoint: Address of the API.
        cache: Folder of the answers, a file for each language; by default in the user's cache folder.
        skip_ambiguous: Leave out names that several items have, instead of taking the first.
        contact: Your address, sent along as Wikimedia asks of scripts.
        progress: Told 1 after each distinct name.
        timeout: Seconds to wait for the server.

    Raises:
        RelationNeuronsError: Arguments or files that cannot be used, or no usable answer; those got before are kept.
    """
    _check(names, language, contact, timeout)
    folder = Path(platformdirs.user_cache_dir("relation-neurons")) / "wikidata" if cache is None else cache
    searched = Answers(folder / "en.json", endpoint)
    named = searched if language == "en" else Answers(folder / f"{language}.json", endpoint)
    wanted, pending = dict.fromkeys(names), dict[str, None]()
    with requests.Session() as session:
        api = Api(session, endpoint, timeout, contact)
        for name in wanted:
            if name not in searched.raw["searches"]:
                searched.keep("searches", {name: api.search(name)})
            pending |= {item: None for item, _ in searched.candidates(name)[:1] if item not in named.raw["items"]}
            if len(pending) == BATCH:
                named.keep("items", api.items([*pending], language))
                pending = {}
            progress(1)
        if pending:
            named.keep("items", api.items([*pending], language))
    labels = {name: _label(searched.candidates(name), named, language, skip_ambiguous) for name in wanted}
    return Translations(
        language,
        {name: label for name, label in labels.items() if isinstance(label, Label)},
        {name: reason for name, reason in labels.items() if isinstance(reason, str)},
    )


def translate_relation(
    relation: Relation, language: str, templates: Sequence[str], templates_zs: Sequence[str] = (), **options: Any
) -> tuple[dict[str, Any], Translations]:
    """Translate the subjects and objects of an English relation; its templates are yours to write.

    Args:
        relation: In English.
        language: A code that Wikidata knows, such as "de".
        templates: In that language, each with one `{}` for the subject, ending where the object would stand.
        templates_zs: A second set of them.
        options: As for `translate_names`.

    Returns:
        What was found, as a translation's file holds it, with the reasons for what is `missing`: the later one of two
        subjects with the same name in that language is left out. And the labels, with what they were taken from.

    Raises:
        RelationNeuronsError: Templates without one `{}`, a relation in another language, or as `translate_names`.
    """
    if relation.language != "en":
        raise refuse(f"Relation '{relation.name}' is in '{relation.language}'", expected="a relation in English")
    if not templates:
        raise refuse(f"Relation '{relation.name}' has no template in '{language}'", do="write at least one")
    for template in (*templates, *templates_zs):
        if template.count("{}") != 1:
            raise refuse(f"A template is {template!r}", expected="a text with exactly one {} for the subject")
    subjects = dict.fromkeys(fact.subject for fact in relation.facts)
    objects = dict.fromkeys(fact.object for fact in relation.facts)
    translations = translate_names([*subjects, *objects], language, **options)
    found, missing = translations.found, dict(translations.missing)
    kept: dict[str, str] = {}
    for name in filter(found.__contains__, subjects):
        first = kept.setdefault(key(found[name].text), name)
        if first != name:
            missing[name] = f"same name in {language} as {first}"
    return {
        "relation": relation.name,
        "language": language,
        "prompt_templates": list(templates),
        "prompt_templates_zs": list(templates_zs),
        "subjects": {name: found[name].text for name in kept.values()},
        "objects": {name: found[name].text for name in objects if name in found},
        "aliases": _aliases([found[name] for name in objects if name in found]),
        "missing": missing,
    }, translations


def _check(names: Sequence[str], language: str, contact: str, timeout: float) -> None:
    for name in names:
        if not name or name != name.strip():
            raise refuse(f"A name is {name!r}", expected="a text without outer spaces, not empty")
    if not re.fullmatch("[a-z]{2,}(-[a-z0-9]+)*", language):
        raise refuse(f"The language is {language!r}", expected="a code that Wikidata knows, such as 'de' or 'pt-br'")
    if not (contact.isascii() and contact.isprintable() and timeout > 0):
        raise refuse(f"The contact is {contact!r}, the timeout {timeout} s", expected="ASCII, and more than 0 s")


def _label(candidates: Candidates, named: Answers, language: str, skip_ambiguous: bool) -> Label | str:
    """The label of the first candidate, or why there is none."""
    if skip_ambiguous and len(candidates) > 1:
        return f"ambiguous: {', '.join(item for item, _ in candidates)}"
    names = named.item(candidates[0][0]) if candidates else None
    if names is None:
        return "no item"
    labels, aliases = names
    own = CODES.get(language, (language,))
    codes = [code for code in (*own, EVERY) if code in labels]
    if not codes:
        return f"no label in {language}"
    text = labels[codes[0]]
    others = [alias for code in own for alias in aliases.get(code, ())] or aliases.get(EVERY, [])
    others = _distinct([labels[code] for code in codes if code in own] + others, [text])
    english = labels.get("en", labels.get(EVERY, ""))
    return Label(text, *candidates[0], len(candidates), tuple(others), codes[0], english)


def _aliases(labels: Sequence[Label]) -> dict[str, list[str]]:
    """Other names by label, without those that are labels themselves."""
    listed: dict[str, list[str]] = {}
    for label in labels:
        listed.setdefault(label.text, []).extend(label.aliases)
    distinct = {text: _distinct(aliases, listed) for text, aliases in listed.items()}
    return {text: aliases for text, aliases in distinct.items() if aliases}


def _distinct(names: Iterable[str], taken: Iterable[str]) -> list[str]:
    """The names, each in one spelling only, without those taken."""
    seen, kept = set(map(key, taken)), []
    for name in names:
        if key(name) not in seen:
            seen.add(key(name))
            kept.append(name)
    return kept
