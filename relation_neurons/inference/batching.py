"""Prompts under conditions, read in full batches that share the computation of common beginnings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from relation_neurons.errors import refuse
from relation_neurons.inference.batch_plan import Task, beginning_of, reading_order
from relation_neurons.inference.batch_size import BatchSizes, devices_of, is_out_of_memory, memory_of, row_bytes
from relation_neurons.inference.patching import Patches
from relation_neurons.inference.transfer import moved
from relation_neurons.models.hooked_model import Cache, forward, new_cache, select_cache
from relation_neurons.models.position_kinds import BOS, DECODE, LAST, PAD, PROMPT
from relation_neurons.models.types import HookedModel
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts.tokenization import Encoded

MAX_ROWS = 64
"""Rows of an automatic batch on a CPU, which more would not make faster."""
MAX_TOKENS = 16384
"""Tokens of an automatic batch on a GPU."""
MAX_GRAPH_BYTES = 512 * 2**20
"""What the graph of an automatic batch may take on a CPU, where more rows would hardly make gradients faster."""


@dataclass(frozen=True)
class Batch:
    """Tasks that are read together.

    Attributes:
        rows: Numbers of the tasks.
        tasks: The tasks.
        starts: How many tokens of each are read in advance, with others' that begin alike under the same condition.
        device: Where to.
        patches: The conditions at work, if any.
        unpadded: Whether nothing may stand before a prompt or be masked within; then all prompts are equally long.
    """

    rows: tuple[int, ...]
    tasks: tuple[Task, ...]
    starts: tuple[int, ...]
    device: Any
    patches: Patches | None = None
    unpadded: bool = False

    def use(self) -> None:
        """Put the rows of the coming passes under their conditions."""
        if self.patches is not None:
            self.patches.use([task.condition for task in self.tasks])

    def part(self, rows: Sequence[int]) -> Batch:
        """Some rows of the batch."""
        numbers, tasks = tuple(self.rows[row] for row in rows), tuple(self.tasks[row] for row in rows)
        return replace(self, rows=numbers, tasks=tasks, starts=tuple(self.starts[row] for row in rows))

    def read(
        self, appended: Sequence[Sequence[int]] | None = None, *, aligned: bool = False
    ) -> tuple[Int[Tensor, "row pos"], Int[Tensor, "row pos"]]:
        """What each row is still to read, as tokens and their kinds: the prompt's rest, then tokens that decode.

        Padding stands in front. Where prompts are to end in the same column, it also stands after what is appended.
        """
        aligned = aligned or self.unpadded
        appended = appended if appended is not None else [()] * len(self.tasks)
        rests = [task.encoded.ids[start:] for task, start in zip(self.tasks, self.starts, strict=True)]
        behind = max(map(len, appended)) if aligned else 0
        whole = max(len(rest) + max(len(more), behind) for rest, more in zip(rests, appended, strict=True))
        tokens, kinds = [], []
        for task, start, rest, more in zip(self.tasks, self.starts, rests, appended, strict=True):
            right = [0] * max(behind - len(more), 0)
            left = [0] * (whole - len(rest) - len(more) - len(right))
            kind = _prompt_kinds(task.encoded)[start:]
            tokens.append([*left, *rest, *more, *right])
            kinds.append([PAD] * len(left) + kind + [DECODE] * len(more) + [PAD] * len(right))
        return _tensor(tokens, self.device), _tensor(kinds, self.device)


Result = TypeVar("Result")
ReadBatch = Callable[[Batch, Cache], Iterable[Result]]
"""Reads a batch, given the cache of what its rows have read in advance; returns a result for each row."""
Begin = Callable[[Batch, Int[Tensor, "row pos"], Int[Tensor, "row pos"], Cache], None]
"""Reads the beginnings of a batch's tasks, given their tokens, the kinds of these and an empty cache, to be filled."""


