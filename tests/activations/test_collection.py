import pytest
import torch

import relation_neurons as rn
from relation_neurons.models.hooked_model import hook_name
from relation_neurons.prompts.tokenization import encode
from tests.helpers import word_prompts


def slow_mean(model, prompt, site, include_bos):
    """One prompt, no padding, no sharing, a full cache: the obvious way."""
    (one,) = encode(model, [prompt])
    _, cache = model.run_with_cache(torch.tensor([one.ids]))
    positions = list(range(one.query_start, len(one.ids)))
    if include_bos and model.cfg.default_prepend_bos:
        positions = [0, *positions]
    sites = {"ffn": ("gate", "up", "down")}.get(site, (site,))
    return torch.cat(
        [cache[hook_name(model, s, layer)][0, positions].mean(0) for s in sites for layer in range(model.cfg.n_layers)]
    )


@pytest.mark.parametrize("site", ["post", "gate", "up", "down", "ffn"])
@pytest.mark.parametrize("examples", [True, False])
@pytest.mark.parametrize(("bos", "include_bos"), [(True, True), (True, False), (False, False), (False, True)])
def test_pooling_in_the_hook_equals_a_full_cache(tiny, site, examples, bos, include_bos):
    tiny.cfg.default_prepend_bos = bos
    prompts = word_prompts(9, examples=examples)
    found = rn.collect_activations(tiny, prompts, site=site, include_bos=include_bos, batch_size=4)
    expected = torch.stack([slow_mean(tiny, prompt, site, include_bos) for prompt in prompts])
    torch.testing.assert_close(found.values, expected, atol=1e-5, rtol=1e-5)
    assert found.include_bos is (bos and include_bos)
    assert len(found.space) == expected.shape[1]


def test_every_column_is_the_neuron_it_says(tiny):
    prompts = word_prompts(3, examples=True)
    found = rn.collect_activations(tiny, prompts, site="ffn")
    (one,) = encode(tiny, prompts[:1])
    _, cache = tiny.run_with_cache(torch.tensor([one.ids]))
    for neuron in [rn.Neuron("gate", 0, 3), rn.Neuron("up", 2, 47), rn.Neuron("down", 1, 31)]:
        column = int(found.space.flatten([neuron])[0])
        expected = cache[hook_name(tiny, neuron.site, neuron.layer)][0, one.query_start :, neuron.index].mean()
        torch.testing.assert_close(found.values[0, column], expected, atol=1e-5, rtol=1e-5)


def test_nothing_stays_hooked_and_progress_is_told(tiny):
    told = []
    rn.collect_activations(tiny, word_prompts(7, examples=True), batch_size=2, progress=told.append)
    assert sum(told) == 7
    assert not any(point.fwd_hooks for point in tiny.hook_dict.values())


def test_nothing_and_nan_are_refused(tiny):
    with pytest.raises(rn.RelationNeuronsError, match="no prompts"):
        rn.collect_activations(tiny, [])
    saved = tiny.blocks[1].mlp.W_in[0, 0].item()
    tiny.blocks[1].mlp.W_in[0, 0] = float("nan")
    try:
        with pytest.raises(rn.RelationNeuronsError, match="not finite"):
            rn.collect_activations(tiny, word_prompts(2, examples=False))
    finally:
        tiny.blocks[1].mlp.W_in[0, 0] = saved
