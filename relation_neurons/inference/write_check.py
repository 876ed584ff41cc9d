"""Read back what was written, from the tensor that leaves a hook point, and compare it with what interventions say.

Nothing here is shared with the code that writes: what a hook point should give is worked out from the interventions,
condition by condition.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from relation_neurons.errors import refuse
from relation_neurons.inference.transfer import moved
from relation_neurons.models.position_kinds import DECODE

PERIOD = 32
"""In one pass of this number a hook is compared at all positions and neurons, different hooks in turn."""
SHARE = 8
"""One hook of this number is compared in the first pass of an arrangement of conditions, different hooks in turn."""


@dataclass(frozen=True, eq=False)
class Write:
    """What one intervention writes.

    Attributes:
        name: Whose neurons are written, for messages.
        places: For each neuron at each hook its column, the number to add, and the scale of what was there, by which it
            is multiplied before.
        kinds: Which kinds of position, see `relation_neurons.models.position_kinds`.
    """

    name: str
    places: Mapping[str, Float64[Tensor, "_ 3"]]
    kinds: frozenset[int]


Conditions = Sequence[Sequence[Write]]


class WriteCheck:
    """Compares what leaves hook points with what conditions make of what entered them, in all rows of a pass.

    Every hook is compared in the first pass that writes there, and one hook of `SHARE` in the first pass of each other
    arrangement of conditions in rows: at every neuron that some row writes, and at one position of each row at which
    its condition writes. In one pass of `PERIOD` a hook is compared at every neuron and position, whether it is written
    or not; the first hook begins with that.
    """

    def __init__(self, conditions: Conditions, places: Iterable[str]) -> None:
        """Put the hooks in an order, in which they take turns."""
        self._conditions, self._turns = conditions, {place: turn for turn, place in enumerate(places)}
        steps = range(max(map(len, conditions), default=0))
        table = [[[n < len(one) and k in one[n].kinds for k in range(DECODE + 1)] for n in steps] for one in conditions]
        self._allowed: Bool[Tensor, "condition step kind"] = torch.tensor(table)
        self._due: dict[str, tuple[_Sample | None, Tensor]] = {}
        self._wrong: dict[str, Tensor] = {}
        self._compared: set[str] = set()

    def begin(
        self, rows: Sequence[int], chosen: Int[Tensor, " row"], kinds: Int[Tensor, "row pos"], n_pass: int
    ) -> None:
        """Begin pass number `n_pass` over these positions, with the condition of each row, also on their device."""
        self._allowed = self._allowed.to(kinds.device)
        allowed = self._allowed[chosen]
        self._written = allowed.gather(2, kinds[:, None].expand(-1, allowed.shape[1], -1))
        from_end = self._written.any(dim=1).flip(1).cumsum(dim=1)  # reaches 1 at the last written position of a row
        chosen = n_pass % from_end[:, -1:].clamp(min=1) + 1
        self._position = kinds.shape[1] - 1 - (from_end == chosen).int().argmax(dim=1)
        self._rows, self._n_pass = rows, n_pass

    def entered(self, place: str, activation: Float[Tensor, "row pos neuron"], *, new: bool) -> None:
        """Work out what a hook should give, if that is to be compared, before anything is written.

        Args:
            place: The hook.
            activation: What entered it.
            new: Whether conditions write, in this arrangement, for the first time at this hook.
        """
        turn = self._turns[place] + self._n_pass
        whole, part = turn % PERIOD == 0, new and (turn % SHARE == 0 or place not in self._compared)
        steps = _steps([self._conditions[condition] for condition in self._rows], place) if whole or part else {}
        if new and steps:
            self._compared.add(place)
        here = self._written.to(activation.device) if whole or steps else self._written
        if whole:
            self._due[place] = None, expected_values(activation.detach(), steps, here)
        elif steps:
            sample = _Sample(self._position.to(activation.device), moved(_columns(steps), activation.device))
            written = here[torch.arange(len(activation), device=activation.device), :, sample.position, None]
            self._due[place] = sample, expected_values(_at(activation, sample), steps, written, sample.columns)

    def left(self, place: str, activation: Float[Tensor, "row pos neuron"]) -> None:
        """Compare what left a hook, if it is due."""
        if place in self._due:
            sample, expected = self._due.pop(place)
            differs = (_at(activation, sample) != expected) & ~expected.isnan()
            self._wrong[place] = self._wrong.get(place, 0) + differs.sum()

    def forget(self) -> None:
        """Drop what is due, for the pass broke off."""
        self._due.clear()

    def check(self, name: str) -> None:
        """Make sure that all that was read back is right.

        Args:
            name: Whose neurons are written, for the message.

        Raises:
            RelationNeuronsError: Values other than those that the interventions say, or a hook that was not read back.
        """
        do = "report this as a bug: the results of this block are not those of the intervention"
        for place, wrong in self._wrong.items():
            if wrong.item():
                problem = f"The intervention on '{name}' left {int(wrong)} wrong values at {place}"
                raise refuse(problem, expected="each neuron as the intervention says, all others unchanged", do=do)
        for place in self._due:
            raise refuse(f"What the intervention on '{name}' wrote at {place} could not be read back", do=do)


class _Sample(NamedTuple):
    """A part of an activation: one position of each row, and some columns in order."""

    position: Int[Tensor, " row"]
    columns: Int[Tensor, " column"]


class _Step(NamedTuple):
    """What the writes of one number, such as each row's first, do at a hook."""

    rows: Int[Tensor, " element"]
    elements: Float64[Tensor, "element 3"]


def _at(activation: Float[Tensor, "row pos neuron"], sample: _Sample | None) -> Float[Tensor, "row _ _"]:
    """A part of an activation, copied, or all of it."""
    if sample is None:
        return activation.detach()
    rows = torch.arange(len(activation), device=activation.device)[:, None]
    return activation.detach()[rows, sample.position[:, None], sample.columns][:, None]


def _steps(conditions: Conditions, place: str) -> dict[int, _Step]:
    """What rows under these conditions write at a hook, by the number of the write."""
    steps = {}
    for number in range(max(map(len, conditions), default=0)):
        rows = [row for row, writes in enumerate(conditions) if len(writes) > number and place in writes[number].places]
        parts = [conditions[row][number].places[place] for row in rows]
        if parts:
            counts = torch.tensor([len(part) for part in parts])
            steps[number] = _Step(torch.tensor(rows).repeat_interleave(counts), torch.cat(parts))
    return steps


def _columns(steps: Mapping[int, _Step]) -> Int[Tensor, " column"]:
    """The columns that are written, each once, in order."""
    return torch.cat([step.elements[:, 0].long() for step in steps.values()]).unique()


def expected_values(
    entered: Float[Tensor, "row pos column"],
    steps: Mapping[int, _Step],
    written: Bool[Tensor, "row step pos"],
    columns: Int[Tensor, " column"] | None = None,
) -> Float[Tensor, "row pos column"]:
    """What a hook should give.

    Args:
        entered: What entered it.
        steps: What rows write there, one step after the other.
        written: At which positions each of them is carried out.
        columns: The neurons in `entered`, in order; by default all.
    """
    values = entered.clone()
    for number, (rows, elements) in steps.items():
        rows, (neurons, numbers, scales) = moved(rows, values.device), moved(elements, values.device).T
        slots = neurons.long() if columns is None else torch.searchsorted(columns, neurons.long())
        old, numbers, scales = values[rows, :, slots], numbers.to(values)[:, None], scales.to(values)[:, None]
        new = torch.where(scales == 0, numbers, old * scales + numbers)
        values[rows, :, slots] = torch.where(written[rows, number], new, old)
    return values
