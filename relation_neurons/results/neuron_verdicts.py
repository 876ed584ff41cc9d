"""What the tables about the neurons themselves show, in sentences: where they are, who shares them, what one does.

One function for each experiment, named as its module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from relation_neurons.models.sites import Neuron
from relation_neurons.results.sentences import cannot
from relation_neurons.statistics.effects import ABOVE, FALLS, RISES
from relation_neurons.statistics.formatting import interval_text, name_list, range_text
from relation_neurons.statistics.intervals import mean_interval

Sentences = tuple[str, ...]
ABOVE_SHUFFLES, BELOW_SHUFFLES, WITHIN_SHUFFLES = "above every shuffle", "below every shuffle", "within the shuffles"
TIES = "equal scores are ordered by effect size, then by site, layer and index"
NAMED_TOKENS = 5
"""Tokens of each side that are named."""


def layers(thirds: pd.DataFrame, null: pd.DataFrame, *, middle: Sequence[int], n_layers: int, k: int) -> Sentences:
    """Whether the middle third of the layers holds more neurons than under shuffled labels, and what the cut is worth.

    Args:
        thirds: A row per relation and third.
        null: A row per relation: how many neurons reach the cut, really and by shuffled labels.
        middle: The layers of the middle third.
        n_layers: Layers of the model.
        k: Neurons per relation.
    """
    return middle_layers(thirds, middle, n_layers, k), cut(null)


def concepts(
    overlaps: pd.DataFrame, summary: pd.DataFrame, effects: pd.DataFrame, without: pd.DataFrame, *, k: int
) -> Sentences:
    """Overlap with, and effects of, the neurons of the subjects' concept and of other concepts."""
    row = {record["measure"]: record for record in summary.to_dict("records")}
    share = row["coefficient"]
    above = {own: rows["verdict"].eq(ABOVE) for own, rows in overlaps.groupby("own")}
    return (
        f"Of its {k} neurons a relation shares a mean of {share['own']:.3f} with its subjects' concept and of "
        f"{share['other']:.3f} with another: difference {interval_text(share, 'difference', decimals=3)}, n = "
        f"{share['n']} relations. The overlap is above that of layer-matched random sets in {above[True].sum()} of "
        f"{len(above[True])} pairs with the own concept, {above[False].sum()} of {len(above[False])} with another "
        f"(Holm-corrected).",
        concept_effects(effects, row["d_logprob"]),
        beyond_concept(without),
    )


def concept_effects(effects: pd.DataFrame, change: Mapping[Any, Any]) -> str:
    """How many relations fall under their own concept's neurons, and how many under another's."""
    falls = {own: rows["verdict"].eq(FALLS) for own, rows in effects[effects["measure"] == "logprob"].groupby("own")}
    return (
        f"With a concept's neurons ablated, log-probability falls beyond chance and beyond matched random controls in "
        f"{falls[True].sum()} of {len(falls[True])} relations about that concept and {falls[False].sum()} of "
        f"{len(falls[False])} pairs with another (Holm-corrected); own minus other "
        f"{interval_text(change, 'difference')} nats, n = {change['n']} relations."
    )


def single_neuron(neuron: Neuron, tables: Mapping[str, pd.DataFrame]) -> Sentences:
    """What one neuron tells apart, what activates it, what it promotes, and what its ablation changes."""
    scores, tokens, effects = (tables[name] for name in ("scores", "tokens", "effects"))
    return (
        _scores(neuron, scores),
        _activation(scores, tables["top_prompts"]),
        _tokens(neuron, tokens),
        *(
            _ablated_alone(neuron, what, effects[effects["measure"] == measure])
            for measure, what in (("logprob", "log-probability of the object (nats)"), ("correct", "accuracy"))
        ),
        *_contribution(neuron, tables["contributions"]),
    )


