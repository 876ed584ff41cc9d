"""The layers of each relation's neurons, against neurons chosen by shuffled labels (paper, Figures 1, 13 and 17).

The paper finds them mostly in the middle layers. Some layers may offer more neurons that tell any two groups of prompts
apart; so the same selection is made again with labels that say nothing of the relation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy import ndarray

from relation_neurons.activations.collection import Activations
from relation_neurons.errors import require_at_least
from relation_neurons.experiments.study import Study
from relation_neurons.models.sites import NeuronSpace
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.neurons.selection import TIE_RULE, top_k
from relation_neurons.prompts.contrast import contrast
from relation_neurons.prompts.prompts import relation_names
from relation_neurons.results import neuron_verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.results.neuron_verdicts import ABOVE_SHUFFLES, BELOW_SHUFFLES, WITHIN_SHUFFLES
from relation_neurons.scores.effect_size import EffectSizes, by_effect_size
from relation_neurons.scores.scoring import TOGETHER, needs_attributions, score_neurons
from relation_neurons.validation import validated

QUESTION = "In which layers are a relation's neurons, and is that more than the selection itself brings about?"
THIRDS = ("first", "middle", "last")
PLACES = (*THIRDS, "mean_layer")
"""Where a set is: its shares in the thirds of the layers, and its mean layer."""
REAL = 0
"""The number of the real labels among the shuffles."""


@validated
@dataclass(frozen=True)
class LayersConfig:
    """Count each relation's neurons in every layer, and those that shuffled labels choose."""

    n_shuffles: int = 5
    """How often the labels of each relation are shuffled among the detection prompts that take part."""

    def __post_init__(self) -> None:
        require_at_least(self, n_shuffles=1)


def layers(study: Study, config: LayersConfig = LayersConfig()) -> ExperimentResult:
    """Where each relation's neurons are.

    Returns:
        Tables `layers`: per `relation`, `site` and `layer` the `count`, its `share` of k, and `chance`, the count
        expected of random neurons. `thirds`: per `relation` and `measure` (the shares `first`, `middle` and `last`,
        and `mean_layer`; see `third_of`) what is `observed`, what random neurons give by `chance`, the shuffles'
        `null_mean`, `null_min` and `null_max`, `n_shuffles`, and a `verdict`. `null`: per `relation` the score at the
        `cut`, the neurons that reach it by the `real` labels (k, and those that tie at the cut) and by shuffled labels
        (`shuffled_mean`, `shuffled_max`), and `share`, shuffled_mean / real. `selections`: what both rest on, per
        relation and shuffle, of which number 0 are the real labels.
    """
    targets = {name: study.target(name) for name in study.names}
    space = study.ranking().space
    detection, settings = study.detection(), study.config
    choices: dict[str, Any] = {"scorer": settings.scorer, "n": config.n_shuffles, "seed": settings.seed}
    choices["balanced"] = settings.negatives == "balanced"
    selections = study.table(
        "layers/shuffled",
        lambda: select_shuffled(*study.read_by(settings.scorer, detection), targets, **choices),
        *(detection, settings.site, study.k, choices, TIE_RULE),
    )
    tables = {
        "layers": pd.concat([_layer_counts(target, space) for target in targets.values()], ignore_index=True),
        "thirds": _thirds(selections, space.n_layers),
        "null": _null(selections, targets),
        "selections": selections,
    }
    middle = [layer for layer in range(space.n_layers) if third_of(layer, space.n_layers) == "middle"]
    sentences = neuron_verdicts.layers(
        tables["thirds"], tables["null"], middle=middle, n_layers=space.n_layers, k=study.k
    )
    return ExperimentResult("layers", QUESTION, tables, sentences)


