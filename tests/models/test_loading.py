import math
import socket
import time

import gguf
import httpx
import huggingface_hub.errors as hub
import pytest
import torch
import transformers

import relation_neurons as rn
from relation_neurons.models import loading, pretrained
from relation_neurons.models.hooked_model import add_hook, crop_cache, forward, neuron_space, new_cache, select_cache
from relation_neurons.models.position_kinds import DECODE, PROMPT
from relation_neurons.models.sites import NeuronSpace
from relation_neurons.models.wrapping import HookedTransformer, hook_llama
from tests.models.architectures import LLAMA3

hooked_only = pytest.mark.skipif(HookedTransformer is None, reason="TransformerLens 4 has no HookedTransformer")


@hooked_only
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_key_value_heads": 4},
        {"tie_word_embeddings": True},
        {"head_dim": 16},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e5}},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
        {"rope_parameters": LLAMA3},
    ],
    ids=["grouped", "ungrouped", "tied", "head_dim", "theta", "linear", "llama3"],
)
def test_logits_equal_hugging_faces(tiny_llama, changes):
    config = transformers.LlamaConfig(**{**tiny_llama[0].config.to_dict(), **changes})
    torch.manual_seed(1)
    llama = transformers.LlamaForCausalLM(config).eval()
    model = hook_llama(llama, None)
    tokens = torch.randint(0, config.vocab_size, (3, 40))
    with torch.inference_mode():
        expected, found = llama(tokens).logits, model(tokens)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@hooked_only
def test_weights_are_shared_not_copied(tiny_llama):
    llama, tokenizer = tiny_llama
    model = hook_llama(llama, tokenizer)
    theirs = llama.model.layers[1]
    for ours, weight in [
        (model.blocks[1].mlp.W_out, theirs.mlp.down_proj.weight),
        (model.blocks[1].mlp.W_gate, theirs.mlp.gate_proj.weight),
        (model.blocks[1].attn.W_Q, theirs.self_attn.q_proj.weight),
        (model.embed.W_E, llama.model.embed_tokens.weight),
    ]:
        assert ours.data_ptr() == weight.data_ptr()


@pytest.mark.parametrize("line", ["installed", "bridge"])
def test_a_saved_folder_is_loaded(tiny_llama, tmp_path, line, monkeypatch):
    if line == "bridge":
        monkeypatch.setattr(loading, "HookedTransformer", None)
    llama, tokenizer = tiny_llama
    llama.save_pretrained(tmp_path / "mine")
    tokenizer.save_pretrained(tmp_path / "mine")
    model = rn.load_model(tmp_path / "mine", device="cpu")
    tokens = torch.arange(5, 25)[None]
    with torch.inference_mode():
        torch.testing.assert_close(model(tokens), llama(tokens).logits, atol=1e-4, rtol=1e-4)
    assert model.cfg.model_name == "mine"
    assert model.cfg.dtype == torch.float32
    halved = rn.load_model(tmp_path / "mine", device="cpu", dtype=torch.bfloat16)
    assert next(halved.parameters()).dtype == torch.bfloat16
    assert loading.parity(tmp_path / "mine", device="cpu").max_logit_difference < 1e-4


def refused(source, says, **arguments):
    with pytest.raises(rn.RelationNeuronsError) as error:
        rn.load_model(source, **arguments)
    for part in says:
        assert part in str(error.value)
    assert str(error.value).count("\n") == 0


