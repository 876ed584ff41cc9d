"""What objects print says in one line what they are; notebooks show small tables, in which every text is escaped."""

import dataclasses
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import relation_neurons as rn
from relation_neurons.experiments.study import Study
from relation_neurons.models.sites import NeuronSpace
from relation_neurons.neurons.place_text import densest_layers
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.storage.run_files import read_run_files
from tests.bad_input.cases import run_folder

LONGEST = 200
"""Characters of a line."""
HOSTILE = "<script>alert('&')</script>"


@pytest.fixture(scope="module")
def relation():
    return rn.load_relations("country_capital")[0]


@pytest.fixture(scope="module")
def prompts():
    return rn.make_prompts(rn.load_relations("country_capital", "company_ceo"))


def many(n=200):
    """A set such as a study ranks: most neurons in layers 20 to 22."""
    layers = [2, 29, *(20 + number % 3 for number in range(n - 2))]
    neurons = tuple(rn.Neuron("post", layer, number) for number, layer in enumerate(layers))
    return rn.NeuronSet(neurons, "country_language", tuple(np.linspace(1, 0, n).tolist()))


def test_neurons_say_how_many_and_where():
    assert repr(many()) == "NeuronSet('country_language', 200 at post, layers 2-29, most in 20-21)"
    assert repr(rn.NeuronSet.from_pairs([(3, 1)])) == "NeuronSet('neurons', 1 at post, layer 3)"
    two = rn.NeuronSet((rn.Neuron("gate", 0, 1), rn.Neuron("up", 7, 1)), "a")
    assert repr(two) == "NeuronSet('a', 2 at gate, up, layers 0-7)"


@given(st.dictionaries(st.integers(-3, 12), st.integers(1, 9), min_size=1))
def test_the_densest_layers_are_the_fewest_with_more_than_half(counts):
    spans = [(first, last) for first in range(-3, 13) for last in range(first, 13)]

    def held(span):
        return sum(n for layer, n in counts.items() if span[0] <= layer <= span[1])

    enough = [span for span in spans if 2 * held(span) > sum(counts.values())]
    assert densest_layers(Counter(counts)) == min(enough, key=lambda span: (span[1] - span[0], -held(span), span[0]))


def test_prompts_say_of_what_and_how_many(prompts):
    counts = len(prompts.detection), len(prompts.evaluation)
    assert repr(prompts) == f"Prompts(2 relations, {counts[0]:,} for detection, {counts[1]:,} for evaluation)"
    one = dataclasses.replace(prompts, detection=(prompts.detection[0],), evaluation=())
    assert repr(one) == "Prompts('country_capital', 1 for detection, 0 for evaluation)"


def test_a_prompt_shows_its_query_and_object():
    prompt = rn.Prompt("eats", "cat", "fish", "dog eats bone\ncat eats", 14)
    assert repr(prompt) == "Prompt('eats', 'cat eats' -> 'fish', after examples)"
    assert repr(dataclasses.replace(prompt, query_start=0)).endswith("-> 'fish')")
    assert len(repr(dataclasses.replace(prompt, text="x" * 5000, object="y" * 5000))) < 500


def test_a_relation_says_its_size(relation):
    n_objects, n_templates = len(relation.objects), len(relation.templates) + len(relation.templates_zs)
    assert repr(relation).startswith(
        f"Relation('country_capital', {len(relation.facts)} facts, {n_objects} objects, {n_templates} templates, in en"
    )
    assert all(code in repr(relation) for code in relation.translations)


def test_activations_say_their_shape_and_type(prompts):
    space = NeuronSpace("m", 30, (("post", 1536),))
    rows = prompts.detection[:32] * 10
    found = rn.Activations(torch.zeros(320, 1).expand(320, 46080), rows, space)
    assert repr(found) == "Activations(320 prompts x 46,080 neurons at post, float32)"
    assert repr(dataclasses.replace(found, include_bos=True)).endswith("float32, with BOS)")
    values = torch.zeros(320, 1).expand(320, 46080)
    attributed = rn.Attributions(values, rows, space, method="exact", target="logprob")
    assert repr(attributed) == "Attributions(320 prompts x 46,080 neurons at post, float32, exact of logprob)"


def test_a_study_says_its_model_relations_and_neurons(planted, tmp_path):
    config = rn.StudyConfig(site="post", k=3, prompts=rn.PromptConfig(shots=2, n_evaluation=4))
    study = Study(planted.model, planted.relations, config)
    name = planted.model.cfg.model_name
    assert repr(study) == f"Study({name!r}, {len(planted.relations)} relations, k 3 at post)"
    study.keep_in(tmp_path / "run")
    assert repr(study).endswith(f"k 3 at post, kept in '{tmp_path / 'run'}')")
    cells = shown(study).cells
    assert [row[0] for row in cells] == [one.name for one in planted.relations]
    assert [row[3] for row in cells] == [str(len(study.evaluation(one.name))) for one in planted.relations]
    case = rn.Case(many(), study.evaluation(), {"ablated": "x", "k": 200})
    assert repr(case) == f"Case(ablated='x', k=200, {many()!r}, {len(study.evaluation())} prompts)"


