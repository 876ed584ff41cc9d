"""Recall on a bridge with only those logits that are judged, beside the same with those of every kept position.

python -m benchmarks.unembedding --model gemma3-270m
"""

import argparse
import statistics
import time
from collections.abc import Callable
from unittest import mock

import pandas as pd
import torch

import relation_neurons as rn
from relation_neurons.models import hooked_model
from relation_neurons.models.types import HookedModel


def all_logits(model: HookedModel, tokens, mask, whole, cache, keep) -> torch.Tensor:
    """A pass that unembeds every kept position in every row."""
    positions = (whole.cumsum(dim=1) - 1).clamp(min=0)[:, cache.mask.shape[1] :]
    found = model.original_model(
        input_ids=tokens,
        attention_mask=whole,
        position_ids=positions,
        past_key_values=cache.stored,
        use_cache=True,
        logits_to_keep=max(keep, 1),
    )
    return found.logits[:, :keep]


def seconds(work: Callable[[], pd.DataFrame]) -> tuple[float, pd.DataFrame]:
    """How long a piece of work takes, and what it gives."""
    started = time.perf_counter()
    table = work()
    return time.perf_counter() - started, table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="gemma3-270m")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    model = rn.load_model(options.model)
    relations = rn.load_relations("country_capital", "person_occupation")
    prompts = rn.make_prompts(relations, rn.PromptConfig(shots=0)).evaluation[: options.prompts]
    n_tokens = sum(len(model.tokenizer(prompt.text).input_ids) for prompt in prompts)
    ratios, new, old = [], [], []
    for _ in range(options.repeats):
        after, table = seconds(lambda: rn.recall(model, prompts, generate=False))
        with (
            mock.patch.object(hooked_model, "_run_bridge", all_logits),
            mock.patch.object(hooked_model, "_unembed_bridge", lambda model, kept: kept),
        ):
            before, same = seconds(lambda: rn.recall(model, prompts, generate=False))
        assert (table["logprob"] - same["logprob"]).abs().max() < 1e-3
        ratios.append(before / after)
        new.append(n_tokens / after)
        old.append(n_tokens / before)
    print(
        f"{options.model}, {len(prompts)} prompts of {n_tokens} tokens, {torch.get_num_threads()} threads: "
        f"{statistics.median(new):.0f} tokens a second, {statistics.median(old):.0f} with the logits of every kept "
        f"position; median ratio {statistics.median(ratios):.2f} ({', '.join(f'{one:.2f}' for one in ratios)})"
    )


if __name__ == "__main__":
    main()
