import pandas as pd
import pytest
import torch

import relation_neurons as rn
from relation_neurons.answers import prefix_rule, string_rule
from relation_neurons.encoding import encode
from tests.helpers import CANDIDATES, word_prompts

NEURONS = rn.NeuronSet.from_pairs([(0, 1), (1, 5), (2, 40)])


def slow_recall(model, prompt):
    """One prompt, whole sequences, no cache: the obvious way."""
    (one,) = encode(model, [prompt])
    ids = list(one.ids)
    said = []
    for _ in range(8):
        said.append(int(model(torch.tensor([ids + said]))[0, -1].argmax()))
    log_probabilities = model(torch.tensor([ids + list(one.object_ids)]))[0].log_softmax(-1)
    logprob = sum(float(log_probabilities[len(ids) - 1 + i, token]) for i, token in enumerate(one.object_ids))
    first = log_probabilities[len(ids) - 1]
    rivals = [first[model.tokenizer.convert_tokens_to_ids(c.split()[0])] for c in CANDIDATES]
    rank = 1 + sum(bool(rival > first[one.object_ids[0]]) for rival in rivals)
    return said, logprob, rank


@pytest.mark.parametrize("ablated", [False, True])
@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("examples", [False, True])
def test_batched_cached_recall_equals_one_prompt_at_a_time(tiny, ablated, bos, examples):
    tiny.cfg.default_prepend_bos = bos
    prompts = word_prompts(16, examples=examples)

    def measured(work):
        if not ablated:
            return work()
        with rn.ablate(tiny, NEURONS):
            return work()

    table = measured(lambda: rn.recall(tiny, prompts, batch_size=5))
    expected = measured(lambda: [slow_recall(tiny, prompt) for prompt in prompts])
    for row, prompt, (said, logprob, rank) in zip(table.to_dict("records"), prompts, expected, strict=True):
        assert row["logprob"] == pytest.approx(logprob, abs=1e-4)
        assert row["object_rank"] == rank
        answer = said[: max(2, len(prompt.object.split()) + 1)]
        answer = answer[: answer.index(2)] if 2 in answer else answer  # the end-of-text token cuts it
        assert row["generated"] == tiny.tokenizer.decode(answer, skip_special_tokens=True)
        two = tiny.tokenizer.decode(answer[:2], skip_special_tokens=True)
        assert row["correct_prefix"] == prefix_rule(two, prompt.object)
        assert row["correct_string"] == string_rule(row["generated"], prompt.object)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batch_size_changes_nothing(tiny, batch_size):
    prompts = word_prompts(20, examples=True)
    one, other = rn.recall(tiny, prompts, batch_size=7), rn.recall(tiny, prompts, batch_size=batch_size)
    exact = [
        "generated",
        "relation",
        "subject",
        "object",
        "correct_prefix",
        "correct_string",
        "object_rank",
        "n_candidates",
    ]
    pd.testing.assert_frame_equal(one[exact], other[exact])
    pd.testing.assert_series_equal(one["logprob"], other["logprob"], atol=1e-4, rtol=0)


@pytest.mark.model
def test_the_trained_model_answers_alike_in_a_batch_and_alone(embedded):
    relations = rn.load_relations("country_capital", "person_mother")
    prompts = rn.make_prompts(relations, rn.PromptConfig(n_evaluation=6)).evaluation
    table = rn.recall(embedded, prompts)
    alone = pd.concat([rn.recall(embedded, [prompt]) for prompt in prompts], ignore_index=True)
    pd.testing.assert_frame_equal(table.drop(columns="logprob"), alone.drop(columns="logprob"))
    pd.testing.assert_series_equal(table["logprob"], alone["logprob"], atol=1e-3, rtol=0)
    for prompt, said in zip(prompts, table["generated"], strict=True):
        greedy = embedded.generate(
            prompt.text, max_new_tokens=10, do_sample=False, verbose=False, return_type="str", prepend_bos=False
        )
        assert greedy.removeprefix(prompt.text).startswith(said)


def test_rows_keep_the_order_of_the_prompts(tiny):
    prompts = word_prompts(13, examples=True)
    told = []
    table = rn.recall(tiny, prompts, condition="some", batch_size=4, progress=told.append)
    assert list(table["subject"]) == [prompt.subject for prompt in prompts]
    assert set(table["condition"]) == {"some"}
    assert sum(told) == 13


def test_nothing_is_refused(tiny):
    with pytest.raises(rn.RelationNeuronsError, match="no prompts"):
        rn.recall(tiny, [])
