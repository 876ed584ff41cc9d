"""Models that cannot be used, and files that nobody vouches for: a clear error, and nothing in them is run."""

import json
import pickle
import shutil

import gguf
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import relation_neurons as rn
from relation_neurons.relations import lre_download
from relation_neurons.relations.translations import read_translations
from relation_neurons.storage.files import file_digest
from relation_neurons.storage.run_folder import read_manifest
from tests.bad_input.cases import carry_out, run_folder
from tests.planted import word_tokenizer


class Trap:
    """What unpickles to a call that leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.fixture
def folder(planted_folder, tmp_path):
    """A copy of the planted model's folder, to damage."""
    return shutil.copytree(planted_folder / "model", tmp_path / "model")


def prompts(planted):
    return rn.make_prompts(planted.relations, rn.PromptConfig(shots=0, n_evaluation=3, n_detection=2)).evaluation


def change_weights(folder, change):
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: cut(folder / "model.safetensors", 5000), "cannot be loaded"),
        (lambda folder: cut(folder / "model.safetensors", 0), "cannot be loaded"),
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot be loaded"),
        (lambda folder: (folder / "config.json").unlink(), "holds no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "nothing"}'), "cannot be loaded"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "cannot be loaded"),
    ],
)
def test_a_damaged_folder_is_refused_and_no_run_folder_is_begun(folder, planted_folder, tmp_path, damage, says):
    damage(folder)
    with pytest.raises(rn.RelationNeuronsError, match=says):
        rn.load_model(folder, device="cpu")
    words = ["run", "--model", str(folder), "--relations", str(planted_folder), "--shots", "0", "--n-evaluation", "8"]
    status, said = carry_out([*words, "--out", str(tmp_path / "out")])
    assert (status, says in said) == (2, True), said
    assert not (tmp_path / "out").exists()


def test_missing_weights_are_no_model(folder):
    change_weights(folder, lambda weights: weights.pop("model.layers.1.mlp.down_proj.weight"))
    with pytest.raises(rn.RelationNeuronsError, match=r"down_proj|missing|lack"):
        rn.load_model(folder, device="cpu")


def test_a_gguf_that_lacks_weights_is_no_model(tmp_path):
    """A tied output is in no GGUF, and nothing else may be missing: Transformers would make it up."""
    config = transformers.LlamaConfig(
        vocab_size=4,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    weights = transformers.LlamaForCausalLM(config).state_dict()
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 1)

    def write(path, missing):
        writer = gguf.GGUFWriter(path, "llama")
        for field, value in [("embedding_length", 32), ("feed_forward_length", 32), ("block_count", 1)]:
            writer.add_uint32(f"llama.{field}", value)
        writer.add_uint32("llama.attention.head_count", 2)
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(["a", "b", "c", "ab"])
        writer.add_token_merges(["a b"])
        writer.add_bos_token_id(2)
        writer.add_eos_token_id(2)
        for name, values in weights.items():
            if name not in (missing, "lm_head.weight"):
                writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), values.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    whole = rn.load_model(write(tmp_path / "whole.gguf", None), device="cpu")
    assert torch.equal(whole.unembed.W_U, weights["model.embed_tokens.weight"].T)
    with pytest.raises(rn.RelationNeuronsError, match="1 weights of the model are in none of its files"):
        rn.load_model(write(tmp_path / "lacks.gguf", "model.layers.0.mlp.down_proj.weight"), device="cpu")


@pytest.mark.parametrize("content", [b"GGUF", b"GGUF" + b"\xff" * 300, b"GGUF\x03\0\0\0" + b"\0" * 500, b"hello", b""])
def test_a_gguf_that_is_garbage_is_refused(tmp_path, content):
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(rn.RelationNeuronsError, match=r"cannot be loaded|is not a GGUF file"):
        rn.load_model(path, device="cpu")


def test_weights_that_are_not_numbers_never_become_results(folder, planted):
    change_weights(folder, lambda weights: weights["model.layers.0.mlp.up_proj.weight"].fill_(torch.nan))
    model = rn.load_model(folder, device="cpu")
    asked = prompts(planted)
    with pytest.raises(rn.RelationNeuronsError, match="not finite"):
        rn.collect_activations(model, asked)
    with pytest.raises(rn.RelationNeuronsError, match="NaN"):
        rn.recall(model, asked)
    with pytest.raises(rn.RelationNeuronsError, match="NaN"):
        rn.perplexity(model, ["s1 lives in", "s2 eats in"])


@pytest.mark.parametrize("without", [("pad_token",), ("pad_token", "eos_token")])
def test_a_tokenizer_without_a_padding_token_just_works(folder, planted, without):
    whole = rn.recall(rn.load_model(folder, device="cpu"), prompts(planted))
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            content = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps({key: one for key, one in content.items() if key not in without}))
    model = rn.load_model(folder, device="cpu")
    pd.testing.assert_frame_equal(rn.recall(model, prompts(planted)), whole)


@pytest.fixture(scope="module")
def gpt(tmp_path_factory):
    """A tiny GPT-2, whose MLP has no gate, as a folder."""
    folder = tmp_path_factory.mktemp("gpt")
    tokenizer = word_tokenizer([f"w{number}" for number in range(40)])
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=3, eos_token_id=2
    )
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder, model, tokenizer


