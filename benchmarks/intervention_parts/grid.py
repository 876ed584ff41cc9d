"""The paper's full grid of conditions, on a model with random weights."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

import relation_neurons as rn
from intervention_parts.inputs import n_words, random_llama, random_set, word_prompts
from intervention_parts.measuring import Bench, Row, Timed, compare, synchronise
from relation_neurons.prompts.tokenization import encode


def paper_grid(device: str, *, small: bool) -> list[Row]:
    """Measure the full grid: 850 prompts, neurons of 12 relations, 10 control sets each, forced answers."""
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
            random_set(model, "ffn", k, 1000 + n_controls * number + draw, f"{name} control {draw}")
            for draw in range(n_controls)
        ]
        for number, name in enumerate(names)
    }
    conditions = make_conditions(prompts, targets, controls)
    rn.recall(model, prompts[:8], generate=False)  # warm up
    timed = compare(Bench(model, {}, 1), {"grid": partial(rn.recall_under, model, conditions, generate=False)})["grid"]
    return [grid_row(model, conditions, timed)]


def make_conditions(
    prompts: Sequence[rn.Prompt],
    targets: Mapping[str, rn.NeuronSet],
    controls: Mapping[str, Sequence[rn.NeuronSet]],
) -> list[rn.Condition]:
    """No ablation and each relation's neurons on all prompts; controls on the relation's own prompts."""
    conditions = [rn.Condition("clean", tuple(prompts))]
    conditions += [rn.Condition(name, tuple(prompts), (rn.Intervention(target),)) for name, target in targets.items()]
    for name, sets in controls.items():
        own = tuple(prompt for prompt in prompts if prompt.relation == name)
        conditions += [rn.Condition(control.name, own, (rn.Intervention(control),)) for control in sets]
    return conditions


def grid_row(model: Any, conditions: Sequence[rn.Condition], timed: Timed) -> Row:
    """Speed, and the share of the device's matrix product rate that is used for real tokens.

    Padding and the matrix products inside attention are not counted.
    """
    encoded = [prompt for condition in conditions for prompt in encode(model, condition.prompts)]
    n_answer_tokens = sum(max(1, len(prompt.object_ids) - 1) for prompt in encoded)
    tokens = sum(len(prompt.ids) for prompt in encoded) + n_answer_tokens
    cfg = model.cfg
    in_layers = cfg.n_layers * cfg.d_model * (4 * cfg.n_heads * cfg.d_head + 3 * cfg.d_mlp)
    operations = 2 * (in_layers * tokens + cfg.d_model * cfg.d_vocab * (n_answer_tokens + len(encoded)))
    seconds = statistics.median(timed.seconds)
    peak = matrix_rate(cfg.device, cfg.dtype)
    return {
        "conditions": len(conditions),
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
    """Operations per second of a large matrix product, the best of ten."""
    device_object = torch.device(device)
    n = 8192 if device_object.type == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device_object, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(10):
        synchronise(device_object)
        start = time.perf_counter()
        a @ b
        synchronise(device_object)
        seconds.append(time.perf_counter() - start)
    return 2 * n**3 / min(seconds)
