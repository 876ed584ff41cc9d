"""The tests of cumulativity and interference in simulated families: false positives, and power by size of effect.

Each family has 12 relations. A set of neurons has an effect on each relation that it is tested on, its own or one of a
control set, and facts vary about it with the tails of Student's t with 3 degrees of freedom and more or less of their
own with each set. Effects of random sets are normal, or log-normal with either sign, as where a few sets harm the
model. Run from the root of the repository: `python -m benchmarks.new_tests`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tyro
from numpy import ndarray
from scipy import stats

from relation_neurons.statistics.cluster_bootstrap import two_stage_interval
from relation_neurons.statistics.effects import LEAST_NATS, decide
from relation_neurons.statistics.gain_test import gain_test
from relation_neurons.statistics.power import LEVEL
from relation_neurons.statistics.sign_flips import sign_flip_max_t

N_RELATIONS = 12
FACT_SD, SET_SD = 1.0, 0.2
"""Standard deviation over facts under one set, and over random sets of their mean (their scale, with heavy tails)."""
N_FLIPS = 1_999
"""Fewer than in experiments, where p-values need not be as small."""
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


def gains(sets: str, n_facts: int, n_controls: int, effect: float, generator: np.random.Generator) -> Shown:
    """Whether any of all pairs is shown, and the first pair, to which the effect is added."""
    all_changes = changes(generator, sets, (N_RELATIONS, n_controls + 1, N_RELATIONS), n_facts)
    pairs = list(itertools.permutations(range(N_RELATIONS), 2))
    aligned, means, draws = np.zeros((N_RELATIONS, n_facts, len(pairs))), [], []
    for number, (ablated, asked) in enumerate(pairs):
        of_pair = all_changes[ablated, :, asked]
        own, random = of_pair[0] + effect * (number == 0), of_pair[1:]
        aligned[asked, :, number] = own - random.mean(axis=0)
        means.append(float(own.mean()))
        draws.append(random.mean(axis=1))
    seed = int(generator.integers(2**31))
    aligned = aligned.reshape(-1, len(pairs))
    tests = gain_test(aligned, means, draws, n_flips=N_FLIPS, seed=seed)
    over_facts = sign_flip_max_t(aligned, n_flips=N_FLIPS, seed=seed).p_family
    return {
        "gains": bool((tests["p_family"] < LEVEL).any()),
        "gains, first pair": bool(tests["p_family"][0] < LEVEL),
        "gains, Benjamini-Hochberg": bool((tests["p_bh"] < LEVEL).any()),
        "gains, without control sets' ranks": bool((over_facts < LEVEL).any()),
    }


def slopes(sets: str, n_facts: int, n_controls: int, effect: float, generator: np.random.Generator) -> Shown:
    """Whether slopes (or synergies) of all relations, to which the effect is added, are shown alone and pooled."""
    drawn = changes(generator, sets, (N_RELATIONS, n_controls + 1, 1), n_facts)[:, :, 0]
    drawn[:, 0] -= effect
    own, controls = list(drawn[:, 0]), list(drawn[:, 1:].transpose(0, 2, 1))
    p = [stats.ttest_1samp(values, 0).pvalue for values in own]  # sign flips take longer and say the same
    alone = decide(own, controls, p, resolution=LEAST_NATS)["p_holm"].to_numpy()
    whole, random = np.concatenate(own), np.concatenate(controls)
    p_pooled = [stats.ttest_1samp(whole, 0).pvalue]
    pooled = decide([whole], [random], p_pooled, resolution=LEAST_NATS)["p_holm"][0]
    interval = two_stage_interval([a - b.mean(axis=1) for a, b in zip(own, controls, strict=True)])
    return {
        "slope, any relation": bool((alone < LEVEL).any()),
        "slope, first relation": bool(alone[0] < LEVEL),
        "slope, pooled": bool(pooled < LEVEL),
        "slope, pooled interval without 0": interval.side != "across",
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


def main(config: Config) -> None:
    """Simulate everything and write a table, which is kept after every design."""
    rows: list[dict[str, object]] = []
    designs = itertools.product(("gains", "slopes"), config.facts, (2, *config.controls), SETS)
    for family, n_facts, n_controls, sets in designs:
        if family == "gains" and n_controls == 2:
            continue  # nothing can be shown
        effects = config.effects if (n_facts, n_controls) in {(25, 20), (50, 25)} else ()
        for effect in (0.0, *effects):
            simulate = partial({"gains": gains, "slopes": slopes}[family], sets, n_facts, n_controls, effect)
            n = config.families_with_effect if effect else config.families
            design = {"facts": n_facts, "controls": n_controls, "sets": sets, "effect": effect, "families": n}
            rows += [{"test": name, **design, **rate} for name, rate in rates(simulate, n, seed=0).items()]
        config.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        print(*(row for row in rows[-4:]), sep="\n", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Config))
