"""Rank every relation's neurons by a scorer, and keep the activity for matched random controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from relation_neurons.activations.collection import Activations
from relation_neurons.errors import nearest, refuse
from relation_neurons.models.sites import Neuron, NeuronSpace, expand_site
from relation_neurons.neurons.controls import random_controls, random_sets
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.neurons.selection import top_k
from relation_neurons.prompts.contrast import NEGATIVES_PER_POSITIVE, contrast
from relation_neurons.prompts.prompts import relation_names
from relation_neurons.scores.average_precision import difference_from_scikit_learn
from relation_neurons.scores.effect_size import by_effect_size
from relation_neurons.scores.scorers import ATTRIBUTIONS
from relation_neurons.scores.scoring import needs_attributions, require_scorer, score_neurons

PAPER_K = 3000
AP_TOLERANCE = 1e-6
COLUMNS = 4096
"""Number of neurons per chunk in the computation of activity."""
LLAMA_2_7B = {"post": 352_256, "gate": 352_256, "up": 352_256} | dict.fromkeys(("down", "q", "k", "v", "o"), 131_072)
"""Neurons of Llama-2-7B at each simple site."""


@dataclass(frozen=True)
class Ranking:
    """The best neurons of every relation, in order.

    Attributes:
        best: The best neurons of each relation, best first, up to the depth of the ranking.
        space: All neurons.
        activity: Mean absolute activation of each neuron over the detection prompts, by which
            controls may be matched.
        counts: A row per relation: `n_positive`, `n_negative`, `share_perfect` (the share of neurons
            with score 1), `n_at_least` (the number of neurons that score at least as high as the last
            neuron in `best`) and `ap_check` (the largest difference from scikit-learn's average precision
            in a sample; NaN for other scorers).
        excluded: Neurons that are in no `best` and in no control set, such as critical ones.
    """

    best: Mapping[str, NeuronSet]
    space: NeuronSpace
    activity: Float[ndarray, " neuron"]
    counts: pd.DataFrame
    excluded: tuple[Neuron, ...] = ()

    def top(self, relation: str, k: int) -> NeuronSet:
        """The k best neurons of a relation.

        Raises:
            RelationNeuronsError: The relation was not ranked, or `k` exceeds the depth.
        """
        if relation not in self.best:
            raise refuse(f"Relation '{relation}' was not ranked", expected=nearest(relation, self.best))
        return self.best[relation].part(0, k)

    def top_frame(self, relation: str, k: int) -> pd.DataFrame:
        """`NeuronSet.to_frame` of the k best neurons, and `by_tie_rule`.

        A neuron was chosen by the tie rule if it has the score of the k-th neuron and so has a neuron
        that was not chosen.

        Raises:
            RelationNeuronsError: As for `top`.
        """
        frame = self.top(relation, k).to_frame()
        depth, cut = self.best[relation].to_frame()["score"], frame["score"].iloc[-1]
        beyond = int(self.counts.loc[self.counts["relation"] == relation, "n_at_least"].item()) - len(depth)
        n_at_cut = (depth >= cut).sum() + (beyond if cut == depth.iloc[-1] else 0)
        return frame.assign(by_tie_rule=(frame["score"] == cut) & bool(n_at_cut > k))

    def controls(
        self, target: NeuronSet, *, n: int, seed: int, match: str = "layer", disjoint: bool = True
    ) -> list[NeuronSet]:
        """Random sets matched by `match`: `layer`, `activation` (and layer), or `none`; see `random_controls`."""
        if match == "none":
            return random_sets(target, self.space, n=n, seed=seed, exclude=self.excluded, disjoint=disjoint)
        return random_controls(
            target,
            self.space,
            n=n,
            seed=seed,
            exclude=self.excluded,
            activity=self.activity if match == "activation" else None,
            disjoint=disjoint,
        )


def rank_neurons(
    activations: Activations,
    *,
    depth: int,
    scorer: str = "average_precision",
    ratio: int = NEGATIVES_PER_POSITIVE,
    balanced: bool = True,
    seed: int = 0,
    exclude: Sequence[Neuron] = (),
    attributions: Activations | None = None,
    positives: Bool[ndarray, " prompt"] | None = None,
) -> Ranking:
    """Score every neuron for every relation and keep the best of each (paper, section 3).

    Neurons of equal score are ordered by effect size (`by_effect_size`), then by place; those that
    are scored by attributions by place.

    Args:
        activations: Activations on the detection prompts of at least two relations.
        depth: Number of neurons to keep per relation, at most all.
        scorer: One of `relation_neurons.scores.scoring.scorer_names()`.
        ratio: Negatives per positive.
        balanced: Whether negatives are drawn equally from the other relations.
        seed: Seed of the choice of negatives.
        exclude: Neurons that are neither ranked nor drawn as controls.
        attributions: Contributions to the answers to the same prompts, from `attribute`, for scorers
            that read them.
        positives: Which prompts may be positives, see `contrast`; None means all.

    Raises:
        RelationNeuronsError: The scorer is unknown, or reads attributions and there are none of these
            prompts and neurons, there are fewer than two relations, or average precision differs from
            scikit-learn's.
    """
    require_scorer(scorer)
    names = relation_names(activations.prompts)
    labels, mask = contrast(activations.prompts, ratio=ratio, balanced=balanced, seed=seed, positives=positives)
    contributions = matching_attributions(attributions, activations) if needs_attributions(scorer) else None
    on = activations.score_on
    scores = score_neurons(scorer, activations.values, labels, mask, attributions=contributions, device=on)
    difference = float("nan")
    if scorer == "average_precision":
        difference = difference_from_scikit_learn(scores, activations.values, labels, mask, seed=seed)
        if difference > AP_TOLERANCE:
            raise refuse(f"Average precision differs from scikit-learn's by {difference:.1e}", expected="at most 1e-6")
    space, n_positive = activations.space, (labels & mask).sum(axis=0)
    ties = None if needs_attributions(scorer) else by_effect_size(activations.values, labels, mask)
    left_out = torch.from_numpy(space.flatten([*exclude])).to(scores.device)
    ranked = scores.index_fill(1, left_out, float("-inf"))
    best = top_k(ranked, min(depth, len(space) - len(exclude)), space, names, ties)
    counts = pd.DataFrame(
        {
            "relation": names,
            "n_positive": n_positive,
            "n_negative": mask.sum(axis=0) - n_positive,
            "share_perfect": (scores == 1).float().mean(dim=1).numpy(force=True),
            "n_at_least": [
                int((row >= (best[name].scores or ())[-1]).sum()) for name, row in zip(names, ranked, strict=True)
            ],
            "ap_check": difference,
        }
    )
    parts = activations.values.split(COLUMNS, dim=1)  # to avoid a second copy of the activations
    activity = torch.cat([part.abs().float().mean(dim=0) for part in parts]).numpy(force=True)
    return Ranking(best, space, activity, counts, tuple(exclude))


def matching_attributions(attributions: Activations | None, activations: Activations) -> Tensor | None:
    """Contributions to the answers to the prompts of the activations; None where there are none."""
    if attributions is None or attributions.kind != ATTRIBUTIONS:
        return None
    if (attributions.prompts, attributions.space) != (activations.prompts, activations.space):
        raise refuse("Attributions are of other prompts or neurons", expected="those of the activations")
    return attributions.values


def scaled_k(k: int, space: NeuronSpace) -> int:
    """Scale k by this model's number of neurons relative to Llama-2-7B's at the same sites, up to k.

    Example:
        >>> scaled_k(3000, NeuronSpace("half of Llama-2-7B", 16, (("gate", 11008),)))
        1500
    """
    reference = sum(LLAMA_2_7B[part] for site, _ in space.widths for part in expand_site(site))
    return max(1, min(k, len(space), round(k * len(space) / reference)))
