"""Whatever a public function is given, only the package's own error comes out."""

import io
import math
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import relation_neurons as rn
from tests.bad_input.cases import COUNTS, ODD, cases, refused
from tests.bad_input.public_calls import public_calls
from tests.helpers import word_prompts

pytestmark = pytest.mark.usefixtures("offline")


def wrong_values():
    arrays = [
        np.zeros(0),
        np.zeros((0, 3)),
        np.zeros((2, 3, 4)),
        np.full((4, 3), np.nan),
        np.full((4, 3), np.inf),
        np.array(["a"]),
    ]
    arrays += [
        np.zeros((5, 3)),
        torch.zeros(0),
        torch.full((1, 256), math.nan),
        torch.zeros(4, 3, dtype=torch.int64),
        np.float32(2),
    ]
    arrays += [
        np.zeros((4, 1), bool),
        np.ones((3, 2), bool),
        np.arange(4),
        np.zeros(4, complex),
        np.int64(3),
        torch.tensor(1),
    ]
    numbers = [0, -1, 3, 10**12, -(10**30), 10**5000, 0.5, 1e308, math.nan, -math.inf, True, None, 1j]
    others = [
        [],
        (),
        {},
        set(),
        object(),
        lambda: 0,
        int,
        b"x",
        [None],
        [1, 2],
        ["a", 3],
        ("a",),
        {"a": 1},
        {1: [2]},
        iter([1]),
    ]
    others += [
        pd.DataFrame(),
        pd.DataFrame({"subject": [1]}),
        Path("."),
        Path("nowhere"),
        [[]],
        [[1, 2, 3]],
        [(-1, 2)],
        [(1.5, 2)],
    ]
    others += [
        rn.Zero(),
        rn.PromptConfig(),
        word_prompts(1, examples=False),
        [rn.Fact("a", "b")],
        range(3),
        io.StringIO("x"),
    ]
    return [*arrays, *numbers, *others, *(one for one in ODD if one != "null")]


@pytest.fixture(scope="module")
def public(planted):
    return public_calls(planted)


def test_every_public_name_is_tried(public):
    assert {name.strip().partition(".")[0] for name in public} == set(rn.__all__)


def spoilt(public, chance):
    """A function, and its arguments with something wrong about them."""
    name, argument = chance.kind("argument", [(name, one) for name in public for one in (*public[name][1], None)])
    function, right = public[name]
    arguments = dict(right)
    if right and name != "RelationNeuronsError":
        for one in {argument or chance.choice(list(right)), *chance.choice([(), (), list(right)[:1]])}:
            arguments[one] = chance.kind("value", wrong_values())
    how = chance.random()
    if name in ("Neuron", "RelationNeuronsError", "load_relations", "ablate", "intervene"):
        pass  # Python itself counts their arguments
    elif how < 0.05:
        chance.kinds.add("more")
        arguments["nowhere"] = 1
    elif how < 0.1 and arguments and name != "open_study":  # whose model would be the embedded one
        chance.kinds.add("fewer")
        del arguments[chance.choice(list(arguments))]
    return name, function, arguments


def test_wrong_arguments_are_refused(public, full, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, function, arguments in cases("functions", partial(spoilt, public), full):
        wrong = {key: value for key, value in arguments.items() if value is not public[name][1].get(key)}
        with refused((name, wrong)):
            function(**arguments)


def test_over_two_thousand_bad_inputs_are_generated():
    assert sum(COUNTS.values()) >= 2000