def third_of(layer: int, n_layers: int) -> str:
    """The third of the model where the middle of a layer lies; of 32 layers 11 are first, 10 middle, 11 last.

    Example:
        >>> [third_of(layer, 4) for layer in range(4)]
        ['first', 'middle', 'middle', 'last']
    """
    return THIRDS[(6 * layer + 3) // (2 * n_layers)]


def select_shuffled(
    activations: Activations,
    attributions: Activations | None,
    targets: Mapping[str, NeuronSet],
    *,
    scorer: str,
    n: int,
    balanced: bool = True,
    seed: int = 0,
) -> pd.DataFrame:
    """Choose neurons again by the real labels, and by labels shuffled among the prompts that take part.

    Args:
        activations: Of the detection prompts.
        attributions: Contributions to their answers, for a scorer that reads them.
        targets: The neurons of each relation, whose number and lowest score set the cut.
        scorer: What ranked them.
        n: Shuffles per relation.
        balanced: Whether the negatives are drawn evenly from the other relations.
        seed: Chooses the negatives, as for the targets, and the shuffles.

    Returns:
        A row per relation and shuffle, of which number 0 are the real labels: `relation`, `shuffle`, the shares
        `first`, `middle` and `last` and the `mean_layer` of its k best neurons, and `reached`, how many neurons have at
        least the lowest score of the target.
    """
    names = relation_names(activations.prompts)
    labels, mask = contrast(activations.prompts, balanced=balanced, seed=seed)
    shuffled = [_shuffled(labels, mask, seed, shuffle) for shuffle in range(1, n + 1)]
    columns = [(name, shuffle) for shuffle in range(n + 1) for name in names]
    all_labels, all_masks = np.concatenate([labels, *shuffled], axis=1), np.tile(mask, n + 1)
    step = len(names) if scorer == TOGETHER else len(columns)  # else one sort serves all
    rows = []
    for start in range(0, len(columns), step):
        part = slice(start, start + step)
        arguments = activations.values, all_labels[:, part], all_masks[:, part]
        contributions = None if attributions is None else attributions.values
        found = score_neurons(scorer, *arguments, attributions=contributions, device=activations.score_on)
        scores = found.numpy(force=True)
        ties = None if needs_attributions(scorer) else by_effect_size(*arguments)
        for number, (name, shuffle) in enumerate(columns[part]):
            row = scores[number]
            best = top_k(row[None], len(targets[name]), activations.space, [name], _of_row(ties, number))[name]
            place = _place(best, activations.space.n_layers)
            rows.append((name, shuffle, *place, int((row >= _cut(targets[name])).sum())))
    return pd.DataFrame(rows, columns=["relation", "shuffle", *PLACES, "reached"])


def _of_row(ties: EffectSizes | None, number: int) -> EffectSizes | None:
    """The effect sizes of one relation, for a table of scores that has only its row."""
    return None if ties is None else lambda _, neurons: ties(number, neurons)


def _shuffled(
    labels: Bool[ndarray, "prompt relation"], mask: Bool[ndarray, "prompt relation"], seed: int, shuffle: int
) -> Bool[ndarray, "prompt relation"]:
    """As many positives of each relation, drawn from the prompts that take part."""
    found = np.zeros_like(labels)
    for column in range(labels.shape[1]):
        taking_part = np.flatnonzero(mask[:, column])
        order = np.random.default_rng([seed, shuffle, column]).permutation(taking_part)
        found[order[: labels[:, column].sum()], column] = True
    return found


def _cut(target: NeuronSet) -> float:
    assert target.scores is not None, "targets are ranked"
    return min(target.scores)


def _place(target: NeuronSet, n_layers: int) -> Float[ndarray, " place"]:
    """Shares in the thirds, and the mean layer."""
    counts = target.layer_counts(n_layers)
    thirds = np.array([third_of(layer, n_layers) for layer in range(n_layers)])
    shares = [counts[thirds == third].sum() / len(target) for third in THIRDS]
    return np.array([*shares, counts @ np.arange(n_layers) / len(target)])


def _layer_counts(target: NeuronSet, space: NeuronSpace) -> pd.DataFrame:
    places = target.by_place()
    rows = [
        (target.name, site, layer, len(places.get((site, layer), ())), len(target) * width / len(space))
        for site, width in space.widths
        for layer in range(space.n_layers)
    ]
    table = pd.DataFrame(rows, columns=["relation", "site", "layer", "count", "chance"])
    table.insert(4, "share", table["count"] / len(target))
    return table


def _thirds(selections: pd.DataFrame, n_layers: int) -> pd.DataFrame:
    """What the real labels give beside the range of the shuffled ones."""
    thirds = [third_of(layer, n_layers) for layer in range(n_layers)]
    chance = {third: thirds.count(third) / n_layers for third in THIRDS} | {"mean_layer": (n_layers - 1) / 2}
    rows = []
    for name, group in selections.groupby("relation", sort=False):
        real, null = group[group["shuffle"] == REAL], group[group["shuffle"] != REAL]
        for measure in PLACES:
            observed, draws = float(real[measure].iloc[0]), null[measure]
            low, high = draws.min(), draws.max()
            verdict = ABOVE_SHUFFLES if observed > high else BELOW_SHUFFLES if observed < low else WITHIN_SHUFFLES
            rows.append((name, measure, observed, chance[measure], draws.mean(), low, high, len(draws), verdict))
    names = ["relation", "measure", "observed", "chance", "null_mean", "null_min", "null_max", "n_shuffles", "verdict"]
    return pd.DataFrame(rows, columns=names)


def _null(selections: pd.DataFrame, targets: Mapping[str, NeuronSet]) -> pd.DataFrame:
    """How many neurons reach the cut by real and by shuffled labels."""
    rows = []
    for name, group in selections.groupby("relation", sort=False):
        real = int(group.loc[group["shuffle"] == REAL, "reached"].iloc[0])
        draws = group.loc[group["shuffle"] != REAL, "reached"]
        target = targets[str(name)]
        rows.append((name, len(target), _cut(target), real, draws.mean(), draws.max(), draws.mean() / real, len(draws)))
    names = ["relation", "k", "cut", "real", "shuffled_mean", "shuffled_max", "share", "n_shuffles"]
    return pd.DataFrame(rows, columns=names)
