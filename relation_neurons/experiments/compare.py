"""How far scorers agree: the neurons that two of them have in common among their best."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pandas as pd

from relation_neurons.activations.collection import Activations, collect_activations
from relation_neurons.errors import refuse, require_at_least
from relation_neurons.models.loading import load_model
from relation_neurons.models.sites import SiteName
from relation_neurons.neurons.neuron_set import top_k
from relation_neurons.progress import bar
from relation_neurons.prompts.contrast import contrast
from relation_neurons.prompts.prompts import PromptConfig, make_prompts, relation_names
from relation_neurons.relations.loading import load_relations
from relation_neurons.scores.scorers import SCORERS


@dataclass(frozen=True)
class CompareConfig:
    """Rank neurons by every scorer and count what the best of each have in common."""

    model: str = "smollm2-135m"
    """`smollm2-135m`, a Hugging Face id such as meta-llama/Llama-2-7b-hf, a folder, or a .gguf file."""
    relations: tuple[str, ...] = ("shipped",)
    """Names of shipped relations, `shipped` (all), `paper` or `lre` (once fetched), JSON or CSV files, folders."""
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

    def __post_init__(self) -> None:
        require_at_least(self, k=1, batch_size=1, seed=0)


def compare(config: CompareConfig) -> pd.DataFrame:
    """Read the activations of the detection prompts once and compare all scorers on them.

    Returns:
        The table of `compare_scores`.

    Raises:
        RelationNeuronsError: Whatever of the input cannot be used.
    """
    relations = load_relations(*config.relations)
    if len(relations) < 2:
        raise refuse(f"{len(relations)} relation was asked for", expected="at least two: the others are the negatives")
    detection = make_prompts(relations, config.prompts).detection
    model = load_model(config.model, device=config.device)
    with bar("Reading activations", len(detection)) as progress:
        activations = collect_activations(
            model, detection, site=config.site, batch_size=config.batch_size, progress=progress
        )
    return compare_scores(activations, k=config.k, seed=config.seed)


def compare_scores(activations: Activations, *, k: int, seed: int = 0) -> pd.DataFrame:
    """Share of common neurons among the k best of each two scorers.

    Args:
        activations: Of the detection prompts of at least two relations.
        k: Neurons per relation.
        seed: Chooses negatives.

    Returns:
        A row per pair of `SCORERS`: `first`, `second`, the `mean`, `low` (least) and `high` (largest) share over
        relations, and `chance`, the share that two random sets of k would have in common on average.

    Raises:
        RelationNeuronsError: Fewer than two relations, or k outside 1 to the number of neurons.
    """
    names = relation_names(activations.prompts)
    labels, mask = contrast(activations.prompts, seed=seed)
    best = {
        scorer: top_k(score(activations.values, labels, mask), k, activations.space, names)
        for scorer, score in SCORERS.items()
    }
    rows = []
    for first, second in combinations(SCORERS, 2):
        shares = np.array([best[first][name].overlap(best[second][name]) / k for name in names])
        rows.append((first, second, shares.mean(), shares.min(), shares.max(), k / len(activations.space)))
    return pd.DataFrame(rows, columns=["first", "second", "mean", "low", "high", "chance"])
