import contextlib
import dataclasses
from itertools import pairwise

import pandas as pd
import pytest
import torch
import transformers

import relation_neurons as rn
from relation_neurons.evaluation.answers import RULES, prefix_rule, string_rule
from relation_neurons.prompts.tokenization import encode
from tests.helpers import CANDIDATES, full_only, word_prompts
from tests.planted import word_tokenizer

NEURONS = rn.NeuronSet.from_pairs([(0, 1), (1, 5), (2, 40)])


def n_tokens(prompt):
    """Of an answer: those of the object and another, two at least; a word is a token."""
    return max(2, len(prompt.object.split()) + 1)


def slow_recall(model, prompt, n=None):
    """One prompt, whole sequences, no cache: the obvious way."""
    (one,) = encode(model, [prompt])
    ids = list(one.ids)
    said = []
    for _ in range(n or n_tokens(prompt)):
        said.append(int(model(torch.tensor([ids + said]))[0, -1].argmax()))
    log_probabilities = model(torch.tensor([ids + list(one.object_ids)]))[0].log_softmax(-1)
    logprob = sum(float(log_probabilities[len(ids) - 1 + i, token]) for i, token in enumerate(one.object_ids))
    first = log_probabilities[len(ids) - 1]
    rivals = [first[model.tokenizer.convert_tokens_to_ids(c.split()[0])] for c in CANDIDATES]
    ranks = [1 + sum(bool(rival > first[one.object_ids[0]]) for rival in among) for among in (rivals, first)]
    return said, logprob, ranks


@pytest.mark.parametrize("ablated", [False, True])
@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("examples", [False, True])
def test_batched_cached_recall_equals_one_prompt_at_a_time(tiny, ablated, bos, examples):
    tiny.cfg.default_prepend_bos = bos
    prompts = word_prompts(20, examples=examples)

    def measured(work):
        if not ablated:
            return work()
        with rn.ablate(tiny, NEURONS):
            return work()

    table = measured(lambda: rn.recall(tiny, prompts, batch_size=5))
    expected = measured(lambda: [slow_recall(tiny, prompt) for prompt in prompts])
    for row, prompt, (said, logprob, ranks) in zip(table.to_dict("records"), prompts, expected, strict=True):
        assert row["logprob"] == pytest.approx(logprob, abs=1e-4)
        assert [row["object_rank"], row["first_token_rank"]] == ranks
        answer = said[: said.index(2)] if 2 in said else said  # the end-of-text token cuts it
        assert row["generated"] == tiny.tokenizer.decode(answer, skip_special_tokens=True)
        two = tiny.tokenizer.decode(answer[:2], skip_special_tokens=True)
        assert row["correct_prefix"] == prefix_rule(two, prompt.object)
        assert row["correct_string"] == string_rule(row["generated"], prompt.object)


def test_answers_end_at_every_end_token_and_reach_the_end_of_the_longest_object(tiny):
    tiny.cfg.end_tokens = ends = (2, *range(10, 20))
    candidates = (*CANDIDATES, "w1 w8 w9")
    prompts = [dataclasses.replace(prompt, candidates=candidates) for prompt in word_prompts(64, examples=False)]
    table, forced = rn.recall(tiny, prompts, batch_size=5), rn.recall(tiny, prompts, generate=False)
    lengths = set()
    for row, prompt in zip(table.to_dict("records"), prompts, strict=True):
        n = 4 if prompt.object == "w1" else max(2, len(prompt.object.split()) + 1)
        answer = slow_recall(tiny, prompt, n)[0]
        answer = answer[: next((place for place, token in enumerate(answer) if token in ends), None)]
        lengths.add((prompt.object, len(answer)))
        assert row["generated"] == tiny.tokenizer.decode(answer, skip_special_tokens=True)
        two = tiny.tokenizer.decode(answer[:2], skip_special_tokens=True)
        assert row["correct_prefix"] == prefix_rule(two, prompt.object)
        assert row["correct_string"] == RULES["string"](row["generated"], prompt.object, candidates=candidates)
    assert {("w1", 4), ("w1", 0), ("w2 w3", 1)} <= lengths
    assert forced["correct_prefix"].tolist() == table["correct_prefix"].tolist()


def test_one_pass_agrees_on_objects_with_signs_and_objects_that_begin_others(chain_model):
    """The model answers "C + 5 <stop> Paris" to each prompt; verdicts are those of the rules on the slow answer."""
    objects = ("C", "C +", "C + 5", "+", "5", "Paris")
    prompts = [rn.Prompt("r", name, name, f"{name} ? Answer:", candidates=objects) for name in objects]
    generated, forced = rn.recall(chain_model, prompts), rn.recall(chain_model, prompts, generate=False)
    assert forced["correct_prefix"].tolist() == generated["correct_prefix"].tolist()
    assert forced["correct_prefix"].tolist() == [prefix_rule("C +", name) for name in objects]
    longest = [RULES["string"]("C + 5", name, candidates=objects) for name in objects]
    assert generated["correct_string"].tolist() == longest
    assert longest == [False, False, True, False, False, False]


