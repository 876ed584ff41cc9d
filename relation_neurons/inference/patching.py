"""Write into neurons while a model runs, each row of a batch under its own condition, and prove that it happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from relation_neurons.errors import refuse
from relation_neurons.models.hooked_model import add_hook
from relation_neurons.models.position_kinds import DECODE, watch
from relation_neurons.models.types import HookedModel

N_KINDS = DECODE + 1


@dataclass(frozen=True, eq=False)
class Write:
    """What one intervention writes.

    Attributes:
        name: Whose neurons are written, for messages.
        places: For each hook, the columns to write and the number to put in each.
        scale: Factor of what was there, to be added to the number.
        kinds: Which kinds of position, see `relation_neurons.models.position_kinds`.
    """

    name: str
    places: Mapping[str, tuple[Int[ndarray, " neuron"], Float[ndarray, " neuron"]]]
    scale: float
    kinds: frozenset[int]


class Writer:
    """Conditions that hold in the forward passes of a model, between `start` and `stop`.

    Attributes:
        passes: Forward passes so far.
        fired: How often each hook fired.
    """

    def __init__(self, model: HookedModel, conditions: Sequence[Sequence[Write]]) -> None:
        """Prepare the writes of each condition; those of one condition are carried out one after the other."""
        self._model = model
        self._name = ", ".join(dict.fromkeys(write.name for condition in conditions for write in condition))
        n_slots = max(1, *map(len, conditions))
        places = list(dict.fromkeys(place for writes in conditions for write in writes for place in write.places))
        self._tables = {
            place: [_Table([_at(writes, slot, place) for writes in conditions]) for slot in range(n_slots)]
            for place in places
        }
        sizes = np.array([[table.sizes for table in tables] for tables in self._tables.values()], dtype=np.int64)
        self._sizes = torch.from_numpy(sizes.reshape(len(places), n_slots, len(conditions))).permute(2, 0, 1)
        allowed = [[_allowed(writes, slot) for slot in range(n_slots)] for writes in conditions]
        self._allowed = torch.tensor(allowed, dtype=torch.bool).reshape(len(conditions), n_slots, N_KINDS)
        self._rows: tuple[int, ...] | None = None
        self._now: _Pass | None = None
        self._removals: list[Callable[[], None]] = []
        self.passes = 0
        self.fired = dict.fromkeys(places, 0)
        self._wrong_elements: dict[str, Tensor] = {}

    def start(self) -> Writer:
        """Hook the model."""
        try:
            self._removals.append(watch(self._model, self))
            for place in self._tables:
                self._removals.append(add_hook(self._model, place, self._hook(place)))
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Take the hooks away; those of others stay."""
        for remove in self._removals:
            remove()
        self._removals.clear()

    def use(self, rows: Sequence[int] | None) -> None:
        """Say which condition each row of the coming passes is under; none puts every row under the first."""
        self._rows = None if rows is None else tuple(rows)

    def begin(self, kinds: Int[Tensor, "row pos"]) -> None:
        """A pass begins over these positions."""
        self._finish()
        rows = (0,) * len(kinds) if self._rows is None else self._rows
        if len(rows) != len(kinds):
            raise refuse(f"A pass has {len(kinds)} rows", expected=f"{len(rows)}, one for each condition in use")
        conditions = torch.tensor(rows, dtype=torch.long)
        chosen = self._allowed[conditions].to(kinds.device)
        masks = torch.stack([torch.gather(chosen[:, slot], 1, kinds) for slot in range(chosen.shape[1])], dim=1)
        expected = (self._sizes[conditions].to(kinds.device) * masks.sum(dim=2)[:, None]).sum(dim=(0, 2))
        known = self._now is not None and self._now.rows == rows
        pairs = self._now.pairs if known and self._now is not None else {}
        self._now = _Pass(rows, masks, dict(zip(self._tables, expected, strict=True)), pairs)

    def abandon(self) -> None:
        """The pass that began will not be finished, nor counted."""
        self._now = None

    def check(self) -> None:
        """Make sure that every hook fired once in every pass and wrote what it should.

        Raises:
            RelationNeuronsError: No pass at all, a hook that was skipped, or elements that were not written.
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
        for place, wrong in self._wrong_elements.items():
            if wrong.item():
                raise refuse(f"The intervention on '{self._name}' missed {int(wrong)} elements at {place}")

    def _finish(self) -> None:
        """Count the pass that is over."""
        if self._now is None:
            return
        wrong = {  # before anything is counted, since memory may run out here
            place: self._wrong_elements.get(place, 0) + (self._now.expected[place] - written).abs()
            for place, written in self._now.written.items()
        }
        self._wrong_elements |= wrong
        self.passes += 1
        for place in wrong:
            self.fired[place] += 1

    def _hook(self, place: str) -> Callable[[Tensor], Tensor | None]:
        def hook(activation: Tensor) -> Tensor | None:
            now = self._now
            if now is None or place in now.written:
                when = "outside a pass" if now is None else "twice in a pass"
                raise refuse(
                    f"The intervention on '{self._name}' fired {when} at {place}",
                    expected="once in every forward pass",
                    do="run whole forward passes inside the block",
                )
            if activation.shape[:2] != (now.masks.shape[0], now.masks.shape[2]):
                raise refuse(f"{place} has shape {tuple(activation.shape)}", expected="a row and a position first")
            return now.write(place, activation, self._tables[place])

        return hook


class _Table:
    """The writes of all conditions at one place, row after row in one array."""

    def __init__(self, writes: Sequence[tuple[ndarray, ndarray, float]]) -> None:
        self.sizes = np.array([len(columns) for columns, _, _ in writes])
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        self.columns = np.concatenate([columns for columns, _, _ in writes])
        self.numbers = np.concatenate([numbers for _, numbers, _ in writes])
        self.scales = np.repeat([scale for _, _, scale in writes], self.sizes)

    def pairs(self, rows: tuple[int, ...], like: Tensor) -> _Pairs | None:
        """The elements that rows under these conditions write, none if there are none."""
        counts = self.sizes[list(rows)]
        total = int(counts.sum())
        if total == 0:
            return None
        before = np.cumsum(counts) - counts
        which = np.arange(total) + np.repeat(self.starts[list(rows)] - before, counts)
        scales = self.scales[which]
        return _Pairs(
            torch.from_numpy(np.repeat(np.arange(len(rows)), counts)).to(like.device),
            torch.from_numpy(self.columns[which]).to(like.device),
            torch.from_numpy(self.numbers[which]).to(like),
            torch.from_numpy(scales).to(like) if scales.any() else None,
        )


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Elements of one place: row, column, what to put there, and the factor of what was there unless that is 0."""

    rows: Int[Tensor, " element"]
    columns: Int[Tensor, " element"]
    numbers: Float[Tensor, " element"]
    scales: Float[Tensor, " element"] | None


