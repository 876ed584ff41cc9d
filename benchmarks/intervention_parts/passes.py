"""Forward passes: overhead of hooks, and memory saved by pooling inside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import relation_neurons as rn
from intervention_parts.conditions import N_CONDITIONS
from intervention_parts.inputs import SHOTS, K, random_set
from intervention_parts.measuring import Bench, Row, compare, table
from relation_neurons.inference.batch_plan import Task
from relation_neurons.inference.batching import MAX_ROWS, Batch, run_batches
from relation_neurons.interventions.interventions import rows_under
from relation_neurons.models.hooked_model import Cache, forward, hook_name
from relation_neurons.models.position_kinds import PAD
from relation_neurons.prompts.tokenization import encode


def hooks(bench: Bench) -> list[Row]:
    """Measure forward passes of one batch without hooks and under one or many conditions."""
    tasks = [Task(prompt) for prompt in encode(bench.model, bench.prompts[0][: MAX_ROWS // 2])]
    contenders: dict[str, Callable[[], Any]] = {"no hooks": partial(read, bench.model, tasks)}
    sizes: dict[str, Row] = {"no hooks": {"site": "", "k": 0, "conditions": 0}}
    for site in ("post", "gate", "ffn"):
        for k in (K, 3000):
            for n in (1, N_CONDITIONS):
                sets = [random_set(bench.model, site, k, seed) for seed in range(n)]
                name = f"{site}, k = {len(sets[0])}, {n} condition{'s' * (n > 1)}"
                contenders[name] = partial(read_under, bench.model, tasks, sets)
                sizes[name] = {"site": site, "k": len(sets[0]), "conditions": n}
    timings = compare(bench, contenders)
    rows = []
    for row, timed in zip(table(timings), timings.values(), strict=True):
        rows.append({**sizes[str(row["contender"])], **row, "prompts": len(tasks), "entering ms": timed.result * 1e3})
    return rows


def read(model: Any, tasks: Sequence[Task], *, keep: int = 1, **options: Any) -> float:
    """Run plain passes over prompts and unembed the last `keep` positions."""

    def read_batch(batch: Batch, cache: Cache) -> range:
        forward(model, *batch.read(), cache, keep=keep).all()
        return range(len(batch.rows))

    run_batches(model, tasks, read_batch, n_logits=keep, **options)
    return 0.0


def read_under(model: Any, tasks: Sequence[Task], sets: Sequence[rn.NeuronSet]) -> float:
    """Run the same passes with rows distributed over conditions; returns the seconds to enter these."""
    distributed = [Task(task.encoded, number % len(sets)) for number, task in enumerate(tasks)]
    start = time.perf_counter()
    with rows_under(model, [[rn.Intervention(neurons)] for neurons in sets]) as patches:
        entering = time.perf_counter() - start
        read(model, distributed, patches=patches)
    return entering


def collection(bench: Bench) -> list[Row]:
    """Compare pooling inside the hooks with plain passes and with caches of all activations."""
    rows = []
    for shots in SHOTS:
        prompts = bench.prompts[shots][: MAX_ROWS // (1 + shots)]
        tasks = [Task(prompt) for prompt in encode(bench.model, prompts)]
        pooled = {
            f"collect_activations, {site}": partial(collected_bytes, bench.model, prompts, site)
            for site in ("post", "gate", "ffn")
        }
        timings = compare(
            bench,
            {
                "plain pass": partial(read, bench.model, tasks, keep=0),
                **pooled,
                "run_with_cache": partial(cached_bytes, bench.model, tasks),
                "run_with_cache, only post": partial(cached_bytes, bench.model, tasks, only="post"),
            },
        )
        whole = timings["run_with_cache"].result
        for row, timed in zip(table(timings), timings.values(), strict=True):
            kept = {"kept MB": timed.result / 1e6, "of the cache": timed.result / whole}
            rows.append({"shots": shots, "prompts": len(prompts), **row, **kept})
    return rows


def collected_bytes(model: Any, prompts: Sequence[rn.Prompt], site: str) -> int:
    """Size of the pooled activations in bytes."""
    return rn.collect_activations(model, prompts, site=site).values.nbytes


def cached_bytes(model: Any, tasks: Sequence[Task], only: str | None = None) -> int:
    """Size in bytes of TransformerLens's cache of all activations, or of those of one site."""
    caches = []
    names = None if only is None else {hook_name(model, only, layer) for layer in range(model.cfg.n_layers)}

    def read_batch(batch: Batch, cache: Cache) -> range:
        tokens, kinds = batch.read()
        mask = (kinds != PAD).long()
        chosen = None if names is None else names.__contains__
        caches.append(model.run_with_cache(tokens, attention_mask=mask, return_type=None, names_filter=chosen)[1])
        return range(len(batch.rows))

    run_batches(model, tasks, read_batch, share=False)
    storages = [tensor.untyped_storage() for cache in caches for tensor in cache.values()]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
