"""The neurons of contrasts in a study, kept in its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from relation_neurons.experiments.study import Study
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.neurons.pairwise import rank_contrasts
from relation_neurons.neurons.selection import TIE_RULE
from relation_neurons.prompts.contrast import Contrast
from relation_neurons.storage.fingerprint import digest

Sets = Mapping[Contrast, NeuronSet]


def contrast_sets(study: Study, contrasts: Sequence[Contrast], *, lowest: bool = False) -> Sets:
    """The study's k best neurons of each contrast, chosen as its own are but for the negatives.

    Args:
        study: Its detection prompts, scorer, seed and critical neurons count.
        contrasts: What is told from what; each is ranked once.
        lowest: As for `rank_contrasts`.
    """
    contrasts = tuple(dict.fromkeys(contrasts))
    if not contrasts:
        return {}
    selection, excluded = study.selection, study.critical.excluded(study.config.site)
    detection = study.detection()

    def rank() -> pd.DataFrame:
        activations, attributions = study.read_by(selection.scorer, detection)
        sets = rank_contrasts(
            activations,
            contrasts,
            k=study.k,
            scorer=selection.scorer,
            balanced=selection.negatives == "balanced",
            seed=study.config.seed,
            exclude=excluded,
            attributions=attributions,
            lowest=lowest,
        )
        return pd.concat([one.to_frame().assign(contrast=number) for number, one in enumerate(sets)])

    key = digest(selection, detection, study.k, study.config.seed, TIE_RULE, excluded, contrasts, lowest)
    table = study.table("rankings/contrasts", rank, key)
    sets = [NeuronSet.from_frame(rows) for _, rows in table.groupby("contrast", sort=True)]
    return dict(zip(contrasts, sets, strict=True))
