import ctypes
import dataclasses
import gc
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import psutil
import pytest
import torch
import transformers

import relation_neurons as rn
from relation_neurons.inference import memory_estimate
from relation_neurons.inference.memory_estimate import estimate, require_memory
from relation_neurons.inference.memory_plan import FIXED, PER_WORD
from relation_neurons.models.sites import expand_site
from relation_neurons.models.size import shape_of
from relation_neurons.neurons.ranking import rank_neurons
from tests.helpers import word_prompts

GB = 10**9
LLAMA_2_7B = 6_738_415_616


def llama(folder, **changes):
    """A folder with the configuration of a Llama and no weights; by default Llama-2-7B's."""
    transformers.LlamaConfig(intermediate_size=11008, **changes).save_pretrained(folder)
    return folder


def machine(monkeypatch, ram, gpu=None, disk=10**15):
    """Pretend that so many bytes are free."""
    free = {"cpu": (ram, ram), "cuda": (gpu, gpu)}
    monkeypatch.setattr(memory_estimate, "memory_of", lambda device: free[torch.device(device).type])
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=disk))


def prompts_of(n_relations, n_facts, per_fact=1, text="w1 w2 ? Answer:"):
    return [
        rn.Prompt(f"r{relation}", f"s{fact}", "w3", text, template=number)
        for relation in range(n_relations)
        for fact in range(n_facts)
        for number in range(per_fact)
    ]


def test_a_configuration_tells_the_size_of_weights_that_are_not_there(tmp_path):
    shape = shape_of(llama(tmp_path, dtype=torch.bfloat16))
    assert shape.n_parameters == LLAMA_2_7B
    assert (shape.n_layers, shape.d_mlp, shape.d_vocab, shape.n_ctx) == (32, 11008, 32000, 2048)
    prompts = prompts_of(2, 50)
    whole, half = (estimate(tmp_path, prompts, "ffn", device="cpu", dtype=dtype) for dtype in (None, "bfloat16"))
    assert whole.plan.estimate.activations == 100 * 835_584 * 4  # the paper's number of neurons
    assert 4 * LLAMA_2_7B < whole.plan.estimate.weights < 1.01 * 4 * LLAMA_2_7B
    assert 2 * LLAMA_2_7B < half.plan.estimate.weights < 1.02 * 2 * LLAMA_2_7B


