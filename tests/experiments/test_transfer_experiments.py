"""Languages, templates, neuron types, errors and perplexity against naive recomputation on the planted model."""

import dataclasses
import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.proportion import proportion_confint

import relation_neurons as rn
from relation_neurons.experiments import answer_jobs
from relation_neurons.experiments import perplexity as reading
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.error_analysis import ErrorKindsConfig, error_kinds
from relation_neurons.experiments.languages import LanguagesConfig, languages, transfers
from relation_neurons.experiments.neuron_types import NeuronTypesConfig, neuron_types
from relation_neurons.experiments.perplexity import LanguageModellingConfig, language_modelling
from relation_neurons.experiments.study import Study
from relation_neurons.experiments.templates import templates
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.relations.relation import Translation
from relation_neurons.relations.splits import stable_rank
from relation_neurons.results import transfer_verdicts, verdicts
from relation_neurons.results.transfer_verdicts import languages as languages_verdict
from relation_neurons.results.verdicts import error_analysis as errors_verdict
from relation_neurons.statistics.hypothesis_tests import control_test, sign_flip_test
from relation_neurons.statistics.intervals import share_of_drop

PROMPTS = rn.PromptConfig(shots=0, n_evaluation=10, answer="? Answer:")
CONFIG = StudyConfig(k=4, site="post", n_controls=3, validation="none", rule="string", prompts=PROMPTS)
NAMES = ("lives", "eats", "plays")


def translated(relation, **dropped):
    """The relation in other "languages": other orders of the words, subjects and objects renamed by a cycle."""
    subjects = [fact.subject for fact in relation.facts]
    found = {}
    for code, template in (("de", "in {} " + relation.name), ("es", "{} " + relation.name)):
        if code in dropped and not dropped[code]:
            continue
        named = subjects[dropped.get(code, 0) :]
        turned = dict(zip(relation.objects, relation.objects[1:] + relation.objects[:1], strict=True))
        again = dict(zip(subjects, subjects[1:] + subjects[:1], strict=True))
        found[code] = Translation((template,), (), {name: again[name] for name in named}, turned)
    return dataclasses.replace(relation, translations=found)


@pytest.fixture(scope="module")
def relations(planted):
    """Each relation's second templates have another's word; every third fact of `plays` is wrong.

    `eats` has fewer names in German, `plays` no Spanish.
    """
    words = dict(zip(NAMES, NAMES[1:] + NAMES[:1], strict=True))
    lives, eats, plays = (
        dataclasses.replace(one, templates_zs=(f"in in {{}} {words[one.name]}",)) for one in planted.relations
    )
    wrong = dict(zip(plays.objects, plays.objects[1:] + plays.objects[:1], strict=True))
    facts = tuple(rn.Fact(one.subject, one.object if n % 3 else wrong[one.object]) for n, one in enumerate(plays.facts))
    return (
        translated(lives),
        translated(eats, de=12),
        translated(dataclasses.replace(plays, facts=facts), es=0),
    )


@pytest.fixture(scope="module")
def study(planted, relations):
    return Study(planted.model, relations, CONFIG)


def ask(model, prompts, neurons=None):
    """Answers of the model as it is, or inside a block that ablates neurons."""
    if neurons is None:
        return rn.recall(model, prompts)
    with rn.ablate(model, neurons):
        return rn.recall(model, prompts)


def row_of(table, **wanted):
    for name, value in wanted.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


# languages


@pytest.fixture(scope="module")
def spoken(study):
    return languages(study, LanguagesConfig(languages=("de", "es"), n_language_controls=2))


def german(study, relation):
    """German prompts of a relation's evaluation facts, written by hand."""
    there, prompts = relation.translations["de"], []
    for prompt in study.evaluation(relation.name):
        if prompt.subject in there.subjects:
            subject = there.subjects[prompt.subject]
            text = there.templates[0].replace("{}", subject) + "? Answer:"
            prompts.append(dataclasses.replace(prompt, subject=subject, object=there.objects[prompt.object], text=text))
    return prompts


