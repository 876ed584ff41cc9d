"""Neuron sets as one small file to hand on: parquet, with all that says which neurons they are in its metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from relation_neurons.errors import RelationNeuronsError, reason, refuse
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.sites import Neuron, NeuronSpace
from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.storage.files import DAMAGED, atomic
from relation_neurons.storage.fingerprint import versions
from relation_neurons.validation import validated

FORMAT = 1
"""Version of what this module writes; a higher one is refused."""
TIE_RULE = "of equal scores the neuron earlier in the flat order (site, then layer, then index) comes first"
METADATA, DIGEST = b"relation_neurons", b"relation_neurons_sha256"
TYPES = {"name": pa.string(), "rank": pa.int64(), "site": pa.string(), "layer": pa.int64(), "index": pa.int64()}
SCHEMA = pa.schema(TYPES | {"score": pa.float64()})
"""The columns of `NeuronSet.to_frame`; the score is null where a set was not ranked."""


@dataclass(frozen=True)
class NeuronFile:
    """What a file of neuron sets holds.

    Attributes:
        sets: By the names under which they were saved.
        space: The neurons among which they were found.
        score: What the scores are, such as `average_precision`.
        weights_digest: What pins the weights of the model, if it was known.
        made_from: What else was said of them when they were saved.
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
    """Write neuron sets, whole or not at all, in place of an older file.

    Args:
        path: Where to; by custom it ends in `.parquet`.
        sets: By name, such as what `top_k` gives.
        space: The neurons among which they were found.
        score: What the scores are, such as `average_precision`.
        weights_digest: What pins the weights, `model.cfg.weights_digest`.
        made_from: What else to say of them, in what JSON can hold, such as relations and configuration.

    Raises:
        RelationNeuronsError: No sets, a neuron outside of the space, or something that cannot be written.
    """
    path = Path(path)
    if not sets:
        raise refuse("There are no neuron sets to save", expected="at least one")
    for one in sets.values():
        space.flatten(list(one))
    metadata = {
        "format": FORMAT,
        "sets": [[key, one.name, len(one), one.scores is not None] for key, one in sets.items()],
        "model": space.model,
        "weights_digest": weights_digest,
        "n_layers": space.n_layers,
        "widths": [list(pair) for pair in space.widths],
        "score": score,
        "tie_rule": TIE_RULE,
        "made_from": dict(made_from or {}),
        "version": versions().get("relation-neurons", "unknown"),
    }
    try:
        text, table = json.dumps(metadata, allow_nan=False), _table(sets)
    except (TypeError, ValueError) as error:
        raise refuse(
            f"The neuron sets cannot be written down ({error})",
            expected="names that are text, and in made_from text, finite numbers, lists and dicts",
        ) from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as unfinished, pq.ParquetWriter(unfinished, SCHEMA, store_schema=False) as file:
            file.write_table(table)
            file.add_key_value_metadata({METADATA: text, DIGEST: _digest(text, table)})
    except OSError as error:
        raise refuse(f"{path} cannot be written ({reason(error)})", do="name another file") from error
    return path


@validated
def load_neurons(
    path: str | Path, model: HookedModel | None = None, *, allow_other_weights: bool = False
) -> dict[str, NeuronSet]:
    """Read neuron sets that `save_neurons` wrote; nothing in the file is run or unpickled.

    Args:
        path: The file.
        model: The model that they are to be used with; it is refused if they are not its neurons.
        allow_other_weights: Take them for a model of the same shape with other or unknown weights, if it was tuned.

    Raises:
        RelationNeuronsError: No such file, no file of neuron sets, one that was cut short or altered or is of a newer
            format, or neurons of another model.
    """
    found = read_neuron_file(path)
    if model is not None:
        _require_shape(found, model, path)
        if not allow_other_weights:
            _require_weights(found, model, path)
    return found.sets


def read_neuron_file(path: str | Path) -> NeuronFile:
    """Read a file of neuron sets and what it says of them; refused as by `load_neurons`."""
    path = Path(path)
    if not path.is_file():
        raise refuse(f"There is no file {path}", expected="a file that save_neurons wrote", do="check the path")
    try:
        with pq.ParquetFile(path) as file:
            written = file.metadata.metadata or {}
            metadata = _metadata(path, written)
            _require_columns(path, file, metadata)
            table = file.read()
        if any(table[name].null_count for name in SCHEMA.names if name != "score"):
            raise _altered(path, "some values are missing")
        if _digest(written[METADATA].decode(), table) != written.get(DIGEST, b"").decode():
            raise _altered(path, "its rows do not have the SHA-256 that it names")
        return _neuron_file(path, metadata, table)
    except PermissionError as error:
        raise refuse(f"{path} cannot be read (Permission denied)", do="check its permissions") from error
    except DAMAGED as error:
        raise _altered(path, " ".join(str(error).split())[:200]) from error


