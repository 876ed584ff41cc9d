"""The LRE data set (Hernandez et al. 2024): fetched once with checksums, its slips mended, the paper's relations in it.

Its 47 relation files are public and fetched on demand from one commit of github.com/evandez/relations; the package
holds their checksums only. Two readings of them: `load` mends all it can and gives each subject once; `paper` keeps
every sample, as the paper does, so that its counts of facts are the paper's.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pooch
from requests.exceptions import RequestException

from relation_neurons.errors import RelationNeuronsError, nearest, refuse
from relation_neurons.progress import Progress, silent
from relation_neurons.relations import Relation, key, relation_from_dict

URL = "https://raw.githubusercontent.com/evandez/relations/{commit}/data"
ENVIRONMENT = "RELATION_NEURONS_DATA"
FETCH = f"run `relation-neurons data fetch lre` once; {ENVIRONMENT} names the folder for data if not the user's cache"
ELSEWHERE = (
    "fetch again (files that are right already are kept), or name another source: the address of a mirror, or a folder "
    "with a copy of the repository's folder `data`"
)

PAPER: Mapping[str, str] = {
    "company_ceo": "company_ceo",
    "company_hq": "company_hq",
    "landmark_continent": "landmark_on_continent",
    "landmark_country": "landmark_in_country",
    "person_father": "person_father",
    "person_mother": "person_mother",
    "person_occupation": "person_occupation",
    "person_plays_instrument": "person_plays_instrument",
    "person_pro_sport": "person_plays_pro_sport",
    "person_sport_position": "person_plays_position_in_sport",
    "product_company": "product_by_company",
    "star_constellation": "star_constellation",
}
"""The paper's relations in the order of its table, each with LRE's name for it."""

PAPER_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "person_plays_instrument": ("{} plays the instrument of",),
    "product_company": ("{} was created by which company", "{} is a product of which company"),
}
"""Templates that the paper changed; all others are LRE's `prompt_templates`."""


@dataclass(frozen=True)
class Registry:
    """The pinned commit and what is known of its files, by relative path such as `factual/company_ceo.json`."""

    commit: str
    sha256: Mapping[str, str]
    samples: Mapping[str, int]


@dataclass(frozen=True)
class Repair:
    """One change to what a file says.

    Attributes:
        relation: LRE's name of the relation.
        place: Such as `sample 7`, counted from 1 as the file has them.
        kind: `escaped characters`, `outer spaces`, `duplicate fact` or `repeated subject`.
        before: The name or fact as the file has it.
        after: What it became.
    """

    relation: str
    place: str
    kind: str
    before: str
    after: str


def data_folder() -> Path:
    """What comes with the package: inside it when installed, beside it in a checkout."""
    installed = Path(str(resources.files("relation_neurons"))) / "data"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "data"


@functools.cache
def registry() -> Registry:
    """Commit, checksums and counts, as `data/lre.json` has them."""
    raw = json.loads((data_folder() / "lre.json").read_text(encoding="utf-8"))
    columns = ({path: file[column] for path, file in raw["files"].items()} for column in ("sha256", "samples"))
    return Registry(raw["commit"], *columns)


def names() -> tuple[str, ...]:
    """LRE's relations under its own file names, in the order of `load`.

    Example:
        >>> len(names()), names()[-1]
        (47, 'word_last_letter')
    """
    return tuple(_paths())


def cache_folder() -> Path:
    """Where the files lie once fetched."""
    root = os.environ.get(ENVIRONMENT) or pooch.os_cache("relation-neurons")
    return Path(root).expanduser() / "lre" / registry().commit


def fetch(source: str | Path | None = None, *, folder: str | Path | None = None, progress: Progress = silent) -> Path:
    """Get all files of the data set, verified by SHA-256; files that are there and right are kept.

    Args:
        source: The address of a mirror or a local folder, with the files as `<kind>/<name>.json`; by default the
            pinned commit of the public repository.
        folder: Where to; by default `cache_folder()`.
        progress: Called with 1 for each finished file.

    Returns:
        The folder.

    Raises:
        RelationNeuronsError: The source is not there, cannot be reached or holds something else, or the folder cannot
            be written. A file that is not whole and right is never stored.
    """
    known = registry()
    target = Path(folder or cache_folder()).expanduser()
    base, downloader = _origin(source, known.commit)
    store = pooch.create(path=target, base_url=base, registry=dict(known.sha256))
    with _quiet(), _no_empty_folders(target):
        for path, sha256 in known.sha256.items():
            with _clear_errors(store.get_url(path), target, sha256):
                store.fetch(path, downloader=downloader)
            progress(1)
    return target


