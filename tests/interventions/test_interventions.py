import contextlib
import copy
import inspect

import pytest
import torch

import relation_neurons as rn
from relation_neurons.interventions.interventions import rows_under

TOKENS = torch.tensor([[3, 10, 11, 12, 13], [3, 20, 21, 22, 23]])
PAIRS = [(0, 1), (0, 30), (2, 7)]
ATTENTION_PAIRS = [(0, 1), (0, 12), (2, 7)]  # grouped queries have 16 keys and values in a layer
WEIGHTS = {  # what must be zero for the neuron to be silent
    "post": lambda block, index: block.mlp.down_proj.weight[:, index],
    "gate": lambda block, index: block.mlp.gate_proj.weight[index],
    "up": lambda block, index: block.mlp.up_proj.weight[index],
    "down": lambda block, index: block.mlp.down_proj.weight[index],
    "q": lambda block, index: block.self_attn.q_proj.weight[index],
    "k": lambda block, index: block.self_attn.k_proj.weight[index],
    "v": lambda block, index: block.self_attn.v_proj.weight[index],
    "o": lambda block, index: block.self_attn.o_proj.weight[index],
}


def pairs_of(site):
    return PAIRS if site in ("post", "gate", "up", "down") else ATTENTION_PAIRS


@pytest.fixture(params=sorted(WEIGHTS))
def ablated(request, tiny_llama, wrap):
    """A model, neurons, and Hugging Face's own model with their weights zero."""
    llama, tokenizer = tiny_llama
    changed = copy.deepcopy(llama)
    with torch.no_grad():
        for layer, index in pairs_of(request.param):
            WEIGHTS[request.param](changed.model.layers[layer], index).zero_()
    neurons = rn.NeuronSet.from_pairs(pairs_of(request.param), site=request.param)
    return wrap(llama, tokenizer), neurons, changed


def test_a_hook_equals_zeroed_weights(ablated):
    model, neurons, zeroed = ablated
    clean = model(TOKENS)
    with rn.ablate(model, neurons):
        found = model(TOKENS)
    torch.testing.assert_close(found, zeroed(TOKENS).logits, atol=1e-5, rtol=1e-5)
    assert (found - clean).abs().max() > 1e-4


@pytest.mark.parametrize("use_past_kv_cache", [True, False])
def test_it_holds_during_generation(ablated, use_past_kv_cache):
    model, neurons, zeroed = ablated
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
    with rn.ablate(tiny, rn.NeuronSet.from_pairs([(1, 5)]), value=rn.Constant(2.5)):
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
        ([(0, 16)], "k", "L0.N16"),
        ([(1, 32)], "q", "L1.N32"),
    ],
)
def test_neurons_outside_the_model_are_refused(tiny, pairs, site, says):
    with pytest.raises(rn.RelationNeuronsError, match=says), rn.ablate(tiny, rn.NeuronSet.from_pairs(pairs, site=site)):
        pytest.fail("the block was entered")
    assert not any(point.fwd_hooks for point in tiny.hook_dict.values())


POST = "blocks.{}.mlp.hook_post"


def activations_of(model, tokens, layer=0, **options):
    """What `post` is at a layer, in one pass."""
    seen = []
    point = model.hook_dict[POST.format(layer)]
    point.add_hook(lambda activation, hook: seen.append(activation.clone()), is_permanent=True)
    model(tokens, **options)
    point.remove_hooks(including_permanent=True)
    return seen[-1]


def test_scale_is_applied_once(tiny):
    neurons = rn.NeuronSet.from_pairs([(0, 1), (0, 30)])
    clean = activations_of(tiny, TOKENS)
    for alpha in (2, -1, 0.5):
        with rn.ablate(tiny, neurons, value=rn.Scale(alpha)):
            changed = activations_of(tiny, TOKENS)
        assert torch.equal(changed[..., [1, 30]], alpha * clean[..., [1, 30]])
    with rn.ablate(tiny, neurons, value=rn.Scale(2)), rn.ablate(tiny, neurons, value=rn.Scale(3)):
        assert torch.equal(activations_of(tiny, TOKENS)[..., [1, 30]], 6 * clean[..., [1, 30]])
    with rn.ablate(tiny, neurons, value=rn.Constant(2.0)), rn.ablate(tiny, neurons, value=rn.Scale(3)):
        assert (activations_of(tiny, TOKENS)[..., [1, 30]] == 6).all()


