import json
import math
import re
import statistics

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import relation_neurons as rn
from relation_neurons.models.hooked_model import hook_name
from relation_neurons.models.sites import SITES, NeuronSpace
from tests.helpers import word_prompts

SPACE = NeuronSpace("tiny", 2, tuple((site, 3) for site in SITES))  # post L0, post L1, gate L0, ...
COLUMNS = {  # where each neuron stands in that order, and what it was on five prompts
    rn.Neuron("q", 0, 0): (24, [9.0, 0.1, 2.0, -4.0, 5.0]),
    rn.Neuron("post", 1, 2): (5, [0.3, 0.7, 0.1, 10.0, -6.5]),
    rn.Neuron("post", 0, 1): (1, [1.0, 8.0, 2.0, 4.0, 16.0]),
    rn.Neuron("o", 1, 2): (47, [0.2, 3e-3, 7.0, 1e4, 0.0]),
}
PROMPTS = tuple(rn.Prompt(name, "s", "w1", "w2 ?") for name in ["r0", "r1", "r0", "r1", "r0"])
ROWS = {None: [0, 1, 2, 3, 4], "r0": [0, 2, 4], "r1": [1, 3]}
NEURONS = rn.NeuronSet(tuple(COLUMNS), "some")


def activations(dtype=torch.float64):
    """Nothing but the named neurons is a number, so that a wrong column shows."""
    values = torch.full((5, len(SPACE)), math.nan, dtype=dtype)
    for column, was in COLUMNS.values():
        values[:, column] = torch.tensor(was, dtype=dtype)
    return rn.Activations(values, PROMPTS, SPACE)


def was_in(relation, dtype=torch.float64):
    return [[torch.tensor(was[row], dtype=dtype).item() for row in ROWS[relation]] for _, was in COLUMNS.values()]


def slow_quantile(values, p):
    part, below = math.modf(p * (len(values) - 1))
    return sorted(values)[int(below)] * (1 - part) + sorted(values)[math.ceil(below + part)] * part


