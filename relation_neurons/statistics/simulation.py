"""Simulated families of tests: how often an effect is shown, the least that is, and false positives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy import stats

from relation_neurons.statistics.by_fact import LEAST_NATS
from relation_neurons.statistics.effects import larger_p
from relation_neurons.statistics.hypothesis_tests import POWER, family_p, holm
from relation_neurons.statistics.power import LEVEL, Design

N_FAMILIES = 400
"""Simulated families for a power, whose standard error is then at most 2.5 %."""
LARGEST = 10.0
"""The largest effect that is looked for, in nats."""
STEPS = 9
"""Halvings by which the least effect is found, to 0.02 nats."""
MOST_DRAWS = 4_000_000
"""Effects of sets that are simulated for a power."""
AT_ONCE = 2_000_000
"""Effects that are simulated at once; more would fill the memory."""


class Spread(NamedTuple):
    """Standard deviations of changes under ablation, in nats, as one family has them.

    Attributes:
        fact: Over facts, of the change under the set that is tested.
        control: Over facts, of the change under one control set, without what all sets or all facts have in common.
        set: Over random sets, of their mean change over all facts.
        between: Of the logarithm of these three, between groups such as relations.
    """

    fact: float
    control: float
    set: float
    between: float = 0.0


SETS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], ndarray]] = {
    "normal": lambda generator, shape: generator.normal(0, 1, shape),
    "heavy tails": lambda generator, shape: -generator.lognormal(0, 1.5, shape),
}
"""Mean changes of random sets, in units of `Spread.set`; with heavy tails a few random sets harm the model."""


def shown(
    design: Design,
    spread: Spread,
    effect: float,
    *,
    tails: str = "normal",
    n_families: int = N_FAMILIES,
    seed: int = 0,
) -> Bool[ndarray, "family group"]:
    """Which groups of simulated families have a verdict.

    In each family the first group's set lies `effect` below the median of its random sets; the other
    groups' sets are random ones. The tests are those of `effects.decide`, but for the t-test over facts,
    which stands for the sign flips, takes less time, and is given no p-value that these cannot have.

    Args:
        design: The size of the family.
        spread: Its standard deviations.
        effect: In nats; 0 for families without any effect.
        tails: Of the changes of random sets: `normal` or `heavy tails`.
        n_families: How many families.
        seed: Of the draws.
    """
    generator = np.random.default_rng(seed)
    parts = [_shown(size, design, spread, effect, SETS[tails], generator) for size in _sizes(n_families, design)]
    return np.concatenate(parts)


def power(design: Design, spread: Spread, effect: float, *, tails: str = "normal", seed: int = 0) -> float:
    """The share of simulated families in which an effect is shown: of 400, or of 100 at the least if they are large."""
    if not design.can_show:
        return 0.0
    n_families = min(N_FAMILIES, max(N_FAMILIES // 4, MOST_DRAWS // (design.n_tests * (design.n_controls + 1))))
    return float(shown(design, spread, effect, tails=tails, n_families=n_families, seed=seed)[:, 0].mean())


def least_effect(design: Design, spread: Spread, *, tails: str = "normal", seed: int = 0) -> float:
    """The effect that is shown with 80 % power, by bisection; infinite above 10 nats."""
    if power(design, spread, LARGEST, tails=tails, seed=seed) < POWER:
        return float("inf")
    low, high = 0.0, LARGEST
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if power(design, spread, middle, tails=tails, seed=seed) >= POWER else (middle, high)
    return high


def _sizes(n_families: int, design: Design) -> Iterator[int]:
    """Numbers of families that are simulated at once."""
    most = max(1, AT_ONCE // (design.n_tests * (design.n_controls + 1)))
    for start in range(0, n_families, most):
        yield min(most, n_families - start)


def _shown(
    size: int,
    design: Design,
    spread: Spread,
    effect: float,
    draw: Callable[[np.random.Generator, tuple[int, ...]], ndarray],
    generator: np.random.Generator,
) -> Bool[ndarray, "family group"]:
    shape, n_facts = (size, design.n_tests), design.n_facts
    scale = np.exp(generator.normal(0, spread.between, shape)) if spread.between else np.ones(shape)
    sets = draw(generator, (*shape, design.n_controls + 1)) * spread.set * scale[..., None]
    if effect:
        sets[:, 0, 0] = np.median(sets[:, 0], axis=-1) - effect
    sets[..., 0] += generator.normal(0, spread.fact / np.sqrt(n_facts), shape) * scale
    noise = generator.normal(0, spread.control / np.sqrt(n_facts), (*shape, design.n_controls))
    sets[..., 1:] += noise * scale[..., None]
    own = sets[..., 0]
    sds = spread.fact * scale * np.sqrt(generator.chisquare(n_facts - 1, shape) / (n_facts - 1))
    chance = _t_test(own, sds, n_facts)
    p = larger_p(own, sets[..., 1:].mean(axis=-1), holm(chance), family_p(sets, resolution=LEAST_NATS))
    return p < LEVEL


def _t_test(
    means: Float[ndarray, "family group"], sds: Float[ndarray, "family group"], n_facts: int
) -> Float[ndarray, "family group"]:
    """Two-sided p-values, at least the smallest of an exact test over as many facts."""
    p = 2 * stats.t.sf(np.abs(means) * np.sqrt(n_facts) / np.maximum(sds, 1e-12), n_facts - 1)
    return np.maximum(p, Design(1, n_facts, 10**9).smallest_p)
