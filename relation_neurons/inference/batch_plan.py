"""Batches that are fixed before any of them is read, so that what they yield depends on nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from relation_neurons.errors import refuse
from relation_neurons.inference.batching import Task, beginning_of, reading_order, shared_starts, takes_no_padding
from relation_neurons.models.types import HookedModel


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
    unpadded = takes_no_padding(model, max(len(task.encoded.ids) + task.n_after for task in tasks))
    starts = shared_starts(tasks, 1 if gradients else 2) if share and not unpadded else [0] * len(tasks)

    def together(row: int) -> tuple[object, ...]:
        """What the rows of a batch must have in common."""
        length = len(tasks[row].encoded.ids) if unpadded else None
        return length, beginning_of(tasks[row], starts[row]) if gradients and starts[row] else None

    batches: list[list[int]] = []
    for row in sorted(range(len(tasks)), key=lambda row: reading_order(tasks[row], starts[row])):
        if not batches or len(batches[-1]) == size or together(row) != together(batches[-1][0]):
            batches.append([])
        batches[-1].append(row)
    return batches
