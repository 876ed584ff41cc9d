"""Save and load neuron sets as one parquet file, with metadata that identifies them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from relation_neurons.errors import RelationNeuronsError, reason, refuse
from relation_neurons.models.sites import Neuron, NeuronSpace
from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.compatibility import require_same_shape, require_same_weights
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.neurons.selection import TIE_RULE
from relation_neurons.storage.files import atomic
from relation_neurons.storage.fingerprint import versions
from relation_neurons.storage.parquet import DAMAGED
from relation_neurons.validation import validated

FORMAT = 1
"""Version of the file format; newer versions are refused."""
METADATA, DIGEST = b"relation_neurons", b"relation_neurons_sha256"
TYPES = {"name": pa.string(), "rank": pa.int64(), "site": pa.string(), "layer": pa.int64(), "index": pa.int64()}
SCHEMA = pa.schema(TYPES | {"score": pa.float64()})
"""The columns of `NeuronSet.to_frame`; scores are null for sets without a ranking."""


@dataclass(frozen=True)
class NeuronFile:
    """The contents of a file of neuron sets.

    Attributes:
        sets: The sets by the names under which they were saved.
        space: The neurons from which they were selected.
        score: The name of the score, such as `average_precision`.
        weights_digest: Digest of the model's weights, if known.
        made_from: Further information given when the file was saved.
        version: Version of the package that wrote the file.
    """

    sets: dict[str, NeuronSet]
    space: NeuronSpace
    score: str
    weights_digest: str | None
    made_from: dict[str, Any]
    version: str


@validated
def save_neurons(
    path: str | Path,
    sets: Mapping[str, NeuronSet],
    *,
    space: NeuronSpace,
    score: str,
    weights_digest: str | None = None,
    made_from: Mapping[str, Any] | None = None,
) -> Path:
    """Write neuron sets to a file atomically, replacing an older file.

    Args:
        path: The file; by convention it ends in `.parquet`.
        sets: The sets by name, such as the result of `top_k`.
        space: The neurons from which they were selected.
        score: The name of the score, such as `average_precision`.
        weights_digest: Digest of the model's weights, `model.cfg.weights_digest`.
        made_from: Further information to store, such as relations and configuration; must be
            serialisable as JSON.

    Returns:
        The path.

    Raises:
        RelationNeuronsError: There are no sets, a neuron is outside the space, or something cannot
            be written.
    """
    path = Path(path)
    if not sets:
        raise refuse("There are no neuron sets to save", expected="at least one")
    for neurons in sets.values():
        space.flatten(list(neurons))
    metadata = {
        "format": FORMAT,
        "sets": [[key, neurons.name, len(neurons), neurons.scores is not None] for key, neurons in sets.items()],
        "model": space.model,
        "weights_digest": weights_digest,
        "n_layers": space.n_layers,
        "widths": [list(pair) for pair in space.widths],
        "score": score,
        "tie_rule": TIE_RULE,
        "made_from": dict(made_from or {}),
        "version": versions().get("relation-neurons", "unknown"),
    }
    text, table = _serialised(metadata, sets)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as unfinished, pq.ParquetWriter(unfinished, SCHEMA, store_schema=False) as file:
            file.write_table(table)
            file.add_key_value_metadata({METADATA: text, DIGEST: _digest(text, table)})
    except OSError as error:
        raise refuse(f"{path} cannot be written ({reason(error)})", do="choose another file") from error
    return path


@validated
def load_neurons(
    path: str | Path, model: HookedModel | None = None, *, allow_other_weights: bool = False
) -> dict[str, NeuronSet]:
    """Read neuron sets written by `save_neurons`; nothing in the file is executed or unpickled.

    Args:
        path: The file.
        model: The model that the sets will be used with; checked against the file if given.
        allow_other_weights: Whether to accept a model of the same shape with other or unknown
            weights, such as a fine-tuned model.

    Returns:
        The sets by the names under which they were saved.

    Raises:
        RelationNeuronsError: The file does not exist, is not a file of neuron sets, was truncated or
            altered, has a newer format, or belongs to another model.
    """
    file = read_neuron_file(path)
    if model is not None:
        require_same_shape(file.space, model, path)
        if not allow_other_weights:
            require_same_weights(file.space, file.weights_digest, model, path)
    return file.sets


def read_neuron_file(path: str | Path) -> NeuronFile:
    """Read a file of neuron sets with its metadata; raises as `load_neurons` does."""
    path = Path(path)
    if not path.is_file():
        raise refuse(f"There is no file {path}", expected="a file written by save_neurons", do="check the path")
    try:
        with pq.ParquetFile(path) as file:
            written = file.metadata.metadata or {}
            metadata = _metadata(path, written)
            _require_columns(path, file, metadata)
            table = file.read()
        if any(table[name].null_count for name in SCHEMA.names if name != "score"):
            raise _altered(path, "some values are missing")
        if _digest(written[METADATA].decode(), table) != written.get(DIGEST, b"").decode():
            raise _altered(path, "its rows do not match the SHA-256 in its metadata")
        return _neuron_file(path, metadata, table)
    except PermissionError as error:
        raise refuse(f"{path} cannot be read (Permission denied)", do="check its permissions") from error
    except DAMAGED as error:
        raise _altered(path, " ".join(str(error).split())[:200]) from error


def _serialised(metadata: Mapping[str, Any], sets: Mapping[str, NeuronSet]) -> tuple[str, pa.Table]:
    try:
        return json.dumps(metadata, allow_nan=False), _table(sets)
    except (TypeError, ValueError) as error:
        raise refuse(
            f"The neuron sets cannot be serialised ({error})",
            expected="names that are text, and in made_from text, finite numbers, lists and dicts",
        ) from error


def _table(sets: Mapping[str, NeuronSet]) -> pa.Table:
    """A row per neuron, set by set."""
    rows = [(key, rank, *neuron) for key, neurons in sets.items() for rank, neuron in enumerate(neurons, start=1)]
    scores = [score for neurons in sets.values() for score in (neurons.scores or [None] * len(neurons))]
    columns = [*map(list, zip(*rows, strict=True)), scores]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.table(arrays, schema=SCHEMA)


def _digest(metadata: str, table: pa.Table) -> str:
    """SHA-256 of the metadata and all rows, including the exact bits of the scores."""
    hasher = hashlib.sha256(metadata.encode())
    for name in ("name", "site"):
        hasher.update(json.dumps(table[name].to_pylist()).encode())
    for name in ("rank", "layer", "index"):
        hasher.update(table[name].to_numpy().astype("<i8").tobytes())
    hasher.update(np.asarray(table["score"].is_null()).astype(np.uint8).tobytes())
    hasher.update(table["score"].fill_null(0.0).to_numpy().astype("<f8").tobytes())
    return hasher.hexdigest()


def _metadata(path: Path, written: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The metadata of a file, after a check of its format."""
    if METADATA not in written:
        raise refuse(f"{path} has no neuron sets", expected="a file written by save_neurons")
    metadata = json.loads(written[METADATA])
    version = metadata["format"]
    if type(version) is not int or version < 1:
        raise _altered(path, f"its format is {version!r}")
    if version > FORMAT:
        raise refuse(
            f"{path} has format {version}, written by version {metadata.get('version')} of relation-neurons",
            expected=f"format {FORMAT}, the newest that this version reads",
            do="install a newer version of relation-neurons",
        )
    return metadata


