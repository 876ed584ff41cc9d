"""What a comparison can show at best: the smallest p-value that facts, control sets and corrections leave."""

from __future__ import annotations

from typing import NamedTuple

from relation_neurons.statistics.hypothesis_tests import N_PERMUTATIONS

LEVEL = 0.05
"""The family-wise level of every verdict."""
CONTROLS_NEEDED = round(1 / LEVEL)
"""Fewest control sets with which the control test can fall below the level: 1 / (20 + 1) < 0.05."""


class Design(NamedTuple):
    """The size of a family of tests.

    Attributes:
        n_tests: Groups that are tested together, such as pairs of relations.
        n_facts: Facts of each group, the fewest where they differ.
        n_controls: Control sets of each group, or of each set of neurons that it pools.
        n_sets: Sets of neurons, such as those of all relations, that a group pools.
    """

    n_tests: int
    n_facts: int
    n_controls: int
    n_sets: int = 1

    @property
    def smallest_p(self) -> float:
        """The smallest family-wise p-value: all facts change alike, and beyond every control set.

        The exact test over n facts cannot fall below 2 / 2^n, and is multiplied by the number of
        tests (Holm's first step). The control test cannot fall below 1 / (controls + 1); that of m
        pooled sets not below 2 / (controls + 1)^m, times the number of tests.
        """
        chance = max(2.0 ** (1 - self.n_facts), 1 / (1 + N_PERMUTATIONS[-1]))
        return min(1.0, max(self.n_tests * chance, self._random_p(self.n_controls)))

    def _random_p(self, n_controls: int) -> float:
        """The smallest p-value of the control test, corrected."""
        if self.n_sets == 1:
            return 1 / (1 + n_controls)
        return 2 * self.n_tests * float(1 + n_controls) ** -self.n_sets

    @property
    def can_show(self) -> bool:
        """Whether any effect, however large, can have a verdict."""
        return self.smallest_p < LEVEL

    @property
    def facts_needed(self) -> int:
        """The fewest facts with which the test over facts can fall below the level."""
        n_facts = 1
        while self.n_tests * 2.0 ** (1 - n_facts) >= LEVEL:
            n_facts += 1
        return n_facts

    @property
    def controls_needed(self) -> int:
        """The fewest control sets with which the control test can fall below the level."""
        n_controls = 1
        while self._random_p(n_controls) >= LEVEL:
            n_controls += 1
        return n_controls

    def __str__(self) -> str:
        size = f"{self.n_tests} tests, each of {self.n_facts} facts and {self.n_controls} control sets"
        if self.can_show:
            return f"{size}: the smallest p that can be reached is {self.smallest_p:.2g}, corrected for all tests"
        return f"{size}: no effect can be shown; needed are {self.needs}"

    @property
    def needs(self) -> str:
        """The facts and control sets that a verdict would need."""
        n_controls = max(self.controls_needed, self.n_controls)
        return f"{max(self.facts_needed, self.n_facts)} facts and {n_controls} control sets"
