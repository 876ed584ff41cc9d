"""Ablate the basket: what the model writes then, and what happens to its recall, beside matched random neurons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from relation_neurons.errors import refuse
from relation_neurons.evaluation.generations import Generations, compare_generations
from relation_neurons.evaluation.recall import Condition, recall_under
from relation_neurons.explorer.basket import basket_set
from relation_neurons.explorer.run_data import RunData
from relation_neurons.interventions.interventions import Intervention
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.neurons.controls import random_controls
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.prompts.prompts import first_facts
from relation_neurons.statistics.effects import compare

N_CONTROLS = 3
"""Random sets, with as many neurons in each site and layer."""
N_NEW_TOKENS = 16
RULE = "correct_prefix"
"""The rule by which an answer is right, which takes one pass a fact."""
SET, RANDOM = "basket ablated", "random neurons ablated"
MEASURES = ("logprob", "correct")


@dataclass(frozen=True)
class Ablated:
    """What the basket's ablation changes.

    Attributes:
        generations: Of the user's text, if there is one: clean, with the basket and with random neurons ablated.
        effects: Of `statistics.effects.compare`, a row per relation and measure.
        answers: Behind the effects; `draw` is -1 for the basket, else the number of the random set.
        n_neurons: In the basket, and in each random set.
    """

    generations: Generations | None
    effects: pd.DataFrame
    answers: pd.DataFrame
    n_neurons: int


def ablate_basket(data: RunData, basket: Sequence[str], prompt: str, n_facts: int, *, seed: int = 0) -> Ablated:
    """Ablate the neurons of a basket together, and random neurons of the same layers.

    Args:
        data: The run; its model is at work for nobody else meanwhile.
        basket: At least one neuron.
        prompt: A text to continue; nothing is generated if it is blank.
        n_facts: Evaluation facts of each relation, the first ones.
        seed: Of the random sets.

    Raises:
        RelationNeuronsError: An empty basket, fewer than one fact, a prompt that is too long for the model, or layers
            without enough other neurons.
    """
    if n_facts < 1:
        raise refuse(f"There are {n_facts} facts", expected="at least one for each relation")
    target, study = basket_set(data, basket), data.study
    space = neuron_space(study.model, study.config.site)
    drawn = random_controls(target, space, n=N_CONTROLS, seed=seed, exclude=data.excluded)
    with data.lock:
        generations = None
        if prompt.strip():
            states = {SET: target, RANDOM: drawn[0]}
            generations = compare_generations(study.model, [prompt], states, max_new_tokens=N_NEW_TOKENS)
        answers = _answers(data, target, drawn, n_facts)
    effects = compare(answers[answers["draw"] < 0], answers[answers["draw"] >= 0], by=["facts"])
    return Ablated(generations, effects, answers, len(target))


def _answers(data: RunData, target: NeuronSet, drawn: Sequence[NeuronSet], n_facts: int) -> pd.DataFrame:
    """Answers to the first evaluation facts of every relation, with their changes from the clean model's."""
    study = data.study
    prompts = first_facts(study.evaluation(), n_facts)
    clean = study.answers.get([(None, prompts)], generate=False)  # asked once, then remembered
    conditions = [
        Condition(str(draw), prompts, (Intervention(neurons),), {"draw": draw})
        for draw, neurons in enumerate([target, *drawn], start=-1)
    ]
    with study.show("ablating the basket", len(prompts) * len(conditions)) as progress:
        table = recall_under(
            study.model, conditions, generate=False, batch_size=study.config.batch_size, progress=progress
        )
    table, clean = (rows.assign(correct=rows[RULE]) for rows in (table, clean))
    for name in MEASURES:
        before = pd.concat([clean[name]] * len(conditions), ignore_index=True).astype(float)
        table[f"clean_{name}"] = before
        table[f"d_{name}"] = table[name].astype(float) - before
    return table.assign(facts=table["relation"])
