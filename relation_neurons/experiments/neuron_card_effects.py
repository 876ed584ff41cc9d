"""What ablating the neurons of cards changes: measured on a few facts, and attributed for all relations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from relation_neurons.attribution.attribute import attribute
from relation_neurons.experiments.study import Study
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.sites import Neuron
from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.prompts.prompts import Prompt, first_facts
from relation_neurons.statistics.intervals import CONFIDENCE, mean_interval

N_RESAMPLES = 1000
"""Of facts, for the intervals of attributed effects."""


def attributed_effects(study: Study, prompts: tuple[Prompt, ...], neurons: Sequence[Neuron]) -> pd.DataFrame:
    """What ablating each neuron would change in the answers of each relation, estimated by `attribute`.

    Returns:
        A row per neuron and relation: `neuron`, `relation`; `n`, facts; `effect`, minus the mean contribution in nats,
        with `effect_low` and `effect_high` (95 % over facts); and `layer_low`, `layer_mean` and `layer_high`, the mean
        and the central 95 % of all neurons of its site and layer.
    """
    found = study.attributions(prompts, study.config.site)
    columns = found.space.flatten(list(neurons))
    places = {(site, layer): place for site, layer, place in found.space.slices()}
    of = np.array([one.relation for one in prompts])
    tables = []
    for name in study.names:
        own = np.flatnonzero(of == name)
        values = -found.values[own].double().cpu().numpy()
        means = values.mean(axis=0)
        layers = {place: _spread(means[where]) for place, where in places.items()}
        rows = pd.DataFrame(
            [layers[neuron.site, neuron.layer] for neuron in neurons],
            columns=["layer_low", "layer_mean", "layer_high"],
        )
        units = [prompts[row].columns["unit"] for row in own]
        effects = fact_intervals(values[:, columns], units, seed=study.config.seed)
        labels = pd.DataFrame({"neuron": list(map(str, neurons)), "relation": name})
        tables.append(pd.concat([labels, effects, rows], axis=1))
    return pd.concat(tables, ignore_index=True)


def _spread(values: Float[ndarray, " neuron"]) -> tuple[float, float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(values.mean()), float(high)


def fact_intervals(values: Float[ndarray, "prompt neuron"], units: Sequence[object], *, seed: int = 0) -> pd.DataFrame:
    """The mean of every column with a percentile bootstrap over facts, all columns from the same resamples.

    Returns:
        A row per column: `n`, facts; `effect`, `effect_low` and `effect_high`; a single fact has no interval (NaN).
    """
    facts = pd.DataFrame(values).groupby(pd.Index(list(units)), sort=True).mean().to_numpy()
    n = len(facts)
    table = pd.DataFrame({"n": n, "effect": facts.mean(axis=0)})
    if n < 2:
        return table.assign(effect_low=np.nan, effect_high=np.nan)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=N_RESAMPLES)
    low, high = np.quantile(counts @ facts / n, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return table.assign(effect_low=low, effect_high=high)


def ablation_effects(
    study: Study,
    best: Mapping[str, NeuronSet],
    forbidden: set[Neuron],
    *,
    n_facts: int,
    n_random: int,
) -> pd.DataFrame:
    """What ablating each neuron alone changes in a few evaluation facts of its relation, and what random ones do.

    Args:
        study: The model and its prompts.
        best: Neurons by the relation on whose facts they are ablated.
        forbidden: Neurons that are not drawn.
        n_facts: Of each relation, the first ones.
        n_random: Random neurons of every site and layer.

    Returns:
        A row per neuron and relation: `neuron`, `relation`; `n`, facts; `effect` on the log-probability of the object
        in nats with `effect_low` and `effect_high` (95 % over facts); `n_random`, random neurons of the same site and
        layer, with `random`, `random_min` and `random_max`, their mean and extreme effects on the same facts.
    """
    work = {name: (own, *_randoms(study, own, forbidden, n_random)) for name, own in best.items()}
    prompts = {name: first_facts(study.evaluation(name), n_facts) for name in work}
    neurons = {name: (*own, *drawn) for name, (own, drawn, _) in work.items()}
    rows = []
    for name, values in _ablated_alone(study, neurons, prompts).items():
        own, drawn, of_place = work[name]
        units, effects = [one.columns["unit"] for one in prompts[name]], -values
        random = dict(zip(drawn, effects[:, len(own) :].mean(axis=0), strict=True))
        for column, neuron in enumerate(own):
            interval = mean_interval(effects[:, column], units, seed=study.config.seed)
            others = np.array([random[one] for one in of_place[neuron.site, neuron.layer]])
            rows.append(
                {"neuron": str(neuron), "relation": name, "n": interval.n}
                | {"effect": interval.mean, "effect_low": interval.low, "effect_high": interval.high}
                | {"n_random": len(others), "random": others.mean()}
                | {"random_min": others.min(), "random_max": others.max()}
            )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class AblateAlone:
    """Ablates the neurons of a relation one by one on its prompts.

    Attributes:
        site: Of the neurons.
        neurons: By relation.
        batch_size: As for `attribute`.
    """

    site: str
    neurons: Mapping[str, tuple[Neuron, ...]]
    batch_size: int | None

    def __call__(self, model: HookedModel, prompts: Sequence[Prompt]) -> Float[ndarray, "prompt neuron"]:
        """What each neuron contributes to each answer, in nats."""
        neurons = self.neurons[prompts[0].relation]
        found = attribute(
            model, prompts, site=self.site, method="exact", neurons=list(neurons), batch_size=self.batch_size
        )
        return found.values[:, found.space.flatten(list(neurons))].double().cpu().numpy()


def _ablated_alone(
    study: Study, neurons: Mapping[str, tuple[Neuron, ...]], prompts: Mapping[str, tuple[Prompt, ...]]
) -> dict[str, Float[ndarray, "prompt neuron"]]:
    """What `AblateAlone` finds of each relation, wherever the model is."""
    names, found = list(neurons), dict[str, Float[ndarray, "prompt neuron"]]()

    def store(numbers: Sequence[int], results: Sequence[Float[ndarray, "prompt neuron"]]) -> None:
        found.update(zip((names[number] for number in numbers), results, strict=True))

    job = AblateAlone(study.config.site, neurons, study.config.batch_size)
    with study.show("cards: ablating neurons", sum(map(len, prompts.values()))) as progress:
        study.pool.compute(job, {number: prompts[name] for number, name in enumerate(names)}, store, progress=progress)
    return {name: found[name] for name in names}


def _randoms(
    study: Study, own: NeuronSet, forbidden: set[Neuron], n: int
) -> tuple[list[Neuron], dict[tuple[str, int], list[Neuron]]]:
    """Random neurons of every site and layer of a set: all of them, and by place."""
    widths, drawn = dict(neuron_space(study.model, study.config.site).widths), {}
    for site, layer in own.by_place():
        indices = np.arange(widths[site])
        free = np.setdiff1d(indices, [one.index for one in forbidden if (one.site, one.layer) == (site, layer)])
        pool = free if len(free) else indices
        number = study.config.seed, list(widths).index(site), layer
        picked = np.random.default_rng(number).choice(pool, size=min(n, len(pool)), replace=False)
        drawn[site, layer] = [Neuron(site, layer, int(index)) for index in picked]
    return [neuron for some in drawn.values() for neuron in some], drawn
