"""Facts divided by role, so that nothing is measured on what it was chosen by."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from relation_neurons.errors import refuse
from relation_neurons.relations.relation import Fact, Relation, key


@dataclass(frozen=True)
class Split:
    """The facts of one relation by role; no subject has two roles, in whatever relation it occurs."""

    detection: tuple[Fact, ...]
    evaluation: tuple[Fact, ...]
    shots: tuple[Fact, ...]


def split_relations(
    relations: Sequence[Relation], *, n_evaluation: int = 40, n_shots: int = 2, seed: int = 0
) -> dict[str, Split]:
    """Divide every relation's facts into detection, evaluation and few-shot examples.

    Subjects are ordered by a hash of the seed and their name. Each relation takes its first `n_evaluation` subjects to
    evaluate, its last `n_shots` as examples with distinct objects, and detects with the rest. A subject that any
    relation evaluates is left out of every relation's detection and examples, so nothing is learned about it anywhere.
    The order depends on nothing but seed and subject: adding a relation does not reshuffle the others.

    Args:
        relations: The relations to split together.
        n_evaluation: Evaluation subjects per relation (the paper holds out 50 triples).
        n_shots: Facts set aside as solved examples.
        seed: Chooses the order.

    Returns:
        A split per relation name. Facts whose subject repeats stay together.

    Raises:
        RelationNeuronsError: A relation has too few facts for the split asked for.
    """
    ordered = {relation.name: _by_subject(relation, seed) for relation in relations}
    held_out = {subject for groups in ordered.values() for subject in list(groups)[:n_evaluation]}
    splits = {}
    for relation in relations:
        groups = ordered[relation.name]
        evaluation = [fact for subject in list(groups)[:n_evaluation] for fact in groups[subject]]
        rest = [fact for subject, facts in groups.items() if subject not in held_out for fact in facts]
        shots = _distinct_objects(rest[::-1], n_shots)
        shot_subjects = {key(fact.subject) for fact in shots}
        detection = [fact for fact in rest if key(fact.subject) not in shot_subjects]
        if len(groups) < n_evaluation or len(shots) < n_shots or not detection:
            raise refuse(
                f"Relation '{relation.name}' has {len(groups)} subjects, of which {len(rest)} facts are left beside "
                f"the evaluation of all relations: too few for {n_evaluation} to evaluate, {n_shots} examples "
                "with distinct objects and at least one to detect with",
                do="lower n_evaluation or shots, or add facts",
            )
        splits[relation.name] = Split(tuple(detection), tuple(evaluation), tuple(shots))
    return splits


def stable_rank(seed: int, *texts: str) -> bytes:
    """A sort key that shuffles texts by seed, the same on every machine and for every version of every library."""
    return hashlib.sha256("\x1f".join((str(seed), *texts)).encode()).digest()


def _by_subject(relation: Relation, seed: int) -> dict[str, list[Fact]]:
    groups: dict[str, list[Fact]] = {}
    for fact in relation.facts:
        groups.setdefault(key(fact.subject), []).append(fact)
    return {subject: groups[subject] for subject in sorted(groups, key=lambda subject: stable_rank(seed, subject))}


def _distinct_objects(facts: Sequence[Fact], n: int) -> list[Fact]:
    chosen: dict[str, Fact] = {}
    for fact in facts:
        chosen.setdefault(fact.object, fact)
    return list(chosen.values())[:n]
