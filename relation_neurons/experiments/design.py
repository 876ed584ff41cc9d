"""Design a study for the effect that it should show: a pilot on detection facts, then facts, control sets, families."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from relation_neurons.errors import refuse, require_at_least
from relation_neurons.experiments.design_choice import Choice, Family, choose, columns
from relation_neurons.experiments.intra_relation import IntraConfig
from relation_neurons.experiments.pilot import run_pilot
from relation_neurons.experiments.related_pairs import related_pairs
from relation_neurons.experiments.study import Study
from relation_neurons.experiments.synergy import SPLITS
from relation_neurons.prompts.prompts import first_facts
from relation_neurons.statistics.hypothesis_tests import POWER
from relation_neurons.statistics.power import CONTROLS_NEEDED
from relation_neurons.statistics.simulation import Spread
from relation_neurons.validation import validated

CONTROLS_OF = {
    "inter": "n_cross_controls",
    "pairs": "n_pair_controls",
    "sharing": "n_sharing_controls",
    "sweep": "n_sweep_controls",
    "cumulativity": "n_slice_controls",
    "neuron-types": "n_type_controls",
    "languages": "n_language_controls",
    "templates": "n_template_controls",
    "concepts": "n_concept_controls",
    "perplexity": "n_sentence_controls",
    "confounds": "n_confound_controls",
}
"""The option that holds an experiment's number of control sets; that of `intra` is the study's."""
DESIGNED = ("intra", "inter", "sweep", "cumulativity")
"""Experiments with a design of their own; the others take that of `intra`."""


@validated
@dataclass(frozen=True)
class DesignConfig:
    """Whether facts, control sets and pairs are as the options say, or chosen for an effect."""

    design: Literal["fixed", "auto"] = "fixed"
    """`auto`: from a pilot on detection facts, choose the cheapest facts, control sets and pairs that show `effect`
    with 80 % power. The options then limit the facts, and their control sets count no more."""
    effect: float = 1.0
    """The change in log-probability (nats) that `auto` is to show; 1 leaves 37 % of an answer's probability."""
    family: Literal["cheapest", "all", "related"] = "cheapest"
    """Pairs of relations that `auto` may test: all, those of one subject or object type, or the cheaper of both."""
    most_controls: int = 100
    """Control sets that `auto` may use."""
    n_pilot_facts: int = 10
    """Detection facts of each relation in the pilot."""
    n_pilot_controls: int = 5
    """Control sets of each relation in the pilot."""

    def __post_init__(self) -> None:
        require_at_least(self, most_controls=CONTROLS_NEEDED, n_pilot_facts=4, n_pilot_controls=3)
        if not 0 < self.effect < math.inf:
            raise refuse(f"effect is {self.effect}", expected="a number of nats above 0")


@dataclass(frozen=True)
class Plan:
    """The designs that were chosen.

    Attributes:
        table: A row per experiment: `experiment`, `family`, `n_tests`, `n_facts`, `n_controls`, `effect`, `power`,
            `least_effect` (with 80 % power), `n_answers`, `minutes`, the pilot's spreads, and `text`.
        pairs: The related pairs of relations.
    """

    table: pd.DataFrame
    pairs: tuple[str, ...]

    def apply(self, study: Study, name: str, option: Any) -> tuple[Study, Any]:
        """The study and the options of an experiment with its design, or with that of `intra`."""
        rows = {row["experiment"]: row for row in self.table.to_dict("records")}
        row = rows.get(name, rows["intra"])
        n_facts, n_controls = int(row["n_facts"]), int(row["n_controls"])
        changes: dict[str, Any] = {CONTROLS_OF[name]: n_controls} if name in CONTROLS_OF else {}
        if name == "inter":
            changes |= {"n_tested": n_facts, "pairs": self.pairs if row["family"] == "inter, related" else option.pairs}
        return study.sized(n_facts, n_controls), replace(option, **changes)

    def __str__(self) -> str:
        """The designs in words, a line for each."""
        return "\n".join(
            f"{row['text']}; {row['effect']:g} nats are shown with power {row['power']:.2f}, {row['least_effect']:.2f} "
            "with 80 %."
            for row in self.table.to_dict("records")
        )


def plan(study: Study, options: Mapping[str, Any], config: DesignConfig) -> Plan:
    """Choose the designs of experiments, or read those that were chosen for the same question before.

    Args:
        study: The study.
        options: Of the experiments, by name.
        config: The effect and the limits.

    Returns:
        The designs, of `intra` and of those of `DESIGNED` that are asked for.

    Raises:
        RelationNeuronsError: The facts and the most control sets do not suffice; the message names the effect for
            which they would.
    """
    named = getattr(options.get("inter"), "pairs", ())
    pairs = tuple(named) or related_pairs(study.relations)
    designed = {"intra": options.get("intra", IntraConfig(n_detection_tested=0))}
    designed |= {name: options[name] for name in DESIGNED[1:] if name in options}
    families = _families(designed, bool(named), pairs, config.family, len(study.names))
    asked = (families, pairs, config.n_pilot_facts, config.n_pilot_controls)
    measure = functools.partial(
        run_pilot, study, families, related=pairs, n_facts=config.n_pilot_facts, n_controls=config.n_pilot_controls
    )
    pilot = study.table("design/pilot", measure, study.names, *asked)
    make = functools.partial(_chosen, study, designed, families, pairs, pilot, config)
    found = Plan(study.table("design/chosen", make, study.names, designed, config, *asked), pairs)
    _require_power(found.table, config)
    return found


