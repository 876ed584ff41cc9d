"""The scores of the same neurons for two relations, and how far scorers agree on the best neurons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd

from relation_neurons.activations.collection import Activations, collect_activations
from relation_neurons.attribution.attribute import attribute
from relation_neurons.errors import nearest, refuse, require_at_least
from relation_neurons.experiments.study import require_two
from relation_neurons.models.loading import load_model
from relation_neurons.models.placement import require_placement
from relation_neurons.models.sites import Neuron, SiteName
from relation_neurons.neurons.ranking import rank_neurons
from relation_neurons.neurons.selection import top_k
from relation_neurons.progress import bar
from relation_neurons.prompts.contrast import NEGATIVES_PER_POSITIVE, contrast
from relation_neurons.prompts.prompts import PromptConfig, make_prompts, relation_names
from relation_neurons.relations.loading import load_relations
from relation_neurons.scores.average_precision import average_precision
from relation_neurons.scores.effect_size import by_effect_size
from relation_neurons.scores.scoring import needs_attributions, require_scorers, scorer_names
from relation_neurons.validation import validated


def score_pair(
    activations: Activations,
    first: str,
    second: str,
    *,
    k: int,
    n_background: int = 3000,
    ratio: int = NEGATIVES_PER_POSITIVE,
    balanced: bool = True,
    seed: int = 0,
) -> pd.DataFrame:
    """The average precision of the best neurons of two relations, and of some others, for both.

    Args:
        activations: Of the detection prompts of all relations, the others being negatives too, as for `rank_neurons`.
        first: A relation.
        second: Another one.
        k: How many neurons are the best of a relation.
        n_background: How many of the other neurons to draw; all, if there are fewer.
        ratio: Negatives per positive, as for `rank_neurons`.
        balanced: Whether negatives are drawn evenly from the other relations, as for `rank_neurons`.
        seed: Chooses the negatives, as for `rank_neurons`, and the other neurons.

    Returns:
        A row per neuron: `first` and `second`, the relations; `neuron`, as text; `site`, `layer`, `index`;
        `score_first`, `score_second`; and `group`: `first` or `second`, among the k best of that one only, `both`, or
        `rest`.

    Raises:
        RelationNeuronsError: A relation that has no prompts, the same one twice, or numbers out of range.
    """
    names, space = relation_names(activations.prompts), activations.space
    _require_pair(first, second, names, n_background)
    labels, mask = contrast(activations.prompts, ratio=ratio, balanced=balanced, seed=seed)
    columns = [names.index(first), names.index(second)]
    labels, mask = labels[:, columns], mask[:, columns]
    scores = average_precision(activations.values, labels, mask, device=activations.score_on)
    best = top_k(scores, k, space, (first, second), by_effect_size(activations.values, labels, mask))
    of_first, of_second = (space.flatten(list(best[name].neurons)) for name in (first, second))
    rest = np.setdiff1d(np.arange(len(space)), np.union1d(of_first, of_second))
    background = np.random.default_rng(seed).choice(rest, min(n_background, len(rest)), replace=False)
    groups = {
        "first": np.setdiff1d(of_first, of_second),
        "second": np.setdiff1d(of_second, of_first),
        "both": np.intersect1d(of_first, of_second),
        "rest": np.sort(background),
    }
    flat = np.concatenate(list(groups.values()))
    sites, layers, indices = space.locate(flat)
    places = zip(sites, layers.tolist(), indices.tolist(), strict=True)
    table = pd.DataFrame({"first": first, "second": second, "neuron": [str(Neuron(*place)) for place in places]})
    table = table.assign(site=sites, layer=layers, index=indices)
    table[["score_first", "score_second"]] = scores[:, flat].numpy(force=True).T
    return table.assign(group=np.repeat(list(groups), [len(members) for members in groups.values()]))


def _require_pair(first: str, second: str, names: Sequence[str], n_background: int) -> None:
    for name in (first, second):
        if name not in names:
            raise refuse(f"There are no prompts of '{name}'", expected=nearest(name, names))
    if first == second:
        raise refuse(f"'{first}' was named twice", expected="two relations")
    if n_background < 0:
        raise refuse(f"n_background is {n_background}", expected="at least 0")


@validated
@dataclass(frozen=True)
class ScoreAgreementConfig:
    """Rank neurons by several scorers and count what the best of each have in common."""

    model: str = "smollm2-135m"
    """`smollm2-135m`, `gemma3-270m`, a Hugging Face id such as meta-llama/Llama-2-7b-hf, a folder, or a .gguf file."""
    relations: tuple[str, ...] = ("shipped",)
    """Names of shipped relations, `shipped` (all), `paper` or `lre` (once fetched), JSON or CSV files, folders."""
    scorers: tuple[str, ...] = scorer_names()
    """Which scorers; without those that read attributions, no gradients are computed."""
    k: int = 400
    """Neurons per relation."""
    site: SiteName = "gate"
    """Where neurons are: gate is before the activation function, post is act(gate) * up, ffn is gate, up and down
    together, as in the paper; attn is q, k, v and o of attention, all is ffn and attn."""
    prompts: PromptConfig = field(default_factory=PromptConfig)
    """How facts become prompts; only those that detect are read."""
    seed: int = 0
    """Chooses negatives; split_seed chooses facts."""
    batch_size: int | None = None
    """Prompts at a time; by default what memory holds."""
    device: str | None = None
    """cpu, cuda, ...; by default the GPU if there is one."""
    device_map: Literal["auto"] | None = None
    """auto spreads a model that is larger than one GPU over all, then over memory and disk; not with --device."""
    quantize: Literal["8bit", "4bit"] | None = None
    """Weights in 8 or 4 bits, on a GPU, with the package bitsandbytes."""

    def __post_init__(self) -> None:
        require_at_least(self, k=1, batch_size=1, seed=0)
        _require_scorers(self.scorers)
        require_placement(self.device, self.device_map, self.quantize)


def score_agreement(config: ScoreAgreementConfig) -> pd.DataFrame:
    """Read the detection prompts once, attribute their answers if a scorer needs it, and compare the scorers.

    Returns:
        The table of `compare_scores`.

    Raises:
        RelationNeuronsError: Whatever of the input cannot be used.
    """
    relations = load_relations(*config.relations)
    require_two(relations)
    detection = make_prompts(relations, config.prompts).detection
    model = load_model(config.model, device=config.device, device_map=config.device_map, quantize=config.quantize)
    with bar("Reading activations", len(detection)) as progress:
        activations = collect_activations(
            model, detection, site=config.site, batch_size=config.batch_size, progress=progress
        )
    attributions = None
    if any(map(needs_attributions, config.scorers)):
        with bar("Attributing answers", len(detection)) as progress:
            attributions = attribute(
                model, detection, site=config.site, batch_size=config.batch_size, progress=progress
            )
    return compare_scores(activations, attributions=attributions, scorers=config.scorers, k=config.k, seed=config.seed)


def compare_scores(
    activations: Activations,
    *,
    attributions: Activations | None = None,
    scorers: Sequence[str] | None = None,
    k: int,
    seed: int = 0,
) -> pd.DataFrame:
    """Share of common neurons among the k best of each two scorers.

    Args:
        activations: Of the detection prompts of at least two relations.
        attributions: Contributions of the same neurons to the answers to the same prompts, from `attribute`.
        scorers: Which scorers; by default all that can be computed from these.
        k: Neurons per relation.
        seed: Chooses negatives.

    Returns:
        A row per pair of scorers: `first`, `second`, the `mean`, `low` (least) and `high` (largest) share over the `n`
        relations, and `chance`, the share that two random sets of k would have in common on average.

    Raises:
        RelationNeuronsError: Fewer than two relations or scorers, k outside 1 to the number of neurons, or a scorer
            that needs attributions where there are none.
    """
    chosen = scorers or [one for one in scorer_names() if attributions is not None or not needs_attributions(one)]
    _require_scorers(chosen)
    if not 1 <= k <= len(activations.space):
        raise refuse(f"k is {k}", expected=f"1 to {len(activations.space)}, the number of neurons")
    ranked = [
        rank_neurons(activations, attributions=attributions, depth=k, scorer=scorer, seed=seed).best
        for scorer in chosen
    ]
    names, best = relation_names(activations.prompts), dict(zip(chosen, ranked, strict=True))
    rows = []
    for first, second in combinations(best, 2):
        shares = np.array([best[first][name].overlap(best[second][name]) / k for name in names])
        rows.append((first, second, len(names), shares.mean(), shares.min(), shares.max(), k / len(activations.space)))
    return pd.DataFrame(rows, columns=["first", "second", "n", "mean", "low", "high", "chance"])


def _require_scorers(scorers: Sequence[str]) -> None:
    require_scorers(scorers)
    if len(set(scorers)) < 2:
        raise refuse(f"The scorers are {tuple(scorers)}", expected="at least two different ones")
