import numpy as np
import pytest

import relation_neurons as rn
from relation_neurons.prompts.prompts import relation_names


@pytest.fixture(scope="module")
def relations():
    return rn.load_relations("company_ceo", "country_capital", "person_father", "star_constellation")


def test_zero_shot_is_the_papers_form(relations):
    prompts = rn.make_prompts(relations, rn.PromptConfig(shots=0, templates="all"))
    texts = {prompt.text for prompt in (*prompts.detection, *prompts.evaluation)}
    assert "The CEO of Apple is? Answer:" in texts
    assert "Apple's CEO is? Answer:" in texts
    assert all(prompt.query_start == 0 for prompt in prompts.detection)


def test_few_shot_examples_use_the_same_template_and_have_no_other_role(relations):
    prompts = rn.make_prompts(relations, rn.PromptConfig(shots=2))
    asked = {(p.relation, p.subject) for p in (*prompts.detection, *prompts.evaluation)}
    for prompt in prompts.evaluation:
        *examples, query = prompt.text.split("\n")
        assert len(examples) == 2
        assert prompt.text[prompt.query_start :] == query
        assert query.endswith("? Answer:")
        frame = query.replace(prompt.subject, "{}")
        for example in examples:
            sentence, answer = example.split("? Answer: ")
            before, after = frame.removesuffix("? Answer:").split("{}")
            shown = sentence.removeprefix(before).removesuffix(after)
            assert (prompt.relation, shown) not in asked
            assert answer in prompt.candidates


@pytest.mark.parametrize(("how", "prompts_per_fact"), [("all", 2), ("cycle", 1), ("first", 1)])
def test_templates_are_assigned_as_configured(relations, how, prompts_per_fact):
    prompts = rn.make_prompts(relations, rn.PromptConfig(templates=how, n_evaluation=20))
    ceo = [p for p in prompts.evaluation if p.relation == "company_ceo"]
    assert len(ceo) == 20 * prompts_per_fact
    assert {p.template for p in ceo} == ({0} if how == "first" else {0, 1})
    per_template = np.bincount([p.template for p in ceo])
    assert per_template.max() - per_template.min() == 0 or how == "first"


def test_the_second_template_set_has_the_same_facts(relations):
    main, zs = (
        rn.make_prompts(relations, rn.PromptConfig(template_set=which, templates="first")) for which in ("main", "zs")
    )
    assert [(p.relation, p.subject, p.object) for p in main.evaluation] == [
        (p.relation, p.subject, p.object) for p in zs.evaluation
    ]
    assert not {p.text for p in main.evaluation} & {p.text for p in zs.evaluation}


def test_contrast_draws_four_negatives_evenly_from_other_relations(relations):
    prompts = rn.make_prompts(relations, rn.PromptConfig(n_detection=20, templates="first")).detection
    small = [p for p in prompts if p.relation != "person_father"] + [
        p for p in prompts if p.relation == "person_father"
    ][:9]
    labels, mask = rn.contrast(small)
    names = relation_names(small)
    own = np.array([p.relation for p in small])
    for column, name in enumerate(names):
        assert (labels[:, column] == (own == name)).all()
        assert mask[labels[:, column], column].all()
        negatives = own[mask[:, column] & ~labels[:, column]]
        n_positive = labels[:, column].sum()
        assert len(negatives) == min(4 * n_positive, len(small) - n_positive)
        if name == "person_father":  # 36 negatives over three relations
            assert [int((negatives == other).sum()) for other in names if other != name] == [12, 12, 12]


def test_contrast_of_some_positives_leaves_out_the_others_of_their_relation_only(relations):
    prompts = rn.make_prompts(relations, rn.PromptConfig(n_detection=12, templates="first")).detection
    names, own = relation_names(prompts), np.array([p.relation for p in prompts])
    chosen = np.arange(len(prompts)) % 3 == 0
    labels, mask = rn.contrast(prompts, positives=chosen)
    for column, name in enumerate(names):
        assert (labels[:, column] == (own == name)).all()
        assert (mask[own == name, column] == chosen[own == name]).all()
        negatives = mask[:, column] & (own != name)
        assert negatives.sum() == min(4 * (chosen & (own == name)).sum(), (own != name).sum())
        assert (negatives & ~chosen).any()


def test_contrast_depends_on_its_seed(relations):
    prompts = rn.make_prompts(relations, rn.PromptConfig(templates="first")).detection
    few = [p for p in prompts if p.relation != "person_father"] + [p for p in prompts if p.relation == "person_father"][
        :5
    ]
    first, again, other = (rn.contrast(few, seed=seed)[1] for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_one_relation_has_no_negatives(relations):
    prompts = rn.make_prompts(relations[:1])
    with pytest.raises(rn.RelationNeuronsError, match="at least two"):
        rn.contrast(prompts.detection)


def test_impossible_configurations_are_refused():
    with pytest.raises(rn.RelationNeuronsError, match="shots is -1"):
        rn.PromptConfig(shots=-1)
    relation = rn.Relation("r", ("{} is",), (), tuple(rn.Fact(f"s{i}", f"o{i}") for i in range(99)))
    with pytest.raises(rn.RelationNeuronsError, match="template in the set 'zs'"):
        rn.make_prompts([relation], rn.PromptConfig(template_set="zs"))


def test_the_joint_between_prompt_and_object_can_be_set():
    facts = tuple(rn.Fact(f"s{number}", str(number)) for number in range(8))
    relation = rn.Relation("latitude", ('{"city": "{}", "lat": "',), (), facts)
    config = rn.PromptConfig(shots=1, n_evaluation=2, answer="", joint="")
    for prompt in rn.make_prompts([relation], config).evaluation:
        example, query = prompt.text.splitlines()
        assert query == f'{{"city": "{prompt.subject}", "lat": "'
        assert example.rpartition('"')[2] in map(str, range(8))
        assert prompt.joint == ""
    assert {prompt.joint for prompt in rn.make_prompts([relation], rn.PromptConfig(n_evaluation=2)).evaluation} == {" "}
