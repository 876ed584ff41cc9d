"""Stop drawing control sets once no effect of a family can be shown any more, whatever the others would do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from relation_neurons.statistics.by_fact import changes_of
from relation_neurons.statistics.effects import FIRST_BLOCK, MEASURES, chance_p
from relation_neurons.statistics.hypothesis_tests import adjust
from relation_neurons.statistics.power import LEVEL


def blocks(n: int) -> Iterator[tuple[int, int]]:
    """Numbers of the first and behind the last control set of each block: 5, 5, 10, 20 and so on up to n.

    Example:
        >>> list(blocks(25))
        [(0, 5), (5, 10), (10, 20), (20, 25)]
    """
    start, stop = 0, min(FIRST_BLOCK, n)
    while start < stop:
        yield start, stop
        start, stop = stop, min(2 * stop, n)


def can_still_be_shown(
    own: Float[ndarray, " group"],
    controls: Float[ndarray, "group draw"],
    p_chance: Float[ndarray, " group"],
    n_planned: int,
) -> bool:
    """Whether any group of a family could have a verdict after all planned control sets.

    A group cannot if its test over facts fails, which no control set changes. Nor can it if its rank
    among the control sets is settled: all draws on the far side of the group's own effect, seen from the
    median, are as extreme as itself, wherever the median of all draws will lie. With L draws at or below
    it and U at or above, its p-value will be at least (1 + min(L, U)) / (planned + 1), and the one that is
    corrected over the family no smaller. So to stop when no group is left changes no verdict: this is
    deterministic curtailment, which needs no correction for looking.

    Args:
        own: Effect of each group's set.
        controls: Effects of the control sets so far, as many for each group.
        p_chance: P-values of the test over facts, of all groups.
        n_planned: Control sets of each group in the end.
    """
    below = (controls <= own[:, None]).sum(axis=1)
    above = (controls >= own[:, None]).sum(axis=1)
    reachable = (1 + np.minimum(below, above)) / (1 + n_planned) < LEVEL
    return bool((reachable & (adjust(p_chance, "holm") < LEVEL)).any())


class Futility:
    """Whether a family's remaining control sets can change a verdict, of any measure."""

    def __init__(self, own: pd.DataFrame, *, by: Sequence[str], n_planned: int, seed: int) -> None:
        """Remember the changes under the sets that are tested.

        Args:
            own: Table of `Study.changes`, as `effects.compare` will take it.
            by: Columns that define a group.
            n_planned: Control sets of each group in the end.
            seed: Of the sign flips, as for `effects.compare`.
        """
        self._own, self._by, self._n, self._seed = own, list(by), n_planned, seed
        self._chance: dict[str, np.ndarray] = {}

    def reached(self, controls: pd.DataFrame) -> bool:
        """Whether the control sets so far rule out every verdict."""
        return not any(self._can(controls, measure) for measure in MEASURES)

    def _can(self, controls: pd.DataFrame, measure: str) -> bool:
        groups = changes_of(self._own, controls, by=self._by, measure=measure)
        if measure not in self._chance:
            p = [chance_p(own, measure, self._seed) for own, _ in groups]
            self._chance[measure] = np.array(p)
        means = np.array([own.mean() for own, _ in groups])
        draws = np.array([changes.mean(axis=0) for _, changes in groups])
        return can_still_be_shown(means, draws, self._chance[measure], self._n)
