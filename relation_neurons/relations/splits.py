"""Split facts into detection, evaluation and few-shot examples, with disjoint subjects."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from relation_neurons.errors import refuse
from relation_neurons.relations.relation import Fact, Relation, key


@dataclass(frozen=True)
class Split:
    """The facts of one relation by role; no subject has two roles, even across relations."""

    detection: tuple[Fact, ...]
    evaluation: tuple[Fact, ...]
    shots: tuple[Fact, ...]


def split_relations(
    relations: Sequence[Relation], *, n_evaluation: int = 40, n_shots: int = 2, seed: int = 0
) -> dict[str, Split]:
    """Split every relation's facts into detection, evaluation and few-shot examples.

    Subjects are ordered by a hash of the seed and their name. For each relation, the first
    `n_evaluation` subjects are used for evaluation, the last `n_shots` facts with distinct objects
    for few-shot examples, and the remaining facts for detection. Evaluation subjects of any
    relation are excluded from the detection facts and few-shot examples of all relations. The order
    depends only on seed and subject, so adding a relation does not reorder the others.

    Args:
        relations: The relations to split together.
        n_evaluation: Evaluation subjects per relation (the paper holds out 50 triples).
        n_shots: Facts reserved for few-shot examples.
        seed: Seed of the order.

    Returns:
        The split of each relation, by name. All facts of a subject have the same role.

    Raises:
        RelationNeuronsError: A relation has too few facts for the split.
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
                f"Relation '{relation.name}' has {len(groups)} subjects, and {len(rest)} facts that no relation uses "
                f"for evaluation: too few for {n_evaluation} evaluation subjects, {n_shots} few-shot examples with "
                "distinct objects and at least one detection fact",
                do="lower n_evaluation or shots, or add facts",
            )
        splits[relation.name] = Split(tuple(detection), tuple(evaluation), tuple(shots))
    return splits


def stable_rank(seed: int, *texts: str) -> bytes:
    """A pseudo-random sort key that is the same on all machines and with all library versions."""
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
