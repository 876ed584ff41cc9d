"""Log-odds of first tokens under interventions, against one prompt at a time with hooks of TransformerLens."""

import numpy as np
import pytest
import torch

import relation_neurons as rn
from relation_neurons.evaluation.first_tokens import Choice, first_token_log_odds, first_tokens, only_in
from relation_neurons.models.hooked_model import hook_name
from relation_neurons.prompts.tokenization import encode
from tests.helpers import word_prompts

WRITTEN = rn.NeuronSet.from_pairs([(0, 3), (1, 7), (1, 8), (2, 40)])


def slow_log_odds(model, prompt, neurons, number, these, those):
    """Write one number into some neurons at all positions of one prompt."""

    def write(layer):
        def hook(activation, hook):
            for neuron in neurons:
                if neuron.layer == layer:
                    activation[:, :, neuron.index] = number
            return activation

        return hook

    (one,) = encode(model, [prompt])
    hooks = [(hook_name(model, "post", layer), write(layer)) for layer in {neuron.layer for neuron in neurons}]
    with torch.no_grad():
        logits = model.run_with_hooks(torch.tensor([one.ids]), fwd_hooks=hooks)[0, -1]
    probabilities = logits.softmax(dim=0)
    return float((probabilities[list(these)].sum() / probabilities[list(those)].sum()).log())


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("examples", [False, True])
def test_log_odds_equal_one_prompt_at_a_time(tiny, examples, bos):
    tiny.cfg.default_prepend_bos = bos
    prompts = word_prompts(9, examples=examples)
    constant = rn.Intervention(WRITTEN, rn.Constant(1.5))
    choices = [
        Choice(tuple(prompts), None, (5, 9, 30), (11,)),
        Choice(tuple(prompts[2:6]), constant, (5, 9, 30), (11, 12)),
        Choice(tuple(prompts[:3]), constant, (7,), (40, 41, 42)),
    ]
    found = first_token_log_odds(tiny, choices, batch_size=4)
    expected = [
        slow_log_odds(tiny, prompt, WRITTEN if one.intervention else (), 1.5, one.these, one.those)
        for one in choices
        for prompt in one.prompts
    ]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert abs(found[2] - found[9]) > 0.01  # the same prompt, with the neurons written


def test_empty_sets_of_tokens_are_refused(tiny):
    with pytest.raises(rn.RelationNeuronsError, match="first tokens is empty"):
        first_token_log_odds(tiny, [Choice(tuple(word_prompts(1, examples=False)), None, (3,), ())])


def test_first_tokens_are_those_of_the_answers(tiny):
    prompt = word_prompts(1, examples=False)[0]
    ids = {name: tiny.tokenizer.convert_tokens_to_ids(name) for name in ("w1", "w2", "w4")}
    assert first_tokens(tiny, prompt, ("w1", "w2 w3", "w2 w5", "w4 w1")) == frozenset(ids.values())


def test_shared_tokens_count_for_neither():
    assert only_in(frozenset({1, 2, 9}), frozenset({9, 3})) == ((1, 2), (3,))
    assert only_in(frozenset({1}), frozenset({1, 2})) == ((), (2,))