@pytest.mark.parametrize("relation", ROWS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_each_neuron_has_its_own_number_in_double_precision(relation, dtype):
    collected, stored = activations(dtype), was_in(relation, dtype)
    expected = [(rn.Mean.over(collected, relation), statistics.fmean)]
    for p in (0.0, 0.25, 0.5, 0.9, 1.0):
        expected.append((rn.Quantile.over(collected, p, relation), lambda was, p=p: slow_quantile(was, p)))
    for value, reduce in expected:
        assert value.scale == 0
        np.testing.assert_allclose(value.numbers(NEURONS), [reduce(was) for was in stored], rtol=1e-13, atol=1e-13)
    for value, scale, number in ((rn.Zero(), 0, 0), (rn.Constant(-2.5), 0, -2.5), (rn.Scale(-0.5), -0.5, 0)):
        assert (value.scale, value.numbers(NEURONS).tolist()) == (scale, [number] * 4)


@pytest.mark.parametrize("relation", ROWS)
def test_a_resample_is_one_prompt_of_the_relation(relation):
    drawn, prompts = set(), list(map(list, zip(*was_in(relation), strict=True)))
    for seed in range(40):
        numbers = rn.Resample.over(activations(), seed, relation).numbers(NEURONS).tolist()
        drawn.add(prompts.index(numbers))
        for fewer in ([0], [3, 1], [2, 0, 1], [0, 1, 2, 3]):  # neither how many nor in which order
            some = rn.NeuronSet(tuple(NEURONS.neurons[member] for member in fewer))
            again = rn.Resample.over(activations(), seed, relation).numbers(some).tolist()
            assert again == [numbers[member] for member in fewer]
    assert drawn == set(range(len(prompts)))


def test_a_resample_is_the_same_in_every_row_of_every_batch(tiny):
    collected = rn.collect_activations(tiny, word_prompts(6, examples=False))
    neurons = rn.NeuronSet.from_pairs([(0, 3), (2, 41)])
    for seed, n_rows in ((0, 1), (0, 4), (1, 1), (1, 4)):
        with rn.ablate(tiny, neurons, value=(value := rn.Resample.over(collected, seed))):
            _, cache = tiny.run_with_cache(torch.tensor([[3, 10 + n_rows, 12 + seed]] * n_rows))
        for (_, layer, index), number in zip(neurons, value.numbers(neurons), strict=True):
            assert (cache[hook_name(tiny, "post", layer)][..., index] == number).all()


REFERRED = rn.Mean.over(activations()), rn.Quantile.over(activations(), 0.3, "r1"), rn.Resample.over(activations(), 5)
KINDS = {value.kind: value for value in (rn.Zero(), rn.Constant(0.1), rn.Scale(-1.7), *REFERRED)}
TEXTS = {kind: rn.Intervention(NEURONS, value).to_json() for kind, value in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_json_gives_back_the_same_at_every_site(kind):
    every = rn.Activations(torch.randn(5, len(SPACE), dtype=torch.float64), PROMPTS, SPACE)
    value = type(KINDS[kind]).over(every) if KINDS[kind] in REFERRED else KINDS[kind]
    neurons = rn.NeuronSet(tuple(rn.Neuron(site, layer, 2) for layer in (1, 0) for site in SITES), "Übung")
    some = rn.NeuronSet(neurons.neurons[5:1:-1])
    for positions, bos in (("all", True), ("prompt", False), ("decode", True), ("last", False)):
        text = rn.Intervention(neurons, value, positions, bos).to_json()
        back = rn.Intervention.from_json(text)
        assert (back.neurons, back.positions, back.bos) == (neurons, positions, bos)
        assert (type(back.value), back.value.scale, back.to_json()) == (type(value), value.scale, text)
        assert back.value.numbers(some).tolist() == value.numbers(some).tolist()


def spots(node):
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    return [(node, key) for key in keys] + [spot for key in keys for spot in spots(node[key])]


def read(text):
    """What the text is read as, without the tests' check of types; none if it is refused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        try:
            return json.loads(rn.Intervention.from_json(text).to_json())
        except rn.RelationNeuronsError:
            return None


TEXT = st.text() | st.sampled_from(["kind", "name", "neurons", "numbers", "all", "last", "zero", "mean", "post", "n"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([10**400, 2**90, 2**63]) | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@given(JSON.map(json.dumps) | st.text())
def test_any_other_text_is_refused(text):
    assert read(text) is None


@given(st.sampled_from(sorted(KINDS)), st.data())
def test_a_spoilt_intervention_is_refused(kind, data):
    content = json.loads(TEXTS[kind])
    node, key = data.draw(st.sampled_from(spots(content)))
    if data.draw(st.booleans()):
        del node[key]
    else:
        node[key] = data.draw(JSON)
    assert read(json.dumps(content)) in (None, content)  # some replacements are as good


SPOILT = [  # the text of a valid quantile with one thing changed
    ('"bos": true', '"bos": "false"', '"bos": null'),
    ('"positions": "all"', '"positions": "end"', '"positions": null', '"positions": ["all"]'),
    ('"name": "some"', '"name": null', '"name": 3'),
    ('["q", 0, 0]', '["q", 0]', '["q", 0, 0, 0]', '["post", 0, 1]', '"q00"', "null"),  # the third is there already
    ('["q", 0, 0]', '["ffn", 0, 0]', '[["q"], 0, 0]', '["q", 0.0, 0]', '["q", true, 0]', '["q", 0, "0"]'),
    ('"kind": "quantile"', '"kind": "median"', '"kind": null', '"kind": ["quantile"]', '"kind": "zero"'),
    ('"p": 0.3', '"p": 1.5', '"p": "0.5"', '"p": NaN'),
    ('"n": 2', '"n": 2.5', '"n": -1', '"n": Infinity', '"n": true'),
    ('"reference": "r1"', '"reference": null', '"reference": 3'),
    ('"numbers": [1.0, ', '"numbers": [', '"numbers": [NaN, ', '"numbers": ["1", ', '"numbers": [false, '),
    ('"numbers": [1.0, ', '"numbers": [[1.0], ', '"numbers": [-Infinity, ', '"numbers": [1.0, 1.0, '),
]


@pytest.mark.parametrize(("right", "wrong"), [(right, wrong) for right, *spoilt in SPOILT for wrong in spoilt])
def test_what_to_json_would_not_write_is_refused(right, wrong):
    text = re.sub(r"(?<=bers.: \[)[^,]*", "1.0", TEXTS["quantile"])
    assert text.count(right) == 1
    assert read(text) is not None
    assert read(text.replace(right, wrong)) is None


@pytest.mark.parametrize(("kind", "number"), [("constant", "0.1"), ("scale", "1.7"), ("mean", "6.2")])
def test_integers_beyond_all_floats_are_refused(kind, number):
    large, huge = TEXTS[kind].replace(number, f"{2**90}"), TEXTS[kind].replace(number, f"{10**400}")
    assert read(large) in (None, json.loads(large))
    assert read(huge) is None


WRONG = {
    "not an intervention in JSON": lambda: rn.Intervention.from_json("[" * 100_000),
    "number of Constant is nan": lambda: rn.Constant(math.nan),
    "number of Constant is '1'": lambda: rn.Constant("1"),
    "alpha of Scale is -inf": lambda: rn.Scale(-math.inf),
    "p is 1.01": lambda: rn.Quantile.over(activations(), 1.01),
    "p is nan": lambda: rn.Quantile.over(activations(), math.nan),
    "seed of Resample is -1": lambda: rn.Resample.over(activations(), -1),
    "no prompt of 'r2' .* r0, r1": lambda: rn.Mean.over(activations(), "r2"),
}


@pytest.mark.parametrize("says", WRONG)
def test_wrong_parameters_are_refused(says, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(rn.RelationNeuronsError, match=says):
        WRONG[says]()


@pytest.mark.parametrize("place", [("gate", 0, 1), ("post", 2, 0), ("post", 0, 3), ("post", 0, -1)])
def test_neurons_outside_the_reference_are_refused(place):
    only_post = rn.Activations(activations().values[:, :6], PROMPTS, NeuronSpace("tiny", 2, (("post", 3),)))
    for one in REFERRED:
        for value in (type(one).over(only_post), rn.Intervention.from_json(TEXTS[one.kind]).value):
            with pytest.raises(rn.RelationNeuronsError, match=f"N{place[2]}"):
                value.numbers(rn.NeuronSet((rn.Neuron(*place),)))
