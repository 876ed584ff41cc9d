"""The paper's relations on the embedded model: what experiments count equals a slow recount by the plain API."""

import contextlib
import os
from pathlib import Path

import pytest

import relation_neurons as rn
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.cumulativity import CumulativityConfig, cumulativity
from relation_neurons.experiments.error_analysis import error_kinds
from relation_neurons.experiments.inter_relation import InterConfig, inter
from relation_neurons.experiments.intra_relation import IntraConfig, intra
from relation_neurons.experiments.overlap import overlap
from relation_neurons.experiments.study import Study
from relation_neurons.relations import lre, lre_download

BESIDE = Path(__file__).parents[3] / "shared" / "lre" / "data"
COPY = Path(os.environ["LRE_FOLDER"]).parent if os.environ.get("LRE_FOLDER") else BESIDE
KS = (100, 400, 1200)
pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(not (COPY / "factual").is_dir(), reason="no copy of the LRE data: LRE_FOLDER names none"),
]


@pytest.fixture(scope="module")
def relations(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELATION_NEURONS_DATA", str(tmp_path_factory.mktemp("cache")))
        lre_download.fetch(COPY)
        return rn.load_relations("paper")


@pytest.fixture(scope="module")
def study(embedded, relations, full):
    """Of all twelve relations, or of three of them: the cost grows with their square."""
    prompts = rn.PromptConfig(n_evaluation=3, n_detection=12)
    config = StudyConfig(k=400, site="gate", n_controls=2, validation="none", keep_critical=True, prompts=prompts)
    return Study(embedded, relations if full else relations[:3], config)


@pytest.fixture(scope="module")
def recount(study):
    """Right or wrong (the paper's rule) of a prompt under some neurons, one condition after the other."""
    known = {}

    def ask(neurons, prompt):
        key = frozenset(neurons or ()), prompt.relation
        if key not in known:
            prompts = study.evaluation(prompt.relation)
            with contextlib.nullcontext() if neurons is None else rn.ablate(study.model, neurons):
                answers = rn.recall(study.model, prompts, max_new_tokens=2)
            known[key] = dict(zip(prompts, answers["correct_prefix"], strict=True))
        return bool(known[key][prompt])

    return ask


def test_the_papers_twelve_relations_are_asked(relations, study):
    assert {relation.name for relation in relations} == set(lre.PAPER)
    asked = {(prompt.relation, prompt.subject) for prompt in study.evaluation()}
    assert len(asked) == len(study.names) * 3  # some subjects have two objects in LRE


@pytest.mark.full
def test_lost_and_gained_answers_are_those_of_asking_in_one_state_after_the_other(study, recount, full):
    own = intra(study, IntraConfig(n_detection_tested=0)).tables["answers"].query("draw == -1")
    pairs = inter(study, InterConfig(n_tested=1, n_cross_controls=0)).tables["answers"]
    pairs = pairs[pairs["relation"].isin(study.names[:2])]
    changed = 0
    for table in (own, pairs):
        about = ("relation", "subject", "object", "template")
        prompts = {tuple(getattr(prompt, name) for name in about): prompt for prompt in study.evaluation()}
        for row in table.to_dict("records"):
            prompt = prompts[tuple(row[name] for name in about)]
            before, after = recount(None, prompt), recount(study.target(row["ablated"]), prompt)
            assert row["d_correct"] == float(after) - float(before)
            changed += before != after
    assert changed > (3 if full else 0)  # else nothing was compared


@pytest.mark.full
def test_table_3_counts_are_those_of_asking_in_one_state_after_the_other(study, recount):
    steps = cumulativity(study, CumulativityConfig(ks=KS, scale=False, n_slices=1, n_slice_controls=2)).table
    lost = 0
    for small, large in ((100, 400), (400, 1200)):
        for name in study.names:
            whole = study.ranking().best[name]
            total = affected = 0
            for prompt in study.evaluation(name):
                if recount(whole.part(0, small), prompt) and not recount(whole.part(0, large), prompt):
                    total += 1
                    affected += not recount(whole.part(small, large), prompt)
            row = steps.query("k_small == @small and k == @large and relation == @name").iloc[0]
            assert (row["total"], row["affected"]) == (total, affected)
            lost += total
    assert lost > 0
    every = steps.query("relation == 'all' and k == 0").iloc[0]
    assert every["total"] == lost


@pytest.mark.full
def test_newly_wrong_answers_are_those_of_asking_in_one_state_after_the_other(study, recount):
    counts = error_kinds(study).tables["counts"].query("state == 'own'").set_index("relation")
    for name in study.names:
        target, prompts = study.target(name), study.evaluation(name)
        wrong = sum(recount(None, prompt) and not recount(target, prompt) for prompt in prompts)
        assert counts.loc[name, "newly_wrong"] == wrong


def test_overlaps_are_those_of_counting_neuron_by_neuron(study):
    pairs = overlap(study).table
    for row in pairs.to_dict("records"):
        first, second = study.target(row["first"]), list(study.target(row["second"]))
        assert row["count_as_negatives"] == sum(neuron in second for neuron in first)
