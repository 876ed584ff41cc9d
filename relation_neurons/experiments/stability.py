"""How far a relation's neurons depend on which facts, which template and which negatives they were found with.

The prompts are read once. Then neurons are ranked again and again, as `rank_neurons` does, from samples of the
prompts: facts drawn with replacement, one template at a time, or other negatives. The neurons of two samples would
agree somewhat even if there was nothing to find, since samples share prompts. So the same samples are ranked a second
time with the relations shuffled over the facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from relation_neurons.activations.collection import Activations
from relation_neurons.errors import require_at_least
from relation_neurons.experiments.answer_cache import Show, quiet
from relation_neurons.experiments.detection_samples import Sample, samples, shuffled_relations
from relation_neurons.experiments.study import Study
from relation_neurons.models.sites import Neuron
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.neurons.ranking import rank_neurons
from relation_neurons.neurons.selection import TIE_RULE
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.results import transfer_verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.scores.scoring import require_scorers
from relation_neurons.statistics.intervals import mean_interval
from relation_neurons.validation import validated

QUESTION = "Would other facts, another template or other negatives have found the same neurons?"


@validated
@dataclass(frozen=True)
class StabilityConfig:
    """Find each relation's neurons again from samples of the detection prompts, and count those that stay the same."""

    scorers: tuple[str, ...] = ()
    """Which scorers find the neurons; by default the study's."""
    n_samples: int = 10
    """Samples of facts, and seeds of the negatives."""

    def __post_init__(self) -> None:
        require_at_least(self, n_samples=2)
        if self.scorers:
            require_scorers(self.scorers)


def stability(study: Study, config: StabilityConfig = StabilityConfig()) -> ExperimentResult:
    """Agreement of a relation's k best neurons between samples of the detection prompts, for each scorer.

    Returns:
        Tables `stability`, a row per `scorer` and `kind` (of samples, see `samples`): `k`; `n`, relations;
        `coefficient`, the share of their neurons that two samples have in common, averaged over pairs and then over
        relations, and `shuffled`, the same where the relations are shuffled over the facts, each with `_low` and
        `_high` (95 % over relations); `expected`, the share that random sets from all neurons would have in common, and
        `expected_matched`, that of random sets with as many neurons in each site and layer as these have; and
        `relations`, from `agreement` for each scorer.
    """
    scorers = config.scorers or (study.config.scorer,)
    parts = [_kept(study, scorer, config.n_samples).assign(scorer=scorer) for scorer in dict.fromkeys(scorers)]
    relations = pd.concat(parts, ignore_index=True)
    table = _over_relations(relations, study.n_neurons, study.config.seed)
    sentences = transfer_verdicts.stability(table, n_samples=config.n_samples)
    return ExperimentResult("stability", QUESTION, {"stability": table, "relations": relations}, sentences)


def _kept(study: Study, scorer: str, n: int) -> pd.DataFrame:
    """The agreement by one scorer, kept in the study's folder."""
    config, detection, excluded = study.config, study.detection(), study.critical.excluded(study.config.site)
    balanced = config.negatives == "balanced"

    def rank() -> pd.DataFrame:
        activations, attributions = study.read_by(scorer, detection)
        return agreement(
            activations,
            attributions,
            scorer=scorer,
            k=study.k,
            n=n,
            balanced=balanced,
            seed=config.seed,
            exclude=excluded,
            show=study.show,
        )

    chosen = (scorer, config.site, balanced, config.seed, study.k, n, TIE_RULE, excluded)
    return study.table("rankings/agreement", rank, *chosen, detection)