@pytest.mark.parametrize("name", NAMES)
def test_each_language_is_asked_with_the_neurons_of_the_relations_own(study, spoken, relations, name):
    prompts = german(study, next(one for one in relations if one.name == name))
    clean, own = ask(study.model, prompts), ask(study.model, prompts, study.target(name))
    row = row_of(spoken.table, ablated=name, language="de", measure="logprob")
    assert row["n"] == len(prompts)
    assert row["own_language"] == "en"
    assert row["clean"] == pytest.approx(clean["logprob"].mean(), abs=1e-5)
    assert row["effect"] == pytest.approx((own["logprob"] - clean["logprob"]).mean(), abs=1e-5)
    right = row_of(spoken.table, ablated=name, language="de", measure="correct")
    assert right["clean"] == clean["correct_string"].mean()
    assert right["effect"] == pytest.approx(own["correct_string"].mean() - clean["correct_string"].mean())


def test_controls_are_the_studys_and_are_asked_in_the_same_language(study, spoken, relations):
    prompts = german(study, relations[0])
    clean = ask(study.model, prompts)["logprob"]
    draws = [
        (ask(study.model, prompts, one)["logprob"] - clean).mean() for one in study.controls(study.target("lives"))[:2]
    ]
    row = row_of(spoken.table, ablated="lives", language="de", measure="logprob")
    assert row["n_controls"] == 2
    assert (row["random_min"], row["random_max"]) == pytest.approx((min(draws), max(draws)), abs=1e-5)


def test_relations_without_a_translation_are_left_out_and_named(spoken):
    rows = spoken.table[spoken.table["measure"] == "logprob"]
    tested = set(zip(rows["ablated"], rows["language"], strict=True))
    assert tested == {(name, code) for name in NAMES for code in ("en", "de", "es")} - {("plays", "es")}
    assert "left out: plays (es)" in " ".join(spoken.verdict)


def test_pooled_languages_have_all_facts_as_units(spoken):
    for code in ("en", "de", "es"):
        facts = spoken.tables["answers"].query("language == @code")
        row = row_of(spoken.tables["by_language"], language=code, measure="logprob")
        assert row["n"] == len(facts)
        assert row["effect"] == pytest.approx(facts["d_logprob"].mean())


def test_transfer_is_a_ratio_over_the_facts_asked_in_both(spoken):
    answers = spoken.tables["answers"].query("ablated == 'eats'").set_index("fact")
    row = row_of(spoken.tables["transfer"], ablated="eats", language="de", measure="logprob")
    there, home = (answers.loc[answers["language"] == code, "d_logprob"] for code in ("de", "en"))
    home = home[there.index]
    assert row["n"] == len(there) < 10
    assert row["ratio"] == pytest.approx(there.mean() / home.mean())
    assert row["ratio_low"] < row["ratio"] < row["ratio_high"]


def test_a_share_of_no_drop_is_not_a_number():
    effect = np.array([-1.0, -2.0, -1.5, -1.0])
    for reference in ([-1.0, 1.0, -2.0, 2.0], [1.0, 2.0, 1.5, 1.2]):
        assert np.isnan(share_of_drop(effect, np.array(reference))[:3]).all()
    assert np.isnan(share_of_drop(np.array([-1.0]), np.array([-1.0])).mean)


def test_the_interval_of_a_share_is_a_bootstrap_over_facts():
    generator = np.random.default_rng(1)
    home = generator.normal(-2, 1, size=40)
    there = 0.5 * home + generator.normal(0, 0.5, size=40)
    drawn = generator.integers(40, size=(20_000, 40))
    expected = np.quantile(there[drawn].mean(axis=1) / home[drawn].mean(axis=1), [0.025, 0.975])
    found = share_of_drop(there, home)
    assert found.mean == pytest.approx(there.mean() / home.mean())
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.02)


