"""Run folders: their files with their digests, and going on where a run stopped."""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import filelock
import pandas as pd

from relation_neurons.errors import reason, refuse
from relation_neurons.storage.files import atomic, file_digest, free_bytes, unreadable
from relation_neurons.storage.fingerprint import digest

KEY, MANIFEST, LOCK = "run.json", "manifest.json", ".lock"
ENVIRONMENT = ("code", "versions", "device")
"""Parts of a key that say what a run was made by, not what it asked."""
FORMAT = 2
"""Of folders, as `run.json` says; another one is not read."""
PATIENCE = 60
"""Seconds to wait for another process that is writing the manifest."""
Entry = dict[str, Any]


class RunFolder:
    """A folder that belongs to one run.

    Every file is written whole or not at all, and stands in `manifest.json` with its SHA-256; a file that does not, or
    whose contents are others, is never read but made anew. Several processes may work in one folder.

    Attributes:
        path: The folder.
        key: All that the tables depend on; a folder is only continued by the run that began it.
    """

    def __init__(self, path: Path, key: Mapping[str, Any]) -> None:
        """Open or make the folder.

        What the same question found with another version of the code or of a package is set aside, in a folder
        `before-...` within, and never mixed with what is found now.

        Raises:
            RelationNeuronsError: The folder belongs to another run, holds something else, or cannot be written.
        """
        self.path, self.key = Path(path), json.loads(json.dumps({"format": FORMAT, **key}))
        # A hidden file may be the key of a process that opens the same folder at this moment.
        used = self.path.is_file() or any(self.path.glob("[!.]*"))
        if used and not (self.path / KEY).is_file():
            raise refuse(f"{self.path} exists and is no run folder", do="choose another --out")
        with _said(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            with self._locked():
                self._begin()

    def table(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """The table of that name: read if this run wrote it before, else made and written as parquet."""
        if not self.has(name):
            self.write_table(name, make())
        return pd.read_parquet(self.path / f"{name}.parquet")

    def tables(self, pattern: str) -> list[pd.DataFrame]:
        """All tables that this run wrote under names like the pattern, such as `answers/*`, in the order of names."""
        names = sorted(path.relative_to(self.path).as_posix() for path in self.path.glob(f"{pattern}.parquet"))
        return [pd.read_parquet(self.path / name) for name in self._whole(names)]

    def has(self, *names: str) -> bool:
        """Whether this run has already written all of these tables, and they are still what was written."""
        return len(self._whole([f"{name}.parquet" for name in names])) == len(names)

    def text(self, name: str, make: Callable[[], str]) -> None:
        """Write a file unless this run wrote it before and it is still what was written."""
        if not self._whole([name]):
            self.write_text(name, make())

    def write_table(self, name: str, table: pd.DataFrame) -> Path:
        """Write a table as parquet, in place of an older one."""
        return self._write(f"{name}.parquet", lambda path: table.to_parquet(path, index=False))

    def write_text(self, name: str, text: str) -> Path:
        """Write a file whole or not at all."""
        return self._write(name, lambda path: path.write_text(text, encoding="utf-8"))

    def drop_parts(self) -> None:
        """Remove the partial tables once the whole one is written."""
        parts = self.path / "parts"
        with self._locked():
            kept = {name: entry for name, entry in read_manifest(self.path).items() if not name.startswith("parts/")}
            self._record(kept)
            for part in parts.glob("*.parquet"):
                part.unlink(missing_ok=True)
        if parts.is_dir():
            with contextlib.suppress(OSError):
                parts.rmdir()

    def _begin(self) -> None:
        """Write the key, unless it is there; set aside what another version found."""
        if (self.path / KEY).is_file():
            before = read_key(self.path)
            differing = sorted(name for name in {*before, *self.key} if before.get(name) != self.key.get(name))
            asked = [name for name in differing if name not in ENVIRONMENT]
            if asked:
                shown = "; ".join(f"{name} was {before.get(name)!r}, now {self.key.get(name)!r}" for name in asked[:3])
                raise refuse(
                    f"{self.path} holds another run ({shown})",
                    do="choose another --out, or remove the folder to start anew",
                )
            if not differing:
                return
            self._set_aside(before, differing)
        with atomic(self.path / KEY) as unfinished:
            unfinished.write_text(json.dumps(self.key, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        self._record({})

    def _set_aside(self, before: Mapping[str, Any], differing: list[str]) -> None:
        """Move all but the key, which goes last, so that a process killed meanwhile leaves a run folder."""
        stem, number = f"before-{digest(sorted(before.items()))[:8]}", 0
        while (aside := self.path / (f"{stem}-{number}" if number else stem)).exists():
            number += 1
        aside.mkdir()
        shutil.rmtree(self.path / "activations", ignore_errors=True)  # large, and no other code may use them
        for path in self.path.glob("[!.]*"):
            if path.name != KEY and not path.name.startswith("before-"):
                path.replace(aside / path.name)
        shutil.copyfile(self.path / KEY, aside / KEY)
        warnings.warn(
            f"{self.path}: {', '.join(differing)} changed since this run began, so all is made anew; what there was is "
            f"in {aside.name}",
            stacklevel=5,
        )

    def _write(self, name: str, write: Callable[[Path], object]) -> Path:
        path = self.path / name
        with _said(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic(path) as unfinished:
                write(unfinished)
                entry = {"sha256": file_digest(unfinished), "bytes": unfinished.stat().st_size}
            with self._locked():
                self._record(read_manifest(self.path) | {name: entry})
        return path

    def _whole(self, names: Sequence[str]) -> list[str]:
        """Those files that are what was written; a damaged one is named, and made anew by whoever asks for it."""
        entries, whole = read_manifest(self.path), []
        for name in names:
            path = self.path / name
            if name not in entries or not path.is_file():
                continue
            if file_digest(path) == entries[name]["sha256"]:
                whole.append(name)
            else:
                warnings.warn(f"{path} is damaged, and is made anew", stacklevel=4)
        return whole

    def _record(self, entries: Mapping[str, Entry]) -> None:
        with atomic(self.path / MANIFEST) as unfinished:
            unfinished.write_text(json.dumps(dict(sorted(entries.items())), indent=1) + "\n", encoding="utf-8")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with filelock.FileLock(self.path / LOCK, timeout=PATIENCE):
                yield
        except filelock.Timeout as error:
            raise refuse(
                f"{self.path / LOCK} has been held by another process for {PATIENCE} s",
                do="end that process, or choose another --out",
            ) from error


def read_key(path: Path) -> dict[str, Any]:
    """What a run folder belongs to.

    Raises:
        RelationNeuronsError: No run folder, or a key that cannot be read.
    """
    manifest = path / KEY
    if not manifest.is_file():
        raise refuse(f"{path} is no run folder: it has no {KEY}", do="name the --out of a run")
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(manifest, error) from error
    except ValueError as error:
        raise refuse(f"{manifest} cannot be read ({error})", do="choose another folder") from error
    if not isinstance(found, dict):
        raise refuse(f"{manifest} says nothing of a run", do="choose another folder")
    if found.get("format") != FORMAT:
        raise refuse(
            f"{path} was written by another version of relation_neurons (format {found.get('format', 1)})",
            expected=f"format {FORMAT}",
            do="choose another folder, or read its parquet files with pandas",
        )
    return found


def read_manifest(path: Path) -> dict[str, Entry]:
    """The files of a run folder with their `sha256` and `bytes`; a manifest that is none, or damaged, vouches for none.

    Raises:
        RelationNeuronsError: One that may not be read, which may vouch for much.
    """
    try:
        found = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    except OSError as error:
        raise unreadable(path / MANIFEST, error) from error
    entries = found.items() if isinstance(found, dict) else ()
    return {name: entry for name, entry in entries if _is_inside(name) and _is_entry(entry)}


def _is_inside(name: str) -> bool:
    """Whether a name that a manifest gives stays in the folder."""
    place = PurePosixPath(name)
    return "\0" not in name and "\\" not in name and not place.is_absolute() and ".." not in place.parts


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("sha256"), str) and type(entry.get("bytes")) is int


@contextlib.contextmanager
def _said(path: Path) -> Iterator[None]:
    """What keeps a file from being written, as a refusal."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = free_bytes(path) / 1e6
            do = "make room, then give the same command again: it goes on from here"
            raise refuse(f"{path} cannot be written: the disk is full ({free:.0f} MB free)", do=do) from error
        raise refuse(f"{path} cannot be written ({reason(error)})", do="choose another --out") from error
