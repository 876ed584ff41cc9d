"""A polite client of Wikidata's public API, with a cache of its responses on disk.

It sends one request at a time, no request twice, and none while the servers lag.
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
"""Wikidata's codes of languages with several codes, in order of preference."""
ANY_LANGUAGE = "mul"
"""Wikidata's code of labels for all languages; many people have no other label."""
BATCH = 50
"""Items per request, the API's limit."""
PAUSES = (5, 10, 20)
"""Seconds before each retry while the servers are busy and send no `Retry-After`."""
LONGEST_PAUSE = 120
MAXLAG = 5
"""Database lag in seconds above which the server rejects a request, as Wikimedia recommends."""

_AGAIN = "run the same command later to resume"
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError)
"""Exceptions raised while reading JSON of an unexpected structure."""
Candidates = list[tuple[str, Literal["label", "alias"]]]
_Read = TypeVar("_Read")


def _read_candidates(name: str, hits: Sequence[Any]) -> Candidates:
    """The search results with this English name; searches also match prefixes and other languages."""
    candidates: Candidates = []
    for hit in hits:
        item, match = hit["id"], hit["match"]
        if not re.fullmatch("Q[0-9]+", item):
            raise ValueError(f"{item!r} is not an item")
        english = match["type"] in ("label", "alias") and re.fullmatch(f"en(-.*)?|{ANY_LANGUAGE}", match["language"])
        if key(hit.get("label", "")) == key(name):
            candidates.append((item, "label"))
        elif english and key(match["text"]) == key(name):
            candidates.append((item, "alias"))
    return candidates


def _read_item(entity: Any) -> tuple[dict[str, str], dict[str, list[str]]] | None:
    """An item's labels and aliases by language, or None if the item was deleted."""
    if "missing" in entity:
        return None
    labels, aliases = (
        entity.get(part) or {} for part in ("labels", "aliases")
    )  # the API may send an empty list instead of an empty object
    return (
        {code: _text(term) for code, term in labels.items()},
        {code: [_text(term) for term in terms] for code, terms in aliases.items()},
    )


def _text(term: Any) -> str:
    return unicodedata.normalize("NFC", term["value"])


class ResponseCache:
    """The API's responses for one language, reduced to the fields in use, in an atomic file."""

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
                f"{path}: is damaged ({error!r})", do="remove this file; its contents are requested again"
            ) from error
        if known != endpoint:
            raise refuse(f"{path}: has responses of {known}, not of {endpoint}", do="choose another cache folder")

    def candidates(self, name: str) -> Candidates:
        """The items with this name, in the order of the search."""
        return _read_candidates(name, self.raw["searches"][name])

    def item(self, item: str) -> tuple[dict[str, str], dict[str, list[str]]] | None:
        """An item's labels and aliases by language, or None if the item was deleted."""
        return _read_item(self.raw["items"][item])

    def add(self, part: Literal["searches", "items"], responses: Mapping[str, Any]) -> None:
        """Add responses and write the file."""
        self.raw[part].update(responses)
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
    """The two kinds of requests to the API, sent one at a time."""

    def __init__(self, session: requests.Session, endpoint: str, timeout: float, contact: str) -> None:
        self.session, self.endpoint, self.timeout = session, endpoint, timeout
        version = "0"
        with suppress(metadata.PackageNotFoundError):
            version = metadata.version("relation-neurons")
        comment = "; ".join(filter(None, ("translates names by labels", contact)))
        session.headers["User-Agent"] = f"relation-neurons/{version} ({comment}) {requests.utils.default_user_agent()}"

    def search(self, name: str) -> list[dict[str, Any]]:
        """The search results with this name, reduced to the fields in use."""

        def read(response: Any) -> list[dict[str, Any]]:
            matching = [hit for hit in response["search"] if _read_candidates(name, [hit])]
            return [_fields(hit, "id", "label", "match") for hit in matching]

        return self._request(
            read, action="wbsearchentities", search=name, language="en", uselang="en", type="item", limit=7
        )

    def items(self, items: Sequence[str], language: str) -> dict[str, dict[str, Any]]:
        """The labels and aliases of items."""
        own = CODES.get(language, (language,))

        def read(response: Any) -> dict[str, dict[str, Any]]:
            warning = response.get("warnings", {}).get("wbgetentities", {}).get("*", "")
            unknown = re.search(r'parameter "languages": (.*?)\.?$', warning, re.MULTILINE)
            if unknown and set(own) <= set(unknown[1].split(", ")):
                raise refuse(f"{self.endpoint} does not know the language '{language}'", expected="a code such as 'de'")
            entities = {item: _fields(response["entities"][item], "labels", "aliases", "missing") for item in items}
            for entity in entities.values():
                _read_item(entity)
            return entities

        codes = "|".join(dict.fromkeys((*own, ANY_LANGUAGE, "en")))
        return self._request(read, action="wbgetentities", ids="|".join(items), props="labels|aliases", languages=codes)

    def _request(self, read: Callable[[Any], _Read], **query: str | int) -> _Read:
        """Send a request; while the servers are busy, wait and retry, at most three times."""
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
            raise refuse(f"{self.endpoint} cannot be queried ({error})", expected="the URL of an API") from error

    def _read(self, response: requests.Response, read: Callable[[Any], _Read]) -> _Read:
        if not response.ok:
            raise refuse(
                f"{self.endpoint} answered {response.status_code} {response.reason}",
                do="check the endpoint; if it rejects scripts, pass a contact",
            )
        failure = _error(response)
        if failure:
            raise refuse(f"{self.endpoint} rejected the request ({failure.get('code')}: {failure.get('info')})")
        try:
            return read(response.json())
        except _MALFORMED as error:
            raise refuse(
                f"{self.endpoint} answered {response.text[:80]!r}", expected="JSON of Wikidata's API"
            ) from error

    def _pause(self, response: requests.Response, default: float) -> float:
        """Seconds to wait: the server's `Retry-After` in seconds or as a date, else the default."""
        retry_after, pause = response.headers.get("Retry-After", ""), default
        if retry_after.isdecimal():
            pause = float(retry_after)
        else:
            with suppress(ValueError):
                pause = max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
        if pause > LONGEST_PAUSE:
            raise refuse(f"{self.endpoint} asks for a pause of {pause:.0f} s", do=_AGAIN)
        return pause


def _busy(response: requests.Response) -> str:
    """Why the request should be retried, empty if it should not."""
    if response.status_code == 429 or response.status_code >= 500:
        return f"HTTP {response.status_code}"
    code = _error(response).get("code")
    return code if code in ("maxlag", "ratelimited") else ""


def _error(response: requests.Response) -> dict[str, Any]:
    """The API's error object, empty if there is none."""
    with suppress(*_MALFORMED):
        return dict(response.json().get("error", {}))
    return {}


def _fields(response: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: response[name] for name in names if name in response}