def test_transfer_pairs_facts_by_name_and_pools_over_relations():
    rows = [("a", "en", "x", -1.0), ("a", "en", "y", -3.0), ("a", "de", "y", -6.0), ("a", "de", "x", -2.0)]
    rows += [("b", "en", "x", -2.0), ("b", "en", "y", -2.0), ("b", "de", "x", -1.0), ("b", "de", "y", -1.0)]
    own = pd.DataFrame(rows, columns=["ablated", "language", "unit", "d_logprob"]).assign(d_correct=0.0)
    home = {"a": "en", "b": "en"}
    alone = transfers(own, home).query("measure == 'logprob'").set_index("ablated")
    assert alone["ratio"].to_dict() == {"a": 2.0, "b": 0.5}
    assert row_of(transfers(own, home, pooled=True), measure="logprob")["ratio"] == pytest.approx(10 / 8)
    assert transfers(own, home).query("measure == 'correct'")["ratio"].isna().all()


def test_relations_without_a_translation_do_not_change_which_facts_are_examples(planted):
    lives, eats, plays = planted.relations
    ordered = sorted((fact.subject for fact in lives.facts), key=lambda name: stable_rank(0, name))
    later = [f"x{n}" for n in range(999) if stable_rank(0, f"x{n}") > stable_rank(0, ordered[-1])][:6]
    # What `plays` evaluates would else be examples of `lives`.
    facts = tuple(rn.Fact(name, plays.objects[n % 4]) for n, name in enumerate([*ordered[-10:], *later]))
    plays = dataclasses.replace(plays, facts=facts)
    config = dataclasses.replace(CONFIG, prompts=dataclasses.replace(PROMPTS, shots=2))
    tested = []
    for third in (translated(plays), plays):
        some = (translated(lives), eats, third)
        found = languages(Study(planted.model, some, config), LanguagesConfig(languages=("es",), n_language_controls=2))
        tested.append(found.tables["answers"].query("ablated == 'lives' and language == 'es'")["clean_logprob"])
    assert len(tested[0]) == 10
    np.testing.assert_allclose(*tested, atol=1e-5)


def test_without_any_translation_nothing_is_asked(study):
    found = languages(study, LanguagesConfig(languages=("fr", "zh")))
    assert found.verdict == (
        "Nothing was tested. Without a translation and left out: lives (fr, zh); eats (fr, zh); plays (fr, zh).",
    )
    with pytest.raises(rn.RelationNeuronsError, match="no language"):
        LanguagesConfig(languages=())


def effect_row(verdict="not shown", measure="logprob", effect=-1.0, **labels):
    ends = {"effect": effect, "effect_low": effect - 0.2, "effect_high": effect + 0.2}
    return labels | {"measure": measure, "n": 10, "n_controls": 3, "random": 0.0, "verdict": verdict} | ends


def test_the_verdict_on_languages_counts_only_what_is_shown():
    rows = [
        effect_row(verdict, measure, ablated=name, language=code)
        for measure in ("logprob", "correct")
        for name, code, verdict in (("a", "en", "falls"), ("b", "en", "falls"), ("a", "de", "rises"), ("b", "de", "x"))
    ]
    pooled = [effect_row("falls", m, ablated="all", language="en") for m in ("logprob", "correct")]
    pooled += [effect_row("not shown", m, ablated="all", language="de") for m in ("logprob", "correct")]
    transfer = pd.DataFrame({"measure": ["logprob", "logprob"], "ratio": [0.5, np.nan]})
    first, second, third = languages_verdict(pd.DataFrame(rows), pd.DataFrame(pooled), transfer, {})
    for sentence in (first, second):
        assert "en 2 of 2 (pooled -1.00 [-1.20, -0.80], controls +0.00, falls)" in sentence
        assert "de 0 of 2, rises in 1 (pooled -1.00 [-1.20, -0.80], controls +0.00, not shown)" in sentence
    assert "is defined in 1 of 2 pairs" in third
    assert "a median of 0.50" in third
    nothing = languages_verdict(
        pd.DataFrame(rows).assign(verdict="not shown"), pd.DataFrame(pooled).assign(verdict="not shown"), transfer, {}
    )
    assert all("en 0 of 2" in sentence and "falls)" not in sentence for sentence in nothing[:2])


# templates


@pytest.fixture(scope="module")
def crossed(study):
    return templates(study)


