"""Prompts without relations and sentences without subjects."""

import json
import re
from collections import Counter

import pytest
import torch

import relation_neurons as rn
from relation_neurons.prompts.concepts import concept_of, concept_prompts, neutral_sentences
from relation_neurons.prompts.tokenization import encode
from relation_neurons.relations.loading import data_folder, shipped_names
from relation_neurons.relations.relation import key


def test_every_shipped_relation_has_one_concept():
    concepts = json.loads((data_folder() / "concepts.json").read_text(encoding="utf-8"))["concepts"]
    assert sorted(name for names in concepts.values() for name in names) == sorted(shipped_names())
    assert concept_of("person_father") == "person"
    with pytest.raises(rn.RelationNeuronsError, match="did you mean 'person_father'"):
        concept_of("person_fathr")


def test_concepts_are_balanced_and_independent_of_stems():
    relations = rn.load_relations()
    prompts = concept_prompts(relations, seed=3)
    counts = Counter(prompt.relation for prompt in prompts)
    assert len(counts) == 6
    assert len(set(counts.values())) == 1
    stems = {concept: Counter(p.template for p in prompts if p.relation == concept) for concept in counts}
    assert len({tuple(sorted(each.items())) for each in stems.values()}) == 1
    subjects = {
        concept: {key(f.subject) for r in relations if concept_of(r.name) == concept for f in r.facts}
        for concept in counts
    }
    for prompt in prompts:
        homes = [concept for concept, names in subjects.items() if key(prompt.subject) in names]
        assert homes == [prompt.relation]
        assert prompt.subject in prompt.text
    labels, mask = rn.contrast(prompts, ratio=1)
    assert (labels.sum(axis=0) * 2 == mask.sum(axis=0)).all()
    assert concept_prompts(relations, seed=3) == prompts
    assert concept_prompts(relations, seed=4) != prompts
    assert Counter(p.relation for p in concept_prompts(relations, n=7)) == dict.fromkeys(counts, 7)


def test_concepts_that_cannot_be_balanced_are_refused():
    two = rn.load_relations("person_father", "company_ceo")
    for options, says in [
        ({"n": 10_000}, "n from 1 to"),
        ({"stems": ["{} and {}"]}, "has 2 placeholders"),
        ({"n": 0}, "n is 0"),
    ]:
        with pytest.raises(rn.RelationNeuronsError, match=says):
            concept_prompts(two, **options)
    with pytest.raises(rn.RelationNeuronsError, match="There are 1 concepts"):
        concept_prompts(rn.load_relations("person_father", "person_mother"))


def test_concept_prompts_can_be_encoded(planted):
    prompts = tuple(rn.Prompt("animal", f"s{n}", "", f"s{n} in") for n in range(4))
    assert all(one.object_ids == () for one in encode(planted.model, prompts))
    values = rn.collect_activations(planted.model, prompts).values
    alone = torch.cat([rn.collect_activations(planted.model, [prompt]).values for prompt in prompts])
    torch.testing.assert_close(values, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", shipped_names())
def test_neutral_sentences_end_in_objects_and_name_no_subject(name):
    (relation,) = rn.load_relations(name)
    sentences = neutral_sentences(name)
    assert len(set(sentences)) == 50
    ends = [max((o for o in relation.objects if text.endswith(" " + o)), key=len, default=None) for text in sentences]
    assert None not in ends
    assert len(set(ends)) >= min(25, len(relation.objects))
    for text, end in zip(sentences, ends, strict=True):
        before = text[: -len(end)].casefold()
        for fact in relation.facts:
            assert not re.search(rf"\b{re.escape(fact.subject.casefold())}\b", before), (text, fact.subject)


def test_neutral_sentences_are_distinct_and_unknown_relations_are_refused():
    everything = [text for name in shipped_names() for text in neutral_sentences(name)]
    assert len(set(everything)) == len(everything) == 800
    with pytest.raises(rn.RelationNeuronsError, match="no neutral sentences for 'person_fathr'"):
        neutral_sentences("person_fathr")
