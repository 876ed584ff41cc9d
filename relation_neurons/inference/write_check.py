"""Read back what was written, from the tensor that leaves a hook point, and compare it with what interventions say.

Nothing here is shared with the code that writes: what a hook point should give is worked out from the interventions,
condition by condition.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from relation_neurons.errors import refuse
from relation_neurons.models.position_kinds import DECODE

PERIOD = 32
"""In one pass of this number a hook is compared at all positions, different hooks in turn."""


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
    """Compares what leaves hook points with what conditions make of what entered them, in all rows and at all neurons.

    The first pass of each arrangement of conditions in rows is compared at one written position of each row, another
    for each hook. In one pass of `PERIOD` a hook is compared at all positions; the first hook so begins with its first.
    """

    def __init__(self, conditions: Conditions, places: Iterable[str]) -> None:
        """Put the hooks in an order, in which they take turns."""
        self._conditions, self._turns = conditions, {place: turn for turn, place in enumerate(places)}
        steps = range(max(map(len, conditions), default=0))
        table = [[[n < len(one) and k in one[n].kinds for k in range(DECODE + 1)] for n in steps] for one in conditions]
        self._allowed: Bool[Tensor, "condition step kind"] = torch.tensor(table)
        self._due: dict[str, tuple[Tensor | None, Tensor]] = {}
        self._wrong: dict[str, Tensor] = {}

    def begin(self, rows: Sequence[int], kinds: Int[Tensor, "row pos"], n_pass: int) -> None:
        """A pass begins, after so many, over these positions, with the condition of each row."""
        allowed = self._allowed[list(rows)].to(kinds.device)
        self._written = allowed.gather(2, kinds[:, None].expand(-1, allowed.shape[1], -1))
        anywhere = self._written.any(dim=1)
        self._from_end = anywhere.flip(1).cumsum(dim=1).flip(1) * anywhere  # 1 at the last written position of a row
        self._rows, self._n_pass = rows, n_pass

    def entered(self, place: str, activation: Float[Tensor, "row pos neuron"], *, new: bool) -> None:
        """Work out what a hook should give, if that is to be compared, before anything is written.

        Args:
            place: The hook.
            activation: What entered it.
            new: Whether conditions write, in this arrangement, for the first time at this hook.
        """
        turn = self._turns[place] + self._n_pass
        whole = turn % PERIOD == 0
        if new or whole:
            at = None if whole else self._position(turn)
            writes = [self._conditions[condition] for condition in self._rows]
            written = self._written if at is None else self._written.gather(2, at.expand(-1, self._written.shape[1], 1))
            self._due[place] = at, expected_values(_at(activation, at), place, writes, written)

    def left(self, place: str, activation: Float[Tensor, "row pos neuron"]) -> None:
        """Compare what left a hook, if it is due."""
        if place in self._due:
            at, expected = self._due.pop(place)
            differs = (_at(activation, at) != expected) & ~expected.isnan()
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

    def _position(self, turn: int) -> Int[Tensor, "row 1 1"]:
        """A written position of each row: the last at the first turn, then the one before, and so on."""
        n_written = self._from_end.amax(dim=1, keepdim=True).clamp(min=1)
        return (self._from_end == turn % n_written + 1).int().argmax(dim=1)[:, None, None]


def _at(
    activation: Float[Tensor, "row pos neuron"], position: Int[Tensor, "row 1 1"] | None
) -> Float[Tensor, "row _ neuron"]:
    """An activation at one position of each row, or at all."""
    if position is None:
        return activation.detach()
    return activation.detach().gather(1, position.expand(-1, -1, activation.shape[2]))


def expected_values(
    entered: Float[Tensor, "row pos neuron"],
    place: str,
    conditions: Conditions,
    written: Bool[Tensor, "row step pos"],
) -> Float[Tensor, "row pos neuron"]:
    """What a hook should give.

    Args:
        entered: What entered it.
        place: The hook.
        conditions: The writes of each row, one after the other.
        written: At which positions each of them is carried out.
    """
    values = entered.clone()
    for step in range(written.shape[1]):
        rows = [row for row, writes in enumerate(conditions) if len(writes) > step and place in writes[step].places]
        if rows:
            parts = [conditions[row][step].places[place] for row in rows]
            owners = torch.tensor(rows).repeat_interleave(torch.tensor([len(part) for part in parts])).to(values.device)
            columns, numbers, scales = torch.cat(parts).to(values.device).T
            where = (owners, slice(None), columns.long())
            old, numbers, scales = values[where], numbers.to(values)[:, None], scales.to(values)[:, None]
            new = torch.where(scales == 0, numbers, old * scales + numbers)
            values[where] = torch.where(written[owners, step], new, old)
    return values
