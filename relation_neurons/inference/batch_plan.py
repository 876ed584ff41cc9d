"""Which tasks are read together, and in which order: fixed before any is read, so that nothing else decides it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from relation_neurons.errors import refuse
from relation_neurons.models.types import HookedModel
from relation_neurons.prompts.tokenization import Encoded

MIN_SHARED = 8
"""Fewest tokens at a common beginning for which it is worth a pass of its own."""


@dataclass(frozen=True)
class Task:
    """One prompt to be read under one condition.

    Attributes:
        encoded: The prompt.
        condition: The number of the condition.
        n_after: How many tokens will be read behind the prompt.
    """

    encoded: Encoded
    condition: int = 0
    n_after: int = 0


@dataclass(frozen=True)
class ReadingOrder:
    """The order in which tasks are read, and which of them may be read together.

    Attributes:
        rows: Numbers of the tasks. Those that share a beginning stand together; shorter ones first, so that padding is
            rare.
        starts: How many tokens of each task are read in advance.
        unpadded: See `Batch`.
        alike: What the tasks of a batch have in common, for each task.
    """

    rows: tuple[int, ...]
    starts: tuple[int, ...]
    unpadded: bool
    alike: tuple[object, ...]

    def batch(self, done: int, size: int) -> list[int]:
        """The next tasks that are read together, where so many have been read."""
        rows = self.rows[done : done + size]
        return list(itertools.takewhile(lambda row: self.alike[row] == self.alike[rows[0]], rows))


def reading_order(model: HookedModel, tasks: Sequence[Task], *, share: bool, gradients: bool) -> ReadingOrder:
    """How `run_batches` reads tasks, given its arguments."""
    unpadded = takes_no_padding(model, max(len(task.encoded.ids) + task.n_after for task in tasks))
    starts = shared_starts(tasks, 1 if gradients else 2) if share and not unpadded else [0] * len(tasks)

    def place(row: int) -> tuple[object, ...]:
        task, start, ids = tasks[row], starts[row], tasks[row].encoded.ids
        return start, ids[:start], task.condition if start else 0, len(ids), task.n_after, task.condition

    alike = (
        (
            len(task.encoded.ids) if unpadded else None,
            beginning_of(task, start) if gradients and start else None,
        )
        for task, start in zip(tasks, starts, strict=True)
    )
    return ReadingOrder(tuple(sorted(range(len(tasks)), key=place)), tuple(starts), unpadded, tuple(alike))


def batches_of(
    model: HookedModel, tasks: Sequence[Task], size: int, *, share: bool = True, gradients: bool = False
) -> list[list[int]]:
    """Cut tasks into the batches in which `run_batches` would read them; those that begin alike stand together.

    A batch is to be read by a call of its own, which is given no other tasks. Then its results depend, to the last
    digit, on its rows alone: not on what else is read, before it, beside it or never.

    Args:
        model: A model from `load_model`, of which only the configuration is read.
        tasks: At least one.
        size: The most rows of a batch.
        share: As for `run_batches`.
        gradients: As for `run_batches`; the rows of a batch then all have the same beginning.

    Returns:
        The numbers of the tasks in each batch; each number once.

    Raises:
        RelationNeuronsError: A size below 1.
    """
    if size < 1:
        raise refuse(f"batch_size is {size}", expected="at least 1")
    order = reading_order(model, tasks, share=share, gradients=gradients)
    batches: list[list[int]] = []
    done = 0
    while done < len(tasks):
        batches.append(order.batch(done, size))
        done += len(batches[-1])
    return batches


def takes_no_padding(model: HookedModel, longest: int) -> bool:
    """Whether prompts must be read whole, beside others of their length only.

    That is so where the model takes columns for positions, as it does within a sliding window that prompts outgrow.
    """
    window = getattr(model.cfg, "window", None)
    return bool(getattr(model.cfg, "counts_columns", False)) or (window is not None and longest > window)


def shared_starts(tasks: Sequence[Task], fewest: int) -> list[int]:
    """How many tokens of each task are read in advance: its few-shot examples, where at least so many have the same."""
    lengths = [min(task.encoded.query_start, len(task.encoded.ids) - 1) for task in tasks]
    beginnings = [beginning_of(task, length) for task, length in zip(tasks, lengths, strict=True)]
    counts = Counter(beginnings)
    return [
        length if length >= MIN_SHARED and counts[beginning] >= fewest else 0
        for length, beginning in zip(lengths, beginnings, strict=True)
    ]


def beginning_of(task: Task, length: int) -> tuple[int, tuple[int, ...]]:
    """What tasks must have in common to share the computation of so many tokens."""
    return task.condition, task.encoded.ids[:length]