@pytest.mark.parametrize("found", ["main", "zs"])
@pytest.mark.parametrize("tested", ["main", "zs"])
def test_each_cell_is_found_with_one_set_and_asked_in_another(planted, study, crossed, found, tested):
    other = dict(zip(("main", "zs"), ("{} eats in", "in in {} plays"), strict=True))[tested]
    result = dataclasses.replace(CONFIG, prompts=dataclasses.replace(PROMPTS, template_set=found))
    target = Study(planted.model, study.relations, result).target("eats")
    prompts = [
        dataclasses.replace(one, text=other.replace("{}", one.subject) + "? Answer:")
        for one in study.evaluation("eats")
    ]
    change = ask(study.model, prompts, target)["logprob"] - ask(study.model, prompts)["logprob"]
    row = row_of(crossed.table, ablated="eats", detected=found, tested=tested, measure="logprob")
    assert row["effect"] == pytest.approx(change.mean(), abs=1e-5)
    assert row["n_controls"] == 3


def test_the_overlap_of_two_sets_is_counted(study, crossed):
    prompts = dataclasses.replace(study.config.prompts, template_set="zs")
    zs = dataclasses.replace(study.selection, prompts=prompts)
    for name in NAMES:
        one, other = set(study.target(name)), set(study.target(name, selection=zs))
        row = row_of(crossed.tables["overlap"], ablated=name)
        assert (row["k"], row["shared"], row["coefficient"]) == (4, len(one & other), len(one & other) / 4)
        assert row["expected"] == pytest.approx(16 / len(neuron_space(study.model, "post")))


def test_a_crossing_keeps_a_share_of_the_drop(crossed):
    answers = crossed.tables["answers"].query("tested == 'main'")
    for name, rows in [("eats", answers.query("ablated == 'eats'")), ("all", answers)]:
        by_set = rows.groupby("detected")["d_logprob"].mean()
        row = row_of(crossed.tables["crossing"], ablated=name, tested="main", measure="logprob")
        assert (row["same"], row["crossed"]) == pytest.approx((by_set["main"], by_set["zs"]))
        assert row["ratio"] == pytest.approx(by_set["zs"] / by_set["main"])
        assert row["n"] == rows["fact"].size / 2


def test_relations_without_a_second_set_are_left_out_and_named(planted, study):
    without = dataclasses.replace(study.relations[0], templates_zs=())
    found = templates(Study(planted.model, (without, *study.relations[1:]), CONFIG))
    assert set(found.table["ablated"]) == {"eats", "plays"}
    assert "Without a second template set and left out: lives." in found.verdict[-1]
    only = [dataclasses.replace(one, templates_zs=()) for one in study.relations[:2]]
    found = templates(Study(planted.model, (*only, study.relations[2]), CONFIG))
    assert found.table.empty
    assert found.verdict[0].startswith("Fewer than two relations have a second template set")
    assert "lives, eats" in found.verdict[0]


def test_the_verdict_on_templates_says_what_holds_when_crossed():
    shown = {("a", "main", "main"), ("a", "main", "zs"), ("a", "zs", "zs"), ("b", "main", "main"), ("b", "zs", "main")}
    rows = [
        effect_row("falls" if (name, found, tested) in shown else "x", m, ablated=name, detected=found, tested=tested)
        for m in ("logprob", "correct")
        for name in "ab"
        for found in ("main", "zs")
        for tested in ("main", "zs")
    ]
    held = transfer_verdicts.crossed_templates(pd.DataFrame(rows))
    assert "accuracy 1 of 3, log-probability of the object (nats) 1 of 3." in held
    assert "accuracy 0 of 0" in transfer_verdicts.crossed_templates(pd.DataFrame(rows).assign(verdict="not shown"))


# neuron types


@pytest.fixture(scope="module")
def typed(study):
    return neuron_types(study, NeuronTypesConfig(sites=("gate", "attn"), n_type_controls=2))