def test_all_end_tokens_of_the_generation_configuration_end_an_answer(chain_model):
    prompt = rn.Prompt("r", "France", "C + 5", "France ? Answer:")
    assert rn.recall(chain_model, [prompt], max_new_tokens=5)["generated"].tolist() == ["C + 5"]
    assert chain_model.cfg.end_tokens == (2, chain_model.tokenizer.convert_tokens_to_ids("stop"))


@pytest.fixture
def chain_model(tmp_path):
    """A model that answers every prompt with the same words, saved with two end tokens and loaded."""
    words = [":", "C", "+", "5", "stop", "Paris"]
    tokenizer = word_tokenizer([*words, "?", "Answer"])
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    llama = transformers.LlamaForCausalLM(config).requires_grad_(False)
    for name, weight in llama.named_parameters():
        if "norm" not in name:
            weight.zero_()
    llama.model.embed_tokens.weight[:] = torch.eye(len(tokenizer), 16)
    tokens = tokenizer.convert_tokens_to_ids(words)
    for before, after in pairwise(tokens):
        llama.lm_head.weight[after, before] = 1
    llama.generation_config = transformers.GenerationConfig(eos_token_id=[2, tokens[4]], pad_token_id=1)
    llama.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return rn.load_model(tmp_path, device="cpu")


def conditions_of(prompts, n=6):
    """Clean, and neurons of several sites becoming various things at various positions."""
    values = [rn.Zero(), rn.Scale(-2), rn.Constant(0.7)]
    positions = ["all", "prompt", "decode", "last"]
    sites = ["post", "gate", "v", "o", "down"]
    found = [rn.Condition("clean", tuple(prompts))]
    for number in range(n):
        pairs = [(layer, (3 * number + 5 * layer + step) % 16) for layer in range(3) for step in range(4)]
        neurons = rn.NeuronSet.from_pairs(pairs, site=sites[number % 5], name=f"set {number}")
        one = rn.Intervention(neurons, values[number % 3], positions[number % 4], bos=number % 2 == 0)
        found.append(rn.Condition(f"condition {number}", tuple(prompts[number:]), (one,)))
    return found


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("examples", [False, True])
def test_conditions_in_one_stream_equal_a_loop_over_conditions(tiny, examples, bos):
    tiny.cfg.default_prepend_bos = bos
    before = tiny(torch.tensor([[3, 10, 11]]))
    conditions = conditions_of(word_prompts(8, examples=examples))
    together = rn.recall_under(tiny, conditions, batch_size=9)
    alone = []
    for condition in conditions:
        with rn.intervene(tiny, *condition.interventions) if condition.interventions else contextlib.nullcontext():
            alone += [rn.recall(tiny, [prompt], condition=condition.name) for prompt in condition.prompts]
    alone = pd.concat(alone, ignore_index=True)
    pd.testing.assert_frame_equal(together.drop(columns="logprob"), alone.drop(columns="logprob"))
    pd.testing.assert_series_equal(together["logprob"], alone["logprob"], atol=1e-4, rtol=0)
    assert torch.equal(tiny(torch.tensor([[3, 10, 11]])), before)
    assert together.groupby("condition")["logprob"].mean().nunique() == len(conditions)


@pytest.mark.parametrize("examples", [False, True])
def test_one_pass_gives_the_verdict_of_two_greedy_tokens(tiny, examples):
    """Objects are made of what the model says, whole or cut short, so that verdicts differ from row to row."""
    prompts = word_prompts(40, examples=examples)
    said = rn.recall(tiny, prompts, max_new_tokens=3)["generated"]
    wanted = []
    for number, (prompt, words) in enumerate(zip(prompts, said, strict=True)):
        words = words.split() or ["w1"]
        object = [" ".join(words), " ".join(words[:2]), words[0], " ".join([*words[:1], "w5"])][number % 4]
        wanted.append(dataclasses.replace(prompt, object=object))
    conditions = conditions_of(wanted)
    generated = rn.recall_under(tiny, conditions)
    forced = rn.recall_under(tiny, conditions, generate=False)
    assert len(forced) > 250
    pd.testing.assert_frame_equal(forced[exact_columns(forced)], generated[exact_columns(forced)])
    pd.testing.assert_series_equal(forced["logprob"], generated["logprob"], atol=1e-4, rtol=0)
    assert 0.02 < forced["correct_prefix"].mean() < 0.98
    assert set(generated.columns) - set(forced.columns) == {
        "generated", "correct_exact", "correct_string", "correct_alias", "error"
    }  # fmt: skip


def exact_columns(table):
    return [name for name in table if name != "logprob"]


