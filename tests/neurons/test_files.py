"""Neuron sets survive their file exactly, and a file that is not what was written, or not the model's, is refused."""

import dataclasses
import json
import math
import pickle
import struct
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import relation_neurons as rn
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.sites import NeuronSpace
from relation_neurons.neurons import files
from relation_neurons.neurons.files import load_neurons, read_neuron_file, save_neurons

SPACE = NeuronSpace("toy", 3, (("gate", 4), ("down", 2)))
G, D = "gate", "down"
SCORES = (math.nextafter(1, 0), 0.1 + 0.2, 5e-324, -0.0, float("inf"), struct.unpack("<d", b"\1" * 6 + b"\xf8\x7f")[0])
SETS = {
    "land_hauptstadt": rn.NeuronSet(
        tuple(
            map(rn.Neuron.parse, ["gate:L2.N3", "down:L0.N1", "gate:L0.N0", "gate:L1.N1", "down:L2.N0", "gate:L0.N1"])
        ),
        "land_hauptstadt",
        SCORES,
    ),
    "未命名 'a' \n": rn.NeuronSet.from_pairs([(1, 0), (0, 1)], site="down"),  # its own name is another
}
MADE_FROM = {"relations": ["a", "b"], "config": {"k": 6, "share": 0.1}, "none": None}


@pytest.fixture
def path(tmp_path):
    options = {"space": SPACE, "score": "average_precision", "weights_digest": "abc", "made_from": MADE_FROM}
    return save_neurons(tmp_path / "new folder" / "neurons.parquet", SETS, **options)


def model_like(n_layers=3, d_mlp=4, d_model=2, digest="abc", name="toy"):
    """All of a model that neuron files look at."""
    cfg = {"n_layers": n_layers, "d_mlp": d_mlp, "d_model": d_model, "weights_digest": digest, "model_name": name}
    model = torch.nn.Module()
    model.cfg, model.tokenizer, model.hook_dict = SimpleNamespace(gated_mlp=True, **cfg), None, {}
    return model


def bits(scores):
    return [struct.pack("<d", score) for score in scores]


def same(found, expected=SETS):
    assert list(found) == list(expected)
    for name, one in expected.items():
        assert (found[name].neurons, found[name].name) == (one.neurons, one.name)
        assert all(type(neuron) is rn.Neuron and type(neuron.layer) is int for neuron in found[name])
        assert (found[name].scores is None) == (one.scores is None)
        assert bits(found[name].scores or ()) == bits(one.scores or ())
    return True


def write(path, table, written):
    with pq.ParquetWriter(path, table.schema, store_schema=False) as file:
        file.write_table(table)
        file.add_key_value_metadata(written)


def rewritten(path, columns=None, drop=(), **metadata):
    """The file as someone would write it who changes its contents and signs them anew."""
    table, written = pq.read_table(path), pq.read_metadata(path).metadata
    for name, values in (columns or {}).items():
        table = table.set_column(table.schema.names.index(name), name, values)
    said = {**json.loads(written[files.METADATA]), **metadata}
    text = json.dumps({name: value for name, value in said.items() if name not in drop})
    write(path, table, {files.METADATA: text, files.DIGEST: files._digest(text, table)})
    return path


def test_neuron_files_round_trip_bit_for_bit(path):
    assert same(load_neurons(path))
    assert same(load_neurons(path, model_like()))
    found = read_neuron_file(path)
    assert (found.space, found.score, found.weights_digest) == (SPACE, "average_precision", "abc")
    assert found.made_from == MADE_FROM
    assert found.version == rn.__version__ or found.version == "unknown"


def test_thousands_of_neurons_round_trip(tmp_path):
    space = NeuronSpace("wide", 20, (("post", 1000),))
    scores = np.random.default_rng(0).random((3, len(space)))
    best = rn.top_k(scores, 3000, space, ["a", "b", "c"])
    found = load_neurons(save_neurons(tmp_path / "n", best, space=space, score="auroc"))
    assert same(found, best)
    assert found["b"].scores == tuple(sorted(scores[1], reverse=True)[:3000])


