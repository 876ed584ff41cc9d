"""The pairs of relations that the paper names, as a family of tests of their own (section 5.2, Figure 4)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from relation_neurons.errors import require_at_least
from relation_neurons.experiments.inter_relation import InterConfig, inter
from relation_neurons.experiments.study import Study
from relation_neurons.results.claims import NAMED_PAIRS
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.validation import validated

QUESTION = "Do the pairs that the paper names affect each other as it says?"
TABLES = ("effects", "pooled", "gains", "gained", "mechanism", "flips", "answers")


@validated
@dataclass(frozen=True)
class NamedPairsConfig:
    """Ablate and ask the pairs of relations that the paper names, with control sets enough for a verdict."""

    n_pair_controls: int = 50
    """Control sets of each relation whose neurons are ablated; a verdict needs at least 20."""

    def __post_init__(self) -> None:
        require_at_least(self, n_pair_controls=0)


def named_pairs(study: Study, config: NamedPairsConfig = NamedPairsConfig()) -> ExperimentResult:
    """The experiment `inter` on the named pairs of which the study has both relations.

    All pairs are more than a hundred tests, which take more facts and control sets than a small study has. These few
    were named before anything was measured here.

    Returns:
        Tables as of `inter`, empty where the study has no such pair.
    """
    here = tuple(pair for pair in NAMED_PAIRS if set(pair.split("->")) <= set(study.names))
    if not here:
        return ExperimentResult(
            "pairs",
            QUESTION,
            dict.fromkeys(TABLES, pd.DataFrame()),
            ("The study has none of the pairs that the paper names.",),
        )
    found = inter(study, InterConfig(n_cross_controls=config.n_pair_controls, pairs=here))
    return replace(found, name="pairs", question=QUESTION)
