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
        n_controls: Control sets of each group.
    """

    n_tests: int
    n_facts: int
    n_controls: int

    @property
    def smallest_p(self) -> float:
        """The smallest family-wise p-value: all facts change alike, and beyond every control set.

        The exact test over n facts cannot fall below 2 / 2^n, and is multiplied by the number of
        tests (Holm's first step). The control test cannot fall below 1 / (controls + 1).
        """
        chance = max(2.0 ** (1 - self.n_facts), 1 / (1 + N_PERMUTATIONS[-1]))
        return min(1.0, max(self.n_tests * chance, 1 / (1 + self.n_controls)))

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

    def __str__(self) -> str:
        size = f"{self.n_tests} tests, each of {self.n_facts} facts and {self.n_controls} control sets"
        if self.can_show:
            return f"{size}: the smallest p that can be reached is {self.smallest_p:.2g}, corrected for all tests"
        return f"{size}: no effect can be shown; needed are {self.needs}"

    @property
    def needs(self) -> str:
        """The facts and control sets that a verdict would need."""
        return f"{max(self.facts_needed, self.n_facts)} facts and {max(CONTROLS_NEEDED, self.n_controls)} control sets"
