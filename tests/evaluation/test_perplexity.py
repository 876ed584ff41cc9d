import contextlib
import random

import numpy as np
import pandas as pd
import pytest
import torch

import relation_neurons as rn

TEXTS = [
    "w1 w2",
    "w7 w3 w3 w12 w5 w40 w41 w9",
    "w8",
    "w20 ? Answer: w1 w50 w51 w52 w53 w54 w2 w3 w59 w58 w57 w56",
    "w7 w3 w3 w12 w5 w40 w2 w9",  # begins like the second
    "w1 w2",
    "? Answer: w33",
]


def neurons(*pairs, site="post"):
    return rn.NeuronSet.from_pairs(pairs, site=site)


def put(layer, index, number, factor=0.0, site="mlp.hook_post", start=0, stop=None):
    """The same by TransformerLens's own means, for one text without padding."""

    def hook(activation, hook):
        activation[:, start:stop, index] = activation[:, start:stop, index] * factor + number
        return activation

    return f"blocks.{layer}.{site}", hook


def conditions(bos):
    """Interventions and, for each condition, hooks that do the same."""
    silent = rn.Intervention(neurons((0, 1), (0, 30), (2, 7)))
    doubled = rn.Intervention(neurons((1, 5), site="gate"), rn.Scale(2.0))
    moved = rn.Intervention(neurons((1, 5), site="gate"), rn.Scale(-0.5))
    behind = rn.Intervention(neurons((0, 3), (1, 4)), rn.Constant(1.5), "prompt", bos=False)
    inner = rn.Intervention(neurons((0, 20)), rn.Scale(3.0))
    start, gate = int(bos), "mlp.hook_pre"
    return {
        "clean": ((), []),
        "silent": ([silent], [put(0, 1, 0), put(0, 30, 0), put(2, 7, 0)]),
        "two": ((doubled, moved), [put(1, 5, 0, -1.0, gate)]),
        "behind": ([behind], [put(0, 3, 1.5, start=start), put(1, 4, 1.5, start=start)]),
        "last": ([rn.Intervention(neurons((0, 1), (2, 7)), rn.Constant(9.0), "last")], []),  # predicts nothing
        "decode": ([rn.Intervention(neurons((0, 1), (2, 7)), rn.Constant(9.0), "decode")], []),  # there is none
        "inner": ([inner], [put(0, 20, 0, 3.0)]),
    }


def slow_nll(model, text, hooks, bos):
    """One text at a time, the whole of it at once, no cache."""
    words = text.replace(":", " :").split()
    ids = [3] * bos + model.tokenizer.convert_tokens_to_ids(words)
    with model.hooks(fwd_hooks=hooks), torch.inference_mode():
        log_probabilities = model(torch.tensor([ids]))[0].log_softmax(dim=-1)
    return sum(-float(log_probabilities[place, ids[place + 1]]) for place in range(len(ids) - 1)), len(ids) - 1


@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize("bos", [False, True])
def test_batched_perplexity_equals_one_text_at_a_time(tiny, bos, outer):
    tiny.cfg.default_prepend_bos = bos
    texts = TEXTS if bos else [text for text in TEXTS if text != "w8"]
    first = [put(0, 20, 2.0), put(2, 7, 2.0)] if outer else []
    expected = [
        (name, number, *slow_nll(tiny, text, first + hooks, bos))
        for name, (_, hooks) in conditions(bos).items()
        for number, text in enumerate(texts)
    ]
    expected = pd.DataFrame(expected, columns=["condition", "text", "nll", "n_tokens"])
    assert expected.groupby("condition").nll.sum().nunique() == 5  # `last` and `decode` are clean
    under = {name: interventions for name, (interventions, _) in conditions(bos).items()}
    for batch_size in (1, 3, 100, None):
        told = []
        options = {"batch_size": batch_size, "progress": told.append}
        around = (
            rn.ablate(tiny, neurons((0, 20), (2, 7)), value=rn.Constant(2.0)) if outer else contextlib.nullcontext()
        )
        with around:
            found = rn.perplexity(tiny, texts, under, **options)
            alone = rn.perplexity(tiny, texts, batch_size=batch_size)
        assert sum(told) == len(found) == len(expected)
        exact = ["condition", "text", "n_tokens"]
        pd.testing.assert_frame_equal(found[exact], expected[exact])
        np.testing.assert_allclose(found["nll"], expected["nll"], atol=1e-4)
        np.testing.assert_allclose(found["perplexity"], np.exp(found["nll"] / found["n_tokens"]), rtol=1e-12)
        assert set(alone["condition"]) == {"clean"}
        np.testing.assert_allclose(alone["nll"], expected["nll"][: len(texts)], atol=1e-4)


