"""Download the files of the LRE dataset (Hernandez et al. 2024) once and verify them by checksum.

The 47 relation files are public and downloaded on demand from a fixed commit of
github.com/evandez/relations; the package contains only their checksums. Files are written
atomically and verified again whenever they are read. `relation_neurons.relations.lre` parses them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

import pooch
from requests.exceptions import RequestException

from relation_neurons.errors import RelationNeuronsError, nearest, refuse
from relation_neurons.progress import Progress, silent
from relation_neurons.storage.cache import ENVIRONMENT, cache_root

URL = "https://raw.githubusercontent.com/evandez/relations/{commit}/data"
FETCH = f"run `relation-neurons data fetch lre` once; set {ENVIRONMENT} to use another folder than the user cache"
ELSEWHERE = (
    "download again (valid files are kept), or use another source: the URL of a mirror, or a folder with a copy of the "
    "repository's folder `data`"
)


@dataclass(frozen=True)
class Registry:
    """The pinned commit, and the checksum and number of samples of each file, by relative path."""

    commit: str
    sha256: Mapping[str, str]
    samples: Mapping[str, int]


def data_folder() -> Path:
    """The folder of shipped data, in the installed package or a source checkout."""
    installed = Path(str(resources.files("relation_neurons"))) / "data"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "data"


@functools.cache
def registry() -> Registry:
    """The commit, checksums and counts in `data/lre.json`."""
    raw = json.loads((data_folder() / "lre.json").read_text(encoding="utf-8"))
    columns = ({path: file[column] for path, file in raw["files"].items()} for column in ("sha256", "samples"))
    return Registry(raw["commit"], *columns)


def paths() -> dict[str, str]:
    """The path of each relation's file by the relation's name, in the order of the registry."""
    return {PurePosixPath(path).stem: path for path in registry().sha256}


def cache_folder() -> Path:
    """The default download folder."""
    return cache_root() / "lre" / registry().commit


def fetch(source: str | Path | None = None, *, folder: str | Path | None = None, progress: Progress = silent) -> Path:
    """Download all files of the dataset and verify their SHA-256; existing valid files are kept.

    Args:
        source: The URL of a mirror or a local folder, with the files as `<kind>/<name>.json`; by
            default the pinned commit of the public repository.
        folder: The download folder; by default `cache_folder()`.
        progress: Called with 1 after each finished file.

    Returns:
        The download folder.

    Raises:
        RelationNeuronsError: The source does not exist, cannot be reached or has other contents, or
            the folder cannot be written. Incomplete or invalid files are never stored.
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
    """Read and verify a relation's file.

    Args:
        name: The relation's name in LRE.
        folder: The download folder; by default `cache_folder()`.

    Returns:
        The decoded JSON.

    Raises:
        RelationNeuronsError: The name is unknown, or the file was not downloaded or was modified.
    """
    known = paths()
    if name not in known:
        raise refuse(f"'{name}' is not a relation of LRE", expected=nearest(name, known))
    path = Path(folder or cache_folder()).expanduser() / known[name]
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise refuse(f"LRE has not been downloaded: {path} does not exist", do=FETCH) from None
    except OSError as error:
        raise refuse(f"{path} cannot be read ({error.strerror})", do="check its permissions") from error
    expected = registry().sha256[known[name]]
    if hashlib.sha256(content).hexdigest() != expected:
        raise refuse(f"{path} was modified after the download", expected=f"SHA-256 {expected}", do=FETCH)
    raw: dict[str, Any] = json.loads(content)
    return raw


def _origin(source: str | Path | None, commit: str) -> tuple[str, Callable[[str, str, object], None]]:
    """The base URL or folder, and the function that retrieves a file from it."""
    if source is None or str(source).startswith(("http://", "https://")):
        return str(source or URL.format(commit=commit)), pooch.HTTPDownloader()
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise refuse(
            f"There is no folder {folder}",
            expected="a folder, or a URL that begins with http:// or https://",
            do="pass a folder with a copy of the folder `data` of github.com/evandez/relations",
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
    """Replace exceptions of pooch and requests by an error message that says what to do."""
    try:
        yield
    except RequestException as error:
        answer = error.response
        reason = type(error).__name__ if answer is None else f"{answer.status_code} {answer.reason}"
        raise refuse(f"{url} cannot be downloaded ({reason})", do=f"check the network, then {ELSEWHERE}") from error
    except ValueError as error:  # pooch's exception for a wrong checksum
        raise refuse(
            f"{url} has the wrong checksum and was discarded", expected=f"SHA-256 {sha256}", do=ELSEWHERE
        ) from error
    except OSError as error:
        raise refuse(
            f"{url} cannot be stored in {folder} ({error.strerror or error})",
            do=f"free disk space and check permissions, or set {ENVIRONMENT} to another folder",
        ) from error


@contextlib.contextmanager
def _no_empty_folders(target: Path) -> Iterator[None]:
    """Remove newly created folders that stay empty because a download failed."""
    existing = next(folder for folder in (target, *target.resolve().parents) if folder.exists())
    try:
        yield
    except RelationNeuronsError:
        subfolders = [path for path in target.glob("*") if path.is_dir()]
        for folder in (*subfolders, target, *target.resolve().parents) if existing != target else ():
            with contextlib.suppress(OSError):
                if folder == existing or existing.is_relative_to(folder):
                    break
                folder.rmdir()
        raise


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Disable pooch's logging within the block."""
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("CRITICAL")
    try:
        yield
    finally:
        logger.setLevel(level)
