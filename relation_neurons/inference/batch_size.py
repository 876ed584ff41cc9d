"""What a row of a batch takes, what memory is free, and what to do when a batch was too much for it."""

from __future__ import annotations

import gc
import re
import warnings
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from relation_neurons.errors import refuse
from relation_neurons.models.types import HookedModel

OUT_OF_MEMORY = re.compile("can't allocate memory|not enough memory|out of memory|ALLOC_FAILED", re.IGNORECASE)
"""What PyTorch says in errors of no kind of their own."""

_limits: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
"""Bytes, as `row_bytes` estimates them, of the batches that models were left with when memory ran out."""


def row_bytes(
    cfg: Any,
    n_tokens: int,
    n_logits: int,
    *,
    dtype: torch.dtype | None = None,
    gradients: bool = False,
    n_before: int = 0,
) -> int:
    """Memory for one row of a batch: its keys and values, twice for a selected copy; a layer's work; logits.

    A pass that is differentiated keeps the work of every layer, but not of tokens that all rows have in common, through
    which it only goes back.

    Args:
        cfg: A `Shape`, or the configuration of a loaded model.
        n_tokens: Tokens of the longest row.
        n_logits: Positions of each row that are unembedded.
        dtype: Type of the weights; by default the configuration's.
        gradients: Whether the pass is differentiated.
        n_before: Tokens before these, the same in all rows, of a pass that is differentiated.
    """
    if n_before:
        before = row_bytes(cfg, n_before, 0, dtype=dtype)
        return before + row_bytes(cfg, n_tokens, n_logits, dtype=dtype, gradients=gradients)
    item = (dtype or cfg.dtype).itemsize
    heads = getattr(cfg, "n_key_value_heads", None) or cfg.n_heads
    cache = 4 * cfg.n_layers * heads * cfg.d_head * item * n_tokens
    layer = n_tokens * (8 * cfg.d_model + 4 * (cfg.d_mlp or 0) + 3 * cfg.n_heads * n_tokens) * max(item, 4)
    return int(cache + layer * (cfg.n_layers if gradients else 1) + 3 * 4 * n_logits * cfg.d_vocab)


def memory_of(device: str | torch.device) -> tuple[int, int]:
    """Bytes free and in all where a device keeps its numbers: the GPU's, or what this process may use of the RAM."""
    device = torch.device(device)
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device), total
    ram = psutil.virtual_memory()
    return min([(ram.available, ram.total), *_container_limits()])


def devices_of(model: HookedModel) -> list[torch.device]:
    """The devices that a model computes on, that of its embedding first."""
    places = (one for one in getattr(model.cfg, "places", ()) if one not in ("cpu", "disk"))
    return [*dict.fromkeys(map(torch.device, (str(model.cfg.device), *places)))]


class BatchSizes:
    """How many rows the batches of a stream have, and what is left of that when memory runs out.

    Attributes:
        rows: The most rows in the next batch.
    """

    def __init__(self, model: HookedModel, rows: int, row: int) -> None:
        """Begin with this number of rows of this size, or fewer where memory ran out with this model before."""
        self._model, self._row = model, row
        self.rows = max(1, min(rows, _limits[model] // row)) if model in _limits else rows
        self._too_many: int | None = None

    def shrink(self, lengths: Sequence[int]) -> None:
        """Release the memory of a batch of prompts of these lengths, and continue with half as many.

        Raises:
            RelationNeuronsError: There was only one.
        """
        gc.collect()
        device = torch.device(self._model.cfg.device)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if len(lengths) == 1:
            free, total = memory_of(device)
            raise refuse(
                f"Memory runs out on a prompt of {lengths[0]} tokens read alone, "
                f"with {free / 1e9:.1f} of {total / 1e9:.1f} GB free on {device}",
                do="end other programs that hold memory there, use fewer shots or shorter texts, load the model with "
                f"dtype bfloat16{', on the CPU' if device.type == 'cuda' else ''}, or use a smaller model",
            )
        self._too_many = self._too_many or len(lengths)
        self.rows = (len(lengths) + 1) // 2
        _limits[self._model] = self.rows * self._row

    def tell(self) -> None:
        """Say once that batches became smaller, when one of them fitted."""
        if self._too_many is not None:
            found = f"Memory ran out on {self._too_many} prompts at a time"
            warnings.warn(f"{found}; from here on it is {self.rows}. Results stay the same", stacklevel=4)
            self._too_many = None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, as against anything else that went wrong."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or bool(OUT_OF_MEMORY.search(str(error)))


def _container_limits(root: Path = Path("/")) -> list[tuple[int, int]]:
    """Bytes free and in all under each limit that Linux sets this process, as in a container or a cluster's job."""
    limits = []
    try:
        groups = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return []
    for _, controllers, path in groups:
        if controllers not in ("", "memory"):
            continue
        names = ("max", "current") if controllers == "" else ("limit_in_bytes", "usage_in_bytes")
        group = Path(path.strip("/"))
        for folder in [root / "sys/fs/cgroup" / controllers / one for one in (group, *group.parents)]:
            try:
                most, used = (int((folder / f"memory.{name}").read_text()) for name in names)
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):  # no such group here, or no limit
                continue
            cached = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
            limits.append((max(0, most - used + cached), most))
    return limits