def test_perplexity_equals_the_loss_of_transformers(tiny, tiny_llama):
    llama, tokenizer = tiny_llama
    for row in rn.perplexity(tiny, TEXTS).itertuples():
        ids = tokenizer(TEXTS[row.text], return_tensors="pt").input_ids
        assert row.nll / row.n_tokens == pytest.approx(llama(ids, labels=ids).loss.item(), abs=1e-5)


def test_the_model_is_bit_equal_afterwards(tiny):
    tokens = torch.tensor([[3, 10, 11, 12, 13]])
    before, weights = tiny(tokens), {name: weight.clone() for name, weight in tiny.named_parameters()}
    rn.perplexity(tiny, TEXTS, {name: one for name, (one, _) in conditions(bos=True).items()})
    assert torch.equal(tiny(tokens), before)
    assert all(torch.equal(weight, weights[name]) for name, weight in tiny.named_parameters())
    assert not any(point.fwd_hooks for point in tiny.hook_dict.values())


@pytest.mark.parametrize(
    ("texts", "under", "says"),
    [
        ([], None, "0 texts and 1 conditions"),
        (["w1 w2"], {}, "1 texts and 0 conditions"),
        (["w1 w2", "w3"], None, r"Text 1 \('w3'\) has 1 token"),
        (["w1 w2", ""], None, r"Text 1 \(''\) has 0 token"),
        (["w1 w2", "w3 " * 257], None, "Text 1 has 257 tokens; the model takes 256"),
        (["w1 w2"], {"far": [rn.Intervention(neurons((3, 0)))]}, "L3.N0"),
        (["w1 w2"], {"a": (), "b": [rn.Intervention(neurons((0, 48)))]}, "L0.N48"),
    ],
)
def test_invalid_texts_and_conditions_are_refused(tiny, texts, under, says):
    tiny.cfg.default_prepend_bos = False
    with pytest.raises(rn.RelationNeuronsError, match=says):
        rn.perplexity(tiny, texts, under)
    assert not any(point.fwd_hooks for point in tiny.hook_dict.values())


def test_a_text_may_fill_the_context(tiny):
    full, empty = "w3 " * 255, ""
    assert rn.perplexity(tiny, [full])["n_tokens"].tolist() == [255]
    with pytest.raises(rn.RelationNeuronsError, match="has 257 tokens"):
        rn.perplexity(tiny, [full + "w4"])
    with pytest.raises(rn.RelationNeuronsError, match="has 1 token"):  # BOS alone predicts nothing
        rn.perplexity(tiny, ["w1", empty])


@pytest.mark.model
def test_the_trained_model_prefers_english(embedded):
    texts = [
        "The cat sat on the mat and looked out of the window at the rain.",
        "Water boils at one hundred degrees Celsius at sea level.",
        "She opened the door, walked into the kitchen, and made herself a cup of tea.",
    ]
    generator = random.Random(0)
    shuffled = [" ".join(generator.sample(text.split(), len(text.split()))) for text in texts]
    third = neurons(*((layer, index) for layer in range(embedded.cfg.n_layers) for index in range(500)))
    found = rn.perplexity(embedded, texts + shuffled, {"clean": (), "harmed": [rn.Intervention(third)]})
    english, no_english, harmed = (found["perplexity"].to_numpy()[place : place + 3] for place in (0, 3, 6))
    assert ((english > 2) & (english < 100)).all()
    assert (no_english > 10 * english).all()
    assert (harmed > 2 * english).all()
