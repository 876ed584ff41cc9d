"""A finished run, or one that was stopped, read back: what it was asked, its tables, its neurons, its verdicts."""

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
    """What is in a run folder.

    Attributes:
        path: The folder.
        key: All that determined it: `config`, `relations` with digests, `model` with the digest of its weights, `code`,
            `versions`, `device`.
        files: Its files by name, with `sha256` and `bytes`.
    """

    path: Path
    key: Mapping[str, Any]
    files: Mapping[str, Entry]

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of its tables, such as `recall` or `intra/effects`."""
        return tuple(name.removesuffix(TABLE) for name in self.files if name.endswith(TABLE))

    def table(self, name: str) -> pd.DataFrame:
        """One of its tables.

        Raises:
            RelationNeuronsError: There is none of that name, or it is not what was written.
        """
        if name not in self.tables:
            raise refuse(f"{self.path} has no table '{name}'", expected=nearest(name, self.tables))
        return read_parquet(self._checked(f"{name}{TABLE}"), "check where this folder is from")

    def neurons(self) -> dict[str, NeuronSet]:
        """The neurons of each relation, best first.

        Raises:
            RelationNeuronsError: None were found yet, or the table is not what was written.
        """
        table = self.table("neurons")
        if "name" not in table.columns:
            raise refuse(f"{self.path / 'neurons'}{TABLE} names no neuron sets", do="check where this folder is from")
        return {str(name): NeuronSet.from_frame(rows) for name, rows in table.groupby("name", sort=False)}

    def verdicts(self) -> dict[str, tuple[str, ...]]:
        """The sentences of each experiment.

        Raises:
            RelationNeuronsError: A page that is not what was written.
        """
        found = {}
        for name in self.files:
            if name.endswith("/verdict.md"):
                lines = self._checked(name).read_text(encoding="utf-8", errors="replace").splitlines()
                said = (line.removeprefix(SENTENCE) for line in lines if line.startswith(SENTENCE))
                found[name.removesuffix("/verdict.md")] = tuple(said)
        return found

    def damage(self) -> dict[str, str]:
        """The files that are not what was written, each with what is wrong: `missing` or `altered`."""
        found = {}
        for name, entry in self.files.items():
            path = self.path / name
            if not path.is_file():
                found[name] = "missing"
            elif file_digest(path) != entry["sha256"]:
                found[name] = "altered"
        return found

    def _checked(self, name: str) -> Path:
        path = self.path / name
        if not path.is_file() or file_digest(path) != self.files[name]["sha256"]:
            what = "is not what was written" if path.is_file() else "is missing"
            raise refuse(f"{path} {what}", do="give the run's command again: it makes this anew")
        return path


@validated
def open_run(path: str | Path) -> Run:
    """Read a run folder back.

    Args:
        path: What `run` or `reproduce` wrote; the run need not be finished.

    Raises:
        RelationNeuronsError: No run folder, or one whose key cannot be read.
    """
    folder = Path(path)
    return Run(folder, read_key(folder), read_manifest(folder))
