"""What each experiment's tests can show, by simulation: false positives, and the effect shown with 80 % power.

Every experiment is a family of groups; each group has an effect per fact of its own set of neurons and
of its control sets. Here the effects of random sets are drawn from a normal distribution, or from one
with heavy tails, as where a few random sets harm the model; facts vary about the effect of their set.
Run from the root of the repository: `python -m benchmarks.power`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from jaxtyping import Float
from numpy import ndarray
from scipy import stats

from relation_neurons.experiments.profiles import Profile
from relation_neurons.experiments.registry import options, study_config
from relation_neurons.statistics.effects import LEAST_NATS, larger_p
from relation_neurons.statistics.hypothesis_tests import adjust, control_test
from relation_neurons.statistics.power import LEVEL, Design

FACT_SD = 1.0
"""Standard deviation over facts of the change in log-probability under one set, in nats."""
SET_SD = 0.2
"""Standard deviation over random sets of their mean change, in nats; for heavy tails the median distance is alike."""
POWER = 0.8
SETS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], ndarray]] = {
    "normal": lambda generator, shape: generator.normal(0, SET_SD, shape),
    "heavy tails": lambda generator, shape: -SET_SD * generator.lognormal(0, 1.5, shape),
}


@dataclass(frozen=True)
class Config:
    """Simulate the families of tests of every experiment and profile."""

    relations: tuple[int, ...] = (12, 16)
    """Numbers of relations."""
    families: int = 1000
    """Simulated families for the false positive rate."""
    effects: int = 300
    """Simulated families for each effect."""
    out: Path = Path("docs/results/power.json")
    """File for the results."""


def designs(n_relations: int, profile: Profile) -> dict[str, Design]:
    """The size of each experiment's family of tests."""
    study, r = study_config(profile), n_relations
    n_facts = study.prompts.n_evaluation
    inter, neurons, slices = (
        options("inter", profile),
        options("neuron-types", profile),
        options("cumulativity", profile),
    )
    return {
        "intra": Design(r, n_facts, study.n_controls),
        "inter": Design(r * (r - 1), inter.n_tested or n_facts, inter.n_cross_controls),
        "sweep (slope)": Design(r, n_facts, options("sweep", profile).n_sweep_controls),
        "cumulativity (halves)": Design(r, n_facts, slices.n_slice_controls),
        "cumulativity (slices)": Design(r * slices.n_slices, n_facts, slices.n_slice_controls),
        "neuron-types": Design(r * 7, n_facts, neurons.n_type_controls),
        "languages": Design(r * 6, n_facts, options("languages", profile).n_language_controls),
        "templates": Design(r * 4, n_facts, options("templates", profile).n_template_controls or study.n_controls),
        "perplexity": Design(
            r, options("perplexity", profile).n_sentences, options("perplexity", profile).n_sentence_controls
        ),
        "neuron": Design(r, n_facts, study.n_controls),
    }


def verdicts(own: Float[ndarray, "group fact"], controls: Float[ndarray, "group draw"]) -> ndarray:
    """Which groups have a verdict; the t-test over facts stands for the sign flips, which take longer."""
    effects = own.mean(axis=1)
    chance = stats.ttest_1samp(own, 0, axis=1).pvalue
    random = control_test(effects.tolist(), list(controls), resolution=LEAST_NATS)
    return larger_p(effects, controls.mean(axis=1), adjust(chance, "holm"), random.p_family) < LEVEL


def family(design: Design, sets: str, effect: float, generator: np.random.Generator) -> ndarray:
    """Verdicts of one simulated family whose first group has an effect beyond that of a random set."""
    drawn = SETS[sets](generator, (design.n_tests, design.n_controls + 1))
    drawn[0, 0] = np.median(drawn[0]) - effect if effect else drawn[0, 0]
    facts = generator.normal(0, FACT_SD, (design.n_tests, design.n_facts))
    noise = generator.normal(0, FACT_SD / np.sqrt(design.n_facts), (design.n_tests, design.n_controls))
    return verdicts(drawn[:, :1] + facts, drawn[:, 1:] + noise)


def simulate(design: Design, sets: str, config: Config) -> dict[str, float | str | None]:
    """False positives of any group of a family, and the smallest effect with 80 % power; none below 10 nats."""
    generator = np.random.default_rng(0)
    wrong = sum(family(design, sets, 0.0, generator).any() for _ in range(config.families))
    if not design.can_show:
        return {"family_wise": int(wrong) / config.families, "effect": None}
    low, high = 0.0, 10.0
    for _ in range(7):
        middle = (low + high) / 2
        shown = np.mean([family(design, sets, middle, generator)[0] for _ in range(config.effects)])
        low, high = (low, middle) if shown >= POWER else (middle, high)
    return {"family_wise": int(wrong) / config.families, "effect": round(high, 2) if high < 10 else None}


def main(config: Config) -> None:
    """Simulate everything and write a table."""
    rows = []
    for n_relations in config.relations:
        for profile in ("demo", "full"):
            for name, design in designs(n_relations, profile).items():
                row = {"relations": n_relations, "profile": profile, "experiment": name, **design._asdict()}
                row |= {"smallest_p": float(f"{design.smallest_p:.2g}")}
                for sets in SETS:
                    row |= {f"{key}, {sets}": value for key, value in simulate(design, sets, config).items()}
                rows.append(row)
                print(row, flush=True)
    config.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(pd.DataFrame(rows).to_string())


if __name__ == "__main__":
    main(tyro.cli(Config))
