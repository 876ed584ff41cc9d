"""A pilot on detection facts: how much changes vary under own and random sets, and how long an answer takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from relation_neurons.experiments.case import Case
from relation_neurons.experiments.gains import parse_pairs
from relation_neurons.experiments.k_sweep import control_answers, doses, own_answers, slopes
from relation_neurons.experiments.study import Study
from relation_neurons.experiments.synergy import interaction, part_answers
from relation_neurons.statistics.variance import spread_of

PARTNERS = 2
"""Other relations that are asked under each relation's neurons for each family of pairs."""
Changes = tuple[pd.DataFrame, pd.DataFrame, list[str]]
"""Changes under own and under random sets, and the columns of their groups."""


def run_pilot(
    study: Study, families: Mapping[str, Any], *, related: Sequence[str] = (), n_facts: int = 10, n_controls: int = 5
) -> pd.DataFrame:
    """Measure spreads on the first detection facts of each relation; no evaluation fact is asked.

    The answers are kept as all others are. Detection facts count whether or not the model knows them, as
    evaluation facts do.

    Args:
        study: The study that is to be designed.
        families: As for `measured_spreads`.
        related: As for `measured_spreads`.
        n_facts: Detection facts of each relation.
        n_controls: Matched random control sets of each relation.

    Returns:
        The table of `measured_spreads`, with `seconds` per answer, NaN where all answers were known already.
    """
    table, answers = measured_spreads(study.pilot(n_facts, n_controls), families, related=related), study.answers
    return table.assign(seconds=answers.seconds / answers.n_computed if answers.n_computed else float("nan"))


def measured_spreads(
    study: Study, families: Mapping[str, Any], *, related: Sequence[str] = (), n_partners: int = PARTNERS
) -> pd.DataFrame:
    """How much changes vary on a study's tested facts, under its own and its control sets.

    Args:
        study: With the facts and the number of control sets that are to be used.
        families: Options of the experiments whose families are measured, by name: `intra`, `sweep`, `cumulativity`,
            `inter, all` and `inter, related`.
        related: Pairs for the family `inter, related`.
        n_partners: Other relations that are asked under each relation's neurons for each family of pairs.

    Returns:
        A row per family: `family`, and the fields of `simulation.Spread` in nats (of a sweep for each tenfold of k).
    """
    rows = []
    for family, option in families.items():
        own, controls, by = _measured(study, family, option, _partners(study.names, _of(family, related), n_partners))
        rows.append({"family": family, **spread_of(own, controls, by=by)._asdict()})
    return pd.DataFrame(rows)


def _measured(study: Study, family: str, option: Any, partners: Mapping[str, Sequence[str]]) -> Changes:
    n = study.config.n_controls
    if family == "sweep":
        ks = doses(study, option.ks, option.scale)
        return slopes(own_answers(study, ks)), slopes(control_answers(study, ks, n)), ["ablated"]
    if family == "cumulativity":
        own, controls = part_answers(study, option.n_parts, n)
        return interaction(own), interaction(controls), ["ablated", "split"]
    asked = {name: [name] for name in study.names} if family == "intra" else partners
    cases = [
        Case(study.target(name), tuple(one for other in others for one in study.evaluation(other)), {"ablated": name})
        for name, others in asked.items()
    ]
    return *study.with_controls(cases, by_relation=family != "intra"), ["ablated", "relation"]


def _of(family: str, related: Sequence[str]) -> Sequence[str]:
    return related if family == "inter, related" else ()


def _partners(names: Sequence[str], pairs: Sequence[str], most: int) -> dict[str, list[str]]:
    """A few other relations for each, the next in order, of all or of those in a pair with it."""
    asked, n = set(parse_pairs(pairs, names)), len(names)
    following = {name: [names[(start + step) % n] for step in range(1, n)] for start, name in enumerate(names)}
    chosen = {name: [one for one in others if (name, one) in asked][:most] for name, others in following.items()}
    return {name: others for name, others in chosen.items() if others}
