"""Positive and negative prompts of each relation, for scoring its neurons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from relation_neurons.errors import number_text, refuse
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
    if ratio < 1:
        raise refuse(f"ratio is {number_text(ratio)}", expected="at least 1 negative for each positive")
    names = relation_names(prompts)
    if len(names) < 2:
        raise refuse(
            f"The prompts are of {len(names)} relation(s)",
            expected="at least two, since negatives are prompts of other relations",
        )
    own = np.array([prompt.relation for prompt in prompts])
    labels = own[:, None] == np.array(names)[None, :]
    mask = labels.copy() if positives is None else labels & positives[:, None]
    for column, name in enumerate(names):
        keys = [stable_rank(seed, name, prompt.relation, prompt.text) for prompt in prompts]
        order: list[tuple[int, bytes, int]] = []  # round, key and row of each possible negative
        for other in names[:column] + names[column + 1 :]:
            shuffled = sorted(np.flatnonzero(own == other), key=lambda row: keys[row])
            order += [(turn if balanced else 0, keys[row], int(row)) for turn, row in enumerate(shuffled)]
        chosen = sorted(order)[: ratio * int(mask[:, column].sum())]
        mask[[row for _, _, row in chosen], column] = True
    return labels, mask
