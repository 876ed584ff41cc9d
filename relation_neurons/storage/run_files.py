"""What is in a run folder: its key, its manifest, its verdicts, and whether the files are as they were written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from relation_neurons.errors import refuse
from relation_neurons.storage.files import file_digest, unreadable
from relation_neurons.validation import validated

KEY, MANIFEST, LOCK = "run.json", "manifest.json", ".lock"
FORMAT = 2
"""Version of the folder format, stored in `run.json`; folders of other formats are refused."""
Entry = dict[str, Any]
TABLE = ".parquet"
SENTENCE = "- "
VERDICT = "/verdict.md"


@validated
@dataclass(frozen=True)
class RunFiles:
    """The contents of a run folder, except its tables' rows: what needs neither pandas nor PyTorch.

    Attributes:
        path: The folder.
        key: Everything that determines the run: `config`, `relations` with their
            digests, `model` with the digest of its weights, `code`, `versions` and `device`.
        files: Its files by name, each with `sha256` and `bytes`.
    """

    path: Path
    key: Mapping[str, Any]
    files: Mapping[str, Entry]

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables, such as `recall` or `intra/effects`."""
        return tuple(name.removesuffix(TABLE) for name in self.files if name.endswith(TABLE))

    def verdicts(self) -> dict[str, tuple[str, ...]]:
        """Read the verdict of each experiment, as sentences.

        Raises:
            RelationNeuronsError: If a file was altered.
        """
        sentences = {}
        for name in self.files:
            if name.endswith(VERDICT):
                lines = self.checked(name).read_text(encoding="utf-8", errors="replace").splitlines()
                sentences[name.removesuffix(VERDICT)] = tuple(
                    line.removeprefix(SENTENCE) for line in lines if line.startswith(SENTENCE)
                )
        return sentences

    def damage(self) -> dict[str, str]:
        """Files that changed since they were written, each with its state: `missing` or `altered`."""
        states = {}
        for name, entry in self.files.items():
            path = self.path / name
            if not path.is_file():
                states[name] = "missing"
            elif file_digest(path) != entry["sha256"]:
                states[name] = "altered"
        return states

    def __repr__(self) -> str:
        finished = [name.removesuffix(VERDICT) for name in self.files if name.endswith(VERDICT)]
        n_bytes = sum(entry["bytes"] for entry in self.files.values())
        size = f"{min(n_bytes, 10**18) / 1e6:.1f} MB"  # a manifest can say anything
        results = ", ".join(finished) or "nothing"
        count = "1 file" if len(self.files) == 1 else f"{len(self.files):,} files"
        return f"{type(self).__name__}('{self.path}', finished: {results}, {count}, {size})"

    def checked(self, name: str) -> Path:
        """The path of a file that is as it was written.

        Raises:
            RelationNeuronsError: If it is missing or was altered.
        """
        path = self.path / name
        if not path.is_file() or file_digest(path) != self.files[name]["sha256"]:
            problem = "was altered" if path.is_file() else "is missing"
            raise refuse(f"{path} {problem}", do="run the same command again, which recreates the file")
        return path


def read_key(path: Path) -> dict[str, Any]:
    """Read the key of a run folder.

    Raises:
        RelationNeuronsError: The folder is not a run folder, or its key cannot be read.
    """
    file = path / KEY
    if not file.is_file():
        raise refuse(f"{path} is not a run folder: it has no {KEY}", do="pass the --out of a run")
    try:
        key = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(file, error) from error
    except ValueError as error:
        raise refuse(f"{file} cannot be read ({error})", do="choose another folder") from error
    if not isinstance(key, dict):
        raise refuse(f"{file} does not describe a run", do="choose another folder")
    if key.get("format") != FORMAT:
        raise refuse(
            f"{path} was written by another version of relation_neurons (format {key.get('format', 1)})",
            expected=f"format {FORMAT}",
            do="choose another folder, or read its parquet files with pandas",
        )
    return key


def read_manifest(path: Path) -> dict[str, Entry]:
    """The `sha256` and `bytes` of each file; empty if the manifest is missing or damaged.

    Raises:
        RelationNeuronsError: The manifest exists but reading is not permitted.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    except OSError as error:
        raise unreadable(path / MANIFEST, error) from error
    entries = manifest.items() if isinstance(manifest, dict) else ()
    return {name: entry for name, entry in entries if _is_inside(name) and _is_entry(entry)}


def _is_inside(name: str) -> bool:
    """Whether a name in a manifest is a path inside the folder."""
    place = PurePosixPath(name)
    return "\0" not in name and "\\" not in name and not place.is_absolute() and ".." not in place.parts


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("sha256"), str) and type(entry.get("bytes")) is int


def read_run_files(path: Path) -> RunFiles:
    """What is in a run folder.

    Raises:
        RelationNeuronsError: The folder is not a run folder, or its key cannot be read.
    """
    return RunFiles(path, read_key(path), read_manifest(path))
