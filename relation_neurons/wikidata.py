"""Names in other languages: the labels of Wikidata's items, as its public API gives them.

They are often right and never certain: of several items with a name the search's first is taken, whatever the relation.
`Label` says which, so read a translation before you measure with it. The API is asked politely: one request at a time,
never twice the same (answers are kept on disk), never while its servers lag. The responses in the tests are written by
the API's documentation; none was recorded.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeVar

import platformdirs
import requests

from relation_neurons.errors import refuse
from relation_neurons.progress import Progress, silent
from relation_neurons.relations import Relation, key

ENDPOINT = "https://www.wikidata.org/w/api.php"
CODES: Mapping[str, tuple[str, ...]] = {"zh": ("zh-hans", "zh")}
"""Wikidata's codes of a language that has several, the first choice first."""
EVERY = "mul"
"""Wikidata's code of names for every language that has none of its own; many persons have no other."""
BATCH = 50
"""Items in a request, the API's limit."""
PAUSES = (5, 10, 20)
"""Seconds before each further attempt while the servers are busy and do not say how long to wait."""
LONGEST_PAUSE = 120
MAXLAG = 5
"""Seconds that the database may lag behind before a request is put off, as Wikimedia recommends."""

_AGAIN = "run it again later; it goes on where it stopped"
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError)
"""What reading JSON of another shape raises."""
_Candidates = list[tuple[str, Literal["label", "alias"]]]
_Read = TypeVar("_Read")


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
    searched = _Answers(folder / "en.json", endpoint)
    named = searched if language == "en" else _Answers(folder / f"{language}.json", endpoint)
    wanted, pending = dict.fromkeys(names), dict[str, None]()
    with requests.Session() as session:
        api = _Api(session, endpoint, timeout, contact)
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


def _label(candidates: _Candidates, named: _Answers, language: str, skip_ambiguous: bool) -> Label | str:
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


def _read_candidates(name: str, hits: Sequence[Any]) -> _Candidates:
    """Which results of a search have the name, in the search's order; it also finds other languages and beginnings."""
    found: _Candidates = []
    for hit in hits:
        item, match = hit["id"], hit["match"]
        if not re.fullmatch("Q[0-9]+", item):
            raise ValueError(f"{item!r} is no item")
        english = match["type"] in ("label", "alias") and re.fullmatch(f"en(-.*)?|{EVERY}", match["language"])
        if key(hit.get("label", "")) == key(name):
            found.append((item, "label"))
        elif english and key(match["text"]) == key(name):
            found.append((item, "alias"))
    return found


def _read_item(entity: Any) -> tuple[dict[str, str], dict[str, list[str]]] | None:
    """An item's labels and aliases by language, none if there is no such item any more."""
    if "missing" in entity:
        return None
    labels, aliases = (entity.get(part) or {} for part in ("labels", "aliases"))  # none may come as a list
    return (
        {code: _text(term) for code, term in labels.items()},
        {code: [_text(term) for term in terms] for code, terms in aliases.items()},
    )


def _text(term: Any) -> str:
    return unicodedata.normalize("NFC", term["value"])


class _Answers:
    """What was answered in one language: the parts in use of the API's answers, in a file that is whole at any time."""

    def __init__(self, path: Path, endpoint: str) -> None:
        self.path = path
        self.raw: dict[str, Any] = {"endpoint": endpoint, "searches": {}, "items": {}}
        try:
            if path.exists():
                self.raw = json.loads(path.read_text(encoding="utf-8"))
            known = self.raw["endpoint"]
            for name in self.raw["searches"]:
                self.candidates(name)
            for item in self.raw["items"]:
                self.item(item)
        except OSError as error:
            raise refuse(f"{path}: cannot be read ({error.strerror})", do="choose another cache folder") from error
        except _MALFORMED as error:
            raise refuse(
                f"{path}: is damaged ({error!r})", do="remove this file; what it held is asked anew"
            ) from error
        if known != endpoint:
            raise refuse(f"{path}: holds answers of {known}, not of {endpoint}", do="choose another cache folder")

    def candidates(self, name: str) -> _Candidates:
        """The items that have the name, in the search's order."""
        return _read_candidates(name, self.raw["searches"][name])

    def item(self, item: str) -> tuple[dict[str, str], dict[str, list[str]]] | None:
        """An item's labels and aliases by language, none if it is gone."""
        return _read_item(self.raw["items"][item])

    def keep(self, part: Literal["searches", "items"], answers: Mapping[str, Any]) -> None:
        """Add answers and write them down."""
        self.raw[part].update(answers)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, unfinished = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump(self.raw, file, ensure_ascii=False, indent=1)
                os.replace(unfinished, self.path)
            finally:
                Path(unfinished).unlink(missing_ok=True)
        except OSError as error:
            raise refuse(
                f"{self.path}: cannot be written ({error.strerror})", do="choose another cache folder"
            ) from error


