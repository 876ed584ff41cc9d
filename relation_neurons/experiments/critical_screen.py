"""The critical neurons of a study's model: each site is screened once, and the result kept with the study."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd

from relation_neurons.evaluation.critical_neurons import N_CANDIDATES, candidates, most_critical, solo_ablations
from relation_neurons.experiments.answer_cache import AnswerCache
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.inference.units import Pool
from relation_neurons.models.sites import Neuron, expand_site
from relation_neurons.prompts.concepts import screening_sentences

Table = Callable[..., pd.DataFrame]
"""Makes a table or reads it from the folder of the study, as `Study.table`."""


class CriticalScreen:
    """Critical neurons by simple site, so that sites that share one are not screened twice."""

    def __init__(self, config: StudyConfig, pool: Pool, answers: AnswerCache, table: Table) -> None:
        """Nothing is read yet."""
        self._config, self._pool, self._answers, self._table = config, pool, answers, table
        self._known: dict[str, pd.DataFrame] = {}

    def at(self, site: str) -> pd.DataFrame:
        """The critical neurons of a site, as of `critical_neurons`, the largest increase first."""
        parts = pd.concat([self._at(part) for part in expand_site(site)])
        return parts.sort_values("increase", ascending=False, kind="stable", ignore_index=True)

    def excluded(self, site: str) -> tuple[Neuron, ...]:
        """The neurons of a site that are to be in no target and no control set."""
        if self._config.keep_critical:
            return ()
        critical = self.at(site)
        places = zip(critical["site"], critical["layer"].tolist(), critical["index"].tolist(), strict=True)
        return tuple(Neuron(*place) for place in places)

    def _at(self, site: str) -> pd.DataFrame:
        if site not in self._known:
            made_from = site, screening_sentences()
            self._known[site] = self._table("rankings/critical", lambda: self._screen(site), *made_from)
        return self._known[site]

    def _screen(self, site: str) -> pd.DataFrame:
        """Choose candidates where the model is, and read with each of them off as all that a study reads is read."""
        texts, size = screening_sentences(), self._config.batch_size
        choose = partial(candidates, site=site, texts=texts, n=N_CANDIDATES, batch_size=size)
        read = partial(self._answers.losses, label=f"critical neurons at {site}")
        return most_critical(solo_ablations(self._pool.call(choose), texts, read))