def test_a_gate_of_a_model_without_one_is_refused_with_a_way_out(gpt):
    from relation_neurons.models.wrapping import bridge

    model = bridge(gpt[1], gpt[2], name="gpt")
    prompt = rn.Prompt("r", "w1", "w2", "w1 w3")
    for site in ("gate", "up", "ffn", "all"):
        with pytest.raises(rn.RelationNeuronsError, match=r"has no gated MLP.*Do this: use the site 'post'"):
            rn.collect_activations(model, [prompt], site=site)
    with (
        pytest.raises(rn.RelationNeuronsError, match="has no gated MLP"),
        rn.ablate(model, rn.NeuronSet.from_pairs([(0, 1)], site="gate")),
    ):
        pass


def test_k_larger_than_the_model_is_refused(planted_folder, tmp_path):
    words = [
        "--model",
        str(planted_folder / "model"),
        "--relations",
        str(planted_folder),
        "--site",
        "post",
        "--shots",
        "0",
    ]
    words += ["--n-evaluation", "6", "--k", "257"]
    for command in (["compare-scores"], ["reproduce", "layers", "--out", str(tmp_path / "out")]):
        status, said = carry_out([*command, *words])
        assert status == 2
        assert "k is 257. Expected: 1 to 256" in " ".join(said.split())


def test_a_neuron_that_the_model_does_not_have_is_refused_and_no_folder_is_begun(planted_folder, tmp_path):
    words = [
        "--model",
        str(planted_folder / "model"),
        "--relations",
        str(planted_folder),
        "--out",
        str(tmp_path / "out"),
    ]
    status, said = carry_out(["neuron", "post:L2.N0", *words, "--shots", "0", "--n-evaluation", "6"])
    assert (status, "has no neuron post:L2.N0" in said) == (2, True), said
    assert not (tmp_path / "out").exists()


def test_pickled_weights_are_not_opened(folder, tmp_path):
    trap = tmp_path / "sprung"
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(trap)))
    with pytest.raises(rn.RelationNeuronsError, match="safetensors"):
        rn.load_model(folder, device="cpu")
    torch.save({"x": torch.zeros(1)}, folder / "pytorch_model.bin")
    with pytest.raises(rn.RelationNeuronsError, match="safetensors"):
        rn.load_model(folder, device="cpu")
    assert not trap.exists()


def test_code_that_comes_with_a_model_is_not_run(folder, tmp_path):
    trap = tmp_path / "sprung"
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModelForCausalLM": "mine.Mine"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(f"open({str(trap)!r}, 'w')\nclass Mine: pass\n")
    with pytest.raises(rn.RelationNeuronsError, match="cannot be loaded"):
        rn.load_model(folder, device="cpu")
    assert not trap.exists()


def test_a_table_with_pickles_in_it_is_read_without_opening_them(tmp_path):
    trap, folder = tmp_path / "sprung", run_folder(tmp_path / "run")
    pickled = pickle.dumps(Trap(trap))
    metadata = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickled}
    field = pa.field("name", pa.binary(), metadata=metadata)
    pq.write_table(pa.table([pa.array([pickled])], schema=pa.schema([field])), folder / "neurons.parquet")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["neurons.parquet"]["sha256"] = file_digest(folder / "neurons.parquet")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(rn.RelationNeuronsError, match="columns name"):
        rn.open_run(folder).neurons()
    assert not trap.exists()


@pytest.mark.parametrize(
    "name", ["../outside.parquet", "/etc/passwd", "a/../../outside.parquet", "..\\outside.parquet", "a\0b"]
)
def test_a_manifest_names_no_file_outside_of_its_folder(tmp_path, name):
    folder = run_folder(tmp_path / "run")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "outside.parquet")
    entry = {"sha256": file_digest(tmp_path / "outside.parquet"), "bytes": 3}
    (folder / "manifest.json").write_text(json.dumps({name: entry}))
    assert read_manifest(folder) == {}
    assert rn.open_run(folder).tables == ()


def test_names_of_relations_and_languages_lead_no_file_astray(tmp_path, planted_folder, monkeypatch):
    monkeypatch.setenv("RELATION_NEURONS_DATA", str(tmp_path / "cache"))
    content = json.loads((planted_folder / "lives.json").read_text())
    (tmp_path / "mine.json").write_text(json.dumps({**content, "name": "../../escaped"}))
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "languages" / "de").mkdir(parents=True)
    assert read_translations(tmp_path / "languages", "../../secret") == {}
    words = ["--templates", "{} x", "--endpoint", "http://127.0.0.1:9", "--out", str(tmp_path / "out" / "in")]
    for relation, language in ((tmp_path / "mine.json", "de"), (planted_folder / "lives.json", "../../x")):
        status, said = carry_out(["data", "translate", str(relation), "--lang", language, *words])
        assert (status, "cannot be the name of a file" in said) == (2, True), said
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "escaped.json").exists()


def test_the_data_set_is_only_fetched_under_its_own_names():
    assert not [path for path in lre_download.registry().sha256 if path.startswith("/") or ".." in path.split("/")]