def test_the_file_is_a_plain_table_with_metadata(path):
    table = pd.read_parquet(path)
    pd.testing.assert_frame_equal(
        table[table["name"] == "land_hauptstadt"], SETS["land_hauptstadt"].to_frame(), check_dtype=False
    )
    written = pq.read_metadata(path).metadata
    assert set(written) == {files.METADATA, files.DIGEST}  # neither pandas nor Arrow types to trust
    said = json.loads(written[files.METADATA])
    assert (said["format"], said["model"], said["n_layers"], said["widths"]) == (
        1,
        "toy",
        3,
        [["gate", 4], ["down", 2]],
    )
    assert said["tie_rule"].startswith("of equal scores the larger effect size comes first")


def test_equal_sets_give_equal_bytes_and_leave_no_other_files(path):
    before = path.read_bytes()
    save_neurons(path, SETS, space=SPACE, score="average_precision", weights_digest="abc", made_from=MADE_FROM)
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == ["neurons.parquet"]


def test_an_interrupted_write_keeps_the_old_file(path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.pq.ParquetWriter, "add_key_value_metadata", stop)
    with pytest.raises(KeyboardInterrupt):
        save_neurons(path, {"one": SETS["land_hauptstadt"]}, space=SPACE, score="other")
    assert same(load_neurons(path))
    assert [one.name for one in path.parent.iterdir()] == ["neurons.parquet"]


@pytest.mark.parametrize("wrap_model", [True, False])
def test_neurons_of_a_model_can_be_used_with_it_again(tiny, tmp_path, wrap_model):
    space = neuron_space(tiny, "ffn")
    best = rn.top_k(np.random.default_rng(0).random((2, len(space))), 9, space, ["a", "b"])
    path = save_neurons(tmp_path / "n", best, space=space, score="s", weights_digest=tiny.cfg.weights_digest)
    assert same(load_neurons(path, tiny if wrap_model else None), best)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"n_layers": 4}, r"3 layers of 4 at gate, 2 at down\. Expected: neurons of 'toy', 4 layers.*Do this"),
        ({"d_mlp": 5}, "5 at gate, 2 at down"),
        ({"d_model": 1}, "4 at gate, 1 at down"),
        ({"digest": "xyz"}, r"weights abc\. Expected: .*weights xyz\. Do this: .*allow_other_weights=True"),
        ({"digest": None}, "weights unknown"),
    ],
)
def test_another_model_is_refused(path, change, says):
    with pytest.raises(rn.RelationNeuronsError, match=says):
        load_neurons(path, model_like(**change))


def test_other_weights_of_the_same_shape_are_accepted_on_request(path):
    assert same(load_neurons(path, model_like(digest="xyz"), allow_other_weights=True))
    with pytest.raises(rn.RelationNeuronsError, match="4 layers"):
        load_neurons(path, model_like(n_layers=4, digest="xyz"), allow_other_weights=True)


def test_a_model_without_a_gate_is_refused(path):
    model = model_like()
    model.cfg.gated_mlp = False
    with pytest.raises(rn.RelationNeuronsError, match="no gated MLP"):
        load_neurons(path, model)


def test_without_digests_models_are_distinguished_by_name(tmp_path):
    path = save_neurons(tmp_path / "n", SETS, space=SPACE, score="s")
    assert same(load_neurons(path, model_like(digest=None)))
    for other in (model_like(digest=None, name="other"), model_like(digest="abc")):
        with pytest.raises(rn.RelationNeuronsError, match="'toy' with weights unknown"):
            load_neurons(path, other)
        assert same(load_neurons(path, other, allow_other_weights=True))


def test_missing_files_folders_and_other_files_are_refused(path):
    with pytest.raises(rn.RelationNeuronsError, match=r"There is no file .*nowhere\. Expected.*Do this"):
        load_neurons(path.parent / "nowhere")
    with pytest.raises(rn.RelationNeuronsError, match="There is no file"):
        load_neurons(path.parent)
    for content in (b"", b"hello", pickle.dumps(SETS)):
        path.write_bytes(content)
        with pytest.raises(rn.RelationNeuronsError, match="cannot be trusted"):
            load_neurons(path)
    pd.DataFrame({"a": [1]}).to_parquet(path)
    with pytest.raises(rn.RelationNeuronsError, match="has no neuron sets"):
        load_neurons(path)


def test_a_file_truncated_anywhere_is_refused(path):
    whole = path.read_bytes()
    for length in range(0, len(whole), 11):
        path.write_bytes(whole[:length])
        with pytest.raises(rn.RelationNeuronsError, match="truncated"):
            load_neurons(path)