def agreement(
    activations: Activations,
    attributions: Activations | None = None,
    *,
    scorer: str,
    k: int,
    n: int,
    balanced: bool = True,
    seed: int = 0,
    exclude: Sequence[Neuron] = (),
    show: Show = quiet,
) -> pd.DataFrame:
    """Rank neurons by each of the `samples`, really and with shuffled relations, and compare the best of each two.

    Args:
        activations: Of the detection prompts of at least two relations.
        attributions: Contributions to the answers to the same prompts, for scorers that read them.
        scorer: One of `scorer_names()`.
        k: Neurons per relation.
        n: Samples of facts, and seeds of the negatives.
        balanced: Whether negatives are drawn evenly from the other relations.
        seed: Of the samples, the negatives and the shuffle.
        exclude: Neurons that are not ranked.
        show: Makes a progress bar.

    Returns:
        A row per `kind` of samples with at least two, and relation (`ablated`): `k`; `n_pairs` of samples;
        `coefficient`, the mean share of k in common; `expected_matched`, its expectation for random sets with as many
        neurons in each site and layer; `shuffled`, the mean share where the relations are shuffled over the facts.
    """

    def best(sample: Sample, prompts: tuple[Prompt, ...]) -> Mapping[str, NeuronSet]:
        return rank_neurons(
            _sampled(activations, prompts, sample),
            depth=k,
            scorer=scorer,
            balanced=balanced,
            seed=sample.seed,
            exclude=exclude,
            attributions=None if attributions is None else _sampled(attributions, prompts, sample),
        ).best

    tables = []
    for shuffled in (False, True):
        prompts = shuffled_relations(activations.prompts, seed) if shuffled else activations.prompts
        drawn, rows = samples(prompts, n, seed), []
        label = f"ranking samples by {scorer}" + (", relations shuffled" if shuffled else "")
        with show(label, sum(map(len, drawn.values()))) as progress:
            for kind, of_kind in drawn.items():
                sets: dict[str, list[NeuronSet]] = {}
                for sample in of_kind:
                    for name, neurons in best(sample, prompts).items():
                        if name in sample.relations:
                            sets.setdefault(name, []).append(neurons)
                    progress(1)
                several = {name: found for name, found in sets.items() if len(found) > 1}
                rows += [(kind, name, *_agreement(found, activations, exclude)) for name, found in several.items()]
        tables.append(
            pd.DataFrame(rows, columns=["kind", "ablated", "k", "n_pairs", "coefficient", "expected_matched"])
        )
    real, null = tables
    null = null[["kind", "ablated", "coefficient"]].rename(columns={"coefficient": "shuffled"})
    return real.merge(null, on=["kind", "ablated"], how="left", validate="1:1")


def _sampled(read: Activations, prompts: tuple[Prompt, ...], sample: Sample) -> Activations:
    """The rows of a sample, with the prompts that they are to count as."""
    return replace(read, values=read.values[sample.rows], prompts=tuple(prompts[row] for row in sample.rows))


def _agreement(
    sets: Sequence[NeuronSet], activations: Activations, exclude: Sequence[Neuron]
) -> tuple[int, int, float, float]:
    """Size and pairs of sets, and the mean shares that two have in common, and would have at random by place."""
    space, k = activations.space, len(sets[0])
    starts = [place.start for _, _, place in space.slices()]
    free, members = np.ones(len(space)), np.zeros((len(sets), len(space)))
    free[space.flatten([*exclude])] = 0
    for row, one in zip(members, sets, strict=True):
        row[space.flatten([*one])] = 1
    counts, widths = np.add.reduceat(members, starts, axis=1), np.add.reduceat(free, starts)
    pairs = np.triu_indices(len(sets), 1)
    shared, expected = members @ members.T, counts / np.maximum(widths, 1) @ counts.T
    return k, len(pairs[0]), float(shared[pairs].mean() / k), float(expected[pairs].mean() / k)


def _over_relations(relations: pd.DataFrame, n_neurons: int, seed: int) -> pd.DataFrame:
    rows = []
    for (scorer, kind), group in relations.groupby(["scorer", "kind"], sort=False):
        k = int(group["k"].iloc[0])
        row: dict[str, object] = {"scorer": scorer, "kind": kind, "k": k, "n": len(group)}
        for name in ("coefficient", "shuffled"):
            interval = mean_interval(group[name].dropna().to_numpy(), seed=seed)
            row |= interval.columns(name)
        rows.append(row | {"expected": k / n_neurons, "expected_matched": group["expected_matched"].mean()})
    return pd.DataFrame(rows)