@pytest.mark.parametrize("site", ["gate", "attn"])
def test_each_site_has_its_own_ranking_and_size(planted, study, typed, site):
    k = round(3000 * len(neuron_space(study.model, site)) / {"gate": 352_256, "attn": 524_288}[site])
    alone = Study(planted.model, study.relations, dataclasses.replace(CONFIG, site=site, k=k))
    prompts = study.evaluation("lives")
    change = ask(study.model, prompts, alone.target("lives"))["logprob"] - ask(study.model, prompts)["logprob"]
    row = row_of(typed.table, ablated="lives", site=site, measure="logprob")
    assert row["k"] == k == alone.k
    assert row["share"] == pytest.approx(k / len(neuron_space(study.model, site)))
    assert row["effect"] == pytest.approx(change.mean(), abs=1e-5)
    for end in ("", "_low", "_high"):
        assert row[f"per_thousand{end}"] == pytest.approx(row[f"effect{end}"] / k * 1000)


def test_the_studys_own_site_stands_beside_the_others(study, typed):
    assert list(typed.tables["pooled"]["site"].unique()) == ["attn", "gate", "post"]  # the widest first
    own = typed.tables["answers"].query("site == 'post'")
    row = row_of(typed.tables["pooled"], site="post", measure="logprob")
    assert (row["k"], row["n"]) == (study.k, 30)
    assert row["effect"] == pytest.approx(own["d_logprob"].mean())


def test_controls_stay_at_the_site(study, monkeypatch):
    seen = []
    real = Study.changes
    monkeypatch.setattr(Study, "changes", lambda self, cases, **more: seen.extend(cases) or real(self, cases, **more))
    neuron_types(study, NeuronTypesConfig(sites=("gate",), site_k=5, n_type_controls=2))
    sites = {(case.labels["site"], neuron.site, len(case.neurons)) for case in seen for neuron in case.neurons}
    assert sites == {("gate", "gate", 5), ("post", "post", 4)}
    assert Counter(case.labels.get("draw") for case in seen) == {None: 6, 0: 6, 1: 6}


def test_sites_that_a_model_has_not_are_left_out_and_named(study, monkeypatch):
    monkeypatch.setattr(study.model.cfg, "gated_mlp", False)
    found = neuron_types(study, NeuronTypesConfig(sites=("up", "all", "down"), n_type_controls=2))
    assert set(found.table["site"]) == {"down", "post"}
    assert found.verdict[-2] == "Left out, since the model does not have them: up, all."
    with pytest.raises(rn.RelationNeuronsError, match="k is 9999"):
        neuron_types(study, NeuronTypesConfig(sites=("down",), site_k=9999))


# error kinds


@pytest.fixture(scope="module")
def erred(study):
    return error_kinds(study, ErrorKindsConfig(n_top=2))


@pytest.mark.parametrize("state", ["clean", "own", "random"])
def test_kinds_of_answers_are_counted(study, erred, state):
    target = study.target("eats")
    neurons = {"clean": None, "own": target, "random": study.controls(target)[0]}[state]
    said = ask(study.model, study.evaluation("eats"), neurons)
    counts = Counter(said["error"])
    found = erred.tables["answers"].query("relation == 'eats' and state == @state")
    assert found["logprob"].to_numpy() == pytest.approx(said["logprob"].to_numpy(), abs=1e-5)
    for row in erred.table.query("relation == 'eats' and state == @state").to_dict("records"):
        assert row["count"] == counts[row["kind"]]
        low, high = proportion_confint(row["count"], 10, method="wilson")
        assert (row["share"], row["share_low"], row["share_high"]) == pytest.approx((row["count"] / 10, low, high))
    top = erred.tables["top_answers"].query("relation == 'eats' and state == @state")
    answers = Counter(said["generated"].str.strip())
    expected = sorted(answers.items(), key=lambda item: (-item[1], item[0]))[:2]
    assert list(zip(top["answer"], top["count"], strict=True)) == expected