def _contribution(neuron: Neuron, contributions: pd.DataFrame) -> Sentences:
    """The relation to whose answers it contributes most, where that was estimated."""
    if contributions.empty:
        return ()
    row = contributions.sort_values("contribution", ascending=False, kind="stable").to_dict("records")[0]
    return (
        f"By attribution {neuron} contributes most to answers of {row['relation']}: "
        f"{interval_text(row, 'contribution', decimals=3)} nats a prompt, n = {row['n']} facts, others "
        f"{row['others']:+z.3f}. That is an estimate to first order; the ablation above is exact.",
    )


def middle_layers(thirds: pd.DataFrame, middle: Sequence[int], n_layers: int, k: int) -> str:
    """Whether the middle third of the layers holds more neurons than under shuffled labels."""
    if not middle:
        return f"The model has {n_layers} layers, none of them in the middle third."
    rows = thirds[thirds["measure"] == "middle"]
    above, below = (rows["verdict"] == side for side in (ABOVE_SHUFFLES, BELOW_SHUFFLES))
    n_shuffles = int(rows["n_shuffles"].iloc[0])
    more = mean_interval((rows["observed"] - rows["null_mean"]).to_numpy())
    difference = interval_text({"more": more.mean, "more_low": more.low, "more_high": more.high}, "more")
    return (
        f"In {above.sum()} of {len(rows)} relations the middle third (layers {middle[0]} to {middle[-1]} of 0 to "
        f"{n_layers - 1}) holds more of the {k} neurons than with any of {n_shuffles} shuffles of the labels, and in "
        f"{below.sum()} fewer (by chance one in {n_shuffles + 1} would each). Not more: "
        f"{name_list(list(rows.loc[~above, 'relation']))}. Its mean share is {rows['observed'].mean():.2f}, with "
        f"shuffled labels {rows['null_mean'].mean():.2f}, of random neurons {rows['chance'].mean():.2f}; real minus "
        f"shuffled {difference}, n = {more.n} relations."
    )


def cut(null: pd.DataFrame) -> str:
    """How many neurons reach the score of the last one by shuffled labels."""
    worst = null.sort_values("share", ascending=False, kind="stable").to_dict("records")[0]
    chance = (
        f"By shuffled labels a median of {null['share'].median():.1%} as many neurons reach the score of the last of "
        f"the {worst['k']}, at most {worst['share']:.1%} ({worst['relation']}: {worst['shuffled_mean']:.1f} of "
        f"{worst['real']}, mean of {worst['n_shuffles']} shuffles)."
    )
    tied = null[null["real"] > null["k"]]
    if tied.empty:
        return chance
    counts = name_list([f"{name} {real}" for name, real in zip(tied["relation"], tied["real"], strict=True)])
    return f"{chance} More than {worst['k']} reach it in {counts}: {TIES}."


def tie_rule(neurons: pd.DataFrame) -> str:
    """How many of each relation's neurons were chosen by the tie rule.

    Args:
        neurons: Rows of `Ranking.top_frame` of all relations.
    """
    counts = neurons.groupby("name", sort=False)["by_tie_rule"].sum()
    tied, k = counts[counts > 0], int(neurons["rank"].max())
    chosen = [f"{n} in {name}" for name, n in tied.items()] + [f"none in {len(counts) - len(tied)}"]
    if len(tied) == len(counts):
        chosen.pop()
    named = name_list(chosen, most=len(chosen))
    return f"Of the {k} neurons of each of {len(counts)} relations, the tie rule chose {named}: {TIES}."


def beyond_concept(without: pd.DataFrame) -> str:
    """What the neurons of a relation do that are not its concept's."""
    if without.empty:
        return "No relation has neurons that are not its concept's."
    parts = []
    for measure, what in (("correct", "accuracy"), ("logprob", "log-probability")):
        rows = without[without["measure"] == measure]
        names = list(rows.loc[rows["verdict"] == FALLS, "ablated"])
        parts.append(f"{what} falls in {len(names)} of {len(rows)} relations ({name_list(names)})")
    return (
        f"With a relation's neurons ablated except its concept's (a median of {without['n_shared'].median():.0f}), "
        f"its own {' and '.join(parts)}, beyond chance and beyond matched random controls, Holm-corrected."
    )