@pytest.mark.model
@pytest.mark.parametrize("shots", [0, *full_only(2)])
def test_verdicts_of_the_trained_model_in_one_pass_equal_two_greedy_tokens(embedded, shots, full):
    relations = rn.load_relations("country_capital", "country_language", "person_occupation", "landmark_country")
    n = 10 if full else 2
    config = rn.PromptConfig(shots=shots, n_evaluation=n)
    prompts = rn.make_prompts(relations, config).evaluation
    spread = rn.NeuronSet.from_pairs([(layer, index) for layer in range(0, 30, 3) for index in range(0, 1536, 40)])
    last = rn.NeuronSet.from_pairs([(layer, index) for layer in range(5, 25) for index in range(0, 576, 7)], site="o")
    lower = tuple(dataclasses.replace(prompt, object=prompt.object.lower()) for prompt in prompts)
    conditions = [
        rn.Condition("clean", prompts),
        rn.Condition("lower case", lower),  # the same verdicts, by other tokens
        rn.Condition("zero", prompts, (rn.Intervention(spread),)),
        rn.Condition("last", prompts, (rn.Intervention(last, rn.Scale(0.5), "last"),)),
        rn.Condition("decode", prompts, (rn.Intervention(spread, positions="decode"),)),
    ]
    generated = rn.recall_under(embedded, conditions, max_new_tokens=2)
    forced = rn.recall_under(embedded, conditions, generate=False)
    assert len(forced) == 5 * 4 * n
    assert forced["correct_prefix"].tolist() == generated["correct_prefix"].tolist()
    verdicts = forced.groupby("condition")["correct_prefix"]
    assert verdicts.sum()["clean"] == verdicts.sum()["lower case"]
    if shots:
        assert 0 < verdicts.sum()["clean"] < 4 * n


def test_answers_can_have_more_tokens(tiny):
    prompts = word_prompts(6, examples=False)
    table = rn.recall(tiny, prompts, max_new_tokens=7)
    for prompt, row in zip(prompts, table.to_dict("records"), strict=True):
        (one,) = encode(tiny, [prompt])
        said = tiny.generate(
            torch.tensor([one.ids]), max_new_tokens=7, do_sample=False, verbose=False, stop_at_eos=False
        )[0, len(one.ids) :].tolist()
        said = said[: said.index(2)] if 2 in said else said
        assert row["generated"] == tiny.tokenizer.decode(said, skip_special_tokens=True)
    with pytest.raises(rn.RelationNeuronsError, match="max_new_tokens is 0"):
        rn.recall(tiny, prompts, max_new_tokens=0)


def test_each_row_has_the_result_of_every_rule_and_the_error_kind(planted):
    prompts = rn.make_prompts(planted.relations, rn.PromptConfig(shots=0, n_evaluation=5)).evaluation
    ablated = rn.Intervention(planted.neurons["eats"])
    table = rn.recall_under(planted.model, [rn.Condition("clean", prompts), rn.Condition("eats", prompts, (ablated,))])
    rules = [f"correct_{name}" for name in RULES]
    assert table[table["condition"] == "clean"][rules[2:]].all().all()
    assert (table["error"] == "right").equals(table["correct_alias"])
    wrong = table[(table["condition"] == "eats") & (table["relation"] == "eats")]
    assert not wrong["correct_string"].any()
    assert not wrong["error"].eq("right").any()


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batch_size_changes_nothing(tiny, batch_size):
    prompts = word_prompts(20, examples=True)
    one, other = rn.recall(tiny, prompts, batch_size=7), rn.recall(tiny, prompts, batch_size=batch_size)
    pd.testing.assert_frame_equal(one[exact_columns(one)], other[exact_columns(one)])
    pd.testing.assert_series_equal(one["logprob"], other["logprob"], atol=1e-4, rtol=0)


@pytest.mark.model
def test_the_trained_model_answers_equally_in_a_batch_and_alone(embedded, full):
    relations = rn.load_relations("country_capital", "person_mother")
    prompts = rn.make_prompts(relations, rn.PromptConfig(n_evaluation=6 if full else 3)).evaluation
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


def test_empty_and_duplicate_conditions_are_refused(tiny):
    with pytest.raises(rn.RelationNeuronsError, match="no prompts"):
        rn.recall(tiny, [])
    twice = [rn.Condition("same", tuple(word_prompts(1, examples=False)))] * 2
    with pytest.raises(rn.RelationNeuronsError, match="same name"):
        rn.recall_under(tiny, twice)


def test_labels_of_conditions_become_columns(tiny):
    prompts = tuple(word_prompts(3, examples=False))
    neurons = rn.NeuronSet.from_pairs([(1, 2)])
    conditions = [
        rn.Condition("clean", prompts, labels={"ablated": "none", "k": 0}),
        rn.Condition("one", prompts[:2], (rn.Intervention(neurons),), {"ablated": "r0", "k": 1}),
    ]
    table = rn.recall_under(tiny, conditions, generate=False)
    assert list(table.columns[:4]) == ["condition", "ablated", "k", "relation"]
    assert table[["condition", "ablated", "k"]].values.tolist() == 3 * [["clean", "none", 0]] + 2 * [["one", "r0", 1]]
    plain = [rn.Condition(one.name, one.prompts, one.interventions) for one in conditions]
    assert rn.recall_under(tiny, plain, generate=False).equals(table.drop(columns=["ablated", "k"]))
    for wrong in ({"ablated": "r0"}, {"ablated": "r0", "fact": 1}):
        with pytest.raises(rn.RelationNeuronsError, match="The labels of conditions are"):
            rn.recall_under(tiny, [conditions[0], rn.Condition("one", prompts, labels=wrong)])
