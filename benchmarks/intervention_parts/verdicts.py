"""Correctness of answers: forced answers compared with two greedy tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import relation_neurons as rn
from intervention_parts.inputs import SHOTS, K, random_set
from intervention_parts.measuring import Bench, Row, compare, table
from relation_neurons.evaluation.answers import RULES
from relation_neurons.inference.batch_plan import Task
from relation_neurons.inference.batching import Batch, run_batches
from relation_neurons.inference.decoding import decode, greedy, judge
from relation_neurons.models.hooked_model import Cache, forward
from relation_neurons.prompts.tokenization import encode


def verdict(bench: Bench) -> list[Row]:
    """Compare forced answers with two greedy tokens, with and without shared prefixes.

    Forced answers also give log-probabilities, which need another pass after two greedy tokens.
    """
    rows = []
    ablated = random_set(bench.model, "gate", K, 1)
    for shots in SHOTS:
        for prompts in (bench.prompts[shots][:4], bench.prompts[shots]):
            common = (bench.model, ablated, prompts)
            contenders = {
                "forced answers": partial(forced_answers, *common),
                "two tokens": partial(two_tokens, *common),
                "two tokens, then log-probabilities": partial(two_tokens, *common, score=True),
            }
            if shots:
                contenders["two tokens, no shared prefixes"] = partial(two_tokens, *common, share=False)
            contenders["two tokens, model.generate"] = partial(plain_generation, *common)
            timings = compare(bench, contenders)
            for name, timed in timings.items():
                if timed.result != timings["forced answers"].result:
                    raise RuntimeError(f"'{name}' gives different answers")
            rows += [{"shots": shots, "prompts": len(prompts)} | row for row in table(timings)]
    return rows


def forced_answers(model: Any, ablated: rn.NeuronSet, prompts: Sequence[rn.Prompt]) -> list[bool]:
    """Correctness from `recall` without generation, which also gives log-probabilities and ranks."""
    with rn.ablate(model, ablated):
        return list(rn.recall(model, prompts, generate=False, batch_size=len(prompts))["correct_prefix"])


def two_tokens(
    model: Any, ablated: rn.NeuronSet, prompts: Sequence[rn.Prompt], *, share: bool = True, score: bool = False
) -> list[bool]:
    """One pass over the prompts, one decoding step, and the same rule."""

    def answer(batch: Batch, cache: Cache) -> list[str]:
        first = forward(model, *batch.read(), cache, keep=1).all()[:, 0].argmax(dim=1).tolist()
        return decode(model, greedy(model, first, cache, [2] * len(batch.rows)))

    def log_probabilities(batch: Batch, cache: Cache) -> list[float]:
        objects = [task.encoded.object_ids for task in batch.tasks]
        return judge(model, batch, cache, objects, aligned=True).logprobs.tolist()

    tasks, options = [Task(one) for one in encode(model, prompts)], {"share": share, "batch_size": len(prompts)}
    with rn.ablate(model, ablated):
        texts = run_batches(model, tasks, answer, **options)
        if score:
            run_batches(model, tasks, log_probabilities, **options)
    return [RULES["prefix"](text, prompt.object) for text, prompt in zip(texts, prompts, strict=True)]


def plain_generation(model: Any, ablated: rn.NeuronSet, prompts: Sequence[rn.Prompt]) -> list[bool]:
    """TransformerLens's own generation: one left-padded batch of texts, two tokens."""
    texts, options = [prompt.text for prompt in prompts], {"do_sample": False, "verbose": False}
    with rn.ablate(model, ablated):
        tokens = model.generate(texts, max_new_tokens=2, stop_at_eos=False, return_type="tokens", **options)
    answers = decode(model, tokens[:, -2:].tolist())
    return [RULES["prefix"](answer, prompt.object) for answer, prompt in zip(answers, prompts, strict=True)]
