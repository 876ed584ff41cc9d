"""Compare what a plan takes of memory and disk with what is free, and refuse what cannot fit before work begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch

from relation_neurons.errors import refuse
from relation_neurons.inference.batch_size import memory_of
from relation_neurons.inference.memory_plan import Plan
from relation_neurons.models.loading import DTYPES, named_device
from relation_neurons.models.placement import DeviceMap, Quantization
from relation_neurons.models.sites import COMPOSITE_SITES, SITES, expand_site
from relation_neurons.models.size import Shape, loaded_shape, shape_of
from relation_neurons.models.types import HookedModel
from relation_neurons.progress import tell
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.storage.files import free_bytes

CHARACTERS = 3
"""Bytes of text to a token where there is no tokenizer yet."""


@dataclass(frozen=True)
class Estimate:
    """What a plan takes beside what is free.

    Attributes:
        plan: What is to be done.
        ram: Bytes of memory that are free.
        gpu: Bytes of the GPU's memory that are free, of all GPUs for a model with a device map; none without a GPU.
        disk: Bytes that are free where the results go; none if they go nowhere.
        out: Where that is.
    """

    plan: Plan
    ram: int
    gpu: int | None
    disk: int | None
    out: Path | None = None

    @property
    def rows(self) -> int:
        """Rows of a batch: the plan's, else as many as half of what is free holds beside the rest."""
        taken = self.plan.estimate
        if self.plan.batch_size is not None or not taken.row:
            return taken.rows
        free = self.ram - taken.ram(0) if self.gpu is None else self.gpu - taken.gpu(0)
        return max(1, min(taken.rows, free // 2 // taken.row))

    def lacks(self, plan: Plan | None = None) -> list[str]:
        """Which of `memory`, `GPU memory` and `disk` another plan, or this one, has too little of."""
        taken = (plan or self.plan).estimate
        rows, spread = taken.rows if (plan or self.plan).batch_size else 1, (plan or self.plan).spread
        over = (
            0 if self.gpu is None else max(0, taken.gpu(rows) - self.gpu)
        )  # a device map puts it into memory, or on disk
        short = ["memory"] if taken.ram(rows) + (over if spread == "memory" else 0) > self.ram else []
        if over and spread is None:
            short.append("GPU memory")
        return short + (["disk"] if self.disk is not None and taken.disk > self.disk else [])

    def __str__(self) -> str:
        """One line, such as `needs about 3.1 GB of 24 GB free memory, 0.2 of 80 GB free disk`."""
        taken, parts = self.plan.estimate, []
        if self.plan.shape is not None:
            parts.append(f"{_gb(taken.ram(self.rows))} GB of {_gb(self.ram)} GB free memory")
            if self.gpu is not None:
                parts.append(f"{_gb(taken.gpu(self.rows))} of {_gb(self.gpu)} GB free GPU memory")
        if self.disk is not None:
            parts.append(f"{_gb(taken.disk)} of {_gb(self.disk)} GB free disk")
        unknown = " (how much memory is not known before the model is loaded)" if self.plan.shape is None else ""
        return "needs about " + ", ".join(parts) + unknown


def estimate(
    model: HookedModel | str | Path,
    prompts: Sequence[Prompt],
    site: str = "post",
    *,
    n_answers: int = 0,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    device_map: DeviceMap | None = None,
    quantize: Quantization | None = None,
    shards: bool = False,
    attributed: bool = False,
    out: str | Path | None = None,
) -> Estimate:
    """Estimate what finding neurons and recall will take, and see what is free.

    Args:
        model: A model from `load_model`, or what `load_model` takes: then its size is known from its configuration.
        prompts: The detection prompts.
        site: What is read of them.
        n_answers: How many answers are read, under all conditions.
        batch_size: Prompts at a time; by default what memory holds.
        device: As for `load_model`; that of a loaded model is its own.
        dtype: As for `load_model`; for a loaded model leave it out.
        device_map: As for `load_model`; the free memory of all GPUs counts, and what exceeds it goes into memory.
        quantize: As for `load_model`.
        shards: Whether activations are kept on disk while they are read.
        attributed: Whether attributions are read beside activations.
        out: The folder of results, present or not.
    """
    loaded = None if isinstance(model, str | Path) else model
    shape = shape_of(model) if isinstance(model, str | Path) else loaded_shape(model)
    place = named_device(device) if loaded is None else torch.device(loaded.cfg.device)
    facts = Counter((prompt.relation, prompt.columns["fact"]) for prompt in prompts)
    plan = Plan(
        shape=shape,
        loaded=loaded is not None,
        counts=tuple(Counter(prompt.relation for prompt in prompts).values()),
        per_fact=max(facts.values(), default=1),
        n_tokens=_longest(prompts, loaded),
        site=site,
        batch_size=batch_size,
        device=place.type,
        dtype=_dtype(dtype, shape, always=loaded is not None or place.type != "cpu"),
        n_answers=n_answers,
        shards=shards,
        attributed=attributed,
        spread=None if device_map is None else "disk" if "disk" in _targets(device_map) else "memory",
        quantize=quantize,
    )
    folder = None if out is None else Path(out).absolute()
    disk = None if folder is None else free_bytes(folder)
    gpu = _gpu_memory(place) if device_map is None or place.type != "cuda" else _all_gpus()
    return Estimate(plan, memory_of("cpu")[0], gpu, disk, folder)


def _longest(prompts: Sequence[Prompt], model: HookedModel | None) -> int:
    """Tokens of the longest prompt, from its bytes where no tokenizer is loaded."""
    text = max((prompt.text for prompt in prompts), key=lambda text: len(text.encode()), default="")
    if model is not None and model.tokenizer is not None:
        return len(model.tokenizer(text).input_ids) + 1
    return len(text.encode()) // CHARACTERS + 2


def require_memory(found: Estimate, say: Callable[[str], None] | None = None) -> None:
    """Print in one line what a plan takes, or refuse what cannot fit, with what would make it fit.

    Args:
        found: From `estimate`.
        say: What prints the line; by default to standard error.

    Raises:
        RelationNeuronsError: Too little memory, GPU memory or disk.
    """
    short = found.lacks()
    if not short:
        (say or tell)(f"This {found}.")
        return
    raise refuse(f"There is too little {' and '.join(short)}: this {found}", do=_remedy(found))


def _remedy(found: Estimate) -> str:
    """What would make it fit, in words."""
    parts, rest = [], replace(found, disk=None)
    if rest.lacks():
        ways = [" with ".join(way) for way in _ways(rest, found.plan, 1)]
        for together in (2, 3):  # the first few options that are enough together, where none is alone
            ways = ways or [" with ".join(way) for way in islice(_ways(rest, found.plan, together), 1)]
        parts.append(f"use {' or '.join(ways)}" if ways else "use a smaller model, or a machine with more memory")
    if "disk" in found.lacks():
        parts.append(f"name another --out, on a disk with {_gb(found.plan.estimate.disk)} GB free")
    return "; and ".join(parts)


def require_room_for_copies(found: Estimate, n: int) -> None:
    """Refuse workers on this machine's CPU, each with a copy of the weights, that do not fit into its memory.

    Args:
        found: What one process takes.
        n: How many workers there are to be beside it.

    Raises:
        RelationNeuronsError: They do not fit.
    """
    taken = found.plan.estimate.ram(found.rows) + n * found.plan.estimate.weights
    if found.gpu is None and taken > found.ram:
        raise refuse(
            f"{n} workers, each with a copy of the weights, need about {_gb(taken)} GB of memory",
            expected=f"at most the {_gb(found.ram)} GB that are free",
            do="ask for fewer workers, or use dtype bfloat16",
        )


def _ways(found: Estimate, plan: Plan, n: int) -> Iterator[list[str]]:
    """Changes of n options that are enough: for each first option its value most like the plan's."""
    for name, options in _changes(plan).items():
        for value, changed in options.items():
            rest = next(_ways(found, changed, n - 1), None) if n > 1 else None
            if rest is not None or (n == 1 and not found.lacks(changed)):
                yield [f"{name} {value}", *(rest or [])]
                break


def _changes(plan: Plan) -> dict[str, dict[str, Plan]]:
    """Options by name, and for each of its values the plan it makes; what is most like this plan comes first."""
    changes: dict[str, dict[str, Plan]] = {}
    if not plan.loaded and plan.dtype.itemsize > 2:
        changes["--dtype"] = {"bfloat16": replace(plan, dtype=torch.bfloat16)}
    gated = plan.shape is None or plan.shape.gated_mlp
    names = [site for site in (*COMPOSITE_SITES, *SITES) if gated or not {"gate", "up"} & set(expand_site(site))]
    sites = {site: replace(plan, site=site) for site in names}
    size = {site: other.estimate.activations for site, other in sites.items()}
    smaller = [site for site in size if size[site] < plan.estimate.activations]
    changes["--site"] = {site: sites[site] for site in sorted(smaller, key=lambda site: -size[site])}
    facts = max(plan.counts, default=0) // plan.per_fact
    numbers = [n for n in (facts * part // 16 for part in range(15, 0, -1)) if n > 0]
    changes["--n-detection"] = {str(n): plan.with_detection(n) for n in numbers}
    rows = plan.batch_size or 1
    halves = [rows >> n for n in range(1, rows.bit_length())]
    changes["--batch-size"] = {str(n): replace(plan, batch_size=n) for n in halves}
    if not plan.loaded and plan.device != "cpu" and plan.spread is None and plan.quantize is None:
        changes["--device"] = {"cpu": replace(plan, device="cpu", dtype=torch.float32)}
    return {name: options for name, options in changes.items() if options}


def _dtype(wanted: str | torch.dtype | None, shape: Shape | None, *, always: bool) -> torch.dtype:
    """Type of the weights: the wanted one, or that in which they are stored, if they keep it."""
    stored = None if shape is None else shape.stored_dtype
    found = DTYPES.get(wanted) if isinstance(wanted, str) else wanted
    return found or (stored if always and stored is not None else torch.float32)


def _gpu_memory(device: torch.device) -> int | None:
    """Bytes free on a GPU; none if it is not one, or is not there, of which `load_model` speaks."""
    if device.type != "cuda":
        return None
    try:
        return memory_of(device)[0]
    except (RuntimeError, AssertionError):
        return None


def _all_gpus() -> int | None:
    """Bytes free on all GPUs together; none if there are none."""
    free = [_gpu_memory(torch.device("cuda", number)) for number in range(torch.cuda.device_count())]
    return sum(filter(None, free)) if free else None


def _targets(device_map: DeviceMap) -> tuple[object, ...]:
    """Where a device map puts modules; `auto` fills memory before it takes a disk."""
    return () if isinstance(device_map, str) else tuple(device_map.values())


def _gb(n: int) -> str:
    """Bytes in GB, with a digit behind the point where there are few."""
    return f"{n / 1e9:.1f}" if n < 9.95e9 else f"{n / 1e9:.0f}"
