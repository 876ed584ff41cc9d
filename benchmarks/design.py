"""What a pilot forecasts against what comes out, and what stopping early saves.

On planted models and on the embedded one: the pilot's standard deviations and the effect that its design shows
with 80 % power, beside both from the evaluation facts under all control sets. And, over simulated families, the
verdicts that stopping early changes (none can) and the control answers that it saves. Run from the root of the
repository: `python -m benchmarks.design`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tyro
from scipy import stats

import relation_neurons as rn
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.cumulativity import CumulativityConfig
from relation_neurons.experiments.design import DesignConfig, Plan, plan
from relation_neurons.experiments.inter_relation import InterConfig
from relation_neurons.experiments.intra_relation import IntraConfig
from relation_neurons.experiments.k_sweep import SweepConfig
from relation_neurons.experiments.pilot import measured_spreads
from relation_neurons.experiments.registry import SMOKE_KS, find_experiment
from relation_neurons.experiments.study import Study
from relation_neurons.statistics.by_fact import LEAST_NATS
from relation_neurons.statistics.effects import larger_p
from relation_neurons.statistics.hypothesis_tests import family_p, holm
from relation_neurons.statistics.power import LEVEL, Design
from relation_neurons.statistics.sequential import blocks, can_still_be_shown
from relation_neurons.statistics.simulation import SETS, Spread
from tests.planted_properties import GROUP, plant_nothing, plant_properties

TABLES = {"intra": "effects", "inter": "effects", "sweep": "trend", "cumulativity": "synergy"}
RELATIONS = ("country_capital", "country_language", "person_occupation", "person_pro_sport")


@dataclass(frozen=True)
class Config:
    """Compare forecasts with results, and simulate stopping early."""

    effect: float = 0.5
    """Effect of the designs, in nats."""
    families: int = 1000
    """Simulated families for stopping early."""
    only: tuple[str, ...] = ("planted", "nothing", "smollm2-135m", "stopping")
    """What is done."""
    out: Path = Path("docs/results/design.json")
    """File for the results."""


def options(ks: tuple[int, ...], scale: bool) -> dict[str, Any]:
    """The four experiments with a design of their own."""
    return {
        "intra": IntraConfig(n_detection_tested=0),
        "inter": InterConfig(),
        "sweep": SweepConfig(ks=ks, scale=scale, n_other=1),
        "cumulativity": CumulativityConfig(ks=ks, scale=scale, n_slices=1),
    }


def study_of(name: str) -> tuple[Study, dict[str, Any]]:
    """A study and its experiments by name."""
    if name == "smollm2-135m":
        prompts = rn.PromptConfig(shots=2, n_evaluation=24)
        config = StudyConfig(k=200, site="post", validation="none", prompts=prompts)
        return Study(rn.load_model(name), rn.load_relations(*RELATIONS), config), options(SMOKE_KS, True)
    planted = plant_properties(0) if name == "planted" else plant_nothing(0, common=0.3)
    prompts = rn.PromptConfig(shots=0, n_evaluation=24)
    config = StudyConfig(k=GROUP, site="post", validation="none", prompts=prompts)
    return Study(planted.model, planted.relations, config), options((2, 8, GROUP), False)


def designed_for(study: Study, asked: dict[str, Any], effect: float) -> Plan:
    """The designs for the effect or, where it cannot be shown, for the next of 1.5 times as much that can."""
    while True:
        try:
            return plan(study, asked, DesignConfig("auto", effect, most_controls=30))
        except rn.RelationNeuronsError as error:
            print(error, flush=True)
            effect *= 1.5


def forecast(name: str, effect: float) -> list[dict[str, Any]]:
    """A row per experiment: the pilot's spreads and least effect, and both as they came out."""
    study, asked = study_of(name)
    designed = designed_for(study, asked, effect)
    rows = []
    for row in designed.table.to_dict("records"):
        experiment, family = row["experiment"], row["family"]
        sized, option = designed.apply(study, experiment, asked[experiment])
        related = designed.pairs if family == "inter, related" else ()
        all_pairs = len(study.names)
        sized.stops = None  # all control sets
        came = measured_spreads(sized, {family: option}, related=related, n_partners=all_pairs).iloc[0]
        effects = (
            find_experiment(experiment).run(sized, option).tables[TABLES[experiment]].query("measure == 'logprob'")
        )
        least = effects["minimum_effect"].replace(np.inf, np.nan)
        rows.append(
            {
                "model": name,
                **{key: row[key] for key in ("experiment", "family", "n_tests", "n_facts", "n_controls", "effect")},
                **{key: row[key] for key in ("power", "n_answers", "minutes", "least_effect")},
                "least_effect_came_out": round(float(least.median()), 3),
                "shown": int(effects["verdict"].isin(("falls", "rises")).sum()),
                **{f"{part}_pilot": round(row[f"{part}_sd"], 4) for part in Spread._fields},
                **{f"{part}_came_out": round(float(came[part]), 4) for part in Spread._fields},
            }
        )
        print(rows[-1], flush=True)
    return rows


