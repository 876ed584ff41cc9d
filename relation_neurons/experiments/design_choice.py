"""The cheapest design with which a family of tests shows an effect: facts, control sets, and which family."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from relation_neurons.statistics.hypothesis_tests import POWER
from relation_neurons.statistics.power import CONTROLS_NEEDED, Design
from relation_neurons.statistics.simulation import Spread, least_effect, power

FACTS = (6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 300, 500)
CONTROLS = (20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 300, 500)
"""Numbers that are considered, up to those there are or may be."""


class Family(NamedTuple):
    """Groups that could be tested together.

    Attributes:
        name: Such as `inter, all`.
        n_tests: How many groups.
        spread: Of their changes, from the pilot.
        n_units: How many units so many facts of each relation are, since facts of one subject count as one.
        n_answers: How many prompts so many facts and control sets take.
    """

    name: str
    n_tests: int
    spread: Spread
    n_units: Callable[[int], int]
    n_answers: Callable[[int, int], int]

    def size(self, n_facts: int, n_controls: int) -> Design:
        """The size of the family with so many facts and control sets."""
        return Design(self.n_tests, self.n_units(n_facts), n_controls)


class Choice(NamedTuple):
    """A family with facts and control sets, and what it can show.

    Attributes:
        family: What is tested.
        n_facts: Facts of each relation.
        n_controls: Control sets of each group.
        power: The probability that the wanted effect is shown.
    """

    family: Family
    n_facts: int
    n_controls: int
    power: float

    @property
    def n_answers(self) -> int:
        """Prompts that it takes at most."""
        return self.family.n_answers(self.n_facts, self.n_controls)

    @property
    def least_effect(self) -> float:
        """The effect that is shown with 80 % power, in nats, rounded up; infinite if none is."""
        effect = least_effect(self.family.size(self.n_facts, self.n_controls), self.family.spread)
        return math.ceil(effect * 100) / 100 if math.isfinite(effect) else effect


def up_to(numbers: Sequence[int], most: int) -> list[int]:
    """The numbers below a limit, and the limit itself."""
    return [number for number in numbers if number < most] + [most]


def cheapest(family: Family, effect: float, facts: Sequence[int], controls: Sequence[int]) -> Choice | None:
    """The design with the fewest prompts among those with at least 80 % power; None if none has.

    Power grows with both numbers. So the walk along the edge of what suffices, from the most control sets
    and the fewest facts to fewer sets and more facts, passes the cheapest, in as many simulations as there
    are numbers, and not pairs of them.

    Args:
        family: What is tested.
        effect: That is to be shown, in nats.
        facts: Numbers of facts to choose from, ascending.
        controls: Numbers of control sets to choose from, ascending.
    """
    row, column, found = 0, len(controls) - 1, []
    while row < len(facts) and column >= 0:
        n_facts, n_controls = facts[row], controls[column]
        reached = power(family.size(n_facts, n_controls), family.spread, effect)
        if reached >= POWER:
            found.append(Choice(family, n_facts, n_controls, reached))
            column -= 1
        else:
            row += 1
    return min(found, key=lambda choice: (choice.n_answers, choice.n_facts), default=None)


def choose(families: Sequence[Family], effect: float, n_facts: int, most_controls: int) -> Choice:
    """The cheapest design of several families of one experiment.

    Args:
        families: Of which one is tested.
        effect: That is to be shown, in nats.
        n_facts: Facts that each relation has.
        most_controls: Control sets that may be used.

    Returns:
        The cheapest with 80 % power or, where none has, the largest of the family that shows the smallest effect.
    """
    facts, controls = up_to(FACTS, n_facts), up_to(CONTROLS, max(most_controls, CONTROLS_NEEDED))
    found = [one for family in families if (one := cheapest(family, effect, facts, controls)) is not None]
    if found:
        return min(found, key=lambda choice: choice.n_answers)
    largest = [
        Choice(family, n_facts, controls[-1], power(family.size(n_facts, controls[-1]), family.spread, effect))
        for family in families
    ]
    return min(largest, key=lambda choice: choice.least_effect)


def brief(choice: Choice, seconds: float) -> str:
    """A design with its price, in words."""
    size = choice.family.size(choice.n_facts, choice.n_controls)
    time = "" if math.isnan(seconds) else f", about {math.ceil(choice.n_answers * seconds / 6) / 10:.1f} minutes"
    return (
        f"{choice.family.name}: {size.n_tests} tests, each of {size.n_facts} facts and {size.n_controls} control sets; "
        f"at most {choice.n_answers:,} prompts{time}"
    )


def columns(choice: Choice, effect: float, seconds: float) -> Mapping[str, object]:
    """A design as a row of a table."""
    return {
        "family": choice.family.name,
        "n_tests": choice.family.n_tests,
        "n_facts": choice.n_facts,
        "n_controls": choice.n_controls,
        "effect": effect,
        "power": choice.power,
        "least_effect": choice.least_effect,
        "n_answers": choice.n_answers,
        "minutes": choice.n_answers * seconds / 60,
        **{f"{name}_sd": value for name, value in choice.family.spread._asdict().items()},
        "text": brief(choice, seconds),
    }
