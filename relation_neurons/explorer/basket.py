"""The basket: neurons by their texts, in the order in which they were put in; and the file that it becomes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from relation_neurons.errors import file_name, refuse
from relation_neurons.explorer.run_data import RunData
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.sites import Neuron
from relation_neurons.neurons.files import save_neurons
from relation_neurons.neurons.neuron_set import NeuronSet

MADE_BY = "relation-neurons explore"


def added(basket: Sequence[str], neurons: Iterable[str]) -> list[str]:
    """The basket with further neurons behind; those that are in it stay where they are."""
    return list(dict.fromkeys([*basket, *neurons]))


def removed(basket: Sequence[str], neuron: str) -> list[str]:
    """The basket without a neuron."""
    return [one for one in basket if one != neuron]


def basket_set(data: RunData, basket: Sequence[str], name: str = "basket") -> NeuronSet:
    """The neurons of a basket as a set.

    Raises:
        RelationNeuronsError: It is empty, or has what is no neuron of the model.
    """
    if not basket:
        raise refuse("The basket is empty", expected="at least one neuron", do="click on a point and add it")
    found = NeuronSet(tuple(map(Neuron.parse, basket)), name)
    neuron_space(data.study.model, data.study.config.site).flatten(list(found))
    return found


def exported(data: RunData, basket: Sequence[str], name: str) -> bytes:
    """A file of one neuron set, as `save_neurons` writes it.

    Args:
        data: The run.
        basket: At least one neuron.
        name: Of the set; it has to be the name of a file, which it becomes.

    Raises:
        RelationNeuronsError: An empty basket, or a name that no file can have.
    """
    neurons = basket_set(data, basket, file_name(name))
    config, key = data.study.config, data.run.key
    with tempfile.TemporaryDirectory() as folder:
        path = save_neurons(
            Path(folder) / "basket.parquet",
            {name: neurons},
            space=neuron_space(data.study.model, config.site),
            score="chosen by hand",
            weights_digest=getattr(data.study.model.cfg, "weights_digest", None),
            made_from={"made_by": MADE_BY, "model": config.model, "relations": dict(key["relations"])},
        )
        return path.read_bytes()
