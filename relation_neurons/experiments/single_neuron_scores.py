"""One neuron's activation on every prompt, at every token, and how well it tells relations apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Num
from numpy import ndarray
from torch import Tensor

from relation_neurons.models.types import HookedModel
from relation_neurons.prompts.contrast import contrast
from relation_neurons.prompts.prompts import Prompt, relation_names
from relation_neurons.prompts.tokenization import encode
from relation_neurons.scores.average_precision import average_precision
from relation_neurons.statistics.effects import ABOVE, LEVEL, NOT_SHOWN
from relation_neurons.statistics.hypothesis_tests import adjust
from relation_neurons.statistics.intervals import CONFIDENCE

DRAWS_AT_ONCE = 256
"""Resamples whose average precision is computed together."""


def pooled_values(prompts: Sequence[Prompt], tokens: Sequence[Float[Tensor, " token"]]) -> pd.DataFrame:
    """A row per prompt: `relation`, `subject`, `fact`, `unit`, `template`, its query `prompt`, and the mean `value`."""
    rows = [
        one.columns | {"prompt": one.text[one.query_start :], "value": values.mean()}
        for one, values in zip(prompts, tokens, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["relation", "subject", "fact", "unit", "template", "prompt", "value"])
    return table.astype({"value": np.float32})


def score_table(
    prompts: Sequence[Prompt],
    values: pd.DataFrame,
    *,
    balanced: bool = True,
    n_resamples: int = 2000,
    n_shuffles: int = 1999,
    seed: int = 0,
) -> pd.DataFrame:
    """How well a neuron's mean activation tells each relation's prompts from others'.

    Positives and negatives are those that `rank_neurons` takes. Facts are the units: the interval resamples positive
    and negative facts, each on their own, so that the share of positives stays; the null shuffles the labels over the
    facts. It tests only whether the neuron tells the relation apart at all, for which words of its templates can be
    enough.

    Args:
        prompts: Detection prompts.
        values: From `pooled_values`.
        balanced: Whether negatives are drawn evenly from the other relations.
        n_resamples: For the interval.
        n_shuffles: For the null.
        seed: Chooses the negatives, as in `rank_neurons`, and the draws.

    Returns:
        A row per relation: `relation`; `ap` with `ap_low` and `ap_high` (95 % over facts); `chance`, the share of
        positives; `null_mean`, `null_high` (97.5 % quantile), `p` (one-sided) and `p_holm` over relations; `n_positive`
        and `n_negative`, prompts, and `n_facts` and `n_other_facts` behind them; `mean_positive` and `mean_negative`,
        the neuron's mean on them; `verdict` at 5 % by `p_holm`: `above chance` or `not shown`.
    """
    labels, mask = contrast(prompts, balanced=balanced, seed=seed)
    scores, rows = np.array(values["value"], dtype=np.float32), []
    found = average_precision(scores[:, None], labels, mask)[:, 0].tolist()
    facts = values.groupby(["relation", "unit"], sort=False).ngroup().to_numpy()
    for number, (name, ap) in enumerate(zip(relation_names(prompts), found, strict=True)):
        there = mask[:, number]
        positive, taken = labels[there, number], scores[there]
        generator = np.random.default_rng([seed, number])
        low, high = _interval(taken, positive, facts[there], n_resamples, generator)
        null = _null(taken, positive, facts[there], n_shuffles, generator)
        n, n_facts = int(positive.sum()), len(np.unique(facts[there][positive]))
        rows.append(
            {
                **{"relation": name, "ap": ap, "ap_low": low, "ap_high": high, "chance": n / len(positive)},
                **{"null_mean": null.mean(), "null_high": float(np.quantile(null, 0.975))},
                "p": (1 + int((null >= ap - 1e-6).sum())) / (1 + len(null)),
                **{"n_positive": n, "n_negative": len(positive) - n},
                **{"n_facts": n_facts, "n_other_facts": len(np.unique(facts[there])) - n_facts},
                **{"mean_positive": taken[positive].mean(), "mean_negative": taken[~positive].mean()},
            }
        )
    table = pd.DataFrame(rows)
    table["p_holm"] = adjust(table["p"].to_numpy(dtype=float), "holm")
    return table.assign(verdict=np.where(table["p_holm"] < LEVEL, ABOVE, NOT_SHOWN))


def resampled_average_precision(
    scores: Num[ndarray, " example"], labels: Bool[ndarray, "draw example"], counts: Num[ndarray, "draw example"]
) -> Float[ndarray, " draw"]:
    """Average precision of the same scores under other labels, or other numbers of each example, a draw per row."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.diff(scores[order]) != 0, True)  # of runs of equal scores, which share a threshold
    weights = counts[:, order].astype(float)
    hits = (weights * labels[:, order]).cumsum(axis=1)[:, ends]
    seen = weights.cumsum(axis=1)[:, ends]
    gained = np.diff(hits, axis=1, prepend=0)
    found: ndarray = (gained * hits / np.maximum(seen, 1)).sum(axis=1) / hits[:, -1]
    return found


