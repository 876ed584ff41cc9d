"""Run folders: files with their digests, and resuming of interrupted runs."""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import pandas as pd

from relation_neurons.errors import reason, refuse, shortened
from relation_neurons.storage.files import atomic, file_digest, free_bytes
from relation_neurons.storage.fingerprint import digest
from relation_neurons.storage.run_files import FORMAT, KEY, LOCK, MANIFEST, Entry, read_key, read_manifest

ENVIRONMENT = ("code", "versions", "device")
"""Parts of a key that describe the environment of a run rather than its configuration."""
PATIENCE = 60
"""Seconds to wait for another process that is writing the manifest."""


class RunFolder:
    """A folder that belongs to one run.

    Every file is written atomically and listed in `manifest.json` with its SHA-256. Files that are
    not listed or do not match are never read but recomputed. Several processes may share a folder.

    Attributes:
        path: The folder.
        key: Everything that the tables depend on; only a run with the same key can resume.
    """

    def __init__(self, path: Path, key: Mapping[str, Any]) -> None:
        """Open or create the folder.

        Results of the same configuration with other code, package versions or device are archived
        in a subfolder `before-...` and never mixed with new results.

        Raises:
            RelationNeuronsError: The folder belongs to another run, is not a run folder, or cannot
                be written.
        """
        self.path, self.key = Path(path), json.loads(json.dumps({"format": FORMAT, **key}))
        # A hidden file may be the unfinished key of another process that is opening the folder.
        used = self.path.is_file() or any(self.path.glob("[!.]*"))
        if used and not (self.path / KEY).is_file():
            raise refuse(f"{self.path} exists and is not a run folder", do="choose another --out")
        with _clear_write_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            with self._locked():
                self._begin()

    def table(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Read a table if this run has already written it; otherwise compute and write it."""
        if not self.has(name):
            self.write_table(name, make())
        return pd.read_parquet(self.path / f"{name}.parquet")

    def tables(self, pattern: str) -> list[pd.DataFrame]:
        """The tables of this run that match a pattern, such as `answers/*`, sorted by name.

        Raises:
            PermissionError: Their folder may not be listed, which `glob` would take for an empty one.
        """
        folder = (self.path / pattern).parent
        paths = [*folder.iterdir()] if folder.is_dir() else []
        wanted = [path for path in paths if path.match(f"{pattern}.parquet")]
        names, tables = sorted(path.relative_to(self.path).as_posix() for path in wanted), []
        for name in self._valid(names):
            with contextlib.suppress(FileNotFoundError):  # another process dropped it
                tables.append(pd.read_parquet(self.path / name))
        return tables

    def has(self, *names: str) -> bool:
        """Whether this run has written all of these tables and their digests still match."""
        return len(self._valid([f"{name}.parquet" for name in names])) == len(names)

    def text(self, name: str, make: Callable[[], str]) -> None:
        """Write a text file unless this run has already written it and its digest still matches."""
        if not self._valid([name]):
            self.write_text(name, make())

    def write_table(self, name: str, table: pd.DataFrame) -> Path:
        """Write a table as parquet and replace an older one."""
        return self._write(f"{name}.parquet", lambda path: table.to_parquet(path, index=False))

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file."""
        return self._write(name, lambda path: path.write_text(text, encoding="utf-8"))

    def drop(self, *patterns: str) -> None:
        """Remove tables by patterns such as `parts/*`; their folder stays, for other processes may be writing there."""
        paths = [path for pattern in patterns for path in self.path.glob(f"{pattern}.parquet")]
        with self._locked():
            gone = {path.relative_to(self.path).as_posix() for path in paths}
            self._record({name: entry for name, entry in read_manifest(self.path).items() if name not in gone})
            for path in paths:
                path.unlink(missing_ok=True)

    def _begin(self) -> None:
        """Write the key if it does not exist; archive results of another environment."""
        if (self.path / KEY).is_file():
            before = read_key(self.path)
            differing = sorted(name for name in {*before, *self.key} if before.get(name) != self.key.get(name))
            changed = [name for name in differing if name not in ENVIRONMENT]
            if changed:
                old, new = ({name: key[name] for name in changed if name in key} for key in (before, self.key))
                parts = _differences(old, new)[:3]
                shown = [f"{name} was {shortened(was)}, now {shortened(now)}" for name, was, now in parts]
                raise refuse(
                    f"{self.path} holds another run ({'; '.join(shown)})",
                    do="choose another --out, or remove the folder to start over",
                )
            if not differing:
                return
            self._archive(before, differing)
        with atomic(self.path / KEY) as unfinished:
            unfinished.write_text(json.dumps(self.key, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        self._record({})

    def _archive(self, before: Mapping[str, Any], differing: list[str]) -> None:
        """Move all files but the key, so that an interruption leaves a valid run folder."""
        stem, number = f"before-{digest(sorted(before.items()))[:8]}", 0
        while (archive := self.path / (f"{stem}-{number}" if number else stem)).exists():
            number += 1
        archive.mkdir()
        shutil.rmtree(self.path / "activations", ignore_errors=True)  # large, and useless to other code
        for path in self.path.glob("[!.]*"):
            if path.name != KEY and not path.name.startswith("before-"):
                path.replace(archive / path.name)
        shutil.copyfile(self.path / KEY, archive / KEY)
        warnings.warn(
            f"{self.path}: {', '.join(differing)} changed since this run began, so all results are recomputed; the old "
            f"ones are archived in {archive.name}",
            stacklevel=5,
        )

    def _write(self, name: str, write: Callable[[Path], object]) -> Path:
        path = self.path / name
        with _clear_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic(path) as unfinished:
                write(unfinished)
                entry = {"sha256": file_digest(unfinished), "bytes": unfinished.stat().st_size}
            with self._locked():
                self._record(read_manifest(self.path) | {name: entry})
        return path

    def _valid(self, names: Sequence[str]) -> list[str]:
        """The files whose digests match; warns about each damaged file."""
        entries, valid = read_manifest(self.path), []
        for name in names:
            path = self.path / name
            if name not in entries or not path.is_file():
                continue
            try:
                unchanged = file_digest(path) == entries[name]["sha256"]
            except FileNotFoundError:  # another process dropped it
                continue
            if unchanged:
                valid.append(name)
            else:
                warnings.warn(f"{path} is damaged and will be recomputed", stacklevel=4)
        return valid

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


@contextlib.contextmanager
def _clear_write_errors(path: Path) -> Iterator[None]:
    """Replace an OSError while writing `path` by an error message that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = free_bytes(path) / 1e6
            do = "free disk space, then run the same command again to resume"
            raise refuse(f"{path} cannot be written: the disk is full ({free:.0f} MB free)", do=do) from error
        raise refuse(f"{path} cannot be written ({reason(error)})", do="choose another --out") from error


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], within: str = "") -> list[tuple[str, ...]]:
    """The entries that differ, with both values as text; inner ones by their path, such as `config.prompts.shots`."""
    found: list[tuple[str, ...]] = []
    for name in sorted({*before, *now}):
        one, other = before.get(name), now.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += _differences(one, other, f"{within}{name}.")
        elif one != other:
            texts = [repr(key[name]) if name in key else "absent" for key in (before, now)]
            found.append((f"{within}{name}", *texts))
    return found
