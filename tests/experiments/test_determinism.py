"""The same seed gives the same tables; another number of threads moves them by rounding only; no draw is hidden."""

import ast
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import relation_neurons as rn
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.study import Study
from tests.planted import planted_config

PACKAGE = Path(rn.__file__).parent
NATS = 1e-4
"""By which another number of threads may move a log-probability on the planted model, in float32."""
HIDDEN = {"seed", "rand", "randn", "randint", "random", "choice", "shuffle", "permutation", "normal", "uniform"}


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_another_number_of_threads_moves_numbers_by_rounding_only(planted, threads):
    answers, neurons = {}, {}
    for number in (1, 2, 4):
        threads(number)
        study = Study(planted.model, planted.relations, planted_config(rn.StudyConfig, 10))
        cases = [Case(study.target(name), study.evaluation(), {"ablated": name}) for name in study.names]
        answers[number] = study.changes(cases, generate=True)
        neurons[number] = pd.concat([study.target(name).to_frame() for name in study.names])
    for number in (2, 4):
        one, other = answers[1], answers[number]
        assert np.abs(one["logprob"] - other["logprob"]).max() < NATS
        pd.testing.assert_frame_equal(
            one.drop(columns=one.select_dtypes("float").columns),
            other.drop(columns=other.select_dtypes("float").columns),
        )
        pd.testing.assert_frame_equal(neurons[1], neurons[number], atol=1e-6)


def draws(path):
    """Calls that draw from a generator which the caller cannot choose."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in HIDDEN:
            continue
        owner = ast.unparse(node.func.value)
        given = {keyword.arg for keyword in node.keywords}
        if owner in ("np.random", "random", "torch.random") or (owner == "torch" and "generator" not in given):
            yield f"{path.name}:{node.lineno}: {ast.unparse(node)}"


def test_every_draw_takes_a_generator():
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 50
    assert [draw for path in files for draw in draws(path)] == []


def test_the_search_for_hidden_draws_finds_them(tmp_path):
    path = tmp_path / "hidden.py"
    path.write_text(
        "np.random.rand(3)\ntorch.randn(2)\ntorch.randn(2, generator=g)\nrng.choice(3)\nrandom.shuffle(x)\n"
    )
    assert [draw.split(": ")[0] for draw in draws(path)] == ["hidden.py:1", "hidden.py:2", "hidden.py:5"]
