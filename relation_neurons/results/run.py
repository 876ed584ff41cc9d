"""Read a run folder, finished or not: its configuration, tables, neurons and verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from relation_neurons.errors import nearest, refuse
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.storage.files import file_digest, read_parquet
from relation_neurons.storage.run_folder import Entry, read_key, read_manifest
from relation_neurons.validation import validated

TABLE = ".parquet"
SENTENCE = "- "


@validated
@dataclass(frozen=True)
class Run:
    """The contents of a run folder.

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

    def table(self, name: str) -> pd.DataFrame:
        """Read a table.

        Raises:
            RelationNeuronsError: If the table does not exist or was altered.
        """
        if name not in self.tables:
            raise refuse(f"{self.path} has no table '{name}'", expected=nearest(name, self.tables))
        return read_parquet(self._checked(f"{name}{TABLE}"), "check the origin of this folder")

    def neurons(self) -> dict[str, NeuronSet]:
        """Read the neurons of each relation, best first.

        Raises:
            RelationNeuronsError: If no neurons have been selected yet, or the table was altered.
        """
        table = self.table("neurons")
        if "name" not in table.columns:
            raise refuse(
                f"{self.path / 'neurons'}{TABLE} contains no neuron sets", do="check the origin of this folder"
            )
        return {str(name): NeuronSet.from_frame(rows) for name, rows in table.groupby("name", sort=False)}

    def verdicts(self) -> dict[str, tuple[str, ...]]:
        """Read the verdict of each experiment, as sentences.

        Raises:
            RelationNeuronsError: If a file was altered.
        """
        sentences = {}
        for name in self.files:
            if name.endswith("/verdict.md"):
                lines = self._checked(name).read_text(encoding="utf-8", errors="replace").splitlines()
                sentences[name.removesuffix("/verdict.md")] = tuple(
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

    def _checked(self, name: str) -> Path:
        path = self.path / name
        if not path.is_file() or file_digest(path) != self.files[name]["sha256"]:
            problem = "was altered" if path.is_file() else "is missing"
            raise refuse(f"{path} {problem}", do="run the same command again, which recreates the file")
        return path


@validated
def open_run(path: str | Path) -> Run:
    """Read a run folder.

    Args:
        path: Folder written by `run` or `reproduce`; the run need not be finished.

    Raises:
        RelationNeuronsError: If the folder is not a run folder, or its key cannot be read.
    """
    folder = Path(path)
    return Run(folder, read_key(folder), read_manifest(folder))
