"""The files of the LRE data set (Hernandez et al. 2024): fetched once, stored whole or not at all, never read changed.

Its 47 relation files are public and fetched on demand from one commit of github.com/evandez/relations; the package
holds their checksums only. What they say is read by `relation_neurons.relations.lre`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

import pooch
from requests.exceptions import RequestException

from relation_neurons.errors import RelationNeuronsError, nearest, refuse
from relation_neurons.progress import Progress, silent

URL = "https://raw.githubusercontent.com/evandez/relations/{commit}/data"
ENVIRONMENT = "RELATION_NEURONS_DATA"
FETCH = f"run `relation-neurons data fetch lre` once; {ENVIRONMENT} names the folder for data if not the user's cache"
ELSEWHERE = (
    "fetch again (files that are right already are kept), or name another source: the address of a mirror, or a folder "
    "with a copy of the repository's folder `data`"
)


@dataclass(frozen=True)
class Registry:
    """The pinned commit and what is known of its files, by relative path such as `factual/company_ceo.json`."""

    commit: str
    sha256: Mapping[str, str]
    samples: Mapping[str, int]


def data_folder() -> Path:
    """What comes with the package: inside it when installed, beside it in a checkout."""
    installed = Path(str(resources.files("relation_neurons"))) / "data"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "data"


@functools.cache
def registry() -> Registry:
    """Commit, checksums and counts, as `data/lre.json` has them."""
    raw = json.loads((data_folder() / "lre.json").read_text(encoding="utf-8"))
    columns = ({path: file[column] for path, file in raw["files"].items()} for column in ("sha256", "samples"))
    return Registry(raw["commit"], *columns)


def paths() -> dict[str, str]:
    """The path of each relation's file, by its name and in the order of the registry."""
    return {PurePosixPath(path).stem: path for path in registry().sha256}


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


def read(name: str, folder: str | Path | None = None) -> dict[str, Any]:
    """The contents of a relation's file.

    Args:
        name: LRE's name of the relation.
        folder: Where the files were fetched to; by default `cache_folder()`.

    Raises:
        RelationNeuronsError: An unknown name, or a file that was not fetched or was changed since.
    """
    known = paths()
    if name not in known:
        raise refuse(f"'{name}' is no relation of LRE", expected=nearest(name, known))
    path = Path(folder or cache_folder()).expanduser() / known[name]
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise refuse(f"LRE is not on this machine: there is no {path}", do=FETCH) from None
    except OSError as error:
        raise refuse(f"{path} cannot be read ({error.strerror})", do="check its permissions") from error
    expected = registry().sha256[known[name]]
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
    """Ablate pooch's log, and restore it."""
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("CRITICAL")
    try:
        yield
    finally:
        logger.setLevel(level)