def _scores(neuron: Neuron, scores: pd.DataFrame) -> str:
    ordered = scores.sort_values("ap", ascending=False, kind="stable")
    best, above = ordered.iloc[0], list(ordered.loc[ordered["verdict"] == ABOVE, "relation"])
    return (
        f"{neuron} tells {best['relation']} from other relations best: average precision {best['ap']:.3f} "
        f"[{best['ap_low']:.3f}, {best['ap_high']:.3f}] over {best['n_facts']} facts (shuffled labels "
        f"{best['null_mean']:.3f}, 97.5 % quantile {best['null_high']:.3f}). It is above chance in {len(above)} of "
        f"{len(scores)} relations ({name_list(above)}), Holm-corrected; words of their templates can be the reason."
    )


def _activation(scores: pd.DataFrame, prompts: pd.DataFrame) -> str:
    best = scores.sort_values("ap", ascending=False, kind="stable").iloc[0]
    most, least = (prompts[(prompts["side"] == side) & (prompts["place"] == 1)].iloc[0] for side in ("most", "least"))
    sides = prompts.drop_duplicates(["side", "place"]).groupby("side", sort=False)["relation"].unique()
    return (
        f"Its mean over the query is {best['mean_positive']:.3g} on the {best['n_positive']} prompts of "
        f"{best['relation']} and {best['mean_negative']:.3g} on their {best['n_negative']} negatives. Its top "
        f"activating prompt is '{most['prompt']}' ({most['value']:.3g}), its lowest '{least['prompt']}' "
        f"({least['value']:.3g}); the top activating prompts are of {name_list(list(sides['most']))}."
    )


def _tokens(neuron: Neuron, tokens: pd.DataFrame) -> str:
    if tokens.empty:
        why = (
            "the effect of a neuron of q, k or v goes through attention"
            if neuron.site in ("q", "k", "v")
            else "its block norms that output before adding it, is a mixture of experts, or has weights in few bits"
        )
        return f"It has no output row, so no tokens can be attributed to it: {why}."
    named = []
    for side in ("promotes", "suppresses"):
        rows = tokens[tokens["side"] == side].head(NAMED_TOKENS)
        named.append(", ".join(f"{token!r} (z {z:+z.1f})" for token, z in zip(rows["token"], rows["z"], strict=True)))
    return (
        f"Per unit of activation its output row directly promotes {named[0]} most and suppresses {named[1]} most "
        "(including the final norm's weight, without its scale)."
    )


def _ablated_alone(neuron: Neuron, what: str, rows: pd.DataFrame) -> str:
    falls, rises = (list(rows.loc[rows["verdict"] == side, "relation"]) for side in (FALLS, RISES))
    largest: dict[Any, Any] = rows.sort_values("effect", key=abs, ascending=False, kind="stable").to_dict("records")[0]
    least = float(rows["minimum_effect"].median())
    change = (
        f" Largest change: {largest['relation']} {interval_text(largest, decimals=3)}, random neurons "
        f"{largest['random']:+z.3f}, {largest['verdict']}."
        if largest["effect"]
        else " Its mean changes in none of them."
    )
    return (
        f"With {neuron} alone ablated, {what} falls beyond chance and beyond random single neurons of its site and "
        f"layer in {len(falls)} of {len(rows)} relations ({name_list(falls)}) and rises in {len(rises)} "
        f"({name_list(rises)}), Holm-corrected, n = {range_text(rows['n'])} facts and "
        f"{range_text(rows['n_controls'])} random neurons each.{change}"
        + (f" Effects below {least:.3f} (median) would be missed." if 0 < least < float("inf") else "")
        + cannot(rows)
    )
