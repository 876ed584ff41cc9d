"""Critical neurons: the screen finds those that ablating every neuron alone finds."""

import numpy as np
import pandas as pd
import pytest
import torch

import relation_neurons as rn
from relation_neurons.evaluation.critical_neurons import N_CANDIDATES, THRESHOLD, candidates, largest_writes, n_readings
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.prompts.concepts import screening_sentences
from tests.helpers import full_only
from tests.planted import plant_critical

TEXTS = ["w1 w2 w3 ? Answer: w4", "w7 w3 w3 w12 w5 w40 w41 w9"]


@pytest.fixture(scope="module")
def critical(planted):
    return plant_critical(planted, "eats")


def nats_per_token(model, texts):
    """One text at a time, by TransformerLens's own loss."""
    total = n = 0
    with torch.inference_mode():
        for text in texts:
            ids = torch.tensor([model.tokenizer(text)["input_ids"]])
            logprobs = model(ids)[0, :-1].log_softmax(dim=-1)
            total -= float(logprobs.gather(1, ids[0, 1:, None]).sum())
            n += ids.shape[1] - 1
    return total / n


def exhaustive(model, site, texts, threshold):
    """Every neuron of a simple site ablated alone, in a loop."""
    space, clean, rows = neuron_space(model, site), nats_per_token(model, texts), []
    for _, layer, place in space.slices():
        for index in range(place.stop - place.start):
            with rn.ablate(model, rn.NeuronSet.from_pairs([(layer, index)], site=site)):
                rows.append((site, layer, index, nats_per_token(model, texts) - clean, clean))
    table = pd.DataFrame(rows, columns=["site", "layer", "index", "increase", "clean"])
    table = table[table["increase"] > threshold]
    return table.sort_values("increase", ascending=False, kind="stable", ignore_index=True)


@pytest.mark.parametrize("site", ["gate", *full_only("down")])
def test_with_all_candidates_the_screen_is_the_exhaustive_ablation(tiny, site):
    n = len(neuron_space(tiny, site))
    slow = exhaustive(tiny, site, TEXTS, 0.05)
    assert 1 < len(slow) < n / 2
    options = {"texts": TEXTS, "threshold": 0.05, "n_candidates": n}
    fast = rn.critical_neurons(tiny, site, **options)
    pd.testing.assert_frame_equal(fast, slow, atol=1e-4, check_dtype=False)
    pd.testing.assert_frame_equal(rn.critical_neurons(tiny, site, batch_size=7, **options), fast, atol=1e-4)


@pytest.mark.parametrize("site", ["post", "gate", "up", "down", "o", "q"])
def test_sizes_are_the_largest_norms_of_what_a_neuron_writes(tiny, site):
    found = largest_writes(tiny, site, TEXTS, batch_size=2)
    expected = np.zeros_like(found)
    read_at = {"down": "hook_mlp_out", "o": "hook_attn_out", "q": "attn.hook_q"}.get(site, "mlp.hook_post")
    for text in TEXTS:
        _, cache = tiny.run_with_cache(torch.tensor([tiny.tokenizer(text)["input_ids"]]))
        sizes, shares = [], []
        for layer in range(tiny.cfg.n_layers):
            size = cache[f"blocks.{layer}.{read_at}"].flatten(2)[0].abs()
            if read_at == "mlp.hook_post":
                size = size * tiny.blocks[layer].mlp.W_out.norm(dim=1)
            sizes.append(size.amax(dim=0))
            shares.append((size / cache[f"blocks.{layer}.hook_resid_post"][0].norm(dim=1)[:, None]).amax(dim=0))
        expected = np.maximum(expected, torch.stack([torch.cat(sizes), torch.cat(shares)]).numpy(force=True))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_half_of_the_candidates_are_large_for_their_layer_and_half_beside_the_stream(tiny):
    sizes, shares = largest_writes(tiny, "post", TEXTS)
    by_layer = [part / np.median(part) for part in np.split(sizes, tiny.cfg.n_layers)]
    chosen = sorted(range(len(sizes)), key=lambda place: -np.concatenate(by_layer)[place])[:3]
    chosen += sorted(set(range(len(sizes))) - set(chosen), key=lambda place: -shares[place])[:2]
    found = candidates(tiny, "post", TEXTS, 5)
    assert [one.layer * tiny.cfg.d_mlp + one.index for one in found] == chosen


def test_the_planted_critical_neuron_is_the_only_one(critical):
    planted, neuron = critical
    for site, index in (("post", neuron.index), ("gate", neuron.index), ("up", neuron.index), ("down", 95)):
        fast = rn.critical_neurons(planted.model, site)
        assert fast[["site", "layer", "index"]].to_numpy().tolist() == [[site, 1, index]]
    texts = screening_sentences()[:1]
    slow = exhaustive(planted.model, "post", texts, THRESHOLD)
    pd.testing.assert_frame_equal(
        rn.critical_neurons(planted.model, "post", texts=texts), slow, atol=1e-4, check_dtype=False
    )
    both = rn.critical_neurons(planted.model, "ffn")
    assert set(both["site"]) == {"gate", "up", "down"}
    assert both["increase"].is_monotonic_decreasing


def test_a_model_without_any_gives_an_empty_table(planted):
    told = []
    table = rn.critical_neurons(planted.model, "ffn", progress=told.append)
    assert list(table.columns) == ["site", "layer", "index", "increase", "clean"]
    assert len(table) == 0
    n_texts = len(screening_sentences())
    assert sum(told) == n_readings(neuron_space(planted.model, "ffn")) == (1 + 3 * N_CANDIDATES) * n_texts


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_candidates": 0}, "n_candidates is 0"),
        ({"threshold": 0.0}, "threshold 0.0"),
        ({"texts": []}, "There are no texts"),
        ({"texts": ["w1"]}, r"has 1 token\(s\)|has 1 token"),
        ({"site": "gates"}, "'gates' is not a site"),
    ],
)
def test_bad_input_is_refused(planted, options, says):
    with pytest.raises(rn.RelationNeuronsError, match=says):
        rn.critical_neurons(planted.model, **options)
    assert not any(point.fwd_hooks for point in planted.model.hook_dict.values())
