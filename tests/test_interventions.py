import copy

import pytest
import torch

import relation_neurons as rn

TOKENS = torch.tensor([[3, 10, 11, 12, 13], [3, 20, 21, 22, 23]])
PAIRS = [(0, 1), (0, 30), (2, 7)]
WEIGHTS = {  # what must be zero for the neuron to be silent
    "post": lambda mlp, index: mlp.down_proj.weight[:, index],
    "gate": lambda mlp, index: mlp.gate_proj.weight[index],
    "up": lambda mlp, index: mlp.up_proj.weight[index],
    "down": lambda mlp, index: mlp.down_proj.weight[index],
}


@pytest.fixture(params=sorted(WEIGHTS))
def silenced(request, tiny_llama, wrap):
    """A model, neurons, and Hugging Face's own model with their weights zero."""
    llama, tokenizer = tiny_llama
    changed = copy.deepcopy(llama)
    with torch.no_grad():
        for layer, index in PAIRS:
            WEIGHTS[request.param](changed.model.layers[layer].mlp, index).zero_()
    neurons = rn.NeuronSet.from_pairs(PAIRS, site=request.param)
    return wrap(llama, tokenizer), neurons, changed


def test_a_hook_equals_zeroed_weights(silenced):
    model, neurons, zeroed = silenced
    clean = model(TOKENS)
    with rn.ablate(model, neurons):
        found = model(TOKENS)
    torch.testing.assert_close(found, zeroed(TOKENS).logits, atol=1e-5, rtol=1e-5)
    assert (found - clean).abs().max() > 1e-3


@pytest.mark.parametrize("use_past_kv_cache", [True, False])
def test_it_holds_during_generation(silenced, use_past_kv_cache):
    model, neurons, zeroed = silenced
    options = {"max_new_tokens": 5, "do_sample": False, "verbose": False, "stop_at_eos": False}
    with rn.ablate(model, neurons) as ablation:
        found = model.generate(TOKENS, use_past_kv_cache=use_past_kv_cache, **options)
    assert torch.equal(found, zeroed.generate(TOKENS, max_new_tokens=5, do_sample=False, eos_token_id=-1))
    assert ablation.passes == 5
    assert set(ablation.fired.values()) == {5}


def test_the_neurons_are_zero_at_every_position(tiny):
    with rn.ablate(tiny, rn.NeuronSet.from_pairs(PAIRS)):
        _, cache = tiny.run_with_cache(TOKENS)
    clean = tiny.run_with_cache(TOKENS)[1]
    for layer, index in PAIRS:
        assert (cache[f"blocks.{layer}.mlp.hook_post"][..., index] == 0).all()
    others = [i for i in range(48) if i not in (1, 30)]
    assert torch.equal(cache["blocks.0.mlp.hook_post"][..., others], clean["blocks.0.mlp.hook_post"][..., others])


def test_another_value_can_be_written(tiny):
    with rn.ablate(tiny, rn.NeuronSet.from_pairs([(1, 5)]), value=2.5):
        _, cache = tiny.run_with_cache(TOKENS)
    assert (cache["blocks.1.mlp.hook_post"][..., 5] == 2.5).all()


def test_the_model_is_bit_equal_after_the_block(tiny):
    before = tiny(TOKENS)
    weights = {name: weight.clone() for name, weight in tiny.named_parameters()}
    with rn.ablate(tiny, rn.NeuronSet.from_pairs(PAIRS)):
        tiny(TOKENS)
    with pytest.raises(ZeroDivisionError), rn.ablate(tiny, rn.NeuronSet.from_pairs(PAIRS)):
        raise ZeroDivisionError
    assert torch.equal(tiny(TOKENS), before)
    assert all(torch.equal(weight, weights[name]) for name, weight in tiny.named_parameters())
    assert not any(point.fwd_hooks for point in tiny.hook_dict.values())


def test_blocks_nest_and_restore_what_was_there(tiny):
    outer, inner = rn.NeuronSet.from_pairs([(0, 1)]), rn.NeuronSet.from_pairs([(0, 2)])
    seen = []
    tiny.add_hook("blocks.0.mlp.hook_post", lambda activation, hook: seen.append(activation[0, 0, 1:3].tolist()))
    clean = tiny(TOKENS)
    with rn.ablate(tiny, outer):
        with rn.ablate(tiny, outer):
            twice = tiny(TOKENS)
        once = tiny(TOKENS)
        with rn.ablate(tiny, inner):
            both = tiny(TOKENS)
        assert torch.equal(tiny(TOKENS), once)
    assert torch.equal(twice, once)
    with rn.ablate(tiny, rn.NeuronSet.from_pairs([(0, 1), (0, 2)])):
        assert torch.equal(tiny(TOKENS), both)
    assert torch.equal(tiny(TOKENS), clean)
    assert len(seen) == 7  # the user's own hook fired in every pass


def test_it_survives_transformer_lens_contexts(tiny):
    with rn.ablate(tiny, rn.NeuronSet.from_pairs(PAIRS)):
        expected = tiny(TOKENS)
        tiny.run_with_hooks(TOKENS, fwd_hooks=[("blocks.0.mlp.hook_post", lambda activation, hook: activation * 2)])
        with tiny.hooks(fwd_hooks=[("blocks.2.mlp.hook_post", lambda activation, hook: activation * 2)]):
            tiny(TOKENS)
        tiny.reset_hooks()
        assert torch.equal(tiny(TOKENS), expected)


def test_a_block_that_did_nothing_is_an_error(tiny):
    with (
        pytest.raises(rn.RelationNeuronsError, match="without a forward pass"),
        rn.ablate(tiny, rn.NeuronSet.from_pairs(PAIRS)),
    ):
        pass


def test_a_layer_that_did_not_fire_is_an_error(tiny):
    with (
        pytest.raises(rn.RelationNeuronsError, match=r"0 times at blocks\.2"),
        rn.ablate(tiny, rn.NeuronSet.from_pairs(PAIRS)),
    ):
        tiny(TOKENS, stop_at_layer=1)
    with (
        pytest.raises(rn.RelationNeuronsError, match=r"1 times at blocks\.0.* in 2 passes"),
        rn.ablate(tiny, rn.NeuronSet.from_pairs([(0, 1)])),
    ):
        tiny(TOKENS)
        tiny.hook_dict["blocks.0.mlp.hook_post"].remove_hooks(including_permanent=True)
        tiny(TOKENS)


@pytest.mark.parametrize(
    ("pairs", "site", "says"),
    [
        ([(3, 0)], "post", "L3.N0"),
        ([(0, 48)], "post", "L0.N48"),
        ([(0, 32)], "down", "L0.N32"),
        ([(0, -1)], "gate", "N-1"),
    ],
)
def test_neurons_outside_the_model_are_refused(tiny, pairs, site, says):
    with pytest.raises(rn.RelationNeuronsError, match=says), rn.ablate(tiny, rn.NeuronSet.from_pairs(pairs, site=site)):
        pytest.fail("the block was entered")
    assert not any(point.fwd_hooks for point in tiny.hook_dict.values())
