"""Translated relations: whole, aligned fact by fact, and asked as their language asks."""

import json

import pytest

import relation_neurons as rn
from relation_neurons.evaluation.answers import RULES, string_rule
from relation_neurons.prompts.tokenization import encode
from relation_neurons.relations.loading import data_folder, shipped_names
from relation_neurons.relations.relation import Translation, key
from relation_neurons.relations.translations import LANGUAGES, read_translations, translate

OTHERS = sorted(set(LANGUAGES) - {"en"})
EVERY = [(code, name) for code in OTHERS for name in shipped_names()]
SEVERAL = ("country_capital", "country_language", "person_father", "product_company")


def test_every_relation_is_translated_into_every_language():
    found = sorted((path.parent.name, path.stem) for path in (data_folder() / "languages").glob("*/*.json"))
    assert found == sorted(EVERY)
    assert OTHERS == ["de", "es", "fr", "ja", "zh"]


@pytest.mark.parametrize(("code", "name"), EVERY)
def test_translations_are_complete_and_clean(code, name):
    (relation,) = rn.load_relations(name)
    there = relation.translations[code]
    assert set(there.subjects) == {fact.subject for fact in relation.facts}
    assert set(there.objects) == set(relation.objects)
    assert len(there.templates) == len(relation.templates)
    assert len(there.templates_zs) == len(relation.templates_zs)
    assert len(set(map(key, there.subjects.values()))) == len(there.subjects)  # one name, one subject
    for alias, others in there.aliases.items():
        assert alias in there.objects.values()
        for other in others:
            assert not string_rule(other, alias, code), "the alias adds nothing"
            for rival in set(there.objects.values()) - {alias}:
                assert not string_rule(rival, other, code), f"{rival} would be right for {alias}"
    facts = translate(relation.facts, there)
    assert [fact.original for fact in facts if fact.original] == [
        fact.subject for fact in relation.facts if fact.subject in {one.original for one in facts}
    ]
    assert len(relation.facts) - len(facts) <= 3  # the object stands in the subject


@pytest.fixture(scope="module")
def relations():
    return rn.load_relations()


@pytest.fixture(scope="module")
def english(relations):
    return rn.make_prompts(relations, rn.PromptConfig(n_evaluation=44)).evaluation


@pytest.mark.parametrize("code", OTHERS)
def test_each_language_has_at_least_forty_evaluation_facts(code, relations, english):
    asked = rn.make_prompts(relations, rn.PromptConfig(n_evaluation=44, language=code)).evaluation
    originals = {(prompt.relation, prompt.fact, prompt.template) for prompt in english}
    assert {(prompt.relation, prompt.fact, prompt.template) for prompt in asked} <= originals
    for name in shipped_names():
        assert sum(prompt.relation == name for prompt in asked) >= 40
    assert {prompt.language for prompt in asked} == {code}


def test_prompts_and_answers_follow_their_language():
    relations = rn.load_relations("country_capital")
    (french,) = {
        p.unit: p
        for p in rn.make_prompts(relations, rn.PromptConfig(language="fr", n_evaluation=100)).evaluation
        if p.unit == "Germany"
    }.values()
    assert french.subject == "Allemagne"
    assert french.object == "Berlin"
    assert french.text.endswith("Allemagne est? Réponse :")
    assert french.examples.count("? Réponse : ") == 2
    chinese = rn.make_prompts(relations, rn.PromptConfig(language="zh", shots=1)).evaluation[0]
    assert chinese.joint == ""
    assert chinese.examples.endswith(f"{chinese.examples.split('：')[-1]}")  # noqa: RUF001
    assert "答案： " not in chinese.text  # noqa: RUF001
    own = rn.make_prompts(relations, rn.PromptConfig(language="de", answer=" ->")).evaluation[0]
    assert own.text.endswith(" ->")


def test_articles_of_the_language_are_ignored():
    assert string_rule(" la guitare.", "guitare", "fr")
    assert string_rule(" Die Türkei", "Türkei", "de")
    assert not string_rule(" la guitare.", "guitare")
    assert RULES["alias"](" l'Australie", "Océanie", ("Australie",), "fr")
    assert not string_rule(" the Euro", "Euro", "de")


