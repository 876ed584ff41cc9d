"""A relation's neurons and those of the concept of its subjects (paper, section 6, Figures 9, 30 and 31).

Concept neurons are found as relation neurons are, on prompts that mention subjects and no relation. Overlap alone does
not show what shared neurons do, so a concept's neurons are ablated too, and a relation's without them.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from relation_neurons.errors import RelationNeuronsError, require_at_least
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.study import Study
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.neurons.random_overlap import overlap_table
from relation_neurons.neurons.ranking import rank_neurons
from relation_neurons.neurons.selection import TIE_RULE
from relation_neurons.prompts.concepts import concept_of, concept_prompts
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.relations.relation import Relation, key
from relation_neurons.results import neuron_verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.scores.scoring import needs_attributions
from relation_neurons.statistics.effects import compare
from relation_neurons.statistics.formatting import name_list
from relation_neurons.statistics.hypothesis_tests import sign_flip_test
from relation_neurons.statistics.intervals import mean_interval
from relation_neurons.validation import validated

QUESTION = "Are a relation's neurons more than the neurons of the concept of its subjects?"


@validated
@dataclass(frozen=True)
class ConceptsConfig:
    """Find the neurons of the subjects' concepts, count what relations share with them, and ablate both."""

    n_prompts: int | None = None
    """Prompts per concept; by default as many as the smallest concept has subjects outside the evaluation."""
    n_concept_controls: int = 25
    """Random control sets per concept."""

    def __post_init__(self) -> None:
        require_at_least(self, n_prompts=1, n_concept_controls=2)


def concepts(study: Study, config: ConceptsConfig = ConceptsConfig()) -> ExperimentResult:
    """The paper's comparison with concept neurons, and the effect of ablating them.

    Subjects of the evaluation take no part in finding concept neurons. Relations whose concept is not known are left
    out; with fewer than two concepts among the others there is nothing to compare, and all tables are empty.

    Returns:
        Tables `overlaps`, from `random_overlap.overlap_table` by `relation`, `concept` and `own` (the concept is that
        of its subjects); `summary`, from `own_against_others`; `effects`, from `effects.compare` by `ablated` (a
        concept) and `relation`, with `own`; and `without_concept`, from `effects.compare` by `ablated` (a relation,
        whose neurons without its concept's are ablated and whose own facts are tested), with `n_neurons` left and
        `n_shared`.
    """
    known = known_concepts(study.names)
    if len(set(known.values())) < 2:
        return ExperimentResult("concepts", QUESTION, _empty(), (_too_few(known, study.names),))
    targets = {name: study.target(name) for name in known}
    found = concept_neurons(study, config.n_prompts)
    overlaps = overlap_table(
        [
            ({"relation": name, "concept": concept, "own": known[name] == concept}, target, neurons)
            for name, target in targets.items()
            for concept, neurons in found.items()
        ],
        study.ranking().space,
    )
    effects = _ablate_concepts(study, found, known, config.n_concept_controls)
    without = _ablate_rest(study, targets, {name: found[concept] for name, concept in known.items()})
    summary = own_against_others(overlaps, effects, k=study.k, seed=study.config.seed)
    tables = {"overlaps": overlaps, "summary": summary, "effects": effects, "without_concept": without}
    return ExperimentResult("concepts", QUESTION, tables, _sentences(tables, study, known))


def known_concepts(names: Sequence[str]) -> dict[str, str]:
    """The concept of each relation whose concept is known."""
    found = {}
    for name in names:
        with contextlib.suppress(RelationNeuronsError):
            found[name] = concept_of(name)
    return found


def concept_neurons(study: Study, n_prompts: int | None = None) -> dict[str, NeuronSet]:
    """The best neurons of every concept of the study's relations, as many as relations have, best first.

    They are ranked by the study's scorer, or by average precision where that scorer reads attributions.

    Raises:
        RelationNeuronsError: Fewer than two concepts, or a concept without subjects of its own beyond the evaluation.
    """
    settings, excluded = study.config, study.critical.excluded(study.config.site)
    outside = _outside_evaluation(study)
    prompts = tuple(
        dataclasses.replace(prompt, bos=settings.prompts.bos)
        for prompt in concept_prompts(outside, n=n_prompts, seed=settings.seed)
    )

    # Concept prompts have no answer to contribute to.
    scorer = "average_precision" if needs_attributions(settings.scorer) else settings.scorer

    def best() -> pd.DataFrame:
        activations = study.activations(prompts)
        # As many negatives as positives, as in the paper.
        ranking = rank_neurons(activations, depth=study.k, scorer=scorer, ratio=1, seed=settings.seed, exclude=excluded)
        return pd.concat([neurons.to_frame() for neurons in ranking.best.values()])

    table = study.table(
        "rankings/concepts",
        best,
        *(prompts, settings.site, scorer, study.k, settings.seed, settings.include_bos, TIE_RULE, excluded),
    )
    return {str(name): NeuronSet.from_frame(rows) for name, rows in table.groupby("name", sort=False)}


