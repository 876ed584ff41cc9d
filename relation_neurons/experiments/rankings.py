"""The neurons of a study's relations, ranked once for each way of choosing them, and what they are chosen by."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from relation_neurons.activations.collection import Activations
from relation_neurons.experiments.answer_cache import Show
from relation_neurons.experiments.config import SelectionConfig, StudyConfig
from relation_neurons.experiments.critical_screen import CriticalScreen, Table
from relation_neurons.experiments.detection import DetectionActivations, DetectionAttributions
from relation_neurons.inference.units import Pool
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.neurons.ranking import Ranking, rank_neurons, scaled_k
from relation_neurons.neurons.selection import TIE_RULE
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.scores.scoring import needs_attributions
from relation_neurons.storage.fingerprint import digest

DEEPEST_K = 50_000
"""The largest k of the paper's sweep."""


class Rankings:
    """Rankings by how neurons are chosen, kept with the study.

    Attributes:
        critical: Neurons that no ranking includes.
    """

    def __init__(
        self,
        model: HookedModel,
        config: StudyConfig,
        pool: Pool,
        critical: CriticalScreen,
        table: Table,
        *,
        show: Show,
        read: str | None,
    ) -> None:
        """Nothing is read yet; the arguments are those of `Study`, `table` its method."""
        self.critical = critical
        self._model, self._seed, self._table = model, config.seed, table
        self._activations = DetectionActivations(model, config, show, read, pool)
        self._attributions = DetectionAttributions(model, config, show, read, pool)
        self._known: dict[SelectionConfig, tuple[int, Ranking]] = {}

    def keep_in(self, folder: Path) -> None:
        """Keep what is read in the study's folder until it is ranked."""
        self._activations.folder = self._attributions.folder = folder

    def activations(self, detection: tuple[Prompt, ...], site: str) -> Activations:
        """Activations of detection prompts; the prompts that were read last are not read again."""
        return self._activations.at(detection, site)

    def attributions(self, detection: tuple[Prompt, ...], site: str) -> Activations:
        """Contributions to the answers to detection prompts, as of `attribute`."""
        return self._attributions.at(detection, site)

    def read_by(self, scorer: str, detection: tuple[Prompt, ...], site: str) -> tuple[Activations, Activations | None]:
        """What a scorer reads of detection prompts: their activations, and attributions if it needs them."""
        attributions = self.attributions(detection, site) if needs_attributions(scorer) else None
        return self.activations(detection, site), attributions

    def drop_read(self) -> None:
        """Remove what the folder holds until it is ranked."""
        self._activations.drop_shards()

    def of(
        self, selection: SelectionConfig, detection: Callable[[SelectionConfig], tuple[Prompt, ...]], *, depth: int
    ) -> Ranking:
        """Every relation's best neurons.

        Args:
            selection: How they are chosen.
            detection: The prompts that are read for this, called only if they are not ranked yet.
            depth: Neurons of each relation at least.
        """
        known = self._known.get(selection)
        if known is None or known[0] < depth:
            space = neuron_space(self._model, selection.site)
            depth = max(depth, scaled_k(DEEPEST_K, space))
            known = self._known[selection] = depth, self._rank(selection, detection(selection), depth)
        return known[1]

    def _rank(self, selection: SelectionConfig, detection: tuple[Prompt, ...], depth: int) -> Ranking:
        """Rank, or read what the folder has of the same ranking."""
        excluded = self.critical.excluded(selection.site)

        @functools.cache
        def rank() -> Ranking:
            activations, attributions = self.read_by(selection.scorer, detection, selection.site)
            return rank_neurons(
                activations,
                attributions=attributions,
                depth=depth,
                scorer=selection.scorer,
                balanced=selection.negatives == "balanced",
                seed=self._seed,
                exclude=excluded,
            )

        key = digest(selection, detection, depth, self._seed, TIE_RULE, excluded)
        best = self._table("rankings/best", lambda: _all_sets(rank()), key)
        activity = self._table("rankings/activity", lambda: pd.DataFrame({"activity": rank().activity}), key)
        counts = self._table("rankings/counts", lambda: rank().counts, key)
        if rank.cache_info().currsize and self._activations.read_sites is None:
            self.drop_read()
        sets = {str(name): NeuronSet.from_frame(rows) for name, rows in best.groupby("name", sort=False)}
        space = neuron_space(self._model, selection.site)
        return Ranking(sets, space, activity["activity"].to_numpy(), counts, excluded)


def _all_sets(ranking: Ranking) -> pd.DataFrame:
    return pd.concat([neurons.to_frame() for neurons in ranking.best.values()])
