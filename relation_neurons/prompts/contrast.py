"""Positive and negative prompts of each relation, for scoring its neurons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from relation_neurons.errors import nearest, number_text, refuse
from relation_neurons.prompts.prompts import Prompt, relation_names
from relation_neurons.relations.splits import stable_rank
from relation_neurons.validation import validated

NEGATIVES_PER_POSITIVE = 4


@validated
def contrast(
    prompts: Sequence[Prompt],
    *,
    ratio: int = NEGATIVES_PER_POSITIVE,
    balanced: bool = True,
    seed: int = 0,
    positives: Bool[ndarray, " prompt"] | None = None,
) -> tuple[Bool[ndarray, "prompt relation"], Bool[ndarray, "prompt relation"]]:
    """Choose the positive and negative prompts of every relation (paper, section 3).

    Positives are all prompts of the relation. Negatives are drawn from the other relations: `ratio`
    per positive, or all if there are fewer.

    Args:
        prompts: Detection prompts of all relations.
        ratio: Negatives per positive; the paper uses 4.
        balanced: Whether to draw equally from each of the other relations; otherwise negatives are
            drawn uniformly from all their prompts, as in the paper.
        seed: Seed of the choice of negatives.
        positives: Which prompts may be positives; None means all. The others are only negatives of
            other relations.

    Returns:
        `labels`, true for prompts of the relation, and `mask`, true for its positives and
        negatives; relations in the order of `relation_names(prompts)`.

    Raises:
        RelationNeuronsError: There are fewer than two relations, or `ratio` is less than 1.
    """
    names = relation_names(prompts)
    if len(names) < 2:
        raise refuse(
            f"The prompts are of {len(names)} relation(s)",
            expected="at least two, since negatives are prompts of other relations",
        )
    contrasts = [Contrast(name, tuple(other for other in names if other != name)) for name in names]
    return contrast_with(prompts, contrasts, ratio=ratio, balanced=balanced, seed=seed, positives=positives)


class Contrast(NamedTuple):
    """A relation, and the relations that its negatives are drawn from.

    Attributes:
        relation: Its prompts are the positives.
        negatives: The relations of the negatives.
        apart_from: Relations whose positives are to have no subject in common with this one's: a subject that several
            of them have is dealt to one, the same for all their contrasts.
    """

    relation: str
    negatives: tuple[str, ...]
    apart_from: tuple[str, ...] = ()


@validated
def contrast_with(
    prompts: Sequence[Prompt],
    contrasts: Sequence[Contrast],
    *,
    ratio: int = NEGATIVES_PER_POSITIVE,
    balanced: bool = True,
    seed: int = 0,
    positives: Bool[ndarray, " prompt"] | None = None,
) -> tuple[Bool[ndarray, "prompt contrast"], Bool[ndarray, "prompt contrast"]]:
    """As `contrast`, with the negatives of each column drawn from chosen relations.

    Example:
        `Contrast("person_father", ("star_constellation", "company_ceo"))` leaves the prompts of all other relations
        out, those of `person_mother` among them.

    Args:
        prompts: Detection prompts of all relations.
        contrasts: What is told from what; a relation may have several.
        ratio: Negatives per positive; all there are if fewer.
        balanced: As for `contrast`.
        seed: As for `contrast`.
        positives: As for `contrast`.

    Returns:
        `labels` and `mask`, a column per contrast.

    Raises:
        RelationNeuronsError: `ratio` is less than 1, a relation has no prompts, or is among its own negatives, or a
            contrast has no negatives.
    """
    if ratio < 1:
        raise refuse(f"ratio is {number_text(ratio)}", expected="at least 1 negative for each positive")
    _require_possible(contrasts, relation_names(prompts))
    own = np.array([prompt.relation for prompt in prompts])
    labels = np.array([own == one.relation for one in contrasts]).T
    mask = labels.copy() if positives is None else labels & positives[:, None]
    for column, one in enumerate(contrasts):
        if one.apart_from:
            mask[:, column] &= _dealt(prompts, one, seed)
    shuffled = {name: _shuffled(prompts, own, name, seed) for name in dict.fromkeys(one.relation for one in contrasts)}
    for column, (name, negatives, _) in enumerate(contrasts):
        order = [
            (turn if balanced else 0, key, row)
            for other in negatives
            for turn, (key, row) in enumerate(shuffled[name][other])
        ]
        chosen = sorted(order)[: ratio * int(mask[:, column].sum())]
        mask[[row for _, _, row in chosen], column] = True
    return labels, mask


def _dealt(prompts: Sequence[Prompt], one: Contrast, seed: int) -> Bool[ndarray, " prompt"]:
    """The prompts whose subject no other relation of the group has, or that was dealt to this one."""
    group = {one.relation, *one.apart_from}
    owners: dict[str, set[str]] = {}
    for prompt in prompts:
        if prompt.relation in group:
            owners.setdefault(prompt.columns["unit"], set()).add(prompt.relation)
    chosen = {unit: min(names, key=lambda name: stable_rank(seed, unit, name)) for unit, names in owners.items()}
    return np.array([chosen.get(prompt.columns["unit"]) == one.relation for prompt in prompts])


def _require_possible(contrasts: Sequence[Contrast], names: Sequence[str]) -> None:
    for name, negatives, _ in contrasts:
        for missing in {name, *negatives} - {*names}:
            raise refuse(f"There are no prompts of '{missing}'", expected=nearest(missing, names))
        if not negatives or name in negatives:
            raise refuse(f"The negatives of '{name}' are of {list(negatives)}", expected="one or more other relations")


def _shuffled(prompts: Sequence[Prompt], own: ndarray, name: str, seed: int) -> dict[str, list[tuple[bytes, int]]]:
    """The key and row of each prompt of each relation, in the order in which they become negatives of `name`."""
    keyed: dict[str, list[tuple[bytes, int]]] = {}
    for row, prompt in enumerate(prompts):
        keyed.setdefault(str(own[row]), []).append((stable_rank(seed, name, prompt.relation, prompt.text), row))
    return {relation: sorted(rows) for relation, rows in keyed.items()}
