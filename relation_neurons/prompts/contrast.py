"""Positives and negatives of each relation, by which its neurons are found."""

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
    prompts: Sequence[Prompt], *, ratio: int = NEGATIVES_PER_POSITIVE, balanced: bool = True, seed: int = 0
) -> tuple[Bool[ndarray, "prompt relation"], Bool[ndarray, "prompt relation"]]:
    """Say for every relation which prompts are its positives and negatives (paper, section 3).

    Positives are all prompts of the relation. Negatives are drawn from the other relations, `ratio` for each positive,
    or all there are when there are fewer.

    Args:
        prompts: Detection prompts of all relations.
        ratio: Negatives per positive; the paper uses 4.
        balanced: Draw as evenly as possible from each other relation; otherwise from all their prompts alike, as in the
            paper, so that relations with more prompts are drawn more often.
        seed: Chooses the negatives.

    Returns:
        `labels`, true where the prompt is of the relation, and `mask`, true where it takes part at all; relations
        in the order of `relation_names(prompts)`.

    Raises:
        RelationNeuronsError: Fewer than two relations, so that nothing could be a negative.
    """
    if ratio < 1:
        raise refuse(f"ratio is {number_text(ratio)}", expected="at least 1 negative for each positive")
    names = relation_names(prompts)
    if len(names) < 2:
        raise refuse(
            f"The prompts are of {len(names)} relation(s)", expected="at least two, since the others are the negatives"
        )
    own = np.array([prompt.relation for prompt in prompts])
    labels = own[:, None] == np.array(names)[None, :]
    mask = labels.copy()
    for column, name in enumerate(names):
        keys = [stable_rank(seed, name, prompt.relation, prompt.text) for prompt in prompts]
        turns: list[tuple[int, bytes, int]] = []
        for other in names[:column] + names[column + 1 :]:
            shuffled = sorted(np.flatnonzero(own == other), key=lambda row: keys[row])
            turns += [(turn if balanced else 0, keys[row], int(row)) for turn, row in enumerate(shuffled)]
        chosen = sorted(turns)[: ratio * int(labels[:, column].sum())]
        mask[[row for _, _, row in chosen], column] = True
    return labels, mask