def run_batches(
    model: HookedModel,
    tasks: Sequence[Task],
    read_batch: ReadBatch[Result],
    *,
    begin: Begin | None = None,
    into: Tensor | None = None,
    patches: Patches | None = None,
    share: bool = True,
    n_logits: int = 3,
    gradients: bool = False,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> list[Result]:
    """Read tasks in full batches, whatever their conditions; what a task yields does not depend on its batch.

    That is so within the rounding of float arithmetic: numbers may differ in their last digits, and answers only where
    two tokens are as close as that. So results are the same when memory runs out: the batch that did not fit is tried
    again with half as many rows, and so on, while batches that are done stay done. The model keeps to smaller batches
    from then on, in later calls as well.

    Args:
        model: A model from `load_model`.
        tasks: What to read.
        read_batch: What makes results of a batch; called again with fewer rows where memory ran out in it.
        begin: What reads common beginnings; by default the whole model, which is not differentiated.
        into: Takes the results as its rows, so that they are in memory only once; by default a list does.
        patches: The active conditions, if any, which learn the condition of each row.
        share: Whether tasks under the same condition that begin alike share the computation of that beginning.
        n_logits: Positions of each row that `read_batch` unembeds, for the estimate of memory.
        gradients: Whether `read_batch` differentiates; then passes keep what is needed for that, and
            the rows of a batch all share the same beginning, if any.
        batch_size: Rows at a time; by default what memory holds. Halved whenever memory runs out all the same.
        progress: Called with the number of tasks finished.

    Returns:
        The results in the order of the tasks.

    Raises:
        RelationNeuronsError: Memory runs out even for a single row.
    """
    if batch_size is not None and batch_size < 1:
        raise refuse(f"batch_size is {batch_size}", expected="at least 1")
    longest, n_before = max(len(task.encoded.ids) + task.n_after for task in tasks), 0
    order = reading_order(model, tasks, share=share, gradients=gradients)
    starts = order.starts
    if gradients:  # of what is read in advance no graph is kept for each row
        longest = max(len(task.encoded.ids) - start + task.n_after for task, start in zip(tasks, starts, strict=True))
        n_before = max(starts)
    most = batch_size or rows_that_fit(model, longest, n_logits, gradients=gradients, n_before=n_before)
    sizes = BatchSizes(model, most, row_bytes(model.cfg, longest, n_logits, gradients=gradients, n_before=n_before))
    whole = Batch(tuple(range(len(tasks))), tuple(tasks), starts, model.cfg.device, patches, order.unpadded)
    results: Any = [None] * len(tasks) if into is None else into
    done = 0
    while done < len(tasks):
        batch = whole.part(order.batch(done, sizes.rows))
        if not _fits(model, batch, read_batch, begin, results, gradients):
            sizes.shrink([len(task.encoded.ids) for task in batch.tasks])
            continue
        sizes.tell()
        done += len(batch.rows)
        progress(len(batch.rows))
    return list(results)


def rows_that_fit(
    model: HookedModel, n_tokens: int, n_logits: int, *, gradients: bool = False, n_before: int = 0
) -> int:
    """How many rows a batch should have: what fits half the free memory, of the fullest GPU, within reason.

    Args:
        model: A model from `load_model`.
        n_tokens: Tokens of the longest row.
        n_logits: Positions of each row that are unembedded.
        gradients: Whether the pass is differentiated.
        n_before: As for `row_bytes`.
    """
    devices = devices_of(model)
    on_gpu = devices[0].type == "cuda"
    most = max(1, MAX_TOKENS // n_tokens) if on_gpu else MAX_ROWS
    row = row_bytes(model.cfg, n_tokens, n_logits, gradients=gradients, n_before=n_before)
    room = min(memory_of(device)[0] for device in devices) // 2
    if gradients and not on_gpu:
        room = min(room, MAX_GRAPH_BYTES)
    return int(min(most, max(1, room // row)))


def _fits(
    model: HookedModel, batch: Batch, read_batch: ReadBatch[Any], begin: Begin | None, results: Any, gradients: bool
) -> bool:
    """Read a batch and store its results, unless memory runs out."""
    try:
        with torch.inference_mode(not gradients), torch.set_grad_enabled(gradients):
            cache = _read_beginnings(model, batch, begin)
            batch.use()
            found = read_batch(batch, cache)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    if isinstance(results, Tensor):
        results[moved(torch.tensor(batch.rows), results.device)] = torch.as_tensor(found)
        return True
    for row, result in zip(batch.rows, found, strict=True):
        results[row] = result
    return True


def _read_beginnings(model: HookedModel, batch: Batch, begin: Begin | None = None) -> Cache:
    """Read each common beginning once under each condition; the cache, empty where nothing is shared, has all rows."""
    if not any(batch.starts):
        return new_cache(model, len(batch.rows))
    beginnings = [beginning_of(task, start) for task, start in zip(batch.tasks, batch.starts, strict=True)]
    readers: dict[tuple[int, tuple[int, ...]], int] = {}
    for row, beginning in enumerate(beginnings):
        readers.setdefault(beginning, row)
    longest, tokens, kinds = max(batch.starts), [], []
    for (_, ids), row in readers.items():
        missing = longest - len(ids)
        tokens.append([0] * missing + list(ids))
        kinds.append([PAD] * missing + _prompt_kinds(batch.tasks[row].encoded)[: len(ids)])
    part, cache = batch.part(list(readers.values())), new_cache(model, len(readers))
    part.use()
    read = _tensor(tokens, batch.device), _tensor(kinds, batch.device)
    if begin is None:
        forward(model, *read, cache, keep=0)
    else:
        begin(part, *read, cache)
    number = {beginning: row for row, beginning in enumerate(readers)}
    return select_cache(model, cache, [number[beginning] for beginning in beginnings])


def _prompt_kinds(encoded: Encoded) -> list[int]:
    kinds = [PROMPT] * len(encoded.ids)
    if encoded.bos:
        kinds[0] = BOS
    kinds[-1] = LAST
    return kinds


def _tensor(rows: Sequence[Sequence[int]], device: Any) -> Int[Tensor, "row pos"]:
    return moved(torch.tensor(rows, dtype=torch.long), device)