def test_facts_are_aligned_and_facts_that_reveal_the_answer_are_dropped():
    facts = (rn.Fact("Algeria", "Algiers"), rn.Fact("France", "Paris"), rn.Fact("Peru", "Lima"))
    into = Translation(
        ("{} ist",), (), {"Algeria": "Alger-Land", "France": "Frankreich"}, {"Algiers": "Alger", "Paris": "Paris"}
    )
    assert translate(facts, into) == (rn.Fact("Frankreich", "Paris", (), "France"),)


def test_custom_relations_include_their_translations(tmp_path):
    content = {
        "name": "colour",
        "language": "en",
        "prompt_templates": ["The colour of {} is"],
        "samples": [{"subject": f"thing {n}", "object": f"colour {n % 3}"} for n in range(12)],
        "translations": {
            "nl": {
                "prompt_templates": ["De kleur van {} is"],
                "subjects": {f"thing {n}": f"ding {n}" for n in range(12)},
                "objects": {f"colour {n}": f"kleur {n}" for n in range(3)},
                "aliases": {"kleur 1": ["tint 1"]},
            }
        },
    }
    path = tmp_path / "colour.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    relations = rn.load_relations(path)
    dutch = rn.make_prompts(relations, rn.PromptConfig(language="nl", shots=0, n_evaluation=6)).evaluation
    assert all(prompt.text == f"De kleur van {prompt.subject} is? Answer:" for prompt in dutch)
    assert {prompt.aliases for prompt in dutch if prompt.object == "kleur 1"} == {("tint 1",)}
    with pytest.raises(rn.RelationNeuronsError, match=r"no translation into 'fr'.*nl"):
        rn.make_prompts(relations, rn.PromptConfig(language="fr", shots=0, n_evaluation=6))


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ([], "a translation is"),
        ({"prompt_templates": ["{} x"], "subjects": {}, "objects": {"a": "b"}}, "field 'subjects'"),
        ({"prompt_templates": ["x"], "subjects": {"a": "b"}, "objects": {"a": "b"}}, "exactly one {}"),
        ({"prompt_templates": ["{} x"], "subjects": {"a": ""}, "objects": {"a": "b"}}, "'subjects', 'a'"),
        ({"prompt_templates": ["{} x"], "subjects": {"a": "c"}, "objects": {"a": 7}}, "'objects', 'a'"),
    ],
)
def test_an_invalid_translation_is_refused(tmp_path, broken, says):
    (tmp_path / "de").mkdir()
    path = tmp_path / "de" / "thing.json"
    path.write_text(json.dumps(broken), encoding="utf-8")
    with pytest.raises(rn.RelationNeuronsError, match=f"thing.json: .*{says}"):
        read_translations(tmp_path, "thing")
    path.write_bytes(b"\xff")
    with pytest.raises(rn.RelationNeuronsError, match="cannot be read as JSON"):
        read_translations(tmp_path, "thing")


def test_a_bos_token_is_a_choice(tiny):
    prompt = rn.Prompt("r", "w1", "w2", "w1 ? Answer:", bos=None)
    for default in (True, False):
        tiny.cfg.default_prepend_bos = default
        found = [encode(tiny, [rn.Prompt("r", "w1", "w2", "w1 ? Answer:", bos=bos)])[0] for bos in (True, False, None)]
        assert [one.ids[0] == 3 for one in found] == [True, False, default]
        assert [one.bos for one in found] == [True, False, default]
        assert encode(tiny, [prompt])[0] == found[2]


@pytest.mark.model
@pytest.mark.parametrize("code", OTHERS)
def test_the_embedded_tokenizer_encodes_every_language(embedded, code):
    prompts = rn.make_prompts(rn.load_relations(*SEVERAL), rn.PromptConfig(language=code, n_evaluation=10)).evaluation
    for prompt, one in zip(prompts, encode(embedded, prompts), strict=True):
        assert embedded.tokenizer.decode(one.object_ids) == prompt.joint + prompt.object