def test_bad_places_are_refused(tmp_path):
    refused(tmp_path, ["has no config.json", "save_pretrained"])
    refused(tmp_path / "gone.gguf", ["no file or folder"])
    (tmp_path / "x.gguf").write_bytes(b"not a gguf")
    refused(tmp_path / "x.gguf", ["is not a GGUF file"])
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\x03\x00\x00\x00" + b"\x01" * 30)
    refused(tmp_path / "cut.gguf", ["cannot be loaded"])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{", encoding="utf-8")
    refused(tmp_path / "broken", ["cannot be loaded"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_refused():
    refused("smollm2-135m", ["no GPU is visible"], device="cuda")


def response(status):
    return httpx.Response(status, request=httpx.Request("GET", "http://localhost"))


@pytest.mark.parametrize(
    ("cause", "says"),
    [
        (hub.GatedRepoError("gated", response=response(403)), ["gated", "HF_TOKEN", "licence"]),
        (hub.RepositoryNotFoundError("gone", response=response(404)), ["no model 'a/b'", "spelling"]),
        (hub.OfflineModeIsEnabled("offline"), ["HF_HUB_OFFLINE is set"]),
        (hub.LocalEntryNotFoundError("nothing"), ["cannot be reached"]),
        (httpx.ConnectError("no route"), ["cannot be reached"]),
        (ValueError("odd"), ["cannot be loaded", "odd"]),
    ],
)
def test_what_the_hub_says_is_explained(monkeypatch, cause, says):
    def fail(*_, **__):
        try:
            raise cause
        except Exception as error:
            raise OSError("something went wrong\nsee the manual") from error

    monkeypatch.setattr(pretrained.transformers.AutoTokenizer, "from_pretrained", fail)
    refused("a/b", [word.replace("odd", "something went wrong") for word in says])


def test_offline_mode_is_honoured_without_a_wait(offline, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(socket.socket, "connect", lambda *arguments: waits.append(arguments))
    refused("meta-llama/Llama-2-7b-hf", ["HF_HUB_OFFLINE is set"])
    assert waits == []


@pytest.mark.model
def test_the_embedded_model_is_the_trained_one(embedded, full):
    assert (embedded.cfg.n_layers, embedded.cfg.d_mlp, embedded.cfg.d_model) == (30, 1536, 576)
    assert embedded.cfg.default_prepend_bos is False
    said = embedded.generate("The capital of France is", max_new_tokens=1, do_sample=False, verbose=False)
    assert said == "The capital of France is Paris"
    model, reference = loading.load_with_reference("smollm2-135m", device="cpu")
    assert reference.parity(model).max_logit_difference < 2e-4
    if full:  # small models are cast always
        assert loading.cast(model, torch.bfloat16)
        assert_same(model, rn.load_model("smollm2-135m", device="cpu", dtype=torch.bfloat16))


def assert_same(one, other):
    """Two models are the same to the bit: weights and what shares them, tables, settings and logits."""
    tokens = torch.arange(5, 35)[None]
    with torch.inference_mode():
        assert torch.equal(one(tokens), other(tokens))
    for named in ("named_parameters", "named_buffers"):
        ours, theirs = (dict(getattr(model, named)()) for model in (one, other))
        assert ours.keys() == theirs.keys()
        for name, values in ours.items():
            assert (values.dtype, values.stride()) == (theirs[name].dtype, theirs[name].stride()), name
            assert torch.equal(values, theirs[name]), name
    n_stored, n_expected = (len({w.untyped_storage().data_ptr() for w in m.parameters()}) for m in (one, other))
    assert n_stored == n_expected
    assert one.cfg.dtype == other.cfg.dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True}, {"rope_parameters": LLAMA3}], ids=str)
@pytest.mark.parametrize("line", ["installed", "bridge"])
def test_a_cast_model_is_to_the_bit_the_one_loaded_in_that_type(
    tiny_llama, tmp_path, line, changes, stored, dtype, monkeypatch
):
    if line == "bridge":
        monkeypatch.setattr(loading, "HookedTransformer", None)
    llama, tokenizer = tiny_llama
    config = transformers.LlamaConfig(**{**llama.config.to_dict(), **changes})
    torch.manual_seed(1)
    transformers.LlamaForCausalLM(config).to(stored).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = rn.load_model(tmp_path, device="cpu")
    assert loading.cast(model, dtype)
    assert_same(model, rn.load_model(tmp_path, device="cpu", dtype=dtype))
    assert not loading.cast(model, torch.bfloat16)  # what is lost does not come back


def test_only_llamas_are_cast(tiny):
    field = "architecture" if hasattr(tiny, "original_model") else "original_architecture"
    setattr(tiny.cfg, field, "Gemma2ForCausalLM")
    assert not loading.cast(tiny, torch.bfloat16)
    assert {weights.dtype for weights in tiny.parameters()} == {torch.float32}


def test_parity_is_nan_if_any_logit_is(tiny):
    texts = (torch.tensor([[5, 6]]), torch.tensor([[7, 8, 9]]))
    logits = [tiny(text) for text in texts]
    assert loading.Reference(texts, tuple(logits)).parity(tiny) == loading.Parity(0.0, 1.0, 5)
    logits[1][0, 0, 0] = float("nan")
    assert math.isnan(loading.Reference(texts, tuple(logits)).parity(tiny).max_logit_difference)


@pytest.mark.full
@pytest.mark.model
def test_a_gguf_is_parsed_and_its_tensors_are_listed_once(embedded, monkeypatch):
    parsed, listed = [], []
    for name, calls in (("GGUFReader", parsed), ("get_tensor_name_map", listed)):
        real = getattr(gguf, name)
        monkeypatch.setattr(gguf, name, lambda *given, real=real, calls=calls: calls.append(given) or real(*given))
    before = gguf.GGUFReader
    pretrained.load_pretrained(pretrained.resolve("smollm2-135m"), device=torch.device("cpu"), dtype=None)
    assert (len(parsed), len(listed)) == (1, 1)
    assert gguf.GGUFReader is before


def test_a_hook_is_removed_alone(tiny):
    seen = []
    add_hook(tiny, "blocks.0.mlp.hook_post", lambda activation: seen.append("theirs"))
    remove = add_hook(tiny, "blocks.0.mlp.hook_post", lambda activation: seen.append("ours"))
    tokens = torch.tensor([[5, 6, 7]])
    tiny.run_with_hooks(tokens, fwd_hooks=[("blocks.0.mlp.hook_post", lambda activation, hook: None)])
    remove()
    remove_again_is_harmless = len(tiny.hook_dict["blocks.0.mlp.hook_post"].fwd_hooks)
    tiny(tokens)
    assert seen == ["theirs", "ours", "theirs"]
    assert remove_again_is_harmless == 1


def test_an_unknown_hook_is_refused(tiny):
    with pytest.raises(rn.RelationNeuronsError, match=r"no hook 'blocks\.9\.mlp\.hook_post'"):
        add_hook(tiny, "blocks.9.mlp.hook_post", lambda activation: None)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("tokenizer_side", ["left", "right"])
def test_forward_is_exact_on_either_padding_side(tiny, side, tokenizer_side, monkeypatch):
    monkeypatch.setattr(tiny.tokenizer, "padding_side", tokenizer_side)
    rows = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14]]
    lists = [[0] * (5 - len(row)) + row if side == "left" else row + [0] * (5 - len(row)) for row in rows]
    tokens = torch.tensor(lists)
    with torch.inference_mode():
        found = forward(tiny, tokens, (tokens > 0) * PROMPT, keep=5).all()
        for row, ids in enumerate(rows):
            alone = tiny(torch.tensor([ids]))[0]
            torch.testing.assert_close(found[row][tokens[row] > 0], alone, atol=1e-5, rtol=1e-5)


