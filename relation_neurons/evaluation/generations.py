"""What a model writes after any prompts, with and without neurons ablated, side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd

from relation_neurons.errors import refuse
from relation_neurons.inference.batch_plan import Task
from relation_neurons.inference.batching import Batch, run_batches
from relation_neurons.inference.decoding import decode, greedy
from relation_neurons.interventions.interventions import Intervention, rows_under
from relation_neurons.models.hooked_model import Cache, forward
from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts.tokenization import encode_texts
from relation_neurons.statistics.formatting import count_text
from relation_neurons.validation import validated

CLEAN = "clean"
"""The condition without interventions, which the others are compared with."""
Ablated = NeuronSet | Intervention | Sequence[Intervention]


@dataclass(frozen=True)
class Generations:
    """Greedy continuations of prompts under several conditions.

    Attributes:
        table: A row per prompt and condition, in order: `prompt`, `condition`, `generated`; `agrees`, the beginning of
            `generated`, in whole words, that is also that of the clean model; and `differs`, whether anything follows
            it or is missing.
    """

    table: pd.DataFrame

    def __repr__(self) -> str:
        n_prompts, conditions = self.table["prompt"].nunique(), list(self.table["condition"].unique())
        changed = int(self.table["differs"].sum())
        return (
            f"Generations({count_text(n_prompts, 'prompt')} under {', '.join(conditions)}; {changed} differ from clean)"
        )

    def _repr_html_(self) -> str:
        """A table with a row per prompt and condition, in which what differs from the clean model is marked."""
        rows = []
        for prompt, group in self.table.groupby("prompt", sort=False):
            for number, row in enumerate(group.to_dict("records")):
                first = f'<td rowspan="{len(group)}">{escape(str(prompt))}</td>' if number == 0 else ""
                rows.append(f"<tr>{first}<td>{escape(row['condition'])}</td><td>{marked(row)}</td></tr>")
        head = "<tr><th>prompt</th><th>condition</th><th>continuation</th></tr>"
        return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def marked(row: Mapping[Any, Any]) -> str:
    """A continuation in HTML, what differs from the clean model's in `mark`."""
    same, whole = str(row["agrees"]), str(row["generated"])
    rest = whole[len(same) :]
    return escape(same) + (f"<mark>{escape(rest) or '&nbsp;'}</mark>" if row["differs"] else "")


@validated
def compare_generations(
    model: HookedModel,
    prompts: Sequence[str],
    conditions: Mapping[str, NeuronSet | Intervention | Sequence[Intervention]],
    *,
    max_new_tokens: int = 16,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> Generations:
    """Let a model continue prompts, clean and under every condition, in one stream of batches.

    Args:
        model: A model from `load_model`.
        prompts: Texts to continue.
        conditions: By name, neurons to ablate (set to zero at every position), or interventions. `clean`, without any,
            comes first by itself.
        max_new_tokens: Tokens of each continuation, which ends before the model's end token.
        batch_size: Prompts at a time; by default what memory holds. Results do not depend on it.
        progress: Called with the number of finished continuations.

    Raises:
        RelationNeuronsError: No prompts, a condition named `clean`, a prompt without tokens or too long for the model,
            a neuron that the model lacks, or fewer than one new token.

    Example:
        >>> compare_generations(model, ["The language spoken in Brazil is"], {"ablated": neurons})  # doctest: +SKIP
        Generations(1 prompt under clean, ablated; 1 differ from clean)
    """
    _check(prompts, conditions, max_new_tokens)
    states = {CLEAN: [], **{name: _interventions(one) for name, one in conditions.items()}}
    encoded = encode_texts(model, prompts)
    longest = max(len(one.ids) for one in encoded)
    if min(len(one.ids) for one in encoded) < 1 or longest + max_new_tokens > model.cfg.n_ctx:
        raise refuse(
            f"The prompts have up to {longest} tokens, and {max_new_tokens} are to follow",
            expected=f"prompts of at least one token, and at most {model.cfg.n_ctx} tokens in all",
        )
    tasks = [Task(one, number, max_new_tokens) for one in encoded for number in range(len(states))]

    def read_batch(batch: Batch, cache: Cache) -> list[str]:
        first = forward(model, *batch.read(), cache, keep=1).all()[:, 0].argmax(dim=1).tolist()
        return decode(model, greedy(model, first, cache, [max_new_tokens] * len(first)))

    with rows_under(model, list(states.values())) as patches:
        texts = run_batches(
            model, tasks, read_batch, patches=patches, n_logits=1, batch_size=batch_size, progress=progress
        )
    return Generations(_table(prompts, list(states), texts))


def _check(prompts: Sequence[str], conditions: Mapping[str, object], max_new_tokens: int) -> None:
    if not prompts:
        raise refuse("There are no prompts", expected="at least one text")
    if len(set(prompts)) < len(prompts):
        raise refuse("A prompt is there twice", expected="each once")
    if CLEAN in conditions:
        raise refuse(f"A condition is named '{CLEAN}'", expected="another name: the clean model comes by itself")
    if max_new_tokens < 1:
        raise refuse(f"max_new_tokens is {max_new_tokens}", expected="at least 1")


def _interventions(condition: Ablated) -> list[Intervention]:
    if isinstance(condition, NeuronSet):
        return [Intervention(condition)]
    return [condition] if isinstance(condition, Intervention) else list(condition)


def _table(prompts: Sequence[str], states: Sequence[str], texts: Sequence[str]) -> pd.DataFrame:
    rows = []
    for number, prompt in enumerate(prompts):
        clean, *others = texts[number * len(states) : (number + 1) * len(states)]
        for name, text in zip(states, [clean, *others], strict=True):
            same = common_beginning(clean, text)
            rows.append((prompt, name, text, same, text != clean))
    return pd.DataFrame(rows, columns=["prompt", "condition", "generated", "agrees", "differs"])


def common_beginning(one: str, other: str) -> str:
    """The words that two texts begin with, as they stand in the second.

    Example:
        >>> common_beginning(" Portuguese, a language", " Portuguese, and")
        ' Portuguese,'
    """
    if one == other:
        return other
    end = 0
    for left, right in zip(re.findall(r"\s*\S+", one), re.findall(r"\s*\S+", other), strict=False):
        if left != right:
            break
        end += len(right)
    return other[:end]