def _table(sets: Mapping[str, NeuronSet]) -> pa.Table:
    """A row per neuron, set by set."""
    rows = [(key, rank, *neuron) for key, one in sets.items() for rank, neuron in enumerate(one, start=1)]
    scores = [score for one in sets.values() for score in (one.scores or [None] * len(one))]
    columns = [*map(list, zip(*rows, strict=True)), scores]
    return pa.table([pa.array(one, field.type) for one, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def _digest(metadata: str, table: pa.Table) -> str:
    """SHA-256 of the metadata and of every row, exact to the bits of the scores."""
    hasher = hashlib.sha256(metadata.encode())
    for name in ("name", "site"):
        hasher.update(json.dumps(table[name].to_pylist()).encode())
    for name in ("rank", "layer", "index"):
        hasher.update(table[name].to_numpy().astype("<i8").tobytes())
    hasher.update(np.asarray(table["score"].is_null()).astype(np.uint8).tobytes())
    hasher.update(table["score"].fill_null(0.0).to_numpy().astype("<f8").tobytes())
    return hasher.hexdigest()


def _metadata(path: Path, written: Mapping[bytes, bytes]) -> dict[str, Any]:
    """What the file says of itself, after a look at its format."""
    if METADATA not in written:
        raise refuse(f"{path} holds no neuron sets", expected="a file that save_neurons wrote")
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
    """Plain columns, and as many rows as are spoken of, before a row is read."""
    if not file.schema_arrow.equals(SCHEMA):
        raise _altered(path, f"its columns are {', '.join(f'{one.name} {one.type}' for one in file.schema_arrow)}")
    named = [n for _, _, n, _ in metadata["sets"]]
    if file.metadata.num_rows != sum(named) or min(named, default=0) < 1:
        raise _altered(path, f"it has {file.metadata.num_rows} rows and speaks of {named}")


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
        neurons = tuple(map(Neuron, *(columns[one][part] for one in ("site", "layer", "index"))))
        for site, layer, index in neurons:
            if not (0 <= layer < space.n_layers and 0 <= index < dict(widths).get(site, 0)):
                raise _altered(path, str(space.outside(Neuron(site, layer, index))))
        sets[key] = NeuronSet(neurons, str(name), tuple(scores) if scored else None)
        start += n
    score, weights, version = (metadata[name] for name in ("score", "weights_digest", "version"))
    return NeuronFile(sets, space, score, weights, dict(metadata["made_from"]), version)


def _require_shape(found: NeuronFile, model: HookedModel, path: str | Path) -> None:
    widths = tuple(pair for site, _ in found.space.widths for pair in neuron_space(model, site).widths)
    if (model.cfg.n_layers, widths) != (found.space.n_layers, found.space.widths):
        raise refuse(
            f"{path} has neurons of '{found.space.model}', {_shape(found.space.n_layers, found.space.widths)}",
            expected=f"neurons of '{model.cfg.model_name}', {_shape(model.cfg.n_layers, widths)}",
            do="load the model that they were found in, or find this model's own",
        )


def _require_weights(found: NeuronFile, model: HookedModel, path: str | Path) -> None:
    """The same weights by their digest; by the model's name only if neither the file nor the model has a digest."""
    theirs, own = found.weights_digest, getattr(model.cfg, "weights_digest", None)
    if theirs == own and (own is not None or found.space.model == model.cfg.model_name):
        return
    said = "neurons of '{}' with weights {}"
    raise refuse(
        f"{path} has {said.format(found.space.model, theirs or 'unknown')}",
        expected=said.format(model.cfg.model_name, own or "unknown"),
        do="load the model that they were found in, or say allow_other_weights=True if other weights are meant",
    )


def _shape(n_layers: int, widths: Sequence[tuple[str, int]]) -> str:
    return f"{n_layers} layers of {', '.join(f'{width} at {site}' for site, width in widths)}"


def _altered(path: Path, why: str) -> RelationNeuronsError:
    return refuse(
        f"{path} cannot be trusted: it was cut short, altered, or is no file of neuron sets ({why})",
        expected="a file just as save_neurons wrote it",
        do="copy it again from where it came, or make it anew",
    )
