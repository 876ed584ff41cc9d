"""Wikidata's public API: its answers, asked for politely and kept on disk.

One request at a time, never twice the same, never while the servers lag.
"""

from __future__ import annotations

import json
import re
import secrets
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeVar

import requests

from relation_neurons.errors import refuse
from relation_neurons.relations.relation import key

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
Candidates = list[tuple[str, Literal["label", "alias"]]]
_Read = TypeVar("_Read")


def _read_candidates(name: str, hits: Sequence[Any]) -> Candidates:
    """Which results of a search have the name, in the search's order; it also finds other languages and beginnings."""
    found: Candidates = []
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


class Answers:
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

    def candidates(self, name: str) -> Candidates:
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
            unfinished = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
            try:
                unfinished.write_text(json.dumps(self.raw, ensure_ascii=False, indent=1), encoding="utf-8")
                unfinished.replace(self.path)
            finally:
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            raise refuse(
                f"{self.path}: cannot be written ({error.strerror})", do="choose another cache folder"
            ) from error


class Api:
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
