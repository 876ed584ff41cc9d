"""The paper's whole grid of conditions, on a model of random weights."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

import relation_neurons as rn
from intervention_parts.inputs import n_words, random_llama, random_set, word_prompts
from intervention_parts.measuring import Bench, Row, Timed, compare, synchronise
from relation_neurons.experiments import ablation
from relation_neurons.prompts.tokenization import encode


def paper_grid(device: str, *, small: bool) -> list[Row]:
    """The paper's whole grid: 12 relations' neurons and 10 random sets each, on 850 prompts, given answers."""
    model = random_llama(device, small=small)
    n_relations, n_prompts, n_controls, k = (3, 24, 2, 200) if small else (12, 850, 10, 3000)
    names = [f"relation {number}" for number in range(n_relations)]
    prompts = []
    for number, name in enumerate(names):
        count = n_prompts * (number + 1) // n_relations - n_prompts * number // n_relations
        prompts += word_prompts(count, n_words(model), 0, relation=name)
    targets = {name: random_set(model, "ffn", k, number, name) for number, name in enumerate(names)}
    controls = {
        name: [
            random_set(model, "ffn", k, 1000 + n_controls * number + one, f"{name} random {one}")
            for one in range(n_controls)
        ]
        for number, name in enumerate(names)
    }
    asked = ablation.conditions(prompts, targets, controls)
    rn.recall(model, prompts[:8], generate=False)  # warm up
    timed = compare(Bench(model, {}, 1), {"grid": partial(ablation.measure, model, asked, generate=False)})["grid"]
    return [grid_row(model, asked, timed)]


def grid_row(model: Any, asked: Sequence[rn.Condition], timed: Timed) -> Row:
    """Speed, and the share of the device's matrix rate that goes into the products that real tokens need.

    Padding and the products inside attention do not count.
    """
    encoded = [one for condition in asked for one in encode(model, condition.prompts)]
    given = sum(max(1, len(one.object_ids) - 1) for one in encoded)
    tokens = sum(len(one.ids) for one in encoded) + given
    cfg = model.cfg
    in_layers = cfg.n_layers * cfg.d_model * (4 * cfg.n_heads * cfg.d_head + 3 * cfg.d_mlp)
    operations = 2 * (in_layers * tokens + cfg.d_model * cfg.d_vocab * (given + len(encoded)))
    seconds = statistics.median(timed.seconds)
    peak = matrix_rate(cfg.device, cfg.dtype)
    return {
        "conditions": len(asked),
        "prompts": len(encoded),
        "tokens": tokens,
        "seconds": seconds,
        "prompts / s": len(encoded) / seconds,
        "tokens / s": tokens / seconds,
        "TFLOP/s": operations / seconds / 1e12,
        "matrix product TFLOP/s": peak / 1e12,
        "share": operations / seconds / peak,
        "peak MB": timed.peak / 1e6,
    }


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Operations per second of one large matrix product, the best of ten."""
    place = torch.device(device)
    n = 8192 if place.type == "cuda" else 1024
    a, b = (torch.randn(n, n, device=place, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(10):
        synchronise(place)
        start = time.perf_counter()
        a @ b
        synchronise(place)
        seconds.append(time.perf_counter() - start)
    return 2 * n**3 / min(seconds)
