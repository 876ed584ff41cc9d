"""Interventions: which neurons become what, at which positions; stated as data, and carried out while a model runs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch

from relation_neurons.errors import nearest, refuse
from relation_neurons.inference.patching import Patches, Write, patched
from relation_neurons.interventions.values import Value, Zero, value_from_dict
from relation_neurons.models.hooked_model import hook_name, neuron_space
from relation_neurons.models.position_kinds import BOS, DECODE, LAST, PROMPT
from relation_neurons.models.sites import SITES, Neuron
from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.validation import validated

Positions = Literal["all", "prompt", "decode", "last"]
KINDS: dict[Positions, frozenset[int]] = {
    "all": frozenset({BOS, PROMPT, LAST, DECODE}),
    "prompt": frozenset({BOS, PROMPT, LAST}),
    "decode": frozenset({DECODE}),
    "last": frozenset({LAST}),
}
"""Positions by name: `last` is the prompt's last token, `decode` all that follows the prompt. Padding is in none."""


@validated
@dataclass(frozen=True)
class Intervention:
    """Neurons, what they become, and where.

    Attributes:
        neurons: Which neurons; their sites say where in the model.
        value: What each becomes; the paper writes zero.
        positions: `all`, `prompt`, `decode` (what follows the prompt, when generated or given) or `last`, the prompt's
            last token. Padding is never written.
        bos: Whether a BOS token counts as a position of the prompt.
    """

    neurons: NeuronSet
    value: Value = Zero()
    positions: Positions = "all"
    bos: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.neurons, NeuronSet):
            raise refuse(
                f"neurons is a {type(self.neurons).__name__}", expected="a NeuronSet", do="use NeuronSet.from_pairs"
            )
        if not isinstance(self.value, Value):
            raise refuse(f"value is {self.value!r}", expected="a value such as Zero() or Constant(2.5)")
        if self.positions not in KINDS:
            raise refuse(f"positions is '{self.positions}'", expected=nearest(str(self.positions), get_args(Positions)))

    def to_json(self) -> str:
        """All of it as JSON, reference numbers included."""
        neurons = [list(neuron) for neuron in self.neurons]
        content = {
            "neurons": {"name": self.neurons.name, "neurons": neurons},
            "value": self.value.to_dict(self.neurons),
            "positions": self.positions,
            "bos": self.bos,
        }
        return json.dumps(content, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Intervention:
        """Read back what `to_json` wrote.

        Raises:
            RelationNeuronsError: Text that `to_json` would not write.

        Example:
            >>> ablated = Intervention(NeuronSet.from_pairs([(12, 345)]), positions="last")
            >>> Intervention.from_json(ablated.to_json()) == ablated
            True
        """
        try:
            content = json.loads(text)
            given, value, positions, bos = (content[key] for key in ("neurons", "value", "positions", "bos"))
            name, places = given["name"], [(site, layer, index) for site, layer, index in given["neurons"]]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            found = f"This is not an intervention in JSON ({error})"
            raise refuse(found, expected="what Intervention.to_json writes") from error
        typed = [("name", name, str), ("value", value, dict), ("bos", bos, bool), ("positions", positions, str)]
        for what, one, kind in typed:
            if type(one) is not kind:
                raise refuse(f"The {what} of an intervention in JSON is {one!r}", expected=f"a {kind.__name__}")
        for place in places:
            if tuple(map(type, place)) != (str, int, int) or place[0] not in SITES:
                raise refuse(f"{list(place)!r} is not a neuron", expected='such as ["gate", 12, 345]')
        neurons = NeuronSet(tuple(Neuron(*place) for place in places), name)
        return cls(neurons, value_from_dict(value, neurons), positions, bos)


@validated
@contextlib.contextmanager
def ablate(
    model: HookedModel, neurons: NeuronSet, *, value: Value = Zero(), positions: Positions = "all", bos: bool = True
) -> Iterator[Patches]:
    """Overwrite neurons for as long as the block runs (paper, section 4).

    Holds for `model(...)`, `model.generate(...)` and everything in this package, at every generation step; nests, so
    that inner blocks act on what outer ones wrote; and survives TransformerLens's own hook contexts inside the block.
    On leaving, the hooks are removed, also after an exception, and those of others stay.

    Args:
        model: A model from `load_model`.
        neurons: Which neurons; their sites say where in the model.
        value: What each becomes; the paper writes zero.
        positions: `all`, `prompt`, `decode` or `last`, see `Intervention`. Padding is never written.
        bos: Whether a BOS token counts as a position of the prompt.

    Raises:
        RelationNeuronsError: On entering, a neuron, site, value or position that there is not. On leaving, hooks that
            did not fire exactly once in every forward pass or wrote other than they should.

    Example:
        >>> with ablate(model, neurons):                      # doctest: +SKIP
        ...     answers = recall(model, prompts)
        >>> with ablate(model, neurons, value=Scale(2)):      # doctest: +SKIP
        ...     model.generate("The capital of France is", max_new_tokens=5)
    """
    with intervene(model, Intervention(neurons, value, positions, bos)) as patches:
        yield patches


@validated
@contextlib.contextmanager
def intervene(model: HookedModel, *interventions: Intervention) -> Iterator[Patches]:
    """Carry out interventions, one after the other at each place, for as long as the block runs; see `ablate`.

    Raises:
        RelationNeuronsError: As `ablate` does, or if there is nothing to carry out.
    """
    if not interventions:
        raise refuse("There is no intervention", expected="at least one")
    with rows_under(model, [interventions]) as patches:
        assert patches is not None
        yield patches


@contextlib.contextmanager
def rows_under(model: HookedModel, conditions: Sequence[Sequence[Intervention]]) -> Iterator[Patches | None]:
    """Let each row of a batch be under a condition of its own; `Patches.use` says which.

    Where no condition intervenes there is nothing to write, to watch or to prove, and no patches.

    Args:
        model: A model from `load_model`.
        conditions: The interventions of each; a condition without any leaves its rows as they are.
    """
    if not any(conditions):
        yield None
        return
    with patched(model, [[_write(model, one) for one in condition] for condition in conditions]) as patches:
        yield patches


def _write(model: HookedModel, intervention: Intervention) -> Write:
    """Resolve an intervention on a model, refusing neurons that the model does not have."""
    neurons = intervention.neurons
    numbers = np.asarray(intervention.value.numbers(neurons), dtype=np.float64)
    members: dict[tuple[str, int], list[int]] = {}
    for member, neuron in enumerate(neurons):
        members.setdefault((neuron.site, neuron.layer), []).append(member)
    for site in dict.fromkeys(site for site, _ in members):
        neuron_space(model, site).flatten([neuron for neuron in neurons if neuron.site == site])
    places = {}
    for (site, layer), which in members.items():
        columns, scales = [neurons.neurons[member].index for member in which], [intervention.value.scale] * len(which)
        places[hook_name(model, site, layer)] = torch.from_numpy(np.column_stack([columns, numbers[which], scales]))
    return Write(neurons.name, places, KINDS[intervention.positions] - (set() if intervention.bos else {BOS}))
