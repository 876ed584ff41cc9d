"""Prompts that mention subjects without a relation, and neutral sentences without subjects."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from relation_neurons.errors import nearest, refuse
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.relations.loading import data_folder
from relation_neurons.relations.relation import Relation, key
from relation_neurons.relations.splits import stable_rank
from relation_neurons.validation import validated

N_SCREENING = 8
"""Neutral sentences on which a model is screened for critical neurons."""


def concept_of(relation: str) -> str:
    """The concept of a relation's subjects, such as `person`, `company` or `country`.

    Raises:
        RelationNeuronsError: The relation has no known concept.
    """
    concepts = _content()["concepts"]
    known = {name: concept for concept, names in concepts.items() for name in names}
    if relation not in known:
        raise refuse(f"The concept of relation '{relation}' is not known", expected=nearest(relation, known))
    return str(known[relation])


@validated
def concept_prompts(
    relations: Sequence[Relation], *, n: int | None = None, stems: Sequence[str] | None = None, seed: int = 0
) -> tuple[Prompt, ...]:
    """Prompts that mention subjects without a relation, for concept neurons (paper, section 6).

    All concepts have the same number of prompts, and each uses the stems equally often, so that the
    stem carries no information about the concept. Subjects of several concepts, such as Singapore,
    are dropped.

    Args:
        relations: Relations with the subjects of at least two concepts.
        n: Prompts per concept; by default the number of subjects of the smallest concept.
        stems: Texts with one `{}`; by default the shipped ones.
        seed: Seed of the choice of subjects and stems.

    Returns:
        Prompts with the concept as `relation` and an empty object: activations can be collected on
        them, but they have no correct answer.

    Raises:
        RelationNeuronsError: There are fewer than two concepts or fewer subjects than `n`, or a
            stem does not have exactly one `{}`.
    """
    stems = tuple(_content()["stems"]) if stems is None else tuple(stems)
    if not stems:
        raise refuse("There are no stems", expected="at least one text with {} for the subject")
    for stem in stems:
        if stem.count("{}") != 1:
            raise refuse(f"The stem {stem!r} has {stem.count('{}')} placeholders", expected="one {} for the subject")
    subjects = _subjects_by_concept(relations)
    fewest = min(map(len, subjects.values()), default=0)
    n_prompts = fewest if n is None else n
    if len(subjects) < 2 or not 1 <= n_prompts <= fewest:
        raise refuse(
            f"There are {len(subjects)} concepts, the smallest with {fewest} subjects; n is {n}",
            expected=f"at least two concepts, and n from 1 to {fewest}",
        )
    prompts = []
    for concept, names in subjects.items():
        chosen = sorted(names, key=lambda name: stable_rank(seed, name))[:n_prompts]
        for number, name in enumerate(chosen):
            subject, index = names[name], number % len(stems)
            text = stems[index].replace("{}", subject)
            prompts.append(Prompt(concept, subject, "", text, template=index, fact=subject))
    return tuple(prompts)


def _subjects_by_concept(relations: Sequence[Relation]) -> dict[str, dict[str, str]]:
    """Subjects by key for each concept, without those of several concepts."""
    subjects: dict[str, dict[str, str]] = {}
    for relation in relations:
        names = subjects.setdefault(concept_of(relation.name), {})
        names.update({key(fact.subject): fact.subject for fact in relation.facts})
    count = Counter(name for names in subjects.values() for name in names)
    return {concept: {name: names[name] for name in names if count[name] == 1} for concept, names in subjects.items()}


@validated
def neutral_sentences(relation: str) -> tuple[str, ...]:
    """Fictitious sentences that end in an object but do not express the relation (paper, Table 2).

    They do not mention the relation's subjects.

    Raises:
        RelationNeuronsError: No sentences are shipped for the relation.
    """
    folder = data_folder() / "neutral"
    path = folder / f"{relation}.json"
    names = [file.stem for file in folder.glob("*.json")]
    if relation not in names:
        raise refuse(f"There are no neutral sentences for '{relation}'", expected=nearest(relation, names))
    return tuple(sentence["text"] for sentence in json.loads(path.read_text(encoding="utf-8"))["sentences"])


def screening_sentences() -> tuple[str, ...]:
    """The first neutral sentence of each of the first eight relations in alphabetical order."""
    names = sorted(file.stem for file in (data_folder() / "neutral").glob("*.json"))
    return tuple(neutral_sentences(name)[0] for name in names[:N_SCREENING])


def _content() -> Any:
    return json.loads((data_folder() / "concepts.json").read_text(encoding="utf-8"))
