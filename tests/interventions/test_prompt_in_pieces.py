"""Passes that a user feeds in pieces over a key-value cache: exact where that is the same, refused where it is not."""

import pytest
import torch

import relation_neurons as rn
from relation_neurons.models.hooked_model import new_cache
from relation_neurons.models.position_kinds import BOS, DECODE, LAST, PROMPT, announce
from relation_neurons.models.types import is_bridge

TOKENS = torch.tensor([[3, 10, 11, 12, 13, 14]])
NEURONS = rn.NeuronSet.from_pairs([(0, index) for index in range(20)])
FOUR = rn.Constant(4)


def in_pieces(model, *pieces):
    """The last logits of pieces that are read one after the other, each with its kinds of position if given."""
    cache = new_cache(model, 1).stored
    for tokens, kinds in pieces:
        name = "past_key_values" if is_bridge(model) else "past_kv_cache"
        options = {name: cache} | ({"use_cache": True} if is_bridge(model) else {})
        if kinds is None:
            logits = model(tokens, **options)
        else:
            with announce(torch.tensor([kinds])):
                logits = model(tokens, **options)
    return logits[:, -1]


@pytest.mark.parametrize("positions", ["prompt", "last", "decode"])
def test_several_tokens_over_a_filled_cache_are_refused(tiny, positions):
    says = r"reads 3 tokens over a key-value cache of 3.*positions='all'.*announce"
    with (
        pytest.raises(rn.RelationNeuronsError, match=says),
        rn.ablate(tiny, NEURONS, value=FOUR, positions=positions),
    ):
        in_pieces(tiny, (TOKENS[:, :3], None), (TOKENS[:, 3:], None))


@pytest.mark.parametrize("bos", [True, False])
def test_at_all_positions_pieces_equal_one_pass(tiny, bos):
    with rn.ablate(tiny, NEURONS, value=FOUR, bos=bos):
        whole = tiny(TOKENS)[:, -1]
        pieces = in_pieces(tiny, (TOKENS[:, :3], None), (TOKENS[:, 3:], None))
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("positions", ["prompt", "last", "decode"])
def test_announced_pieces_equal_one_pass(tiny, positions):
    kinds = [BOS, PROMPT, PROMPT, PROMPT, LAST, DECODE]
    with rn.ablate(tiny, NEURONS, value=FOUR, positions=positions):
        with announce(torch.tensor([kinds])):
            whole = tiny(TOKENS)[:, -1]
        pieces = in_pieces(tiny, (TOKENS[:, :2], kinds[:2]), (TOKENS[:, 2:5], kinds[2:5]), (TOKENS[:, 5:], None))
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=1e-5)
    assert (whole - tiny(TOKENS)[:, -1]).abs().max() > 1e-3
