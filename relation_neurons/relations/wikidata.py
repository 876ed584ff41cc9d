"""Translate names by the labels of Wikidata items, from Wikidata's public API.

The results are often correct but never certain: if several items have a name, the first search
result is used, whatever the relation. `Label` records which item was used, so check a translation
before using it in an experiment. The API is used politely: one request at a time, no request twice
(responses are cached on disk), and none while the servers lag. The responses in the tests follow
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
from relation_neurons.relations.wikidata_client import ANY_LANGUAGE, BATCH, CODES, Api, Candidates, ResponseCache

ENDPOINT = "https://www.wikidata.org/w/api.php"


@dataclass(frozen=True)
class Label:
    """The translation of a name.

    Attributes:
        text: The item's label in the language.
        item: The item, such as "Q142".
        matched: Whether the name is the item's English `label` or an `alias`.
        n_candidates: How many search results have the name; the first is used.
        aliases: The item's other names in the language.
        code: Wikidata's language code of `text`: the language, or "mul" for a name that applies to
            all languages without a label of their own, in any script.
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
    """Translated names.

    Attributes:
        language: Language code of the translations.
        found: The label of each translated name.
        missing: For each other name the reason: "no item", "no label in de", or "ambiguous: Q1, Q2".
    """

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
    """Translate English names by the labels of Wikidata items.

    An item matches a name by its English label or alias; case is ignored, accents are not.

    Args:
        names: English names.
        language: A language code of Wikidata, such as "de".
        endpoint: URL of the API.
        cache: Folder of cached responses, one file per language; by default in the user's cache
            folder.
        skip_ambiguous: Skip names of several items instead of using the first item.
        contact: Your e-mail address or URL, sent in the user agent as Wikimedia asks scripts to do.
        progress: Called with 1 after each distinct name.
        timeout: Seconds to wait for the server.

    Raises:
        RelationNeuronsError: An argument or cache file is invalid, or the API gives no valid
            response; responses received before that remain cached.
    """
    _check(names, language, contact, timeout)
    folder = Path(platformdirs.user_cache_dir("relation-neurons")) / "wikidata" if cache is None else cache
    searches = ResponseCache(folder / "en.json", endpoint)
    items = searches if language == "en" else ResponseCache(folder / f"{language}.json", endpoint)
    distinct, pending = dict.fromkeys(names), dict[str, None]()
    with requests.Session() as session:
        api = Api(session, endpoint, timeout, contact)
        for name in distinct:
            if name not in searches.raw["searches"]:
                searches.add("searches", {name: api.search(name)})
            pending |= {item: None for item, _ in searches.candidates(name)[:1] if item not in items.raw["items"]}
            if len(pending) == BATCH:
                items.add("items", api.items([*pending], language))
                pending = {}
            progress(1)
        if pending:
            items.add("items", api.items([*pending], language))
    labels = {name: _label(searches.candidates(name), items, language, skip_ambiguous) for name in distinct}
    return Translations(
        language,
        {name: label for name, label in labels.items() if isinstance(label, Label)},
        {name: reason for name, reason in labels.items() if isinstance(reason, str)},
    )