def test_a_flipped_byte_is_refused_or_changes_nothing(path):
    """Some bytes, such as the name of the writing library, are not part of what is read."""
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            found = read_neuron_file(path)
        except rn.RelationNeuronsError:
            refused += 1
        else:
            assert same(found.sets)
            assert (found.space, found.weights_digest, found.made_from) == (SPACE, "abc", MADE_FROM)
    assert refused > len(whole) / 15


def test_altered_values_and_metadata_are_detected(path):
    table, written = pq.read_table(path), pq.read_metadata(path).metadata
    scores = table["score"].to_numpy().copy()
    scores[1] = math.nextafter(scores[1], 1)
    null = np.asarray(table["score"].is_null())
    for altered in (
        table.set_column(4, "index", pa.array([2, *table["index"].to_pylist()[1:]])),
        table.set_column(5, "score", pa.array(scores, mask=null)),
        table.set_column(5, "score", pa.array(table["score"].to_numpy(), mask=null | (np.arange(8) == 3))),
    ):
        write(path, altered, written)
        with pytest.raises(rn.RelationNeuronsError, match=r"altered.*the SHA-256"):
            load_neurons(path)
    other = {files.METADATA: written[files.METADATA].replace(b'"abc"', b'"abd"')}
    for said in (other | {files.DIGEST: written[files.DIGEST]}, other):
        write(path, table, said)
        with pytest.raises(rn.RelationNeuronsError, match=r"altered.*the SHA-256"):
            load_neurons(path)


def test_a_newer_format_is_named(path):
    with pytest.raises(rn.RelationNeuronsError, match=r"format 2, written by version 9\.0 .*Do this: install a newer"):
        load_neurons(rewritten(path, format=2, version="9.0"))
    for odd in ("1", None, 0, True):
        with pytest.raises(rn.RelationNeuronsError, match="cannot be trusted"):
            load_neurons(rewritten(path, format=odd))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"columns": {"rank": pa.array(range(8))}}, "not in order"),
        ({"columns": {"layer": pa.array([9] * 8)}}, "no neuron gate:L9"),
        ({"columns": {"score": pa.array([None] * 8, pa.float64())}}, "scores of set .* are missing"),
        ({"sets": [["a", "a", 10**12, True], ["b", "b", 8 - 10**12, False]]}, "it has 8 rows"),
        ({"sets": []}, r"it has 8 rows but sets of \[\]"),
        ({"sets": [["a", "a", 8, False]]}, "not in order"),
        ({"sets": 3}, "cannot be trusted"),
        ({"sets": [["a", 3]]}, "cannot be trusted"),
        ({"widths": "x"}, "cannot be trusted"),
        ({"n_layers": -1}, "has no neuron"),
        ({"made_from": 3}, "cannot be trusted"),
        ({"drop": ("format",)}, "cannot be trusted"),
        ({"drop": ("widths",)}, "cannot be trusted"),
    ],
)
def test_impossible_contents_are_refused_even_with_a_valid_digest(path, change, says):
    with pytest.raises(rn.RelationNeuronsError, match=says):
        load_neurons(rewritten(path, **change))


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("name", pa.array([pickle.dumps(0)] * 8, pa.binary()), "its columns are name binary"),
        ("index", pa.array([1, None] * 4, pa.int64()), "some values are missing"),
    ],
)
def test_pickles_and_missing_values_are_refused_before_reading(path, name, values, says):
    table, written = pq.read_table(path), pq.read_metadata(path).metadata
    write(path, table.set_column(table.schema.names.index(name), name, values), written)
    with pytest.raises(rn.RelationNeuronsError, match=says):
        load_neurons(path)


def test_sets_that_cannot_be_saved_are_refused(tmp_path):
    def save(path=tmp_path / "n", sets=SETS, space=SPACE, **options):
        save_neurons(path, sets, space=space, score="s", **options)

    (tmp_path / "file").write_text("mine")
    for change, says in [
        ({"sets": {}}, "no neuron sets"),
        ({"space": dataclasses.replace(SPACE, n_layers=2)}, "has no neuron gate:L2.N3"),
        ({"made_from": {"a": object()}}, "cannot be serialised"),
        ({"made_from": {"a": float("nan")}}, "cannot be serialised"),
        ({"sets": {"\ud800": SETS["land_hauptstadt"]}}, "cannot be serialised"),
        ({"path": tmp_path / "file" / "n"}, "cannot be written"),
    ]:
        with pytest.raises(rn.RelationNeuronsError, match=says):
            save(**change)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
