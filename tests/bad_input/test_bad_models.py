"""Models that cannot be used, and files that nobody vouches for: a clear error, and nothing in them is run."""

import json
import pickle
import shutil

import gguf
import numpy as np
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
from relation_neurons.storage.run_files import read_manifest
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
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
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


@pytest.fixture(scope="module")
def gguf_weights():
    """The weights of a tiny Llama with a tied output, by their names in GGUF."""
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
    named = {names.get_name(name, try_suffixes=(".weight",)): values.numpy() for name, values in weights.items()}
    del named["output.weight"]  # tied, so that no GGUF has it
    return named


def write_gguf(path, tensors, metadata=None):
    writer = gguf.GGUFWriter(path, "llama")
    for field, value in [("embedding_length", 32), ("feed_forward_length", 32), ("block_count", 1)]:
        writer.add_uint32(f"llama.{field}", value)
    writer.add_uint32("llama.attention.head_count", 2)
    for field, value in (metadata or {}).items():
        (writer.add_string if isinstance(value, str) else writer.add_float32)(f"llama.{field}", value)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a", "b", "c", "ab"])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(2)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_that_lacks_weights_is_no_model(gguf_weights, tmp_path):
    """A tied output is in no GGUF, and nothing else may be missing: Transformers would make it up."""
    whole = rn.load_model(write_gguf(tmp_path / "whole.gguf", gguf_weights), device="cpu")
    assert torch.equal(whole.unembed.W_U, torch.from_numpy(gguf_weights["token_embd.weight"]).T)
    lacking = {name: values for name, values in gguf_weights.items() if name != "blk.0.ffn_down.weight"}
    with pytest.raises(rn.RelationNeuronsError, match="1 weights of the model are in none of its files"):
        rn.load_model(write_gguf(tmp_path / "lacks.gguf", lacking), device="cpu")


ONES = np.ones(32, dtype=np.float32)
LINEAR = {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0}


@pytest.mark.parametrize(
    ("tensors", "metadata", "says"),
    [
        ({"blk.0.attn_q.bias": ONES}, {}, r"no place for: blk\.0\.attn_q\.bias"),
        ({f"blk.0.attn_{part}.bias": ONES for part in ("q", "k", "v", "output")}, {}, "attn_q.bias and 1 more"),
        ({"blk.1.attn_norm.weight": ONES}, {}, r"no place for: blk\.1\.attn_norm\.weight"),
        ({"rope_freqs.weight": np.arange(1, 9, dtype=np.float32)}, {}, r"no place for: rope_freqs\.weight"),
        ({}, LINEAR, r"scales rotary positions \(llama\.rope\.scaling\.type = linear.*factor = 8"),
        ({}, {"rope.scaling.type": "yarn", "rope.scaling.factor": 1.0}, "scaling.type = yarn"),
        ({}, {"rope.scale_linear": 4.0}, "rope.scale_linear = 4"),
    ],
)
def test_a_gguf_that_holds_more_than_the_model_is_refused(gguf_weights, tmp_path, tensors, metadata, says):
    with pytest.raises(rn.RelationNeuronsError, match=says):
        rn.load_model(write_gguf(tmp_path / "more.gguf", gguf_weights | tensors, metadata), device="cpu")


def test_a_gguf_with_neutral_scaling_is_loaded(gguf_weights, tmp_path):
    plain = rn.load_model(write_gguf(tmp_path / "plain.gguf", gguf_weights), device="cpu")
    more = {"rope_freqs.weight": np.ones(8, dtype=np.float32)}
    tokens = torch.tensor([[0, 1, 3]])
    for scaling in (LINEAR | {"rope.scaling.factor": 1.0}, {"rope.scaling.type": "none", "rope.scaling.factor": 2.0}):
        model = rn.load_model(write_gguf(tmp_path / "more.gguf", gguf_weights | more, scaling), device="cpu")
        assert torch.equal(model(tokens), plain(tokens))


Q = "model.layers.0.self_attn.q_proj."


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({Q + "bias": torch.ones(4)}, r"no place for: model\.layers\.0\.self_attn\.q_proj\.bias\."),
        ({f"base_model.model.{Q}lora_A.weight": torch.ones(2, 4)}, r"no place for: .*q_proj\.lora_A\.weight"),
        ({Q + "lora_B.weight": torch.ones(4, 2)}, r"no place for: .*q_proj\.lora_B\.weight"),
        ({"model.layers.7.input_layernorm.weight": torch.ones(4)}, r"no place for: model\.layers\.7\."),
        ({f"model.layers.{n}.mlp.up_proj.bias": torch.ones(4) for n in range(5)}, r"layers\.2\.\S* and 2 more"),
    ],
)
def test_weights_that_the_model_has_no_place_for_are_refused(folder, more, says):
    change_weights(folder, lambda weights: weights.update(more))
    with pytest.raises(rn.RelationNeuronsError, match=says):
        rn.load_model(folder, device="cpu")


def test_harmless_weights_are_let_pass(folder, planted):
    plain = rn.load_model(folder, device="cpu")
    more = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
        "model.rotary_emb.inv_freq": torch.ones(4),
        "model.layers.0.self_attn.masked_bias": torch.ones(1),
        "model.position_ids": torch.arange(8)[None],
        "model.layers.0.attn.bias": torch.ones(1, 1, 8, 8, dtype=torch.bool),
    }
    change_weights(folder, lambda weights: weights.update(more))
    tokens = torch.arange(3, 9)[None]
    assert torch.equal(rn.load_model(folder, device="cpu")(tokens), plain(tokens))


def test_a_tied_output_that_is_stored_as_well_is_let_pass(tiny_llama, tmp_path):
    config = transformers.LlamaConfig(**{**tiny_llama[0].config.to_dict(), "tie_word_embeddings": True})
    llama = transformers.LlamaForCausalLM(config).eval()
    llama.save_pretrained(tmp_path)
    tiny_llama[1].save_pretrained(tmp_path)
    tokens = torch.arange(5, 15)[None]
    change_weights(tmp_path, lambda weights: weights.update({"lm_head.weight": llama.lm_head.weight.detach().clone()}))
    with torch.inference_mode():
        torch.testing.assert_close(
            rn.load_model(tmp_path, device="cpu")(tokens), llama(tokens).logits, rtol=0, atol=1e-4
        )


def test_an_adapter_beside_the_model_is_refused(folder):
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "mine"}')
    with pytest.raises(rn.RelationNeuronsError, match=r"holds an adapter \(adapter_config\.json\).*merge"):
        rn.load_model(folder, device="cpu")


@pytest.mark.parametrize("content", [b"GGUF", b"GGUF" + b"\xff" * 300, b"GGUF\x03\0\0\0" + b"\0" * 500, b"hello", b""])
def test_a_gguf_that_is_garbage_is_refused(tmp_path, content):
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(rn.RelationNeuronsError, match=r"cannot be loaded|is not a GGUF file"):
        rn.load_model(path, device="cpu")


def test_weights_that_are_not_numbers_never_become_results(folder, planted):
    model = rn.load_model(folder, device="cpu")
    model.blocks[0].mlp.W_in.fill_(torch.nan)  # of files that hold such numbers loading says so
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
