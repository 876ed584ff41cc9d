"""Neurons found on half of a relation's objects, tested on the other half: are they the relation's or the objects' own?

Every fact is tested under both sets of neurons: those found on facts with objects of its own half, which were seen as
answers, and those found on facts with objects of the other half, which were not. The neurons of a relation as such take
as much from facts with unseen objects; neurons that write certain objects take nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from relation_neurons.errors import require_at_least
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.object_halves import Halves, halves, has_both_halves, place_of, tested_prompts
from relation_neurons.experiments.study import Study
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.neurons.ranking import rank_neurons
from relation_neurons.neurons.selection import TIE_RULE
from relation_neurons.prompts.prompts import Prompt, first_facts
from relation_neurons.results import transfer_verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.results.sentences import without
from relation_neurons.scores.scoring import require_scorers
from relation_neurons.statistics.effects import MEASURES, RATIO, compare, pooled
from relation_neurons.statistics.intervals import share_of_drop
from relation_neurons.validation import validated

QUESTION = "Do neurons found on some objects of a relation carry its facts with other objects?"
SEEN, UNSEEN = "seen", "unseen"
CELL = ["scorer", "ablated", "objects", "tested"]
TABLES = ("effects", "pooled", "shares", "halves", "other", "answers")


@validated
@dataclass(frozen=True)
class CarryOverConfig:
    """Find each relation's neurons on facts with half of its objects, and test facts with the other half."""

    scorers: tuple[str, ...] = ("average_precision", "attribution", "attribution_t")
    """Which scorers find the neurons."""
    n_other: int | None = None
    """Facts of each other relation; by default all evaluation facts."""
    n_carry_over_controls: int = 25
    """Control sets for each scorer, relation and half."""

    def __post_init__(self) -> None:
        require_at_least(self, n_other=1, n_carry_over_controls=2)
        require_scorers(self.scorers)


def carry_over(study: Study, config: CarryOverConfig = CarryOverConfig()) -> ExperimentResult:
    """Detection on either half of each relation's objects, tested on facts with seen and with unseen objects.

    Subjects are split as configured, into detection and evaluation facts. The objects are then halved by
    `object_halves`, whatever the study's `split`; those of few-shot examples, which stand in every prompt, are in
    neither half. Negatives are the other relations' detection prompts, of both halves. An evaluation fact is tested
    only if its object is an answer among the detection prompts of its half. Relations with fewer than two such facts in
    a half are left out, and remain negatives.

    Returns:
        Tables `effects`, from `effects.compare` by `scorer`, `ablated`, `objects` (`seen` or `unseen`) and `tested`,
        the template set of the test, both halves in turn; `pooled`, the same over all relations (`ablated` is `all`);
        `shares`, from the function of that name, with rows for `all` as well; `halves`, as `effects` with the half
        `found` and the half `tested_on`, in the study's own template set; `other`, from `effects.compare` by `scorer`
        and `ablated`, the change of other relations' facts, without controls and with rows for `all`; and `answers`.
    """
    asked = replace(study.config.prompts, split="facts")
    half_of = halves(study.relations, asked)
    detection = study.detection(replace(study.selection, prompts=asked))
    tested = tested_prompts(study, asked, half_of, detection)
    names = [name for name in study.names if has_both_halves(name, half_of, detection, tested)]
    left_out = [name for name in study.names if name not in names]
    if not names:
        nothing = f"Nothing was tested.{without(transfer_verdicts.REPEATED, left_out)}"
        return ExperimentResult("carry-over", QUESTION, dict.fromkeys(TABLES, pd.DataFrame()), (nothing,))
    targets = {
        (scorer, name, half): neurons
        for scorer in dict.fromkeys(config.scorers)
        for (name, half), neurons in _targets(study, scorer, detection, half_of, names).items()
    }
    own, controls = study.with_controls(_cases(targets, tested, half_of), n=config.n_carry_over_controls, pooled=True)
    every = first_facts(study.evaluation(config=asked), config.n_other)
    cases = [
        Case(neurons, tuple(one for one in every if one.relation != name), {"scorer": scorer, "ablated": name})
        for (scorer, name, _), neurons in targets.items()
    ]
    other, home, seed = study.changes(cases), asked.template_set, study.config.seed
    over_all = pooled(own, controls)
    at_home = [_with_halves(table[table["tested"] == home], half_of) for table in (own, controls)]
    tables = {
        "effects": compare(own, controls, by=CELL, seed=seed),
        "pooled": compare(*over_all, by=CELL, seed=seed),
        "shares": pd.concat([shares(one, home, seed=seed) for one in (own, over_all[0])], ignore_index=True),
        "halves": compare(*at_home, by=["scorer", "ablated", "found", "tested_on"], seed=seed),
        "other": pd.concat([_other(one, seed) for one in (other, other.assign(ablated="all"))], ignore_index=True),
        "answers": own,
    }
    shown = [tables[name] for name in ("effects", "pooled", "shares", "other")]
    return ExperimentResult("carry-over", QUESTION, tables, transfer_verdicts.carry_over(*shown, left_out=left_out))


