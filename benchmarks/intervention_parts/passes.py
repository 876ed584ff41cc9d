"""Forward passes: what hooks cost, and what pooling inside them saves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import relation_neurons as rn
from intervention_parts.conditions import N_CONDITIONS
from intervention_parts.inputs import SHOTS, K, random_set
from intervention_parts.measuring import Bench, Row, compare, table
from relation_neurons.inference.batching import MAX_ROWS, Batch, Task, stream
from relation_neurons.interventions.interventions import rows_under
from relation_neurons.models.hooked_model import Cache, forward, hook_name
from relation_neurons.models.position_kinds import PAD
from relation_neurons.prompts.tokenization import encode


def hooks(bench: Bench) -> list[Row]:
    """Forward passes over the same batch without hooks and under one or many conditions."""
    tasks = [Task(one) for one in encode(bench.model, bench.prompts[0][: MAX_ROWS // 2])]
    contenders: dict[str, Callable[[], Any]] = {"no hooks": partial(read, bench.model, tasks)}
    sizes: dict[str, Row] = {"no hooks": {"site": "", "k": 0, "conditions": 0}}
    for site in ("post", "gate", "ffn"):
        for k in (K, 3000):
            for n in (1, N_CONDITIONS):
                sets = [random_set(bench.model, site, k, seed) for seed in range(n)]
                name = f"{site}, k = {len(sets[0])}, {n} condition{'s' * (n > 1)}"
                contenders[name] = partial(read_under, bench.model, tasks, sets)
                sizes[name] = {"site": site, "k": len(sets[0]), "conditions": n}
    found = compare(bench, contenders)
    rows = []
    for row, one in zip(table(found), found.values(), strict=True):
        rows.append({**sizes[str(row["contender"])], **row, "prompts": len(tasks), "entering ms": one.result * 1e3})
    return rows


def read(model: Any, tasks: Sequence[Task], *, keep: int = 1, **options: Any) -> float:
    """Plain passes over prompts, each batch's ends unembedded."""

    def work(batch: Batch, cache: Cache) -> None:
        forward(model, *batch.read(), cache, keep=keep).all()

    stream(model, tasks, work, n_logits=keep, **options)
    return 0.0


def read_under(model: Any, tasks: Sequence[Task], sets: Sequence[rn.NeuronSet]) -> float:
    """The same with the rows dealt out over conditions; returns the seconds that entering them took."""
    dealt = [Task(task.encoded, number % len(sets)) for number, task in enumerate(tasks)]
    start = time.perf_counter()
    with rows_under(model, [[rn.Intervention(one)] for one in sets]) as writer:
        entering = time.perf_counter() - start
        read(model, dealt, writer=writer)
    return entering


def collection(bench: Bench) -> list[Row]:
    """Pooling inside the hooks against plain passes and against caches of all activations."""
    rows = []
    for shots in SHOTS:
        prompts = bench.prompts[shots][: MAX_ROWS // (1 + shots)]
        tasks = [Task(one) for one in encode(bench.model, prompts)]
        pooled = {
            f"collect_activations, {site}": partial(collected_bytes, bench.model, prompts, site)
            for site in ("post", "gate", "ffn")
        }
        found = compare(
            bench,
            {
                "plain pass": partial(read, bench.model, tasks, keep=0),
                **pooled,
                "run_with_cache": partial(cached_bytes, bench.model, tasks),
                "run_with_cache, only post": partial(cached_bytes, bench.model, tasks, only="post"),
            },
        )
        whole = found["run_with_cache"].result
        for row, one in zip(table(found), found.values(), strict=True):
            kept = {"kept MB": one.result / 1e6, "of the cache": one.result / whole}
            rows.append({"shots": shots, "prompts": len(prompts), **row, **kept})
    return rows


def collected_bytes(model: Any, prompts: Sequence[rn.Prompt], site: str) -> int:
    """Bytes of pooled activations."""
    return rn.collect_activations(model, prompts, site=site).values.nbytes


def cached_bytes(model: Any, tasks: Sequence[Task], only: str | None = None) -> int:
    """Bytes of TransformerLens's cache of all activations, or of one site's, while all of it is held."""
    caches = []
    names = None if only is None else {hook_name(only, layer) for layer in range(model.cfg.n_layers)}

    def work(batch: Batch, cache: Cache) -> None:
        tokens, kinds = batch.read()
        mask = (kinds != PAD).long()
        chosen = None if names is None else names.__contains__
        caches.append(model.run_with_cache(tokens, attention_mask=mask, return_type=None, names_filter=chosen)[1])

    stream(model, tasks, work, share=False)
    storages = [tensor.untyped_storage() for cache in caches for tensor in cache.values()]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