def load(names: str | Iterable[str] | None = None, folder: str | Path | None = None) -> tuple[Relation, ...]:
    """Relations of the data set under LRE's file names, repaired; each subject occurs once.

    Args:
        names: Which; by default all 47.
        folder: Where they were fetched to; by default `cache_folder()`.

    Raises:
        RelationNeuronsError: An unknown name, or a file that was not fetched or was changed since.
    """
    return tuple(_relation(name, repair(_read(name, folder), name)[0]) for name in _chosen(names))


def paper(folder: str | Path | None = None) -> tuple[Relation, ...]:
    """The paper's 12 relations in the order of its table, under its names and with its templates.

    Unlike in `load`, duplicates and repeated subjects stay, so that the numbers of facts are the paper's. Splits keep
    the facts of a subject together, so it is never both detected and evaluated.

    Args:
        folder: Where LRE was fetched to; by default `cache_folder()`.

    Raises:
        RelationNeuronsError: A file that was not fetched or was changed since.
    """
    found = []
    for name, theirs in PAPER.items():
        raw, _ = repair(_read(theirs, folder), theirs, merge=False)
        relation = replace(_relation(theirs, raw), name=name)
        found.append(replace(relation, templates=PAPER_TEMPLATES.get(name, relation.templates)))
    return tuple(found)


def repairs(names: str | Iterable[str] | None = None, folder: str | Path | None = None) -> pd.DataFrame:
    """All that `load` changes in the files: a row per `Repair`, its fields as columns; arguments as for `load`."""
    done = [change for name in _chosen(names) for change in repair(_read(name, folder), name)[1]]
    return pd.DataFrame(done, columns=list(Repair.__dataclass_fields__))


def repair(raw: dict[str, Any], where: str, *, merge: bool = True) -> tuple[dict[str, Any], list[Repair]]:
    r"""Mend what a file of LRE says; only the samples change.

    Names lose outer spaces, and characters that were escaped twice become themselves. Merging leaves the first sample
    of each subject: a further one with the same object goes; one with another object becomes an alias of the first.

    Args:
        raw: The parsed file. One that is not in the schema comes back as it is, for validation to say so.
        where: What to call the relation in the repairs.
        merge: Whether to merge; without it every sample stays.

    Returns:
        The mended file, whose samples may have `aliases` of their own, and what was changed.

    Example:
        >>> samples = [{"subject": "Brazil", "object": "Bras\\u00edlia"}, {"subject": "Brazil", "object": "Bahia "}]
        >>> mended, done = repair({"samples": samples}, "capital")
        >>> mended["samples"]
        [{'subject': 'Brazil', 'object': 'Brasília', 'aliases': ['Bahia']}]
        >>> [change.kind for change in done]
        ['escaped characters', 'outer spaces', 'repeated subject']
    """
    samples = raw.get("samples")
    if not isinstance(samples, list) or not all(map(_is_sample, samples)):
        return raw, []
    done: list[Repair] = []
    samples = [_mend(sample, f"sample {number}", where, done) for number, sample in enumerate(samples, start=1)]
    return {**raw, "samples": _merge(samples, where, done) if merge else samples}, done


def _is_sample(sample: object) -> bool:
    return isinstance(sample, dict) and all(isinstance(sample.get(part), str) for part in ("subject", "object"))


def _mend(sample: dict[str, str], place: str, where: str, done: list[Repair]) -> dict[str, str]:
    mended = dict(sample)
    for kind, mend in (("escaped characters", _unescape), ("outer spaces", str.strip)):
        for part in ("subject", "object"):
            before, mended[part] = mended[part], mend(mended[part])
            if mended[part] != before:
                done.append(Repair(where, place, kind, before, mended[part]))
    return mended


def _unescape(text: str) -> str:
    # A run at a time, since two escapes may stand for one character.
    return re.sub(r"(?:\\u[0-9a-fA-F]{4})+", lambda found: str(json.loads(f'"{found[0]}"')), text)