def test_selected_and_cropped_caches_equal_reading_everything(tiny):
    beginnings, suffixes, chosen = [[5, 6, 7, 8], [0, 13, 14, 15]], [[9, 10, 11], [0, 0, 12], [0, 16, 17]], [1, 0, 1]
    with torch.inference_mode():
        cache = new_cache(tiny, 2)
        tokens = torch.tensor(beginnings)
        forward(tiny, tokens, (tokens > 0) * PROMPT, cache, keep=0)
        rows, tokens = select_cache(tiny, cache, chosen), torch.tensor(suffixes)
        last = forward(tiny, tokens, (tokens > 0) * PROMPT, rows, keep=1).all()[:, 0]
        more = torch.tensor([[20, 21], [22, 0], [23, 24]])
        side_trip = forward(tiny, more, (more > 0) * DECODE, rows, keep=2).all()[:, 0]
        crop_cache(rows, 2)
        crop_cache(rows, 0)
        step = forward(tiny, torch.tensor([[30], [31], [32]]), torch.full((3, 1), DECODE), rows, keep=1).all()[:, 0]
        assert cache.mask.tolist() == [[1, 1, 1, 1], [0, 1, 1, 1]]
        for row, (number, suffix) in enumerate(zip(chosen, suffixes, strict=True)):
            whole = [token for token in beginnings[number] + suffix if token]
            for found, ids in [
                (last[row], whole),
                (side_trip[row], [*whole, int(more[row, 0])]),
                (step[row], [*whole, 30 + row]),
            ]:
                torch.testing.assert_close(found, tiny(torch.tensor([ids]))[0, -1], atol=1e-5, rtol=1e-5)


def test_sites_of_a_model(tiny):
    assert len(neuron_space(tiny, "post")) == 3 * 48
    assert len(neuron_space(tiny, "ffn")) == 3 * (48 + 48 + 32)
    with pytest.raises(rn.RelationNeuronsError, match="did you mean 'post'"):
        neuron_space(tiny, "pots")
    tiny.cfg.gated_mlp = False
    with pytest.raises(rn.RelationNeuronsError, match="no gated MLP"):
        neuron_space(tiny, "ffn")


def test_llama_2_has_the_papers_number_of_neurons():
    space = NeuronSpace("7B", 32, (("gate", 11008), ("up", 11008), ("down", 4096)))
    assert len(space) == 835_584
    assert len(NeuronSpace("13B", 40, (("gate", 13824), ("up", 13824), ("down", 5120)))) == 1_310_720
