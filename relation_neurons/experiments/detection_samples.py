"""Samples of detection prompts: facts drawn anew, one template at a time, other negatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Shaped
from numpy import ndarray

from relation_neurons.prompts.prompts import Prompt, relation_names

FACTS, TEMPLATES, PARTS, NEGATIVES = "facts", "templates", "random parts", "negatives"


class Sample(NamedTuple):
    """Detection prompts to rank by.

    Attributes:
        rows: Their numbers; one may occur several times.
        seed: Of the negatives.
        relations: Those whose neurons are compared with other samples of the kind.
    """

    rows: Int[ndarray, " row"]
    seed: int
    relations: frozenset[str]


def samples(prompts: Sequence[Prompt], n: int, seed: int = 0) -> dict[str, list[Sample]]:
    """Samples of detection prompts by kind.

    Args:
        prompts: Of all relations.
        n: Samples of `facts`, and seeds of `negatives`.
        seed: Of the draws.

    Returns:
        `facts`: each relation's facts drawn with replacement, as many as there are, those of a subject together;
        `templates`: the prompts of one template of each relation (where a relation has fewer, one of its templates
        stands in, and its own neurons are not compared); `random parts`: each relation's prompts dealt out at random
        into parts as large as those of its templates, to tell what a template does from what few prompts do;
        `negatives`: all prompts, with the seeds of the negatives from `seed` on.
    """
    own, template = np.array([one.relation for one in prompts]), np.array([one.template for one in prompts])
    dealt, generator = template.copy(), np.random.default_rng([seed, n])
    for name in relation_names(prompts):
        dealt[own == name] = generator.permutation(dealt[own == name])
    every, names = np.arange(len(prompts)), frozenset(relation_names(prompts))
    return {
        FACTS: [Sample(_drawn_facts(prompts, np.random.default_rng([seed, draw])), seed, names) for draw in range(n)],
        TEMPLATES: _one_by_one(own, template, seed),
        PARTS: _one_by_one(own, dealt, seed),
        NEGATIVES: [Sample(every, seed + draw, names) for draw in range(n)],
    }


def shuffled_relations(prompts: Sequence[Prompt], seed: int = 0) -> tuple[Prompt, ...]:
    """The same prompts, but each fact counts to a relation at random; relations keep their numbers of facts."""
    facts = list(dict.fromkeys((one.relation, one.columns["unit"]) for one in prompts))
    labels = np.random.default_rng(seed).permutation([relation for relation, _ in facts])
    new = dict(zip(facts, labels.tolist(), strict=True))
    return tuple(replace(one, relation=new[one.relation, one.columns["unit"]]) for one in prompts)


def _drawn_facts(prompts: Sequence[Prompt], generator: np.random.Generator) -> Int[ndarray, " row"]:
    facts: dict[str, dict[str, list[int]]] = {}
    for row, one in enumerate(prompts):
        facts.setdefault(one.relation, {}).setdefault(one.columns["unit"], []).append(row)
    drawn = [list(rows.values())[i] for rows in facts.values() for i in generator.integers(len(rows), size=len(rows))]
    return np.concatenate(drawn)


def _one_by_one(own: Shaped[ndarray, " row"], template: Int[ndarray, " row"], seed: int) -> list[Sample]:
    """A sample for each template, at most as many as any relation has."""
    numbers = {name: np.unique(template[own == name]) for name in dict.fromkeys(own.tolist())}
    found = []
    for turn in range(max(map(len, numbers.values()))):
        chosen = {name: there[turn % len(there)] for name, there in numbers.items()}
        rows = np.flatnonzero(template == np.array([chosen[name] for name in own.tolist()]))
        found.append(Sample(rows, seed, frozenset(name for name, there in numbers.items() if turn < len(there))))
    return found