def _merge(samples: list[dict[str, str]], where: str, done: list[Repair]) -> list[dict[str, Any]]:
    kept: dict[str, tuple[int, dict[str, Any]]] = {}
    for number, sample in enumerate(samples, start=1):
        at, first = kept.setdefault(key(sample["subject"]), (number, {**sample, "aliases": []}))
        if at == number:
            continue
        before = f"{sample['subject']}: {sample['object']}"
        if key(sample["object"]) in map(key, (first["object"], *first["aliases"])):
            done.append(Repair(where, f"sample {number}", "duplicate fact", before, "removed"))
        else:
            first["aliases"].append(sample["object"])
            done.append(Repair(where, f"sample {number}", "repeated subject", before, f"alias in sample {at}"))
    return [sample for _, sample in kept.values()]


def _relation(name: str, raw: dict[str, Any]) -> Relation:
    source = f"LRE (Hernandez et al. 2024), {_paths()[name]} at commit {registry().commit} of evandez/relations"
    relation = relation_from_dict({**raw, "name": name, "source": source}, f"LRE's {name}")
    pairs = zip(relation.facts, raw["samples"], strict=True)
    return replace(
        relation, facts=tuple(replace(fact, aliases=tuple(sample.get("aliases", ()))) for fact, sample in pairs)
    )


def _paths() -> dict[str, str]:
    return {PurePosixPath(path).stem: path for path in registry().sha256}


def _chosen(names: str | Iterable[str] | None) -> tuple[str, ...]:
    if names is None:
        return tuple(_paths())
    return (names,) if isinstance(names, str) else tuple(names)


def _read(name: str, folder: str | Path | None) -> dict[str, Any]:
    paths = _paths()
    if name not in paths:
        raise refuse(f"'{name}' is no relation of LRE", expected=nearest(name, paths))
    path = Path(folder or cache_folder()).expanduser() / paths[name]
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise refuse(f"LRE is not on this machine: there is no {path}", do=FETCH) from None
    except OSError as error:
        raise refuse(f"{path} cannot be read ({error.strerror})", do="check its permissions") from error
    expected = registry().sha256[paths[name]]
    if hashlib.sha256(content).hexdigest() != expected:
        raise refuse(f"{path} was changed since it was fetched", expected=f"SHA-256 {expected}", do=FETCH)
    found: dict[str, Any] = json.loads(content)
    return found


def _origin(source: str | Path | None, commit: str) -> tuple[str, Callable[[str, str, object], None]]:
    """Base address and what gets a file from below it."""
    if source is None or str(source).startswith(("http://", "https://")):
        return str(source or URL.format(commit=commit)), pooch.HTTPDownloader()
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise refuse(
            f"There is no folder {folder}",
            expected="a folder, or an address that begins with http:// or https://",
            do="name a folder with a copy of the folder `data` of github.com/evandez/relations",
        )
    return folder.as_posix(), _copy


def _copy(path: str, output: str, store: object) -> None:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise refuse(f"{path} cannot be read ({error.strerror})", do=ELSEWHERE) from error
    Path(output).write_bytes(content)


@contextlib.contextmanager
def _clear_errors(url: str, folder: Path, sha256: str) -> Iterator[None]:
    """Turn what pooch and requests raise into one sentence that says what to do."""
    try:
        yield
    except RequestException as error:
        answer = error.response
        reason = type(error).__name__ if answer is None else f"{answer.status_code} {answer.reason}"
        raise refuse(f"{url} cannot be fetched ({reason})", do=f"check the network, then {ELSEWHERE}") from error
    except ValueError as error:  # pooch's word for a wrong checksum
        raise refuse(f"{url} is another file and was not kept", expected=f"SHA-256 {sha256}", do=ELSEWHERE) from error
    except OSError as error:
        raise refuse(
            f"{url} cannot be stored in {folder} ({error.strerror or error})",
            do=f"make room and check permissions there, or set {ENVIRONMENT} to another folder",
        ) from error


@contextlib.contextmanager
def _no_empty_folders(target: Path) -> Iterator[None]:
    """Remove the folders that were made for nothing, where nothing could be fetched."""
    there = next(folder for folder in (target, *target.resolve().parents) if folder.exists())
    try:
        yield
    except RelationNeuronsError:
        made = [*(one for one in target.glob("*") if one.is_dir()), target, *target.resolve().parents]
        for folder in made if there != target else ():
            with contextlib.suppress(OSError):
                if folder == there or there.is_relative_to(folder):
                    break
                folder.rmdir()
        raise


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence pooch's log, and restore it."""
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("CRITICAL")
    try:
        yield
    finally:
        logger.setLevel(level)
