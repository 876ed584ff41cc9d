"""Split facts into detection, evaluation and few-shot examples, with disjoint subjects."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from relation_neurons.errors import refuse
from relation_neurons.relations.relation import Fact, Relation, key

SplitBy = Literal["facts", "objects"]


@dataclass(frozen=True)
class Split:
    """The facts of one relation by role; no subject has two roles, even across relations."""

    detection: tuple[Fact, ...]
    evaluation: tuple[Fact, ...]
    shots: tuple[Fact, ...]


def split_relations(
    relations: Sequence[Relation],
    *,
    n_evaluation: int = 40,
    n_shots: int = 2,
    seed: int = 0,
    by: SplitBy = "facts",
) -> dict[str, Split]:
    """Split every relation's facts into detection, evaluation and few-shot examples.

    Subjects are ordered by a hash of the seed and their name. For each relation, the first
    `n_evaluation` subjects are used for evaluation, the last `n_shots` facts with distinct objects
    for few-shot examples, and the remaining facts for detection. Evaluation subjects of any
    relation are excluded from the detection facts and few-shot examples of all relations. The order
    depends only on seed and subject, so adding a relation does not reorder the others.

    By `objects`, detection facts and few-shot examples are of one of a relation's `object_halves`
    and evaluation facts of the other. So no object of a relation's evaluation facts is an answer
    among its detection facts or few-shot examples. Facts of an evaluation subject whose object is
    in the first half have no role.

    Args:
        relations: The relations to split together.
        n_evaluation: Evaluation subjects per relation (the paper holds out 50 triples).
        n_shots: Facts reserved for few-shot examples.
        seed: Seed of the order and of the halves.
        by: `facts`, or also `objects`.

    Returns:
        The split of each relation, by name. All facts of a subject have the same role.

    Raises:
        RelationNeuronsError: A relation has too few facts, or objects, for the split.
    """
    parts = {relation.name: _parts(relation, by, seed) for relation in relations}
    held_out = {subject for _, groups in parts.values() for subject in list(groups)[:n_evaluation]}
    splits = {}
    for relation in relations:
        for_detection, groups = parts[relation.name]
        evaluation = [fact for subject in list(groups)[:n_evaluation] for fact in groups[subject]]
        rest = [fact for subject, facts in for_detection.items() if subject not in held_out for fact in facts]
        shots = _distinct_objects(rest[::-1], n_shots)
        shot_subjects = {key(fact.subject) for fact in shots}
        detection = [fact for fact in rest if key(fact.subject) not in shot_subjects]
        if len(groups) < n_evaluation or len(shots) < n_shots or not detection:
            half, otherwise = (" in the halves of its objects", ", or split by facts") if by == "objects" else ("", "")
            raise refuse(
                f"Relation '{relation.name}' has{half} {len(groups)} subjects, and {len(rest)} facts that no relation "
                f"uses for evaluation: too few for {n_evaluation} evaluation subjects, {n_shots} few-shot examples "
                "with distinct objects and at least one detection fact",
                do=f"lower n_evaluation or shots, or add facts{otherwise}",
            )
        splits[relation.name] = Split(tuple(detection), tuple(evaluation), tuple(shots))
    return splits


def object_halves(facts: Sequence[Fact], seed: int = 0) -> tuple[frozenset[str], frozenset[str]]:
    """Divide the distinct objects of facts into two halves with about as many facts each.

    Objects are dealt out from the most frequent to the rarest, those of equal frequency in the
    order of a hash of the seed and their name, each to the half with fewer facts so far. So the
    halves differ by no more facts than the most frequent object has. The hash also chooses which
    half comes first.

    Args:
        facts: Facts of one relation.
        seed: Seed of the hash.

    Returns:
        The two sets of objects, each as `key` writes it; the second is empty if there is one object.

    Example:
        >>> facts = [Fact("Paris", "France"), Fact("Lyon", "France"), Fact("Rome", "Italy"), Fact("Bonn", "Germany")]
        >>> sorted(sorted(half) for half in object_halves(facts))
        [['france'], ['germany', 'italy']]
    """
    counts = Counter(key(fact.object) for fact in facts)
    halves: tuple[set[str], set[str]] = (set(), set())
    sizes = [0, 0]
    first = stable_rank(seed, *sorted(counts))[0] % 2 if len(counts) > 1 else 0
    for name in sorted(counts, key=lambda name: (-counts[name], stable_rank(seed, name))):
        smaller = first if sizes[first] <= sizes[1 - first] else 1 - first
        halves[smaller].add(name)
        sizes[smaller] += counts[name]
    return frozenset(halves[0]), frozenset(halves[1])


def stable_rank(seed: int, *texts: str) -> bytes:
    """A pseudo-random sort key that is the same on all machines and with all library versions."""
    return hashlib.sha256("\x1f".join((str(seed), *texts)).encode()).digest()


def _parts(relation: Relation, by: SplitBy, seed: int) -> tuple[dict[str, list[Fact]], dict[str, list[Fact]]]:
    """The facts from which detection and evaluation facts are taken, by subject."""
    if by == "facts":
        groups = _by_subject(relation.facts, seed)
        return groups, groups
    halves = object_halves(relation.facts, seed)
    if not halves[1]:
        raise refuse(
            f"All facts of relation '{relation.name}' have the same object",
            expected="at least two objects, of which detection and evaluation facts take one half each",
            do="leave the relation out, or split by facts",
        )
    detection, evaluation = (
        _by_subject([fact for fact in relation.facts if key(fact.object) in half], seed) for half in halves
    )
    return detection, evaluation


def _by_subject(facts: Sequence[Fact], seed: int) -> dict[str, list[Fact]]:
    groups: dict[str, list[Fact]] = {}
    for fact in facts:
        groups.setdefault(key(fact.subject), []).append(fact)
    return {subject: groups[subject] for subject in sorted(groups, key=lambda subject: stable_rank(seed, subject))}


def _distinct_objects(facts: Sequence[Fact], n: int) -> list[Fact]:
    chosen: dict[str, Fact] = {}
    for fact in facts:
        chosen.setdefault(fact.object, fact)
    return list(chosen.values())[:n]