def stopping(design: Design, tails: str, effects: Mapping[int, float], n_families: int) -> dict[str, Any]:
    """Verdicts with all control sets and with stopping early, and the share of control answers that it saves."""
    generator, spread, shape = np.random.default_rng(0), Spread(1.0, 1.0, 0.2), (n_families, design.n_tests)
    sets = SETS[tails](generator, (*shape, design.n_controls + 1)) * spread.set
    for group, effect in effects.items():
        sets[:, group, 0] = np.median(sets[:, group], axis=-1) - effect
    facts = generator.normal(0, spread.fact, (*shape, design.n_facts)) + sets[..., :1]
    sets[..., 0] = facts.mean(axis=-1)
    sets[..., 1:] += generator.normal(0, spread.control / np.sqrt(design.n_facts), sets[..., 1:].shape)
    chance = stats.ttest_1samp(facts, 0, axis=-1).pvalue
    drawn = np.array([n_drawn(one, p) for one, p in zip(sets, chance, strict=True)])
    every, early = verdicts(sets, chance), np.zeros(shape, dtype=bool)
    for n in np.unique(drawn):
        early[drawn == n] = verdicts(sets[drawn == n, :, : n + 1], chance[drawn == n])
    saved = 1 - drawn / design.n_controls
    return {
        **design._asdict(),
        "tails": tails,
        "n_effects": len(effects),
        "false_positives": float(np.delete(early, list(effects), axis=1).any(axis=1).mean()),
        "changed_verdicts": int((every != early).sum()),
        "saved": round(float(saved.mean()), 3),
        "stopped": round(float((saved > 0).mean()), 3),
    }


def n_drawn(sets: np.ndarray, chance: np.ndarray) -> int:
    """After how many control sets a family stops."""
    n = sets.shape[1] - 1
    looks = (stop for _, stop in blocks(n) if not can_still_be_shown(sets[:, 0], sets[:, 1 : stop + 1], chance, n))
    return next(looks, n)


def verdicts(sets: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Which groups of each family have a verdict."""
    p = family_p(sets, resolution=LEAST_NATS)
    return larger_p(sets[..., 0], sets[..., 1:].mean(axis=-1), holm(chance), p) < LEVEL


def main(config: Config) -> None:
    """Do everything and write a table."""
    found = json.loads(config.out.read_text(encoding="utf-8")) if config.out.is_file() else {}
    for name in config.only:
        if name != "stopping":
            found[name] = forecast(name, config.effect)
            continue
        found[name] = [
            stopping(Design(n_tests, 40, n_controls), tails, effects, config.families)
            for n_tests, n_controls in ((4, 50), (12, 25), (12, 50), (12, 100))
            for tails in SETS
            for effects in ({}, {0: 1.0}, dict.fromkeys(range(n_tests // 2), 1.0))
        ]
        print(pd.DataFrame(found[name]).to_string())
    config.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Config))