def own_against_others(overlaps: pd.DataFrame, effects: pd.DataFrame, *, k: int, seed: int = 0) -> pd.DataFrame:
    """The concept of a relation's subjects against the other concepts, with relations as the units.

    Returns:
        A row per measure: `coefficient`, the share of neurons in common; `excess`, the same less what matched random
        sets share; `d_logprob` and `d_correct`, the effect on its facts of ablating the concept's neurons. Columns
        `own` and `other`, means over relations; `difference` with `_low` and `_high`, paired by relation; `p`, from
        sign flips; `n`, relations. Relations of one concept are alike, so the interval is rather too narrow.
    """
    values = {
        "coefficient": overlaps.assign(value=overlaps["coefficient"]),
        "excess": overlaps.assign(value=overlaps["coefficient"] - overlaps["expected"] / k),
    }
    for measure in ("logprob", "correct"):
        values[f"d_{measure}"] = effects[effects["measure"] == measure].rename(columns={"effect": "value"})
    rows = []
    for measure, table in values.items():
        means = table.groupby(["relation", "own"], sort=False)["value"].mean().unstack("own")
        differences = (means[True] - means[False]).to_numpy(dtype=float)
        interval, p = mean_interval(differences, seed=seed), sign_flip_test(differences, seed=seed)
        rows.append((measure, means[True].mean(), means[False].mean(), *interval[:3], p, interval.n))
    names = ["measure", "own", "other", "difference", "difference_low", "difference_high", "p", "n"]
    return pd.DataFrame(rows, columns=names)


def _empty() -> dict[str, pd.DataFrame]:
    """Empty tables, for when nothing can be compared."""
    columns = {
        "overlaps": "relation concept own count coefficient expected low high p_holm verdict",
        "summary": "measure own other difference difference_low difference_high p n",
        "effects": "ablated relation own measure n effect p_holm verdict",
        "without_concept": "ablated n_neurons n_shared measure n effect p_holm verdict",
    }
    return {name: pd.DataFrame(columns=names.split()) for name, names in columns.items()}


def _outside_evaluation(study: Study) -> list[Relation]:
    """The relations of known concept without the subjects that any relation is evaluated on."""
    known = known_concepts(study.names)
    evaluated = {key(prompt.columns["unit"]) for prompt in study.evaluation()}
    return [
        dataclasses.replace(one, facts=tuple(fact for fact in one.facts if key(fact.subject) not in evaluated))
        for one in study.relations
        if one.name in known
    ]


def _ablate_concepts(
    study: Study, found: Mapping[str, NeuronSet], known: Mapping[str, str], n_controls: int
) -> pd.DataFrame:
    """Every concept's neurons ablated, recall of every relation's facts, beside matched controls."""
    prompts = tuple(prompt for name in known for prompt in study.evaluation(name))
    own, controls = _ablate(study, found, dict.fromkeys(found, prompts), n_controls)
    effects = compare(own, controls, by=["ablated", "relation"], seed=study.config.seed)
    effects.insert(2, "own", effects["relation"].map(known) == effects["ablated"])
    return effects


def _ablate_rest(study: Study, targets: Mapping[str, NeuronSet], own: Mapping[str, NeuronSet]) -> pd.DataFrame:
    """Each relation's neurons without its concept's ablated, recall of its own facts, beside matched controls."""
    rest = {}
    for name, target in targets.items():
        shared = set(own[name])
        left = tuple(neuron for neuron in target if neuron not in shared)
        if left:
            rest[name] = NeuronSet(left, f"{name} without concept")
    if not rest:
        return _empty()["without_concept"]
    answers, controls = _ablate(study, rest, {name: study.evaluation(name) for name in rest}, None)
    table = compare(answers, controls, by=["ablated"], seed=study.config.seed)
    table.insert(1, "n_neurons", [len(rest[name]) for name in table["ablated"]])
    table.insert(2, "n_shared", [len(targets[name]) - len(rest[name]) for name in table["ablated"]])
    return table


def _ablate(
    study: Study, sets: Mapping[str, NeuronSet], prompts: Mapping[str, tuple[Prompt, ...]], n_controls: int | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Changes under each ablated set and under its matched controls."""
    cases = [Case(neurons, prompts[name], {"ablated": name}) for name, neurons in sets.items()]
    return study.with_controls(cases, n=n_controls, by_relation=n_controls is not None)


def _too_few(known: Mapping[str, str], names: Sequence[str]) -> str:
    unknown = [name for name in names if name not in known]
    return (
        f"The subjects of these relations are of {len(set(known.values()))} known concepts (not known: "
        f"{name_list(unknown)}); it takes at least two to find the neurons of a concept."
    )


def _sentences(tables: Mapping[str, pd.DataFrame], study: Study, known: Mapping[str, str]) -> tuple[str, ...]:
    sentences = neuron_verdicts.concepts(*tables.values(), k=study.k)
    unknown = [name for name in study.names if name not in known]
    left_out = f"Left out, as the concept of their subjects is not known: {name_list(unknown)}."
    return (*sentences, left_out) if unknown else sentences