def top_prompts_table(
    model: HookedModel,
    prompts: Sequence[Prompt],
    values: pd.DataFrame,
    tokens: Sequence[Float[Tensor, " token"]],
    n: int,
) -> pd.DataFrame:
    """The top and bottom activating prompts of a neuron, token by token.

    Args:
        model: The model, for its tokenizer.
        prompts: What was read.
        values: From `pooled_values`.
        tokens: From `token_activations`.
        n: Prompts on each side, at most half of all.

    Returns:
        A row per token: `side` (`most` or `least`), `place` on it from 1, `relation`, `subject`, `prompt` (its query),
        `value` (the prompt's mean), `position` in the query from 0 (a BOS token has -1), `token` as a piece of the text
        (nothing where a token ends inside a letter) and `activation`.
    """
    order = np.argsort(-values["value"].to_numpy(), kind="stable")
    n = min(n, len(order) // 2)
    rows = []
    for side, chosen in (("most", order[:n]), ("least", order[::-1][:n])):
        for place, row in enumerate(chosen.tolist(), start=1):
            about = values.loc[row, ["relation", "subject", "prompt", "value"]].tolist()
            pieces, found = query_pieces(model, prompts[row]), tokens[row].tolist()
            extra = len(found) - len(pieces)  # a BOS token in front
            pieces = [str(model.tokenizer.bos_token)] * extra + pieces
            for position, (piece, activation) in enumerate(zip(pieces, found, strict=True), start=-extra):
                rows.append((side, place, *about, position, piece, activation))
    names = ["side", "place", "relation", "subject", "prompt", "value", "position", "token", "activation"]
    return pd.DataFrame(rows, columns=names)


def query_pieces(model: HookedModel, prompt: Prompt) -> list[str]:
    """The tokens of a prompt's query as pieces of its text; together they are the text."""
    (encoded,) = encode(model, [prompt])
    offsets = model.tokenizer(prompt.text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    ends = [0, *(end for _, end in offsets)]
    pieces = [prompt.text[start:end] for start, end in pairwise(ends)]
    return pieces[encoded.query_start - encoded.bos :]


def _by_fact(
    positive: Bool[ndarray, " example"], facts: Num[ndarray, " example"]
) -> tuple[Num[ndarray, " example"], Bool[ndarray, " fact"]]:
    """The place of each example's fact among the facts, and which facts are positive."""
    units, unit = np.unique(facts, return_inverse=True)
    own = np.zeros(len(units), dtype=bool)
    own[unit[positive]] = True
    return unit, own


def _interval(
    scores: Num[ndarray, " example"],
    positive: Bool[ndarray, " example"],
    facts: Num[ndarray, " example"],
    n: int,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """95 % percentile bootstrap interval over facts; all there is where either side has a single fact."""
    unit, own = _by_fact(positive, facts)
    if min(own.sum(), (~own).sum()) < 2:
        return 0.0, 1.0
    draws = np.zeros((n, len(own)), dtype=np.int64)
    for side in (own, ~own):
        draws[:, side] = generator.multinomial(side.sum(), np.full(side.sum(), 1 / side.sum()), size=n)
    found = [
        resampled_average_precision(scores, np.broadcast_to(positive, (len(part), len(scores))), part[:, unit])
        for part in np.array_split(draws, -(-n // DRAWS_AT_ONCE))
    ]
    low, high = np.quantile(np.concatenate(found), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _null(
    scores: Num[ndarray, " example"],
    positive: Bool[ndarray, " example"],
    facts: Num[ndarray, " example"],
    n: int,
    generator: np.random.Generator,
) -> Float[ndarray, " draw"]:
    """Average precision with the labels shuffled over the facts."""
    unit, own = _by_fact(positive, facts)
    found = []
    for part in np.array_split(np.arange(n), -(-n // DRAWS_AT_ONCE)):
        shuffled = generator.permuted(np.tile(own, (len(part), 1)), axis=1)[:, unit]
        found.append(resampled_average_precision(scores, shuffled, np.ones_like(shuffled, dtype=float)))
    return np.concatenate(found)
