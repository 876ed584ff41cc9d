"""The tests of cumulativity and interference in simulated families: false positives, and power by size of effect.

Each family has 12 relations. A set of neurons has an effect on each relation that it is tested on, its own or one of a
control set, and facts vary about it with the tails of Student's t with 3 degrees of freedom and more or less of their
own with each set. Effects of random sets are normal, or log-normal with either sign, as where a few sets harm the
model. Run from the root of the repository: `python -m benchmarks.new_tests`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tyro
from numpy import ndarray
from scipy import stats

from benchmarks.power import verdicts
from relation_neurons.statistics.cluster_bootstrap import resampled_means
from relation_neurons.statistics.gain_test import gain_test
from relation_neurons.statistics.power import LEVEL

N_RELATIONS = 12
NAMED = 12
"""Pairs that are named beforehand, to compare with all 132."""
FACT_SD, SET_SD = 1.0, 0.2
"""Standard deviation over facts under one set, and over random sets of their mean (their scale, with heavy tails)."""
N_FLIPS, N_RESAMPLES = 1_999, 1_000
"""Fewer than in experiments, which takes less time and changes no rate."""
SETS: Mapping[str, Callable[[np.random.Generator, tuple[int, ...]], ndarray]] = {
    "normal": lambda generator, shape: generator.normal(0, SET_SD, shape),
    "heavy tails": lambda generator, shape: (
        SET_SD * generator.choice([-1.0, 1.0], shape) * generator.lognormal(0, 1.5, shape)
    ),
}
Shown = dict[str, bool]


@dataclass(frozen=True)
class Config:
    """Simulate families of gains and of slopes over the number of ablated neurons."""

    families: int = 1000
    """Families without any effect."""
    families_with_effect: int = 200
    """Families for each effect."""
    facts: tuple[int, ...] = (12, 25, 50)
    """Facts of each relation."""
    controls: tuple[int, ...] = (20, 25)
    """Control sets of each relation; of slopes also 2, as in the profile `demo`."""
    effects: tuple[float, ...] = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0)
    """In nats."""
    out: Path = Path("docs/results/new_tests.json")
    """File for the results."""


def changes(generator: np.random.Generator, sets: str, shape: tuple[int, int, int], n_facts: int) -> ndarray:
    """Changes by ablated relation, set (the first is its own), asked relation and fact."""
    effects = SETS[sets](generator, shape)[..., None]
    facts = generator.standard_t(3, (shape[2], n_facts)) / np.sqrt(3)  # how much each fact gives way
    alike = generator.normal(0, 0.6, (shape[0], shape[1], 1, 1)) * facts
    alone = 0.8 * generator.standard_t(3, (*shape, n_facts)) / np.sqrt(3)
    return np.asarray(effects + FACT_SD * (alike + alone))


def gains(
    sets: str, n_facts: int, n_controls: int, effect: float, generator: np.random.Generator, n_pairs: int | None = None
) -> Shown:
    """Whether any of all pairs, or of some named ones, is shown, and the first pair, to which the effect is added."""
    all_changes = changes(generator, sets, (N_RELATIONS, n_controls + 1, N_RELATIONS), n_facts)
    pairs = list(itertools.permutations(range(N_RELATIONS), 2))[:n_pairs]
    aligned, means, draws = np.zeros((N_RELATIONS, n_facts, len(pairs))), [], []
    for number, (ablated, asked) in enumerate(pairs):
        of_pair = all_changes[ablated, :, asked]
        own, random = of_pair[0] + effect * (number == 0), of_pair[1:]
        aligned[asked, :, number] = own - random.mean(axis=0)
        means.append(float(own.mean()))
        draws.append(random.mean(axis=1))
    seed, name = int(generator.integers(2**31)), f"gains of {len(pairs)} pairs"
    tests = gain_test(aligned.reshape(-1, len(pairs)), means, draws, n_flips=N_FLIPS, seed=seed)
    return {
        name: bool((tests["p_family"] < LEVEL).any()),
        f"{name}, the first": bool(tests["p_family"][0] < LEVEL),
        f"{name}, Benjamini-Hochberg": bool((tests["p_bh"] < LEVEL).any()),
        f"{name}, over facts alone": bool((tests["p_chance_family"] < LEVEL).any()),
    }


def slopes(sets: str, n_facts: int, n_controls: int, effect: float, generator: np.random.Generator) -> Shown:
    """Whether slopes (or synergies) of all relations, to which the effect is added, are shown alone and pooled."""
    drawn = changes(generator, sets, (N_RELATIONS, n_controls + 1, 1), n_facts)[:, :, 0]
    drawn[:, 0] -= effect
    own, controls = drawn[:, 0], drawn[:, 1:]
    alone = verdicts(own, controls.mean(axis=2))
    pooled = verdicts(own.reshape(1, -1), controls.mean(axis=(0, 2))[None])
    means = resampled_means(list(own - controls.mean(axis=1)), N_RESAMPLES, int(generator.integers(2**31)))
    low, high = np.percentile(means, [2.5, 97.5])
    return {
        "slope, any relation": bool(alone.any()),
        "slope, first relation": bool(alone[0]),
        "slope, pooled": bool(pooled[0]),
        "slope, pooled interval without 0": bool(low > 0 or high < 0),
    }


def rates(family: Callable[[np.random.Generator], Shown], n: int, seed: int) -> dict[str, dict[str, float]]:
    """The share of families in which each is shown, with Wilson's interval."""
    shown = [family(np.random.default_rng([seed, number])) for number in range(n)]
    found = {}
    for name in shown[0]:
        test = stats.binomtest(sum(one[name] for one in shown), n)
        interval = test.proportion_ci(method="wilson")
        found[name] = {
            "share": float(test.statistic),
            "low": round(float(interval.low), 4),
            "high": round(float(interval.high), 4),
        }
    return found


def designs(config: Config) -> Iterator[tuple[dict[str, object], Callable[[np.random.Generator], Shown]]]:
    """Every design, and what simulates one family of it."""
    sizes = itertools.product(config.facts, (2, *config.controls), SETS)
    for n_facts, n_controls, sets in sizes:
        with_power = (n_facts, n_controls) in {(25, 20), (50, 25)}
        for effect in (0.0, *(config.effects if with_power else ())):
            n = config.families_with_effect if effect else config.families
            design = {"facts": n_facts, "controls": n_controls, "sets": sets, "effect": effect, "families": n}
            given = (sets, n_facts, n_controls, effect)
            yield design, partial(slopes, *given)
            if n_controls > 2:  # else no gain can be shown
                yield design, partial(gains, *given)
                if with_power:
                    yield design, partial(gains, *given, n_pairs=NAMED)


def main(config: Config) -> None:
    """Simulate everything and write a table, which is kept after every design."""
    rows: list[dict[str, object]] = []
    for design, simulate in designs(config):
        found = rates(simulate, int(str(design["families"])), seed=0)
        rows += [{"test": name, **design, **rate} for name, rate in found.items()]
        config.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        print(*rows[-4:], sep="\n", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Config))
