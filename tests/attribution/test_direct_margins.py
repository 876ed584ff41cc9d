"""What sets write directly equals a plain product with the weights, at every site and behind any norm."""

import numpy as np
import pytest
import torch

import relation_neurons as rn
from relation_neurons.attribution.direct_margins import direct_margins
from relation_neurons.models.hooked_model import hook_name, hooked, neuron_space
from relation_neurons.models.logit_attribution import RESIDUAL
from relation_neurons.prompts.tokenization import encode
from tests.planted_properties import GROUP, INTERFERING, plant_properties


@pytest.fixture(scope="module")
def planted():
    return plant_properties()


@pytest.fixture(scope="module")
def prompts(planted):
    asked = rn.make_prompts(planted.relations, rn.PromptConfig(shots=0, n_evaluation=4)).evaluation
    return [prompt for prompt in asked if prompt.relation in INTERFERING]


def margin_of(model, prompt, written):
    """What a direction of the stream adds to the margin over the strongest rival, and the rival."""
    (encoded,) = encode(model, [prompt])
    streams = []
    with torch.inference_mode(), hooked(model, [(RESIDUAL.format(layer=2), lambda x: streams.append(x[0, -1]))]):
        logits = model(torch.tensor([encoded.ids]))[0, -1].tolist()
    right = encoded.object_ids[0]
    logits[right] = -torch.inf
    rival, stream = int(np.argmax(logits)), streams[0].float()
    weight = getattr(model.ln_final, "w", torch.ones(model.cfg.d_model))
    direction = (model.unembed.W_U[:, right] - model.unembed.W_U[:, rival]) * weight
    return float(written @ direction) / float((stream.square().mean() + model.cfg.eps).sqrt()), rival


def written_by_units(model, prompt, units):
    """Activations of MLP units behind a prompt times their rows of the output projection."""
    (encoded,) = encode(model, [prompt])
    values = []
    places = [hook_name(model, "post", layer) for layer in range(model.cfg.n_layers)]
    with torch.inference_mode(), hooked(model, [(place, lambda x: values.append(x[0, -1])) for place in places]):
        model(torch.tensor([encoded.ids]))
    return sum(values[layer][index] * model.blocks[layer].mlp.W_out[index] for layer, index in units)


def written_by_layers(model, prompt, neurons):
    """The same of any neurons, by ablating them in one layer at a time and reading the stream right behind it."""
    (encoded,) = encode(model, [prompt])
    tokens, total = torch.tensor([encoded.ids]), 0.0
    for layer in sorted({neuron.layer for neuron in neurons}):
        part, seen = rn.NeuronSet(tuple(n for n in neurons if n.layer == layer)), []
        place = RESIDUAL.format(layer=layer)
        with torch.inference_mode(), hooked(model, [(place, lambda x, seen=seen: seen.append(x[0, -1]))]):
            model(tokens)
            with rn.ablate(model, part):
                model(tokens)
        total = total + (seen[0] - seen[1]).float()
    return total


def test_units_write_their_activation_times_their_weights(planted, prompts):
    neurons = planted.neurons[INTERFERING[0]]
    found = direct_margins(planted.model, [(neurons, prompt) for prompt in prompts])
    for margin, prompt in zip(found, prompts, strict=True):
        written = written_by_units(planted.model, prompt, [(n.layer, n.index) for n in neurons])
        expected, rival = margin_of(planted.model, prompt, written)
        assert margin.written == pytest.approx(expected, abs=1e-3)
        assert margin.rival == rival
    disturbed = [one.written for one, prompt in zip(found, prompts, strict=True) if prompt.relation == INTERFERING[1]]
    own = [one.written for one, prompt in zip(found, prompts, strict=True) if prompt.relation == INTERFERING[0]]
    assert max(disturbed) < -1.5
    assert min(own) > 1.5


def test_a_unit_that_is_ablated_at_several_sites_counts_once(planted, prompts):
    pairs = [(n.layer, n.index) for n in planted.neurons[INTERFERING[0]]][: GROUP // 2]
    post, gate, up = (rn.NeuronSet.from_pairs(pairs, site=site) for site in ("post", "gate", "up"))
    asked = prompts[:2]
    expected = [one.written for one in direct_margins(planted.model, [(post, p) for p in asked])]
    for neurons in (gate, up, gate | up):
        found = [one.written for one in direct_margins(planted.model, [(neurons, p) for p in asked])]
        assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("site", ["ffn", "attn"])
def test_every_site_is_followed_layer_by_layer(planted, prompts, site):
    model, prompt, space = planted.model, prompts[0], neuron_space(planted.model, site)
    chosen = np.sort(np.random.default_rng(0).permutation(len(space))[:400])
    sites, layers, indices = space.locate(chosen)
    neurons = rn.NeuronSet(tuple(map(rn.Neuron, sites, layers.tolist(), indices.tolist())))
    (found,) = direct_margins(model, [(neurons, prompt)])
    expected, rival = margin_of(model, prompt, written_by_layers(model, prompt, neurons))
    assert found.written == pytest.approx(expected, abs=2e-3)
    assert found.rival == rival
    assert abs(expected) > 0.01


def test_no_questions_have_no_answers(planted):
    assert direct_margins(planted.model, []) == []