class _Api:
    """The two questions to the API, asked one after the other."""

    def __init__(self, session: requests.Session, endpoint: str, timeout: float, contact: str) -> None:
        self.session, self.endpoint, self.timeout = session, endpoint, timeout
        version = "0"
        with suppress(metadata.PackageNotFoundError):
            version = metadata.version("relation-neurons")
        about = "; ".join(filter(None, ("translates names by labels", contact)))
        session.headers["User-Agent"] = f"relation-neurons/{version} ({about}) {requests.utils.default_user_agent()}"

    def search(self, name: str) -> list[dict[str, Any]]:
        """The results that have the name, as far as they are read."""

        def read(answer: Any) -> list[dict[str, Any]]:
            having = [hit for hit in answer["search"] if _read_candidates(name, [hit])]
            return [_parts(hit, "id", "label", "match") for hit in having]

        return self._ask(
            read, action="wbsearchentities", search=name, language="en", uselang="en", type="item", limit=7
        )

    def items(self, items: Sequence[str], language: str) -> dict[str, dict[str, Any]]:
        """The items' names, as far as they are read."""
        own = CODES.get(language, (language,))

        def read(answer: Any) -> dict[str, dict[str, Any]]:
            warning = answer.get("warnings", {}).get("wbgetentities", {}).get("*", "")
            unknown = re.search(r'parameter "languages": (.*?)\.?$', warning, re.MULTILINE)
            if unknown and set(own) <= set(unknown[1].split(", ")):
                raise refuse(f"{self.endpoint} does not know the language '{language}'", expected="a code such as 'de'")
            entities = {item: _parts(answer["entities"][item], "labels", "aliases", "missing") for item in items}
            for entity in entities.values():
                _read_item(entity)
            return entities

        codes = "|".join(dict.fromkeys((*own, EVERY, "en")))
        return self._ask(read, action="wbgetentities", ids="|".join(items), props="labels|aliases", languages=codes)

    def _ask(self, read: Callable[[Any], _Read], **query: str | int) -> _Read:
        """Ask until there is an answer; while the servers are busy, wait and ask again, three times at most."""
        for pause in (*PAUSES, None):
            response = self._get(query)
            busy = _busy(response)
            if not busy:
                return self._read(response, read)
            if pause is not None:
                time.sleep(self._pause(response, pause))
        raise refuse(f"{self.endpoint} was busy {len(PAUSES) + 1} times ({busy})", do=_AGAIN)

    def _get(self, query: Mapping[str, str | int]) -> requests.Response:
        query = {**query, "format": "json", "maxlag": MAXLAG}
        try:
            return self.session.get(self.endpoint, params=query, timeout=self.timeout)
        except requests.Timeout as error:
            raise refuse(f"{self.endpoint} did not answer within {self.timeout:g} s", do=_AGAIN) from error
        except requests.ConnectionError as error:
            raise refuse(f"{self.endpoint} cannot be reached", do=f"check the network, then {_AGAIN}") from error
        except requests.RequestException as error:
            raise refuse(f"{self.endpoint} cannot be asked ({error})", expected="the address of an API") from error

    def _read(self, response: requests.Response, read: Callable[[Any], _Read]) -> _Read:
        if not response.ok:
            raise refuse(
                f"{self.endpoint} answered {response.status_code} {response.reason}",
                do="check the endpoint; where it turns scripts away, pass a contact",
            )
        refusal = _error(response)
        if refusal:
            raise refuse(f"{self.endpoint} refuses the request ({refusal.get('code')}: {refusal.get('info')})")
        try:
            return read(response.json())
        except _MALFORMED as error:
            raise refuse(
                f"{self.endpoint} answered {response.text[:80]!r}", expected="JSON of Wikidata's API"
            ) from error

    def _pause(self, response: requests.Response, default: float) -> float:
        """Seconds to wait: what the server asks for, in seconds or as a date, if it does."""
        asked, pause = response.headers.get("Retry-After", ""), default
        if asked.isdecimal():
            pause = float(asked)
        else:
            with suppress(ValueError):
                pause = max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
        if pause > LONGEST_PAUSE:
            raise refuse(f"{self.endpoint} asks for a pause of {pause:.0f} s", do=_AGAIN)
        return pause


def _busy(response: requests.Response) -> str:
    """Why the request should be sent again, empty if it should not."""
    if response.status_code == 429 or response.status_code >= 500:
        return f"HTTP {response.status_code}"
    code = _error(response).get("code")
    return code if code in ("maxlag", "ratelimited") else ""


def _error(response: requests.Response) -> dict[str, Any]:
    """The API's error object, empty if it sent none."""
    with suppress(*_MALFORMED):
        return dict(response.json().get("error", {}))
    return {}


def _parts(answer: Mapping[str, Any], *parts: str) -> dict[str, Any]:
    return {part: answer[part] for part in parts if part in answer}
