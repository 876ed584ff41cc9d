import pytest
import torch

import relation_neurons as rn
from relation_neurons.encoding import encode, make_batches, pad
from tests.helpers import word_prompts


@pytest.mark.parametrize("bos", [True, False])
def test_a_prompt_is_its_examples_query_and_answer(tiny, bos):
    tiny.cfg.default_prepend_bos = bos
    prompts = word_prompts(8, examples=True)
    for prompt, one in zip(prompts, encode(tiny, prompts), strict=True):
        tokens = tiny.tokenizer.convert_ids_to_tokens(list(one.ids))
        assert (tokens[0] == "<bos>") is bos
        assert " ".join(tokens[one.query_start :]) == prompt.text[prompt.query_start :].replace(":", " :")
        assert tiny.tokenizer.convert_ids_to_tokens(list(one.object_ids)) == prompt.object.split()


@pytest.mark.model
def test_the_embedded_tokenizer_splits_where_the_query_begins(embedded):
    prompts = rn.make_prompts(
        rn.load_relations("person_father", "company_ceo"), rn.PromptConfig(n_evaluation=5)
    ).evaluation
    for prompt, one in zip(prompts, encode(embedded, prompts), strict=True):
        assert embedded.tokenizer.decode(one.ids) == prompt.text
        assert embedded.tokenizer.decode(one.ids[one.query_start :]) == prompt.text[prompt.query_start :]
        assert embedded.tokenizer.decode(one.object_ids) == " " + prompt.object


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batches_hold_every_prompt_once_and_whole(tiny, share, batch_size):
    encoded = encode(tiny, word_prompts(11, examples=True))
    batches = make_batches(encoded, batch_size=batch_size, share=share)
    rows = [row for batch in batches for row in batch.rows]
    assert sorted(rows) == list(range(11))
    for batch in batches:
        assert 1 <= len(batch.rows) <= batch_size
        for row, suffix in zip(batch.rows, batch.suffixes, strict=True):
            assert batch.prefix + suffix == encoded[row].ids
            assert suffix
            assert len(batch.prefix) == (encoded[row].query_start if share else 0)


def test_pad_on_either_side():
    tokens, mask = pad([[5], [6, 7, 8]], side="left", device="cpu")
    assert tokens.tolist() == [[0, 0, 5], [6, 7, 8]]
    assert mask.tolist() == [[0, 0, 1], [1, 1, 1]]
    tokens, mask = pad([[5], [6, 7, 8]], side="right", device="cpu")
    assert tokens.tolist() == [[5, 0, 0], [6, 7, 8]]
    assert torch.equal(mask, torch.tensor([[1, 0, 0], [1, 1, 1]]))


def test_what_cannot_be_encoded_is_refused(tiny):
    with pytest.raises(rn.RelationNeuronsError, match="the model takes 256"):
        encode(tiny, [rn.Prompt("r", "s", "w1", "w5 " * 300 + "? Answer:")])
    with pytest.raises(rn.RelationNeuronsError, match="batch_size is 0"):
        make_batches([], batch_size=0)
    tiny.tokenizer = None
    with pytest.raises(rn.RelationNeuronsError, match="no tokenizer"):
        encode(tiny, word_prompts(1, examples=False))