def test_doubling_a_neuron_equals_doubling_its_weights(tiny_llama, wrap):
    llama, tokenizer = tiny_llama
    doubled = copy.deepcopy(llama)
    with torch.no_grad():
        doubled.model.layers[1].mlp.down_proj.weight[:, 5] *= 2
    model = wrap(llama, tokenizer)
    with rn.ablate(model, rn.NeuronSet.from_pairs([(1, 5)]), value=rn.Scale(2)):
        torch.testing.assert_close(model(TOKENS), doubled(TOKENS).logits, atol=1e-5, rtol=1e-5)


def written(model, run, *, index=7, layer=1, **options):
    """Whether a neuron was written at each position of each pass of `run`."""
    seen = []
    neurons = rn.NeuronSet.from_pairs([(layer, index)])
    with rn.ablate(model, neurons, value=rn.Constant(123.0), **options):
        point = model.hook_dict[POST.format(layer)]
        point.add_hook(
            lambda activation, hook: seen.append((activation[..., index] == 123).int().tolist()), is_permanent=True
        )
        handle = point.fwd_hooks[-1]
        run()
        handle.hook.remove()
        point.fwd_hooks.remove(handle)
    return seen


PADDED = torch.tensor([[1, 1, 3, 10, 11], [3, 20, 21, 22, 23]])
MASK = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]),
        ({"bos": False}, [[0, 0, 0, 1, 1], [0, 1, 1, 1, 1]]),
        ({"positions": "prompt"}, [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]),
        ({"positions": "prompt", "bos": False}, [[0, 0, 0, 1, 1], [0, 1, 1, 1, 1]]),
        ({"positions": "last"}, [[0, 0, 0, 0, 1], [0, 0, 0, 0, 1]]),
        ({"positions": "decode"}, [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]),
    ],
)
def test_padding_is_never_written(tiny, options, expected):
    assert written(tiny, lambda: tiny(PADDED, attention_mask=MASK), **options) == [expected]
    right = PADDED.roll(-2, dims=1)[:1]
    seen = written(tiny, lambda: tiny(right, attention_mask=MASK.roll(-2, dims=1)[:1]), **options)
    assert seen == [[[*expected[0][2:], 0, 0]]]


def test_padding_of_texts_is_never_written(tiny):
    texts = ["w1 w2", "w3 w4 w5 w6"]
    for side, row in [("right", [1, 1, 1, 0, 0]), ("left", [0, 0, 1, 1, 1])]:
        tiny.tokenizer.padding_side = side
        assert written(tiny, lambda: tiny(texts)) == [[row, [1] * 5]]


@pytest.mark.parametrize("use_past_kv_cache", [True, False])
@pytest.mark.parametrize(
    ("positions", "prompt", "decode"),
    [("all", [1, 1, 1], 1), ("prompt", [1, 1, 1], 0), ("decode", [0, 0, 0], 1), ("last", [0, 0, 1], 0)],
)
def test_positions_hold_during_generation(tiny, use_past_kv_cache, positions, prompt, decode):
    options = {"max_new_tokens": 4, "do_sample": False, "verbose": False, "stop_at_eos": False}
    tokens = torch.tensor([[3, 10, 11], [3, 20, 21]])
    run = lambda: tiny.generate(tokens, use_past_kv_cache=use_past_kv_cache, **options)  # noqa: E731
    seen = written(tiny, run, positions=positions)
    for step, rows in enumerate(seen):
        expected = (prompt if step == 0 else [decode]) if use_past_kv_cache else prompt + [decode] * step
        assert rows == [expected, expected]
    assert len(seen) == 4
    assert written(tiny, run, positions=positions) == seen  # a prompt read anew is a prompt again


def test_generation_is_alike_with_and_without_a_cache_at_any_positions(tiny):
    options = {"max_new_tokens": 5, "do_sample": False, "verbose": False, "stop_at_eos": False}
    neurons = rn.NeuronSet.from_pairs([(layer, index) for layer in range(3) for index in range(0, 48, 2)])
    answers = {}
    for positions in ("all", "prompt", "decode", "last"):
        with rn.ablate(tiny, neurons, positions=positions):
            cached = tiny.generate(TOKENS, **options)
            assert torch.equal(cached, tiny.generate(TOKENS, use_past_kv_cache=False, **options))
        answers[positions] = cached
    assert len({tuple(answer.flatten().tolist()) for answer in answers.values()}) > 1