def test_a_condition_counts_its_prompts(prompts):
    assert repr(rn.Condition("clean", prompts.evaluation)) == "Condition('clean', 80 prompts, no interventions)"
    ablated = rn.Condition("x", prompts.evaluation, (rn.Intervention(many()),))
    assert repr(many()) in repr(ablated)
    assert len(repr(ablated)) < 300


def test_a_result_says_its_tables():
    table = pd.DataFrame({"relation": ["a", "b"], "effect": [0.5, 1.0]})
    result = ExperimentResult("intra", "Does it fall?", {"effects": table, "one": table[:1]}, ("It falls.",))
    assert repr(result) == "ExperimentResult('intra', tables effects (2 rows), one (1 row), verdict of 1 sentence)"
    page = shown(result)
    assert page.cells == [["effects", "2", "relation, effect"], ["one", "1", "relation, effect"]]
    assert "It falls." in page.text


def test_a_run_says_what_is_finished(tmp_path):
    path = run_folder(tmp_path / "run")
    run = rn.open_run(path)
    size = sum(entry["bytes"] for entry in run.files.values()) / 1e6
    assert repr(run) == f"Run('{path}', finished: intra, 3 files, {size:.1f} MB)"
    assert repr(read_run_files(path)) == repr(run).replace("Run(", "RunFiles(")
    assert "finished: nothing, 0 files" in repr(dataclasses.replace(run, files={}))
    vast = {"x": {"sha256": "", "bytes": 10**1000}}
    assert len(repr(dataclasses.replace(run, files=vast))) < LONGEST + len(str(path))


class Shown(HTMLParser):
    """The tags, rows of cells and text of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.cells, self.text, self.cell = set(), [], "", False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.cell = tag == "td"
        if tag == "tr":
            self.cells.append([])
        elif tag == "td":
            self.cells[-1].append("")

    def handle_endtag(self, tag):
        self.cell = False
        if tag == "thead":
            self.cells.clear()

    def handle_data(self, data):
        self.text += data
        if self.cell:
            self.cells[-1][-1] += data


def shown(one):
    return Shown(one._repr_html_())


def test_neurons_are_shown_best_first():
    page = shown(many())
    assert repr(many()) in page.text
    assert page.cells[0] == ["1", "L2.N0", "1.0000"]
    assert len(page.cells) == 10
    assert "and 190 more" in page.text
    assert shown(rn.NeuronSet.from_pairs([(3, 1)])).cells == [["1", "L3.N1", ""]]


def test_prompts_are_shown_by_relation(prompts):
    first = next(prompt for prompt in prompts.detection if prompt.relation == "company_ceo")
    n_detection = sum(prompt.relation == "company_ceo" for prompt in prompts.detection)
    row = next(row for row in shown(prompts).cells if row[0] == "company_ceo")
    assert row == ["company_ceo", str(n_detection), "40", first.text[first.query_start :], first.object]


def test_a_relation_is_shown_by_its_first_facts(relation):
    page = shown(relation)
    assert [row[:2] for row in page.cells] == [[fact.subject, fact.object] for fact in relation.facts[:5]]
    assert all(template in page.text for template in relation.templates)


def test_every_text_is_escaped(relation, prompts):
    fact, template = rn.Fact(HOSTILE, HOSTILE, (HOSTILE,)), f"{HOSTILE} {{}} is"
    prompt = dataclasses.replace(prompts.detection[0], relation=HOSTILE, text=HOSTILE, query_start=0, object=HOSTILE)
    table = pd.DataFrame({HOSTILE: [1]})
    pages = [
        dataclasses.replace(relation, name=HOSTILE, facts=(fact,), templates=(template,)),
        dataclasses.replace(prompts, detection=(prompt,)),
        dataclasses.replace(many(), name=HOSTILE),
        rn.NeuronSet((rn.Neuron(HOSTILE, 0, 0),)),
        ExperimentResult(HOSTILE, HOSTILE, {HOSTILE: table}, (HOSTILE,)),
    ]
    for one in pages:
        page = shown(one)
        assert page.tags <= {"p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}
        assert "<script>" in page.text  # as text


def test_every_line_is_short(relation, prompts):
    space = NeuronSpace("m", 1, (("post", 4),))
    found = rn.Activations(torch.zeros(len(prompts.detection), 4), prompts.detection, space)
    for one in (relation, prompts, prompts.detection[0], many(), many(3000), found):
        assert len(repr(one)) < LONGEST
        assert "\n" not in repr(one)
