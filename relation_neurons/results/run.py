"""Read a run folder, finished or not: its configuration, tables, neurons and verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from relation_neurons.errors import nearest, refuse
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.storage.parquet import read_parquet
from relation_neurons.storage.run_files import TABLE, Entry, RunFiles, read_key, read_manifest
from relation_neurons.validation import validated


@validated
@dataclass(frozen=True, repr=False)
class Run(RunFiles):
    """The contents of a run folder, finished or not.

    Attributes:
        path: The folder.
        key: Everything that determines the run: `config`, `relations` with their
            digests, `model` with the digest of its weights, `code`, `versions` and `device`.
        files: Its files by name, each with `sha256` and `bytes`.
    """

    path: Path
    key: Mapping[str, Any]
    files: Mapping[str, Entry]

    def table(self, name: str) -> pd.DataFrame:
        """Read a table.

        Raises:
            RelationNeuronsError: If the table does not exist or was altered.
        """
        if name not in self.tables:
            raise refuse(f"{self.path} has no table '{name}'", expected=nearest(name, self.tables))
        return read_parquet(self.checked(f"{name}{TABLE}"), "check the origin of this folder")

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
