import dataclasses

import pytest

import relation_neurons as rn
from relation_neurons.prompts.tokenization import encode, encode_answers
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


def test_answers_are_encoded_together_as_each_alone(tiny):
    for prompt in word_prompts(4, examples=True):
        answers = ("w1", "w2 w3", prompt.object)
        alone = [encode(tiny, [dataclasses.replace(prompt, object=answer)])[0].object_ids for answer in answers]
        assert encode_answers(tiny, prompt, answers) == alone
    with pytest.raises(rn.RelationNeuronsError, match="changes the tokens of the prompt"):
        encode_answers(tiny, prompt, ["w1", ""])


@pytest.mark.model
def test_the_embedded_tokenizer_splits_where_the_query_begins(embedded):
    prompts = rn.make_prompts(
        rn.load_relations("person_father", "company_ceo"), rn.PromptConfig(n_evaluation=5)
    ).evaluation
    for prompt, one in zip(prompts, encode(embedded, prompts), strict=True):
        assert embedded.tokenizer.decode(one.ids) == prompt.text
        assert embedded.tokenizer.decode(one.ids[one.query_start :]) == prompt.text[prompt.query_start :]
        assert embedded.tokenizer.decode(one.object_ids) == " " + prompt.object


def test_prompts_that_cannot_be_encoded_are_refused(tiny):
    with pytest.raises(rn.RelationNeuronsError, match="the model takes 256"):
        encode(tiny, [rn.Prompt("r", "s", "w1", "w5 " * 300 + "? Answer:")])
    tiny.tokenizer = None
    with pytest.raises(rn.RelationNeuronsError, match="no tokenizer"):
        encode(tiny, word_prompts(1, examples=False))
