"""Pairs of relations of the same things, named before anything is measured: a smaller family than all pairs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

from relation_neurons.relations.relation import Relation, key

SHARED = 0.2
"""Least share of the fewer subjects, or objects, that two relations have in common to be of the same type."""


def related_pairs(relations: Sequence[Relation]) -> tuple[str, ...]:
    """Both directions of every pair whose subjects, or whose objects, are of the same type.

    They are if the names begin with the same word before an underscore, which is how the type of the
    subjects is named (`person_mother`, `person_father`), or if a fifth of the fewer distinct subjects of
    the two, or of the fewer distinct objects, are the other's as well. No model and no score has a part
    in it, so that the family is fixed beforehand.

    Returns:
        Pairs as `InterConfig.pairs` takes them, `ablated->asked`.

    Example:
        >>> from relation_neurons.relations.loading import load_relations
        >>> related_pairs(load_relations("country_capital", "country_language", "person_occupation"))
        ('country_capital->country_language', 'country_language->country_capital')
    """
    return tuple(f"{one.name}->{other.name}" for one, other in permutations(relations, 2) if _related(one, other))


def _related(one: Relation, other: Relation) -> bool:
    first, second = (relation.name.partition("_") for relation in (one, other))
    if first[1] and first[:2] == second[:2]:
        return True
    return any(_overlap(one, other, part) >= SHARED for part in ("subject", "object"))


def _overlap(one: Relation, other: Relation, part: str) -> float:
    names = [{key(getattr(fact, part)) for fact in relation.facts} for relation in (one, other)]
    return len(names[0] & names[1]) / min(map(len, names))