def shares(own: pd.DataFrame, home: str, *, seed: int = 0) -> pd.DataFrame:
    """The drop on unseen objects, or in other templates, as a share of that on seen objects in the study's templates.

    Args:
        own: From `Study.changes`, with the labels `scorer`, `ablated`, `objects` and `tested`.
        home: The study's template set.
        seed: Of resamples.

    Returns:
        A row per `scorer`, `ablated`, `objects` and `tested` other than seen objects at `home`, and `measure`: `n`,
        facts; the `effect` and the `seen_effect` on the same facts; `ratio` of the two with `_low` and `_high`, see
        `intervals.share_of_drop`.
    """
    rows, unit = [], ["relation", "unit", "objects", "tested"]
    for measure in MEASURES:
        for (scorer, name), group in own.groupby(["scorer", "ablated"], sort=False):
            by_fact = group.groupby(unit, sort=False)[f"d_{measure}"].mean().unstack(["objects", "tested"])
            for cell in by_fact.columns.drop([(SEEN, home)]):
                both = by_fact[[cell, (SEEN, home)]].dropna()
                effect, seen = (both[column].to_numpy() for column in both)
                ratio = share_of_drop(effect, seen, seed=seed)
                rows.append((scorer, name, *cell, measure, len(both), effect.mean(), seen.mean(), *ratio[:3]))
    return pd.DataFrame(rows, columns=[*CELL, "measure", "n", "effect", "seen_effect", *RATIO])


def _targets(
    study: Study, scorer: str, detection: tuple[Prompt, ...], half_of: Halves, names: Sequence[str]
) -> dict[tuple[str, str], NeuronSet]:
    """The k best neurons of each relation by half; other relations' prompts are negatives, whatever their half."""
    config, excluded = study.config, study.critical.excluded(study.config.site)

    def rank() -> pd.DataFrame:
        activations, attributions = study.read_by(scorer, detection)
        frames = []
        for half in "AB":
            best = rank_neurons(
                activations,
                depth=study.k,
                scorer=scorer,
                balanced=config.negatives == "balanced",
                seed=config.seed,
                exclude=excluded,
                attributions=attributions,
                positives=np.array(
                    [one.relation not in names or half_of.get(place_of(one)) == half for one in detection]
                ),
            ).best
            frames += [best[name].to_frame().assign(half=half) for name in names]
        return pd.concat(frames, ignore_index=True)

    chosen = (scorer, config.site, config.negatives, config.seed, study.k, TIE_RULE, excluded)
    table = study.table("rankings/halves", rank, *chosen, detection, sorted(half_of.items()), list(names))
    parts = table.groupby(["name", "half"], sort=False)
    return {(str(name), str(half)): NeuronSet.from_frame(rows) for (name, half), rows in parts}


def _cases(
    targets: Mapping[tuple[str, str, str], NeuronSet], tested: Mapping[str, Sequence[Prompt]], half_of: Halves
) -> list[Case]:
    """Each target with the facts of either half, in either template set."""
    cases = []
    for (scorer, name, found), neurons in targets.items():
        for objects in (SEEN, UNSEEN):
            for sort, prompts in tested.items():
                chosen = tuple(
                    one
                    for one in prompts
                    if one.relation == name and (half_of[place_of(one)] == found) == (objects == SEEN)
                )
                if chosen:
                    labels = {"scorer": scorer, "ablated": name, "objects": objects, "tested": sort}
                    cases.append(Case(neurons, chosen, labels))
    return cases


def _with_halves(answers: pd.DataFrame, half_of: Halves) -> pd.DataFrame:
    """Answers with the half in which the neurons were `found`, and the one that was `tested_on`."""
    here = np.array([half_of[place] for place in zip(answers["relation"], answers["fact"], strict=True)])
    there = np.where(here == "A", "B", "A")
    return answers.assign(found=np.where(answers["objects"] == SEEN, here, there), tested_on=here)


def _other(answers: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The change of other relations' facts, each counting once."""
    return compare(answers, answers.iloc[:0].assign(draw=0), by=["scorer", "ablated"], seed=seed)
