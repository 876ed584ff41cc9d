"""Continuations under conditions: equal to decoding one text at a time without a cache, and what is marked."""

import numpy as np
import pytest
import torch

import relation_neurons as rn
from relation_neurons.cli import main
from relation_neurons.evaluation.generations import common_beginning
from relation_neurons.experiments import runner
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.intra_relation import IntraConfig
from tests.planted import planted_config

PROMPTS = ["w1 w2", "w7 w3 w3 w12 w5 w40 w41 w9", "w8", "w20 ? Answer: w1 w50"]
SETS = {
    "some": rn.NeuronSet.from_pairs([(0, 1), (1, 30), (2, 7)]),
    "doubled": rn.Intervention(rn.NeuronSet.from_pairs([(1, 5)], site="gate"), rn.Scale(2.0)),
    "both": [
        rn.Intervention(rn.NeuronSet.from_pairs([(0, 3)]), rn.Constant(4.0), "decode"),
        rn.Intervention(rn.NeuronSet.from_pairs([(2, 9)]), rn.Constant(-4.0)),
    ],
}


def slowly(model, prompt, n):
    """Greedy tokens of one text, the whole of it read again for each."""
    ids = model.tokenizer(prompt, add_special_tokens=False).input_ids
    ids = [model.tokenizer.bos_token_id] * bool(model.cfg.default_prepend_bos) + ids
    start = len(ids)
    for _ in range(n):
        with torch.inference_mode():
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    ends = {model.tokenizer.eos_token_id}
    new = ids[start:]
    new = new[: next((place for place, token in enumerate(new) if token in ends), len(new))]
    return model.tokenizer.decode(new, skip_special_tokens=True)


@pytest.mark.parametrize("batch_size", [1, None])
def test_continuations_equal_decoding_one_text_at_a_time(tiny, batch_size):
    found = rn.compare_generations(tiny, PROMPTS, SETS, max_new_tokens=5, batch_size=batch_size).table
    assert list(found["condition"]) == ["clean", *SETS] * len(PROMPTS)
    texts = found.set_index(["prompt", "condition"])["generated"]
    for prompt in PROMPTS:
        assert texts[prompt, "clean"] == slowly(tiny, prompt, 5)
        with rn.ablate(tiny, SETS["some"]):
            assert texts[prompt, "some"] == slowly(tiny, prompt, 5)
    assert found["differs"].sum() > 0
    assert (found["differs"] == (found["generated"] != found.groupby("prompt")["generated"].transform("first"))).all()


def test_what_differs_is_marked_and_all_is_escaped(tiny):
    found = rn.compare_generations(tiny, PROMPTS, SETS, max_new_tokens=5)
    page = found._repr_html_()
    assert page.count("<mark>") == found.table["differs"].sum() == int(repr(found).split("; ")[1].split()[0])
    assert page.count("<tr>") == 1 + len(found.table)
    for one, other, same in [
        (" Portuguese, a language", " Portuguese, and", " Portuguese,"),
        ("Paris.", "Paris.", "Paris."),
        ("Paris", "Rome", ""),
        ("", "Rome", ""),
        ("a b", "a", "a"),
    ]:
        assert common_beginning(one, other) == same


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": []}, "no prompts"),
        ({"prompts": "w1 w2"}, "Sequence"),
        ({"prompts": ["w1", "w1"]}, "twice"),
        ({"conditions": {"clean": SETS["some"]}}, "named 'clean'"),
        ({"max_new_tokens": 0}, "at least 1"),
        ({"max_new_tokens": 5000}, "tokens in all"),
        ({"conditions": {"far": rn.NeuronSet.from_pairs([(50, 0)])}}, "50"),
    ],
)
def test_what_cannot_be_continued_is_refused(tiny, change, message):
    with pytest.raises(rn.RelationNeuronsError, match=message):
        rn.compare_generations(tiny, **{"prompts": PROMPTS, "conditions": {}, "max_new_tokens": 5} | change)


@pytest.fixture(scope="module")
def run_folder(planted_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    config = planted_config(StudyConfig, 8, planted_folder, n_controls=2)
    runner.reproduce(["intra"], config, out, options={"intra": IntraConfig(n_detection_tested=0)})
    return out


def test_the_command_ablates_neurons_of_a_run_beside_random_ones(run_folder, planted, tmp_path, monkeypatch, capsys):
    name = planted.relations[0].name
    fact, page = planted.relations[0].facts[0], tmp_path / "page.html"
    prompt = planted.relations[0].templates[0].format(fact.subject) + "? Answer:"
    command = ["relation-neurons", "generate", prompt, "--neurons", f"{run_folder}:{name}", "--n-controls", "2"]
    monkeypatch.setattr("sys.argv", [*command, "--max-new-tokens", "2", "--out", str(page)])
    main.main()
    assert "none" in capsys.readouterr().out
    neurons = rn.open_run(run_folder).neurons()[name]
    found = rn.compare_generations(planted.model, [prompt], {name: neurons}, max_new_tokens=2).table
    html = page.read_text(encoding="utf-8")
    assert html.count("<tr>") == 1 + 2 + 2  # a head, clean and ablated, two random sets
    for text in found["generated"]:
        assert all(word in html for word in text.split())
    assert np.array_equal(found["differs"], [False, found["generated"][0] != found["generated"][1]])


@pytest.mark.parametrize(("neurons", "message"), [("x", "RUN:RELATION"), ("{run}:nowhere", "no neurons of 'nowhere'")])
def test_the_command_refuses_neurons_that_there_are_not(run_folder, neurons, message, monkeypatch, capsys):
    named = neurons.format(run=run_folder)
    monkeypatch.setattr("sys.argv", ["relation-neurons", "generate", "a text", "--neurons", named])
    with pytest.raises(SystemExit):
        main.main()
    assert message in capsys.readouterr().err
