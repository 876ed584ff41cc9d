"""Facts by the half of their objects: which detection facts find neurons, and which evaluation facts test them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from relation_neurons.experiments.study import Study
from relation_neurons.experiments.templates import OTHER
from relation_neurons.prompts.prompts import Prompt, PromptConfig, make_prompts, split_facts
from relation_neurons.relations.relation import Relation, Translation, fact_ids, key
from relation_neurons.relations.splits import object_halves

LEAST = 2
"""Facts of each half that a relation needs, to detect with and to test."""
Source = TypeVar("Source", Relation, Translation)
Halves = Mapping[tuple[str, str], str]
"""The half, `A` or `B`, of each fact's object, by relation and fact."""


def halves(relations: Sequence[Relation], prompts: PromptConfig) -> dict[tuple[str, str], str]:
    """The half of each fact's object.

    Args:
        relations: Split together.
        prompts: How they are split; the halves depend on its `split_seed`.

    Returns:
        `A` or `B` by relation and `fact`, for the detection and evaluation facts whose object is not that of a few-shot
        example.
    """
    found = {}
    for name, split in split_facts(relations, prompts).items():
        shown = {key(fact.object) for fact in split.shots}
        roles = (split.detection[: prompts.n_detection], split.evaluation)
        kept = [fact for facts in roles for fact in facts if key(fact.object) not in shown]
        letters = dict(zip("AB", object_halves(kept, prompts.split_seed), strict=True))
        for facts in roles:
            for fact, identifier in zip(facts, fact_ids(facts), strict=True):
                for letter, half in letters.items():
                    if key(fact.object) in half:
                        found[name, identifier] = letter
    return found


def place_of(prompt: Prompt) -> tuple[str, str]:
    """Relation and fact of a prompt."""
    return prompt.relation, prompt.columns["fact"]


def tested_prompts(
    study: Study, asked: PromptConfig, half_of: Halves, detection: Sequence[Prompt]
) -> dict[str, tuple[Prompt, ...]]:
    """Evaluation prompts whose objects are answers in detection, in the study's template set and in the other one."""
    answers = {(one.relation, one.object) for one in detection if place_of(one) in half_of}
    also = replace(asked, template_set=OTHER[asked.template_set])
    able = {one.name for one in study.relations if _has_templates(one, also)}
    there = make_prompts([_with_both_sets(one) for one in study.relations], also).evaluation
    prompts_of = {
        asked.template_set: study.evaluation(config=asked),
        also.template_set: [one for one in there if one.relation in able],
    }
    return {
        name: tuple(one for one in prompts if place_of(one) in half_of and (one.relation, one.object) in answers)
        for name, prompts in prompts_of.items()
    }


def _has_templates(relation: Relation, prompts: PromptConfig) -> bool:
    code = prompts.language or relation.language
    source = relation if code == relation.language else relation.translations[code]
    return bool(source.templates_zs if prompts.template_set == "zs" else source.templates)


def _with_both_sets(relation: Relation) -> Relation:
    """The relation, or a stand-in where it lacks a template set, so that facts are split alike."""
    translations = {code: _filled(one) for code, one in relation.translations.items()}
    return replace(_filled(relation), translations=translations)


def _filled(source: Source) -> Source:
    main, zs = source.templates, source.templates_zs
    return replace(source, templates=main or zs, templates_zs=zs or main)


def has_both_halves(
    name: str, half_of: Halves, detection: Sequence[Prompt], tested: Mapping[str, Sequence[Prompt]]
) -> bool:
    """Whether a relation has facts of both halves to detect with and to test."""
    return all(
        len({one.columns["unit"] for one in prompts if (one.relation, half_of.get(place_of(one))) == (name, half)})
        >= LEAST
        for prompts in (detection, next(iter(tested.values())))
        for half in "AB"
    )