def test_newly_wrong_prompts_are_those_right_before_and_wrong_after(study, erred):
    for name in NAMES:
        clean, own = (ask(study.model, study.evaluation(name), one) for one in (None, study.target(name)))
        before, after = clean["correct_string"].astype(bool), own["correct_string"].astype(bool)
        lost = before & ~after
        found = erred.tables["newly_wrong"].query("relation == @name and state == 'own'")
        assert list(found["subject"]) == list(clean["subject"][lost])
        assert list(found["before"]) == list(clean["generated"][lost])
        assert list(found["after"]) == list(own["generated"][lost])
        assert list(found["kind"]) == list(own["error"][lost])
        row = row_of(erred.tables["counts"], relation=name, state="own")
        assert (row["right_before"], row["newly_wrong"], row["newly_right"]) == (
            before.sum(),
            lost.sum(),
            (after & ~before).sum(),
        )
    assert erred.tables["counts"]["newly_wrong"].sum() == len(erred.tables["newly_wrong"]) > 0


def test_the_verdict_on_errors_names_the_most_frequent_kind_or_none():
    counts = pd.DataFrame(
        {"relation": ["a", "a"], "state": ["own", "random"], "right_before": 9, "newly_wrong": [3, 1], "newly_right": 0}
    )
    wrong = pd.DataFrame({"state": ["own"] * 3 + ["random"], "kind": ["other", "right", "other", "the"]})
    first, second = errors_verdict(counts, wrong, "prefix")
    assert "Of 9 answers that were right" in first
    assert "a 3 against 1" in first
    assert second.startswith("The newly wrong answers are, by kind, most frequent first: 'other' 2, 'right' 1.")
    assert "right by the rule alias, though not by prefix" in second
    none = errors_verdict(counts.assign(newly_wrong=0), wrong[:0], "prefix")[1]
    assert "no answer became wrong" in none


# language modelling