def test_a_gguf_file_tells_its_size_from_its_head(tmp_path):
    path = tmp_path / "some.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"a long token {number}" for number in range(50)])
    writer.add_token_scores([0.5] * 50)
    writer.add_block_count(3)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_context_length(256)
    writer.add_tensor("token_embd.weight", np.zeros((50, 32), dtype=np.float32))
    writer.add_tensor("blk.0.ffn_up.weight", np.zeros((48, 32), dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = shape_of(path)
    assert (found.n_parameters, found.d_vocab, found.packed) == (50 * 32 + 48 * 32, 50, True)
    assert (found.n_layers, found.d_model, found.d_mlp, found.n_heads) == (3, 32, 48, 4)
    assert (found.n_key_value_heads, found.d_head, found.n_ctx) == (2, 8, 256)
    assert estimate(path, prompts_of(2, 5), device="cpu").plan.estimate.loading == 50 * (8 * 32 + PER_WORD)


@pytest.mark.model
def test_the_embedded_model_tells_its_size_without_its_file_being_read_as_a_whole(monkeypatch):
    monkeypatch.delattr(gguf.GGUFReader, "__init__")
    found = shape_of("smollm2-135m")
    assert (found.n_parameters, found.n_layers, found.d_mlp, found.d_vocab) == (134_515_008, 30, 1536, 49152)


@pytest.mark.parametrize("broken", ["gone", "no configuration", "no gguf", "damaged"])
def test_a_size_that_cannot_be_known_is_left_to_the_loader(tmp_path, broken, monkeypatch, capsys):
    path = tmp_path / "model"
    if broken == "no gguf":
        path.write_bytes(b"GGU")
    elif broken != "gone":
        path.mkdir()
        if broken == "damaged":
            (path / "config.json").write_text("{")
    machine(monkeypatch, ram=GB)
    require_memory(estimate(path, prompts_of(2, 5), out=tmp_path / "runs/one"))
    line = "This needs about 0.0 of 1000000 GB free disk (how much memory is not known before the model is loaded).\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("site", ["post", "ffn", "all", "k"])
def test_activations_of_a_loaded_model_are_known_exactly(tiny, site):
    prompts = word_prompts(12, examples=True)
    found = estimate(tiny, prompts, site).plan
    assert found.estimate.activations == rn.collect_activations(tiny, prompts, site=site).values.nbytes
    assert (found.estimate.weights, found.loaded, found.dtype) == (0, True, torch.float32)
    assert found.n_tokens >= max(len(one.text.split()) for one in prompts)


def most_memory():
    """The most memory in bytes that this process has taken since it was last set back."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak of memory is Linux's to tell")
def test_the_estimate_is_within_a_factor_of_two_of_what_is_taken(wrap, tiny_llama, tmp_path):
    config = transformers.LlamaConfig(**tiny_llama[0].config.to_diff_dict() | {"intermediate_size": 20_000})
    model = wrap(transformers.LlamaForCausalLM(config).eval(), tiny_llama[1])
    prompts = word_prompts(300, examples=False)
    rn.collect_activations(model, prompts[:2], site="ffn")  # what is loaded and compiled at first
    found = estimate(model, prompts, "ffn")
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # memory that earlier tests freed would be taken again without being seen
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back
    rank_neurons(rn.collect_activations(model, prompts, site="ffn"), depth=100)
    taken = most_memory() - before
    assert found.plan.estimate.activations == 300 * 3 * 40_032 * 4
    needed = found.plan.estimate.ram(found.rows) - FIXED
    assert 0.5 < needed / taken < 2, (needed, taken)


def remedy(found):
    with pytest.raises(rn.RelationNeuronsError) as caught:
        require_memory(found)
    return str(caught.value)


def test_what_fits_is_said_in_one_line(tmp_path, monkeypatch, capsys):
    machine(monkeypatch, ram=64 * GB, gpu=24 * GB, disk=80 * GB)
    folder, prompts = llama(tmp_path, dtype=torch.float16), prompts_of(4, 100)
    require_memory(estimate(folder, prompts, "ffn", device="cpu", dtype="bfloat16", n_answers=400_000, out=tmp_path))
    assert capsys.readouterr().err == "This needs about 16 GB of 64 GB free memory, 0.2 of 80 GB free disk.\n"
    said = []
    require_memory(estimate(folder, prompts, "ffn", device="cuda", batch_size=8), said.append)
    assert said == ["This needs about 14 GB of 64 GB free memory, 14 of 24 GB free GPU memory."]
    assert capsys.readouterr().err == ""


def test_memory_that_cannot_suffice_is_refused_with_what_would(tmp_path, monkeypatch):
    folder, prompts = llama(tmp_path), prompts_of(4, 1000, per_fact=2)
    machine(monkeypatch, ram=36 * GB)
    found = estimate(folder, prompts, "ffn", device="cpu")
    message = remedy(found)
    assert "too little memory: this needs about 54 GB of 36 GB free memory" in message
    assert "--dtype" not in message  # would not be enough: 41 GB
    assert "use --site down or --n-detection 312." in message
    plan = found.plan
    tried = {site: bool(found.lacks(dataclasses.replace(plan, site=site))) for site in ("all", "attn", "post", "down")}
    assert tried == {"all": True, "attn": True, "post": True, "down": False}
    assert [bool(found.lacks(plan.with_detection(n))) for n in (500, 375, 312, 100)] == [True, True, False, False]
    assert plan.with_detection(312).counts == (624,) * 4


def test_options_are_combined_where_none_is_enough(tmp_path, monkeypatch):
    machine(monkeypatch, ram=18 * GB)
    found = estimate(llama(tmp_path), prompts_of(4, 1000), "ffn", device="cpu")
    assert "use --dtype bfloat16 with --site down." in remedy(found)
    machine(monkeypatch, ram=10 * GB)
    assert "use a smaller model, or a machine with more memory." in remedy(
        estimate(tmp_path, prompts_of(4, 1000), "ffn", device="cpu")
    )


def test_a_gpu_that_is_too_small_is_refused(tmp_path, monkeypatch):
    machine(monkeypatch, ram=64 * GB, gpu=16 * GB)
    folder, prompts = llama(tmp_path, dtype=torch.bfloat16), prompts_of(2, 20)
    options = {"site": "gate", "device": "cuda"}
    require_memory(estimate(folder, prompts, **options), lambda line: None)
    message = remedy(estimate(folder, prompts, **options, dtype="float32"))
    assert "too little GPU memory" in message
    assert "use --dtype bfloat16 or --device cpu." in message
    many = prompts_of(2, 2000)
    assert "use --batch-size" in remedy(estimate(folder, many, **options, batch_size=4096))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_left_to_the_loader(tmp_path):
    found = estimate(llama(tmp_path, num_hidden_layers=1), prompts_of(2, 2), device="cuda")
    assert found.gpu is None
    require_memory(found)


def test_a_full_disk_asks_for_another(tmp_path, monkeypatch):
    folder, prompts = llama(tmp_path), prompts_of(4, 200)
    for disk, shards in ((2 * GB, True), (10**6, False)):
        machine(monkeypatch, ram=90 * GB, disk=disk)
        message = remedy(estimate(folder, prompts, "ffn", device="cpu", out=tmp_path / "a/b", shards=shards))
        assert "too little disk" in message
        assert message.endswith(f"name another --out, on a disk with {'2.7' if shards else '0.0'} GB free.")
    machine(monkeypatch, ram=30 * GB, disk=2 * GB)
    message = remedy(estimate(folder, prompts, "ffn", device="cpu", out=tmp_path, shards=True))
    assert "memory and disk" in message
    assert "; and name another --out" in message


def test_the_room_of_a_folder_is_that_of_its_disk(tmp_path):
    found = estimate("nothing/there/at-all", prompts_of(2, 2), out=tmp_path / "not/yet/there")
    assert found.disk == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
    assert not (tmp_path / "not").exists()


def test_sites_that_a_model_without_gates_lacks_are_not_offered(tiny, monkeypatch):
    tiny.cfg.gated_mlp = False
    machine(monkeypatch, ram=FIXED + 400_000)
    message = remedy(estimate(tiny, prompts_of(2, 200), "attn"))
    site = message.split("--site ")[1].split()[0].strip(".")
    assert site not in ("ffn", "all", "gate", "up")
    assert len(expand_site(site)) == 1