def test_interventions_can_be_composed_in_one_block(tiny):
    one = rn.Intervention(rn.NeuronSet.from_pairs([(0, 1)]), rn.Constant(5.0))
    other = rn.Intervention(rn.NeuronSet.from_pairs([(0, 1), (0, 2)]), rn.Scale(2), positions="last")
    clean = activations_of(tiny, TOKENS)
    with rn.intervene(tiny, one, other):
        changed = activations_of(tiny, TOKENS)
    assert (changed[:, :-1, 1] == 5).all()
    assert (changed[:, -1, 1] == 10).all()
    assert torch.equal(changed[:, -1, 2], 2 * clean[:, -1, 2])
    assert torch.equal(changed[:, :-1, 2], clean[:, :-1, 2])
    with pytest.raises(rn.RelationNeuronsError, match="no intervention"), rn.intervene(tiny):
        pytest.fail("the block was entered")


def test_rows_under_their_own_conditions_equal_each_alone(tiny):
    sets = [rn.NeuronSet.from_pairs([(0, n), (1, n + 1), (2, 2 * n)], site=site) for n, site in enumerate(WEIGHTS, 1)]
    values = [rn.Zero(), rn.Scale(-3), rn.Constant(1.5)]
    conditions = [[]] + [[rn.Intervention(one, values[n % 3])] for n, one in enumerate(sets)]
    conditions.append([rn.Intervention(sets[0]), rn.Intervention(sets[1], positions="last")])
    tokens = torch.randint(4, 60, (len(conditions), 6), generator=torch.Generator().manual_seed(0))
    with rows_under(tiny, conditions) as patches:
        patches.use(range(len(conditions)))
        together = tiny(tokens)
        patches.use(list(range(len(conditions)))[::-1])
        reverse = tiny(tokens.flip(0)).flip(0)
    torch.testing.assert_close(together, reverse, atol=1e-5, rtol=1e-5)
    for row, condition in enumerate(conditions):
        with rn.intervene(tiny, *condition) if condition else contextlib.nullcontext():
            alone = tiny(tokens[row : row + 1])[0]
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-5)


def test_rows_without_a_condition_are_an_error(tiny):
    one = rn.Intervention(rn.NeuronSet.from_pairs(PAIRS))
    with pytest.raises(rn.RelationNeuronsError, match="2 rows"), rows_under(tiny, [[one]]) as patches:
        patches.use([0, 0, 0])
        tiny(TOKENS)


def test_a_hook_that_fires_twice_is_an_error(tiny):
    def again(activation, hook):
        if not again.on:
            return
        again.on = False
        tiny.hook_dict["blocks.1.mlp.hook_post"](torch.zeros(2, 5, 48))

    again.on = True
    tiny.hook_dict["blocks.1.hook_resid_post"].add_hook(again, is_permanent=True)
    neurons = rn.NeuronSet.from_pairs([(1, 5)])
    with pytest.raises(rn.RelationNeuronsError, match="twice"), rn.ablate(tiny, neurons):
        tiny(TOKENS)


def test_what_an_intervention_is_not_is_refused():
    neurons = rn.NeuronSet.from_pairs(PAIRS)
    post_init = inspect.unwrap(rn.Intervention.__post_init__)
    for fields, says in [
        ((PAIRS, rn.Zero(), "all"), "neurons is a list"),
        ((neurons, 2.5, "all"), "value is 2.5"),
        ((neurons, rn.Zero(), "promt"), "did you mean 'prompt'"),
    ]:
        one = rn.Intervention(neurons)
        for name, value in zip(("neurons", "value", "positions"), fields, strict=True):
            object.__setattr__(one, name, value)
        with pytest.raises(rn.RelationNeuronsError, match=says):
            post_init(one)
    with pytest.raises(rn.RelationNeuronsError, match="is empty"):
        rn.NeuronSet.from_pairs([])


def test_a_pass_that_broke_off_does_not_count(tiny):
    prompts = [rn.Prompt("r", "w1", "w2", "w1 ? Answer:")]

    def broken(activation, hook):
        raise ZeroDivisionError

    with rn.ablate(tiny, rn.NeuronSet.from_pairs([(0, 1), (2, 3)])) as ablation:
        tiny.hook_dict["blocks.1.hook_resid_post"].add_hook(broken, is_permanent=True)
        with pytest.raises(ZeroDivisionError):
            rn.recall(tiny, prompts)
        tiny.hook_dict["blocks.1.hook_resid_post"].remove_hooks(including_permanent=True)
        rn.recall(tiny, prompts, generate=False)
    assert set(ablation.fired.values()) == {ablation.passes}
