"""What a model writes after a handful of prompts: clean, without a relation's neurons, and without others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from relation_neurons.evaluation.generations import compare_generations
from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts.prompts import Prompt

OWN, RANDOM = "own neurons ablated", "random neurons ablated"
COLUMNS = ("ablated", "relation", "subject", "object", "prompt", "condition", "generated", "agrees", "differs")


def example_generations(
    model: HookedModel,
    prompts: Sequence[Prompt],
    targets: Mapping[str, NeuronSet],
    controls: Mapping[str, NeuronSet],
    *,
    n_own: int = 2,
    n_other: int = 1,
    max_new_tokens: int = 12,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Continuations of prompts about each relation's own facts and about others', as a table of words.

    Args:
        model: The model.
        prompts: Of all relations, in order of preference.
        targets: Neurons to ablate, by relation.
        controls: One matched random set for each.
        n_own: Prompts of the relation itself, its first.
        n_other: Prompts of others, the first of each relation that follows it.
        max_new_tokens: Tokens of each continuation.
        progress: Called with the number of finished continuations.

    Returns:
        A row per relation whose neurons are ablated, prompt and condition, `clean`, `OWN` and `RANDOM`, with the
        columns of `COLUMNS`; `prompt` leaves out few-shot examples, and the last three are as of `Generations`.
    """
    by_name: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_name.setdefault(prompt.relation, []).append(prompt)
    names, rows = list(targets), []
    for place, name in enumerate(names):
        others = [by_name[other][0] for other in (*names[place + 1 :], *names[:place]) if other in by_name]
        chosen = {one.text: one for one in (*by_name.get(name, [])[:n_own], *others[:n_other])}
        if not chosen:
            continue
        conditions = {OWN: targets[name], RANDOM: controls[name]}
        found = compare_generations(model, list(chosen), conditions, max_new_tokens=max_new_tokens, progress=progress)
        for row in found.table.to_dict("records"):
            one = chosen[row["prompt"]]
            about = (name, one.relation, one.subject, one.object, one.text[one.query_start :])
            rows.append((*about, *(row[column] for column in COLUMNS[5:])))
    return pd.DataFrame(rows, columns=list(COLUMNS))