def _require_columns(path: Path, file: pq.ParquetFile, metadata: Mapping[str, Any]) -> None:
    """Check the schema and the number of rows before any row is read."""
    if not file.schema_arrow.equals(SCHEMA):
        raise _altered(
            path, f"its columns are {', '.join(f'{field.name} {field.type}' for field in file.schema_arrow)}"
        )
    sizes = [n for _, _, n, _ in metadata["sets"]]
    if file.metadata.num_rows != sum(sizes) or min(sizes, default=0) < 1:
        raise _altered(path, f"it has {file.metadata.num_rows} rows but sets of {sizes}")


def _neuron_file(path: Path, metadata: Mapping[str, Any], table: pa.Table) -> NeuronFile:
    widths = tuple((str(site), int(width)) for site, width in metadata["widths"])
    space = NeuronSpace(str(metadata["model"]), int(metadata["n_layers"]), widths)
    columns = {name: table[name].to_pylist() for name in SCHEMA.names}
    sets, start = {}, 0
    for key, name, n, scored in metadata["sets"]:
        part = slice(start, start + n)
        if columns["name"][part] != [key] * n or columns["rank"][part] != list(range(1, n + 1)) or key in sets:
            raise _altered(path, f"the rows of set '{key}' are not in order")
        scores = columns["score"][part]
        if [score is not None for score in scores] != [scored] * n:
            raise _altered(path, f"some scores of set '{key}' are missing")
        neurons = tuple(map(Neuron, *(columns[column][part] for column in ("site", "layer", "index"))))
        for site, layer, index in neurons:
            if not (0 <= layer < space.n_layers and 0 <= index < dict(widths).get(site, 0)):
                raise _altered(path, str(space.outside(Neuron(site, layer, index))))
        sets[key] = NeuronSet(neurons, str(name), tuple(scores) if scored else None)
        start += n
    score, weights, version = (metadata[name] for name in ("score", "weights_digest", "version"))
    return NeuronFile(sets, space, score, weights, dict(metadata["made_from"]), version)


def _altered(path: Path, why: str) -> RelationNeuronsError:
    return refuse(
        f"{path} cannot be trusted: it was truncated, altered, or is not a file of neuron sets ({why})",
        expected="an unchanged file written by save_neurons",
        do="copy it again from its source, or save the sets again",
    )