def translate_relation(
    relation: Relation, language: str, templates: Sequence[str], templates_zs: Sequence[str] = (), **options: Any
) -> tuple[dict[str, Any], Translations]:
    """Translate the subjects and objects of an English relation; templates must be provided.

    Args:
        relation: A relation in English.
        language: A language code of Wikidata, such as "de".
        templates: Templates in that language, each with one `{}` for the subject, ending before the
            object.
        templates_zs: The second template set.
        options: As for `translate_names`.

    Returns:
        The contents of a translation file, with the reason for each `missing` name (if two subjects
        have the same translation, the later one is dropped), and the labels with their items.

    Raises:
        RelationNeuronsError: A template does not have exactly one `{}`, the relation is not in
            English, or as for `translate_names`.
    """
    _check_templates(relation, language, templates, templates_zs)
    subjects = dict.fromkeys(fact.subject for fact in relation.facts)
    objects = dict.fromkeys(fact.object for fact in relation.facts)
    translations = translate_names([*subjects, *objects], language, **options)
    labels, missing = translations.found, dict(translations.missing)
    kept: dict[str, str] = {}
    for name in filter(labels.__contains__, subjects):
        first = kept.setdefault(key(labels[name].text), name)
        if first != name:
            missing[name] = f"same name in {language} as {first}"
    return {
        "relation": relation.name,
        "language": language,
        "prompt_templates": list(templates),
        "prompt_templates_zs": list(templates_zs),
        "subjects": {name: labels[name].text for name in kept.values()},
        "objects": {name: labels[name].text for name in objects if name in labels},
        "aliases": _aliases([labels[name] for name in objects if name in labels]),
        "missing": missing,
    }, translations


def _check_templates(relation: Relation, language: str, templates: Sequence[str], templates_zs: Sequence[str]) -> None:
    if relation.language != "en":
        raise refuse(f"Relation '{relation.name}' is in '{relation.language}'", expected="a relation in English")
    if not templates:
        raise refuse(f"Relation '{relation.name}' has no template in '{language}'", do="write at least one")
    for template in (*templates, *templates_zs):
        if template.count("{}") != 1:
            raise refuse(f"A template is {template!r}", expected="a text with exactly one {} for the subject")


def _check(names: Sequence[str], language: str, contact: str, timeout: float) -> None:
    for name in names:
        if not name or name != name.strip():
            raise refuse(f"A name is {name!r}", expected="a non-empty text without surrounding spaces")
    if not re.fullmatch("[a-z]{2,}(-[a-z0-9]+)*", language):
        raise refuse(f"The language is {language!r}", expected="a language code of Wikidata, such as 'de' or 'pt-br'")
    if not (contact.isascii() and contact.isprintable() and timeout > 0):
        raise refuse(
            f"The contact is {contact!r}, the timeout {timeout} s",
            expected="a contact in ASCII and a timeout of more than 0 s",
        )


def _label(candidates: Candidates, items: ResponseCache, language: str, skip_ambiguous: bool) -> Label | str:
    """The label of the first candidate, or the reason why it has none."""
    if skip_ambiguous and len(candidates) > 1:
        return f"ambiguous: {', '.join(item for item, _ in candidates)}"
    names = items.item(candidates[0][0]) if candidates else None
    if names is None:
        return "no item"
    labels, aliases = names
    own = CODES.get(language, (language,))
    codes = [code for code in (*own, ANY_LANGUAGE) if code in labels]
    if not codes:
        return f"no label in {language}"
    text = labels[codes[0]]
    others = [alias for code in own for alias in aliases.get(code, ())] or aliases.get(ANY_LANGUAGE, [])
    others = _distinct([labels[code] for code in codes if code in own] + others, [text])
    english = labels.get("en", labels.get(ANY_LANGUAGE, ""))
    return Label(text, *candidates[0], len(candidates), tuple(others), codes[0], english)


def _aliases(labels: Sequence[Label]) -> dict[str, list[str]]:
    """Aliases by label, without aliases that are labels themselves."""
    by_label: dict[str, list[str]] = {}
    for label in labels:
        by_label.setdefault(label.text, []).extend(label.aliases)
    distinct = {text: _distinct(aliases, by_label) for text, aliases in by_label.items()}
    return {text: aliases for text, aliases in distinct.items() if aliases}


def _distinct(names: Iterable[str], exclude: Iterable[str]) -> list[str]:
    """The names with distinct keys, in the first spelling of each, without those to exclude."""
    seen, kept = set(map(key, exclude)), []
    for name in names:
        if key(name) not in seen:
            seen.add(key(name))
            kept.append(name)
    return kept
