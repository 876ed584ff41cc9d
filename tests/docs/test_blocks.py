"""The Python blocks of README and of every page run, on the embedded model."""

import dataclasses
import re
from contextlib import ExitStack
from unittest.mock import patch

import pytest

import relation_neurons as rn
from relation_neurons.experiments import session
from relation_neurons.experiments.registry import EXPERIMENTS
from relation_neurons.models.sites import SITES
from relation_neurons.report.figure_registry import FIGURES
from relation_neurons.scores.scorers import SCORERS
from tests.docs.pages import NAMES, ROOT, blocks
from tests.helpers import full_only

WITH_PYTHON = [name for name in NAMES if blocks((ROOT / name).read_text(encoding="utf-8"), "python")]
LONG = "docs/how-to/experiments.md"
"""As long as all other pages together."""
N_EXECUTED, N_SKIPPED = 21, 9


def test_blocks_are_executed_unless_a_page_says_why_not():
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in NAMES]
    assert sum(len(blocks(text, "python")) for text in texts) == N_EXECUTED
    assert sum(len(blocks(text, "python", skipped=True)) for text in texts) == N_SKIPPED


@pytest.fixture
def registries():
    """What pages add to registries is taken out of them again."""
    with ExitStack() as stack:
        for registry in (SCORERS, EXPERIMENTS, FIGURES, SITES):
            stack.enter_context(patch.dict(registry))
        yield


@pytest.fixture
def fewer_prompts(full, monkeypatch):
    """Unless everything is tested, pages get fewer prompts than they ask for."""
    make = rn.make_prompts

    def make_few(relations, config=None):
        config = config or rn.PromptConfig()
        n_evaluation = min(config.n_evaluation, 4)
        return make(relations, dataclasses.replace(config, n_evaluation=n_evaluation, n_detection=16))

    if not full:
        monkeypatch.setattr(rn, "make_prompts", make_few)


@pytest.mark.model
@pytest.mark.usefixtures("registries", "fewer_prompts")
@pytest.mark.parametrize("name", [*(name for name in WITH_PYTHON if name != LONG), *full_only(LONG)])
def test_the_python_blocks_of_a_page_run(name, embedded, tmp_path, monkeypatch, capsys):
    for module in (rn, session):
        monkeypatch.setattr(
            module, "load_model", lambda *_, **__: embedded
        )  # the same model, loaded once for all tests
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "page"}
    for block in blocks((ROOT / name).read_text(encoding="utf-8"), "python"):
        exec(compile(block, name, "exec"), namespace)
    printed = capsys.readouterr().out
    if name == "README.md":
        own, random, clean = (namespace[key]["logprob"] for key in ("own", "random", "clean"))
        assert len(own) == len(random) == len(clean) > 0
        assert (own != random).any()
        assert re.search(r"own -?\d+\.\d+, random -?\d+\.\d+", printed)