class _Pass:
    """One forward pass: which positions each row writes, and what has been written."""

    def __init__(
        self,
        rows: tuple[int, ...],
        masks: Bool[Tensor, "row slot pos"],
        expected: Mapping[str, Tensor],
        pairs: dict[str, list[_Pairs | None]],
    ) -> None:
        self.rows, self.masks, self.expected, self.pairs = rows, masks, expected, pairs
        self.any, self.all = bool(masks.any()), bool(masks.all())
        self.written: dict[str, Tensor] = {}

    def write(self, place: str, activation: Tensor, tables: Sequence[_Table]) -> Tensor | None:
        """The activation with every slot written, none if there is nothing to write."""
        self.written[place] = torch.zeros((), dtype=torch.long, device=activation.device)
        if not self.any:
            return None
        if place not in self.pairs:
            self.pairs[place] = [table.pairs(self.rows, activation) for table in tables]
        if not any(self.pairs[place]):
            return None
        changed = activation.flatten(2).clone(memory_format=torch.contiguous_format)
        for slot, pairs in enumerate(self.pairs[place]):
            if pairs is not None:
                self.written[place] += self._write_slot(changed, pairs, slot)
        return changed.view(activation.shape)

    def _write_slot(self, changed: Float[Tensor, "row pos neuron"], pairs: _Pairs, slot: int) -> Tensor | int:
        """Write one slot in place; returns how many elements were written."""
        new = pairs.numbers[:, None].expand(-1, changed.shape[1])
        if pairs.scales is None and self.all:
            changed[pairs.rows, :, pairs.columns] = new
            return new.numel()
        old = changed[pairs.rows, :, pairs.columns]
        if pairs.scales is not None:
            scales = pairs.scales[:, None]
            new = torch.where(scales == 0, new, old * scales + new)
        mask = self.masks[pairs.rows, slot]
        changed[pairs.rows, :, pairs.columns] = torch.where(mask, new, old)
        return mask.sum()


def _at(writes: Sequence[Write], slot: int, place: str) -> tuple[ndarray, ndarray, float]:
    if slot < len(writes) and place in writes[slot].places:
        return (*writes[slot].places[place], writes[slot].scale)
    return np.empty(0, dtype=np.int64), np.empty(0), 0.0


def _allowed(writes: Sequence[Write], slot: int) -> list[bool]:
    return [slot < len(writes) and kind in writes[slot].kinds for kind in range(N_KINDS)]
