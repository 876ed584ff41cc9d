"""Texts beside the relations: prompts about subjects without a relation, and sentences without subject or relation."""

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


def concept_of(relation: str) -> str:
    """What kind of thing the subjects of a relation are: `person`, `company`, `country`, `landmark`, `star`, `product`.

    Raises:
        RelationNeuronsError: A relation of which that is not known.
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
    """Prompts that mention subjects in stems that express no relation, for neurons of concepts (paper, section 6).

    Every concept has as many prompts as the others, and the stems are dealt out evenly over each, so that a stem says
    nothing about the concept. Subjects of two concepts, such as Singapore, are left out.

    Args:
        relations: Whose subjects to take; of at least two concepts.
        n: Prompts per concept; by default as many as the smallest concept has subjects.
        stems: Texts with one `{}`; by default the shipped ones.
        seed: Chooses subjects and stems.

    Returns:
        Prompts whose `relation` is the concept and whose object is empty; they can be read, but not asked.

    Raises:
        RelationNeuronsError: Fewer than two concepts, more prompts than subjects, or a stem without one `{}`.
    """
    stems = tuple(_content()["stems"]) if stems is None else tuple(stems)
    if not stems:
        raise refuse("There are no stems", expected="at least one text with {} for the subject")
    for stem in stems:
        if stem.count("{}") != 1:
            raise refuse(f"The stem {stem!r} has {stem.count('{}')} places", expected="one {} for the subject")
    subjects: dict[str, dict[str, str]] = {}
    for relation in relations:
        named = subjects.setdefault(concept_of(relation.name), {})
        named.update({key(fact.subject): fact.subject for fact in relation.facts})
    shared = {
        name for name, count in Counter(name for named in subjects.values() for name in named).items() if count > 1
    }
    pools = {concept: sorted(named.keys() - shared) for concept, named in subjects.items()}
    fewest = min(map(len, pools.values()), default=0)
    wanted = fewest if n is None else n
    if len(pools) < 2 or not 1 <= wanted <= fewest:
        raise refuse(
            f"There are {len(pools)} concepts, the smallest with {fewest} subjects; n is {n}",
            expected=f"at least two concepts, and n from 1 to {fewest}",
        )
    prompts = []
    for concept, pool in pools.items():
        chosen = sorted(pool, key=lambda name: stable_rank(seed, name))[:wanted]
        for number, name in enumerate(chosen):
            subject, index = subjects[concept][name], number % len(stems)
            prompts.append(
                Prompt(concept, subject, "", stems[index].replace("{}", subject), template=index, fact=subject)
            )
    return tuple(prompts)


@validated
def neutral_sentences(relation: str) -> tuple[str, ...]:
    """Sentences that end in an object of a relation and say nothing of the relation or its subjects (paper, Table 2).

    What they tell is made up.

    Raises:
        RelationNeuronsError: A relation that none are shipped for.
    """
    folder = data_folder() / "neutral"
    path = folder / f"{relation}.json"
    names = [one.stem for one in folder.glob("*.json")]
    if relation not in names:
        raise refuse(f"There are no neutral sentences for '{relation}'", expected=nearest(relation, names))
    return tuple(sentence["text"] for sentence in json.loads(path.read_text(encoding="utf-8"))["sentences"])


def _content() -> Any:
    return json.loads((data_folder() / "concepts.json").read_text(encoding="utf-8"))
