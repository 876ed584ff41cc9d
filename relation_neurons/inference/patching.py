"""Write into neurons while a model runs, each row of a batch under its own condition, and prove that it happened."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from relation_neurons.errors import refuse
from relation_neurons.inference.transfer import moved
from relation_neurons.inference.write_check import Conditions, Write, WriteCheck
from relation_neurons.models.hooked_model import hooked
from relation_neurons.models.position_kinds import DECODE, LAST, PROMPT, watched
from relation_neurons.models.types import HookedModel


@contextlib.contextmanager
def patched(model: HookedModel, conditions: Conditions) -> Iterator[Patches]:
    """Let conditions hold in the forward passes of this block; `Patches.use` says which row is under which.

    Args:
        model: A model from `load_model`.
        conditions: The writes of each, carried out one after the other.

    Raises:
        RelationNeuronsError: On leaving, no pass at all, a hook that did not fire once in every pass, or values that
            were read back and are not what they should be.
    """
    patches = Patches(conditions)
    functions = [(place, partial(step, place)) for place in patches.fired for step in (patches.write, patches.read)]
    with watched(model, patches), hooked(model, functions):
        yield patches
    patches.check()


@dataclass
class _Pass:
    """One forward pass.

    Attributes:
        rows: The condition of each row.
        chosen: The same, on the device of the masks.
        masks: At which positions each write of a row's condition is carried out.
        elements: Those of all rows at each hook, by the number of the write; looked up when they are first needed.
        anywhere: Whether anything may be written.
        everywhere: Whether all is written; neither is asked of a GPU, which would have to finish its work first.
        fired: The hooks that fired.
    """

    rows: tuple[int, ...]
    chosen: Int[Tensor, " row"]
    masks: Bool[Tensor, "row write pos"]
    elements: dict[str, dict[int, _Elements]]
    fired: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        known = self.masks.device.type == "cpu"
        self.anywhere, self.everywhere = not known or bool(self.masks.any()), known and bool(self.masks.all())
        self._there = {self.masks.device: (self.chosen, self.masks)}

    def on(self, device: torch.device) -> tuple[Int[Tensor, " row"], Bool[Tensor, "row write pos"]]:
        """The condition of each row, and the masks, on the device of a layer, moved there once."""
        if device not in self._there:
            self._there[device] = self.chosen.to(device), self.masks.to(device)
        return self._there[device]


class Patches:
    """Conditions at work in the forward passes of a model.

    Attributes:
        passes: Forward passes so far.
        fired: How often each hook fired.
        tells_decoding: Whether some write is carried out in a part of prompt and decoded tokens only.
    """

    def __init__(self, conditions: Conditions) -> None:
        """Collect the hooks, and note at which kinds of position each write is carried out."""
        writes = [write for condition in conditions for write in condition]
        self._name = ", ".join(dict.fromkeys(write.name for write in writes))
        self.tells_decoding = any(0 < len(write.kinds & {PROMPT, LAST, DECODE}) < 3 for write in writes)
        self.passes, self.fired = 0, dict.fromkeys((place for write in writes for place in write.places), 0)
        longest, nothing = max(1, *map(len, conditions)), Write("", {}, frozenset())
        self._writes = [[*condition, *[nothing] * (longest - len(condition))] for condition in conditions]
        allowed = [[[kind in write.kinds for kind in range(DECODE + 1)] for write in one] for one in self._writes]
        self._allowed: Bool[Tensor, "condition write kind"] = torch.tensor(allowed)
        self._tables: dict[tuple[str, torch.device, torch.dtype], dict[int, _Table]] = {}
        self._rows: tuple[int, ...] | None = None
        self._now: _Pass | None = None
        self._check = WriteCheck(conditions, self.fired)

    def use(self, rows: Sequence[int] | None) -> None:
        """Say which condition each row of the coming passes is under; none puts every row under the first."""
        self._rows = None if rows is None else tuple(rows)

    def begin(self, kinds: Int[Tensor, "row pos"]) -> None:
        """A pass begins over these positions."""
        self._finish()
        rows = (0,) * len(kinds) if self._rows is None else self._rows
        if len(rows) != len(kinds):
            raise refuse(f"A pass has {len(kinds)} rows", expected=f"{len(rows)}, one for each condition in use")
        chosen = moved(torch.tensor(rows, dtype=torch.long), kinds.device)
        self._allowed = self._allowed.to(kinds.device)
        allowed = self._allowed[chosen]
        masks = allowed.gather(2, kinds[:, None].expand(-1, allowed.shape[1], -1))
        known = self._now.elements if self._now is not None and self._now.rows == rows else {}
        self._now = _Pass(rows, chosen, masks, known)
        self._check.begin(rows, chosen, kinds, self.passes)

    def abandon(self) -> None:
        """The pass that began will not be finished, nor counted."""
        self._now = None
        self._check.forget()

    def write(self, place: str, activation: Tensor) -> Tensor | None:
        """The activation of a hook with everything written, none if there is nothing to write."""
        now = self._now
        if now is None or place in now.fired:
            raise refuse(
                f"The intervention on '{self._name}' fired {'twice in' if now else 'outside'} a pass at {place}",
                expected="once in every forward pass",
                do="run whole forward passes inside the block",
            )
        if activation.shape[:2] != (now.masks.shape[0], now.masks.shape[2]):
            raise refuse(f"{place} has shape {tuple(activation.shape)}", expected="a row and a position first")
        new = now.anywhere and place not in now.elements
        self._check.entered(place, activation.flatten(2), new=new)
        if new:
            now.elements[place] = self._elements(now, place, activation)
        elements = now.elements[place] if now.anywhere else {}
        changed = activation.flatten(2).clone(memory_format=torch.contiguous_format) if elements else activation
        _, masks = now.on(activation.device)
        for number, some in elements.items():
            _write_elements(changed, some, None if now.everywhere else masks[some.rows, number])
        now.fired.add(place)
        return changed.view(activation.shape) if elements else None

    def read(self, place: str, activation: Tensor) -> None:
        """Read back what the hook gave to the model."""
        self._check.left(place, activation.flatten(2))

    def _elements(self, now: _Pass, place: str, like: Tensor) -> dict[int, _Elements]:
        """What the rows of a pass write at a hook, by the number of the write."""
        key = place, like.device, like.dtype
        if key not in self._tables:
            parts = [[write.places.get(place) for write in writes] for writes in zip(*self._writes, strict=True)]
            self._tables[key] = {
                number: _table(part, like) for number, part in enumerate(parts) if any(one is not None for one in part)
            }
        chosen, _ = now.on(like.device)
        totals = {number: table.count(now.rows) for number, table in self._tables[key].items()}
        return {number: self._tables[key][number].of(chosen, total) for number, total in totals.items() if total}

    def check(self) -> None:
        """Make sure that every hook fired once in every pass, and that what was read back is what was to be written.

        Raises:
            RelationNeuronsError: No pass at all, a hook that was skipped, or wrong values.
        """
        self._finish()
        self._now = None
        if self.passes == 0:
            raise refuse(
                f"The intervention on '{self._name}' ended without a forward pass",
                expected="the model that was named to run inside the block",
            )
        for place, count in self.fired.items():
            if count != self.passes:
                raise refuse(
                    f"The intervention on '{self._name}' fired {count} times at {place} in {self.passes} passes",
                    expected="once in every pass",
                    do="run whole forward passes inside the block, and do not reset the model's hooks there",
                )
        self._check.check(self._name)

    def _finish(self) -> None:
        """Count the pass that is over."""
        if self._now is not None:
            self.passes += 1
            for place in self._now.fired:
                self.fired[place] += 1


class _Elements(NamedTuple):
    """What rows write at one hook: row, column, the number to add, and the scale of what was there unless it is 0."""

    rows: Int[Tensor, " element"]
    columns: Int[Tensor, " element"]
    numbers: Float[Tensor, "element 1"]
    scales: Float[Tensor, "element 1"] | None


@dataclass(frozen=True)
class _Table:
    """What each condition writes at one hook, on the hook's device, so that rows are put together there.

    Attributes:
        counts: How many elements each condition has.
        places: The same on the device, and where the elements of each condition begin.
        columns: The neurons, one condition after the other.
        numbers: What is added to each.
        scales: What it is multiplied by before, unless all of it is 0.
    """

    counts: tuple[int, ...]
    places: Int[Tensor, "2 condition"]
    columns: Int[Tensor, " element"]
    numbers: Float[Tensor, "element 1"]
    scales: Float[Tensor, "element 1"] | None

    def count(self, rows: Sequence[int]) -> int:
        """How many elements rows under these conditions have."""
        return sum(map(self.counts.__getitem__, rows))

    def of(self, chosen: Int[Tensor, " row"], total: int) -> _Elements:
        """The elements of rows under these conditions, so many in all."""
        counts, starts = self.places[:, chosen]
        shifts = starts - counts.cumsum(0) + counts
        both = torch.stack([torch.arange(len(chosen), device=chosen.device), shifts])
        rows, shift = torch.repeat_interleave(both, counts, dim=1, output_size=total)
        places = torch.arange(total, device=chosen.device) + shift
        scales = None if self.scales is None else self.scales[places]
        return _Elements(rows, self.columns[places], self.numbers[places], scales)


def _table(parts: Sequence[Float64[Tensor, "_ 3"] | None], like: Tensor) -> _Table:
    """The elements of conditions, none for one that writes nothing at the hook."""
    counts = torch.tensor([0 if part is None else len(part) for part in parts])
    found = torch.cat([part for part in parts if part is not None])
    return _Table(
        tuple(counts.tolist()),
        moved(torch.stack([counts, counts.cumsum(0) - counts]), like.device),
        moved(found[:, 0].long(), like.device),
        moved(found[:, 1:2].to(like.dtype), like.device),
        moved(found[:, 2:].to(like.dtype), like.device) if found[:, 2].any() else None,
    )


def _write_elements(
    changed: Float[Tensor, "row pos neuron"], elements: _Elements, mask: Bool[Tensor, "element pos"] | None
) -> None:
    """Write in place where the mask is true, without one everywhere."""
    where, new = (elements.rows, slice(None), elements.columns), elements.numbers.expand(-1, changed.shape[1])
    if elements.scales is not None or mask is not None:
        old = changed[where]
        if elements.scales is not None:
            new = torch.where(elements.scales == 0, new, old * elements.scales + new)
        if mask is not None:
            new = torch.where(mask, new, old)
    changed[where] = new
