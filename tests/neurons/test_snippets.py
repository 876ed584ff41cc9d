"""Neuron sets in other libraries: what their code computes equals what `ablate` does."""

import copy
import runpy
from unittest.mock import patch

import pytest
import torch

import relation_neurons as rn
from relation_neurons.models.wrapping import hook_llama
from relation_neurons.neurons.hub import card
from relation_neurons.neurons.snippets import PROMPT

HookedTransformer = getattr(pytest.importorskip("transformer_lens"), "HookedTransformer", None)
NEURONS = rn.NeuronSet.from_hooks(
    {
        "blocks.0.mlp.hook_post": [1, 5],
        "blocks.1.mlp.hook_pre": [0],
        "blocks.1.mlp.hook_pre_linear": [3],
        "blocks.2.attn.hook_q": [9, 30],
        "blocks.1.hook_mlp_out": [4],
    }
)
TEXT = "w1 w2 w3 ?"


@pytest.fixture
def hooked(tiny_llama):
    if HookedTransformer is None:
        pytest.skip("this TransformerLens has no HookedTransformer")
    return hook_llama(copy.deepcopy(tiny_llama[0]), copy.deepcopy(tiny_llama[1]), name="tiny")


@pytest.fixture
def folder(tiny_llama, tmp_path):
    """The tiny Llama as other libraries load it."""
    for part in tiny_llama:
        part.save_pretrained(tmp_path / "tiny")
    return str(tmp_path / "tiny")


def expected(model):
    with torch.no_grad():
        clean = model(TEXT)
        with rn.ablate(model, NEURONS):
            logits = model(TEXT)
    assert (logits - clean).abs().max() > 0.01
    return logits


def executed(library, model, folder):
    """What the code for a library computes after our text, run from a file, from which nnsight reads it."""
    code = NEURONS.to_snippet(library, model).replace(repr(PROMPT), repr(TEXT))
    assert TEXT in code
    (folder / "pasted.py").write_text(code, encoding="utf-8")
    with torch.no_grad():
        return runpy.run_path(str(folder / "pasted.py"))["logits"]


@torch.no_grad()
def test_hooks_of_transformer_lens_equal_ablate(hooked):
    torch.testing.assert_close(hooked.run_with_hooks(TEXT, fwd_hooks=NEURONS.to_hooks()), expected(hooked))
    clean = hooked(TEXT)
    torch.testing.assert_close(hooked(TEXT), clean)
    one = NEURONS.to_hooks(value=2.0)[:1]
    _, cache = hooked.run_with_cache(TEXT)
    with hooked.hooks(fwd_hooks=one):
        _, written = hooked.run_with_cache(TEXT)
    found, before = written["blocks.0.mlp.hook_post"], cache["blocks.0.mlp.hook_post"]
    assert (found[..., [1, 5]] == 2).all()
    others = [index for index in range(found.shape[-1]) if index not in (1, 5)]
    torch.testing.assert_close(found[..., others], before[..., others])


def test_the_code_for_transformer_lens_equals_ablate(hooked, tmp_path):
    with patch.object(HookedTransformer, "from_pretrained", lambda name: hooked if name == "tiny" else None):
        torch.testing.assert_close(executed("transformer_lens", "tiny", tmp_path), expected(hooked))


@pytest.mark.parametrize("library", ["nnsight", "pyvene"])
def test_the_code_for_other_libraries_equals_ablate(hooked, folder, library, tmp_path):
    pytest.importorskip(library)
    torch.testing.assert_close(executed(library, folder, tmp_path).cpu(), expected(hooked), atol=1e-4, rtol=1e-4)


def test_the_code_for_nnsight_writes_in_the_order_of_a_pass():
    code = NEURONS.to_snippet("nnsight", "m")
    assert [line.split("layers")[1].split(" = ")[0] for line in code.splitlines() if ".layers[" in line] == [
        "[0].mlp.down_proj.input[..., [1, 5]]",
        "[1].mlp.gate_proj.output[..., [0]]",
        "[1].mlp.up_proj.output[..., [3]]",
        "[1].mlp.down_proj.output[..., [4]]",
        "[2].self_attn.q_proj.output[..., [9, 30]]",
    ]
    with pytest.raises(rn.RelationNeuronsError, match="did you mean 'nnsight'"):
        NEURONS.to_snippet("nsight")


def test_a_card_links_to_neuronpedia_where_it_has_the_neurons():
    neurons = rn.NeuronSet.from_pairs([(6, 650)])
    assert "[`L6.N650`](https://www.neuronpedia.org/gpt2-small/6/650)" in card(neurons, "a/b", "gpt2", None, "s")
    assert "neuronpedia" not in card(neurons, "a/b", "smollm2-135m", None, "s")