def _families(
    designed: Mapping[str, Any], named: bool, pairs: Sequence[str], wanted: str, n_relations: int
) -> dict[str, Any]:
    """Options of the families that are measured, by name; those over pairs may be two."""
    families: dict[str, Any] = {}
    for name, option in designed.items():
        if name != "inter":
            families[name] = option
            continue
        fewer = named or (wanted != "all" and 0 < len(pairs) < n_relations * (n_relations - 1))
        if fewer:
            families["inter, related"] = option
        if not named and (wanted != "related" or not fewer):
            families["inter, all"] = option
    return families


def _chosen(
    study: Study,
    designed: Mapping[str, Any],
    families: Mapping[str, Any],
    pairs: Sequence[str],
    pilot: pd.DataFrame,
    config: DesignConfig,
) -> pd.DataFrame:
    spreads = {row["family"]: row for row in pilot.to_dict("records")}
    n_facts = min(len({one.columns["fact"] for one in study.evaluation(name)}) for name in study.names)
    rows = []
    for experiment in designed:
        candidates = [
            _family(study, name, designed, Spread(*(spreads[name][part] for part in Spread._fields)), len(pairs))
            for name in families
            if name.partition(",")[0] == experiment
        ]
        choice: Choice = choose(candidates, config.effect, n_facts, config.most_controls)
        seconds = float(pilot["seconds"].iloc[0])
        rows.append({"experiment": experiment, **columns(choice, config.effect, seconds)})
    return pd.DataFrame(rows)


def _family(study: Study, name: str, designed: Mapping[str, Any], spread: Spread, n_pairs: int) -> Family:
    """A family of tests with its size and price on this study."""
    n_relations = len(study.names)
    sizes = {
        "inter, all": n_relations * (n_relations - 1),
        "inter, related": n_pairs,
        "cumulativity": len(SPLITS) * n_relations,
    }
    n_tests = sizes.get(name, n_relations)
    experiment = name.partition(",")[0]

    @functools.cache
    def n_units(n_facts: int) -> int:
        prompts = first_facts(study.evaluation(), n_facts)
        return min(
            len({one.columns["unit"] for one in prompts if one.relation == relation}) for relation in study.names
        )

    def n_answers(n_facts: int, n_controls: int) -> int:
        n_prompts = len(first_facts(study.evaluation(), n_facts))
        return PRICES[experiment](study, designed[experiment], n_prompts, n_tests, n_controls)

    return Family(name, n_tests, spread, n_units, n_answers)


def _intra_price(study: Study, option: Any, n_prompts: int, n_tests: int, n_controls: int) -> int:
    detection = 0 if option.n_detection_tested == 0 else len(first_facts(study.detection(), option.n_detection_tested))
    return (n_prompts + detection) * (2 + n_controls)


def _inter_price(study: Study, option: Any, n_prompts: int, n_tests: int, n_controls: int) -> int:
    n = len(study.names)
    own = n if n_tests == n * (n - 1) else 0  # with all pairs the relations' own facts are asked as well
    return n_prompts + math.ceil((n_tests + own) * n_prompts / n) * (1 + n_controls)


def _sweep_price(study: Study, option: Any, n_prompts: int, n_tests: int, n_controls: int) -> int:
    others = n_prompts if option.n_other is None else len(first_facts(study.evaluation(), option.n_other))
    return n_prompts * (1 + len(option.ks) * (1 + n_controls)) + 2 * len(option.ks) * others * (n_tests - 1)


def _cumulativity_price(study: Study, option: Any, n_prompts: int, n_tests: int, n_controls: int) -> int:
    steps = 3 * len(option.ks) - 1  # nested sets, differences and random differences, and the clean model
    return n_prompts * (steps + (option.n_slices + 1 + len(SPLITS) * option.n_parts) * (1 + n_controls))


PRICES = {"intra": _intra_price, "inter": _inter_price, "sweep": _sweep_price, "cumulativity": _cumulativity_price}
"""Prompts that an experiment asks at most, of options, prompts of tested facts, tests and control sets."""


def _require_power(table: pd.DataFrame, config: DesignConfig) -> None:
    """Refuse an effect that not all experiments can show."""
    short = table[table["power"] < POWER]
    if short.empty:
        return
    parts = [
        f"{row['family']} shows {row['least_effect']:.2f} nats at the least with all {row['n_facts']} facts and "
        f"{row['n_controls']} control sets"
        for row in short.to_dict("records")
    ]
    reachable = float(table["least_effect"].max())
    ask = f"ask for --effect {reachable:.2f}, or " if math.isfinite(reachable) else ""
    raise refuse(
        f"No design shows {config.effect:g} nats with 80 % power: {'; '.join(parts)}",
        do=f"{ask}allow more evaluation facts (--n-evaluation) or control sets (--most-controls)",
    )