SENTENCES = {
    "lives": ["s1 in s2 eats eats0", "s3 eats lives in lives1", "plays s9 s8"],
    "eats": ["s4 s5 eats in eats1 s3", "lives plays in s3", "s6 ? s7", "in in s1"],
}


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sentences")
    (folder / "lives.txt").write_text("\n\n".join(SENTENCES["lives"]) + "\n", encoding="utf-8")
    (folder / "eats.json").write_text(json.dumps(SENTENCES["eats"]), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def modelled(study, sentences):
    return language_modelling(study, LanguageModellingConfig(str(sentences), n_sentence_controls=3))


def nll_of(model, texts, neurons=None):
    if neurons is None:
        return rn.perplexity(model, texts)
    with rn.ablate(model, neurons):
        return rn.perplexity(model, texts)


@pytest.mark.parametrize("name", ["lives", "eats"])
def test_perplexity_before_and_after_equals_reading_in_a_block(study, modelled, name):
    target, texts = study.target(name), SENTENCES[name]
    clean, own = nll_of(study.model, texts), nll_of(study.model, texts, target)
    drawn = [nll_of(study.model, texts, one) for one in study.controls(target)]
    row, tokens = row_of(modelled.table, ablated=name), clean["n_tokens"].sum()
    assert (row["n"], row["tokens"], row["n_controls"]) == (len(texts), tokens, 3)
    for column, read in (("clean", clean), ("own", own)):
        assert row[column] == pytest.approx(np.exp(read["nll"].sum() / tokens), rel=1e-4)
    random = [np.exp(one["nll"].sum() / tokens) for one in drawn]
    for column, expected in (
        ("random", np.exp(np.mean(np.log(random)))),
        ("random_min", min(random)),
        ("random_max", max(random)),
    ):
        assert row[column] == pytest.approx(expected, rel=1e-4)
    change = ((own["nll"] - clean["nll"]) / clean["n_tokens"]).to_numpy()
    sets = np.array([((one["nll"] - clean["nll"]) / clean["n_tokens"]).mean() for one in drawn])
    assert row["effect"] == pytest.approx(change.mean(), abs=1e-4)
    assert row["effect_low"] <= row["effect"] <= row["effect_high"]
    assert row["random_effect"] == pytest.approx(sets.mean(), abs=1e-4)
    assert row["p_chance"] == sign_flip_test(change)
    assert row["p_random"] == control_test([change.mean()], [sets], resolution=1e-3).p[0]
    alike = change.mean() * (change.mean() - sets.mean()) > 0
    assert row["p"] == (max(row["p_chance"], row["p_random"]) if alike else 1)
    states = modelled.tables["states"].query("ablated == @name and state == 'random'")
    assert states["effect"].to_numpy() == pytest.approx(sets, abs=1e-4)


def readings(change, n=12):
    """A relation's sentences whose own neurons add `change` to every token, and whose controls hardly anything."""
    rows = []
    for sentence in range(n):
        for state, draw, more in [
            ("clean", -1, 0.0),
            ("own", -1, change),
            *(("random", i, i / 1000) for i in range(20)),
        ]:
            more *= 1 + sentence / 10
            rows.append(("r", state, draw, sentence, 5, 5 * (3 + more)))
    return pd.DataFrame(rows, columns=["ablated", "state", "draw", "sentence", "n_tokens", "nll"])


def test_a_rise_is_damage_and_said_to_be():
    for change, side, said in (
        (0.4, "rises", "shown in 1 of 1 relations (r), improvement in 0"),
        (-0.4, "falls", "shown in 0 of 1 relations (none), improvement in 1 (r)"),
        (0.0, "not shown", "shown in 0 of 1 relations (none), improvement in 0 (none)"),
    ):
        table = reading.compare_sentences(readings(change))
        assert list(table["verdict"]) == [side]
        counts, tests = verdicts.perplexity(table)
        assert said in tests
        assert f"higher in {int(change > 0)} and lower in {int(change < 0)} relations" in counts


def test_a_set_that_damages_less_than_random_ones_proves_nothing():
    table = readings(0.4)
    table.loc[table["state"] == "random", "nll"] += 5
    assert list(reading.compare_sentences(table)["p"]) == [1.0]


def test_relations_without_sentences_are_left_out_and_named(study, modelled, tmp_path):
    assert list(modelled.table["ablated"]) == ["lives", "eats"]
    assert modelled.verdict[-1].endswith("Without neutral sentences and left out: plays.")
    nothing = language_modelling(study, LanguageModellingConfig(str(tmp_path)))
    assert nothing.verdict == ("Nothing was read. Without neutral sentences and left out: lives, eats, plays.",)
    assert reading.read_sentences("company_ceo", LanguageModellingConfig()) == rn.neutral_sentences("company_ceo")[:50]
    assert reading.read_sentences("lives", LanguageModellingConfig()) == ()


def test_files_of_sentences_that_cannot_be_used_are_refused(tmp_path):
    def read(relation):
        return reading.read_sentences(relation, LanguageModellingConfig(str(tmp_path), n_sentences=1))

    (tmp_path / "a.json").write_text('{"sentences": []}')
    (tmp_path / "b.txt").write_text(" \n\n")
    (tmp_path / "c.txt").write_text("One.\nTwo.\n")
    (tmp_path / "d.json").write_text("[1")
    assert read("c") == ("One.",)
    for name, says in (("a", "not a list of texts"), ("b", "contains no sentence"), ("d", "cannot be read")):
        with pytest.raises(rn.RelationNeuronsError, match=says):
            read(name)
    (tmp_path / "c.json").write_text('["Three."]')
    with pytest.raises(rn.RelationNeuronsError, match="two files for 'c'"):
        read("c")
    with pytest.raises(rn.RelationNeuronsError, match="is not a folder"):
        reading.read_sentences("a", LanguageModellingConfig(str(tmp_path / "nowhere")))


def test_what_was_read_is_kept(planted, relations, sentences, modelled, tmp_path, monkeypatch):
    config = LanguageModellingConfig(str(sentences), n_sentence_controls=3)
    tables = []
    for _ in range(2):
        kept = Study(planted.model, relations, CONFIG)
        kept.keep_in(tmp_path / "run")
        tables.append(language_modelling(kept, config).table)
        monkeypatch.setattr(answer_jobs, "losses", None)
    pd.testing.assert_frame_equal(*tables)
    pd.testing.assert_frame_equal(tables[0], modelled.table, rtol=1e-4)
