"""Relations that repeat facts or give a subject two objects: every experiment counts each fact once and for itself."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import transformers

import relation_neurons as rn
from relation_neurons.experiments import registry, runner
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.cumulativity import CumulativityConfig
from relation_neurons.experiments.intra_relation import IntraConfig
from relation_neurons.experiments.k_sweep import SweepConfig
from relation_neurons.experiments.perplexity import LanguageModellingConfig
from relation_neurons.experiments.study import Study
from relation_neurons.relations import lre_download
from relation_neurons.relations.relation import fact_ids, key
from relation_neurons.relations.splits import split_relations
from tests.planted import planted_config

KS = (1, 3, 6)
OPTIONS = {
    "intra": IntraConfig(n_detection_tested=0),
    "sweep": SweepConfig(ks=KS, scale=False, n_sweep_controls=2, n_other=1),
    "cumulativity": CumulativityConfig(ks=KS, scale=False, n_slices=2, n_slice_controls=2),
}
BESIDE = Path(__file__).parents[3] / "shared" / "lre" / "data"
COPY = Path(os.environ["LRE_FOLDER"]).parent if os.environ.get("LRE_FOLDER") else BESIDE
IDENTITY = ["relation", "fact", "template", "language"]


def test_identifiers_are_unique_and_readable():
    facts = [rn.Fact(*names) for names in (("Ada", "Red"), ("Bob", "Blue"), ("Ada", "Red"), ("Ada", "Green"))]
    facts.append(rn.Fact("Ada", "Red (2)"))
    assert fact_ids(facts) == ["Ada = Red", "Bob = Blue", "Ada = Red (2)", "Ada = Green", "Ada = Red (2) (2)"]


@pytest.fixture(scope="module")
def folder(planted, planted_folder, tmp_path_factory):
    """The planted relations; 20 subjects have their fact twice, 10 have another object as well."""
    folder = tmp_path_factory.mktemp("repeated")
    for relation in planted.relations:
        pairs = [(fact.subject, fact.object) for fact in relation.facts]
        more = [(subject, next(name for name in relation.objects if name != right)) for subject, right in pairs[20:30]]
        samples = [{"subject": subject, "object": name} for subject, name in [*pairs, *pairs[:20], *more]]
        templates = [*relation.templates, *relation.templates_zs]
        content = {"name": relation.name, "prompt_templates": templates, "samples": samples}
        content["prompt_templates_zs"] = relation.templates_zs
        (folder / f"{relation.name}.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "model").symlink_to(planted_folder / "model")
    return folder


@pytest.fixture(scope="module")
def config(folder):
    prompts = rn.PromptConfig(shots=0, n_evaluation=8, templates="all")
    return planted_config(StudyConfig, 8, folder, prompts=prompts)


@pytest.fixture(scope="module")
def everything(config, tmp_path_factory, full):
    """All experiments in full, else those that are looked at here; `test_runner` runs all on other facts."""
    corpus = tmp_path_factory.mktemp("corpus")
    (corpus / "a.txt").write_text("s0 lives in lives1, s1 eats eats2", encoding="utf-8")
    options = runner.all_options("smoke", corpus=corpus) | OPTIONS
    if not full:
        options = {name: options[name] for name in ("intra", "cumulativity", "frequency")}
    out = tmp_path_factory.mktemp("study") / "all"
    return {result.name: result for result in runner.reproduce(list(options), config, out, options=options)}


@pytest.fixture(scope="module")
def study(planted, config):
    relations = rn.load_relations(*config.relations)
    return Study(planted.model, relations, config)


def test_every_experiment_ends_and_no_row_stands_for_two_facts(everything, full):
    if full:
        assert list(everything) == [*registry.EXPERIMENTS, "properties"]
    for result in everything.values():
        answers = result.tables.get("answers")
        if answers is not None and "template" in answers:
            labels = [*answers.columns[: answers.columns.get_loc("relation")], *{"draw", "state"}.intersection(answers)]
            assert not answers.duplicated([*labels, *IDENTITY]).any(), result.name
    answers = everything["intra"].tables["answers"].query("draw == -1")
    assert len(answers) > answers["fact"].nunique() > answers["unit"].nunique() == 8


def test_effects_average_over_subjects(everything, study):
    effects = everything["intra"].tables["effects"].query("measure == 'logprob'").set_index("ablated")
    for name in study.names:
        prompts = study.evaluation(name)
        clean = rn.recall(study.model, prompts, generate=False)["logprob"]
        with rn.ablate(study.model, study.target(name)):
            ablated = rn.recall(study.model, prompts, generate=False)["logprob"]
        of_subject = {}
        for prompt, change in zip(prompts, ablated - clean, strict=True):
            of_subject.setdefault(prompt.subject, []).append(change)
        assert effects.loc[name, "n"] == len(of_subject) == 8
        assert effects.loc[name, "effect"] == pytest.approx(
            np.mean([np.mean(v) for v in of_subject.values()]), abs=1e-5
        )


def test_table_3_counts_every_prompt_once(everything, study):
    table = everything["cumulativity"].table.query("relation != 'all' and k != 0")
    for row in table.to_dict("records"):
        best, total, affected = study.ranking().best[row["relation"]], 0, 0
        prompts = study.evaluation(row["relation"])
        small, large = int(row["k_small"]), int(row["k"])
        right = []
        for start, stop in ((0, small), (0, large), (small, large)):
            with rn.ablate(study.model, best.part(start, stop)):
                right.append(rn.recall(study.model, prompts)["correct_string"].to_numpy())
        total = int((right[0] & ~right[1]).sum())
        affected = int((right[0] & ~right[1] & ~right[2]).sum())
        assert (row["total"], row["affected"]) == (total, affected)
    assert table["total"].sum() > 0


def test_frequency_counts_a_repeated_fact_once(everything, study):
    facts = everything["frequency"].tables["facts"]
    assert not facts.duplicated(["relation", "subject", "object"]).any()
    clean = rn.recall(study.model, study.evaluation())
    right = clean[clean["correct_string"]][["relation", "subject", "object"]].drop_duplicates()
    assert len(facts) == len(right)


def test_run_ends_on_repeated_facts(config, tmp_path):
    results = {result.name: result for result in runner.run(config, tmp_path / "run")}
    table = results["summary"].table.query("measure == 'logprob'")
    assert (table["own_n"] == 8).all()
    assert (tmp_path / "run" / "report.html").stat().st_size > 1e5


@pytest.mark.full
@pytest.mark.model
@pytest.mark.skipif(not (COPY / "factual").is_dir(), reason="no copy of the LRE data: LRE_FOLDER names none")
def test_all_experiments_end_on_the_papers_relations(embedded, tmp_path, monkeypatch):
    """With LRE's own repetitions among the evaluated facts; a tiny random model answers them."""
    monkeypatch.setenv("RELATION_NEURONS_DATA", str(tmp_path / "data"))
    lre_download.fetch(COPY)
    relations = rn.load_relations("paper")
    repeated = {
        relation.name: {
            key(fact.subject) for fact in relation.facts if sum(other == fact for other in relation.facts) > 1
        }
        for relation in relations
    }
    assert any(repeated.values())
    prompts = rn.PromptConfig(
        shots=0, n_evaluation=4, n_detection=8, templates="first", split_seed=_seed_with_repeats(relations, repeated)
    )
    config = StudyConfig(
        model=str(_tiny_model(tmp_path / "model", embedded.tokenizer)), relations=("paper",), k=20, site="post",
        n_controls=2, validation="none", device="cpu", prompts=prompts,
    )  # fmt: skip
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("Amiibo by Nintendo", encoding="utf-8")
    options = runner.all_options("smoke", corpus=tmp_path / "corpus")
    options |= OPTIONS | {"perplexity": LanguageModellingConfig(n_sentences=3, n_sentence_controls=2)}
    results = {
        result.name: result for result in runner.reproduce(list(options), config, tmp_path / "out", options=options)
    }
    answers = results["intra"].tables["answers"].query("draw == -1")
    copies = answers.groupby(["relation", "subject", "object"])["fact"].nunique()
    assert copies.max() == 2
    assert not answers.duplicated(["ablated", *IDENTITY]).any()
    counts = pd.read_parquet(tmp_path / "out" / "frequency" / "counts.parquet")
    assert not counts.duplicated(["relation", "fact"]).any()
    assert len(counts) == sum(len(relation.facts) for relation in relations)


def _seed_with_repeats(relations, repeated):
    for seed in range(1000):
        splits = split_relations(relations, n_evaluation=4, n_shots=0, seed=seed)
        if any(key(fact.subject) in repeated[name] for name, split in splits.items() for fact in split.evaluation):
            return seed
    raise AssertionError("no seed has a repeated fact among the evaluated ones")


def _tiny_model(folder, tokenizer):
    """A random Llama of two layers with the embedded model's tokenizer."""
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=128, tie_word_embeddings=True,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
