"""What the neurons that two relations share do to both, beside those that only one of them has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from relation_neurons.errors import require_at_least
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.overlap import Pair, pair_sets, pair_table, pairs_above
from relation_neurons.experiments.study import Study
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.results import sharing_verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.statistics.effects import MEASURES, compare
from relation_neurons.validation import validated

QUESTION = "Do the neurons that two relations share serve both, and those that only one has only that one?"
SHARED, OWN, OTHER = "shared", "its own", "the other's"
"""What is ablated, as seen from a relation whose facts are asked."""
LABELS = ["first", "second", "relation", "facts", "neurons"]


@validated
@dataclass(frozen=True)
class SharingConfig:
    """Ablate the neurons that two relations share, and as many that only one has, and ask both relations' facts."""

    n_pairs: int = 6
    """Most pairs, those with the largest share, of the pairs that share more neurons than chance."""
    least_neurons: int = 5
    """Fewest neurons of each kind: shared, only the first's, only the second's."""
    n_sharing_controls: int = 25
    """Control sets of each set; a verdict needs at least 20."""

    def __post_init__(self) -> None:
        require_at_least(self, n_pairs=1, least_neurons=1, n_sharing_controls=0)


def sharing(study: Study, config: SharingConfig = SharingConfig()) -> ExperimentResult:
    """Shared neurons against those of one relation, on the same facts.

    Pairs and neurons are chosen on detection facts, see `overlap`. The three sets of a pair have the same size, that of
    the smallest, each the best by rank.

    Returns:
        Tables as of `share_effects`; all empty where no pair shares enough. With fewer than four relations no pair can.
    """
    pairs = pairs_above(pair_table(study)) if len(study.names) > 2 else []
    sets = {pair: parts for pair, both in pair_sets(study, pairs).items() if (parts := split(*both))}
    large = [pair for pair in pairs if pair in sets and len(sets[pair][SHARED]) >= config.least_neurons]
    chosen = {pair: sets[pair] for pair in large[: config.n_pairs]}
    tables = share_effects(study, chosen, n_controls=config.n_sharing_controls)
    return ExperimentResult("sharing", QUESTION, tables, sharing_verdicts.sharing(tables, n_above=len(pairs)))


def split(first: NeuronSet, second: NeuronSet) -> dict[str, NeuronSet]:
    """The neurons of two ranked sets that both have, only the first, and only the second, equally many of each.

    Shared ones are ordered by the worse of their two ranks; empty where there are none of a kind.
    """
    ranks = [{neuron: rank for rank, neuron in enumerate(one)} for one in (first, second)]
    shared = sorted(ranks[0].keys() & ranks[1].keys(), key=lambda one: (max(ranks[0][one], ranks[1][one]), one))
    alone = [[neuron for neuron in mine if neuron not in other] for mine, other in (ranks, ranks[::-1])]
    size = min(map(len, (shared, *alone)))
    names = {SHARED: shared, first.name: alone[0], second.name: alone[1]}
    return {
        name: NeuronSet(tuple(one[:size]), f"{first.name}, {second.name}: {name}")
        for name, one in names.items()
        if size
    }


def share_effects(
    study: Study, chosen: Mapping[Pair, Mapping[str, NeuronSet]], *, n_controls: int
) -> dict[str, pd.DataFrame]:
    """Ablate the sets of some pairs, and ask both relations of each.

    Args:
        study: Its evaluation facts are asked.
        chosen: For each pair the sets of `split`.
        n_controls: Matched control sets of each set.

    Returns:
        `sets`: how many neurons are ablated. `effects`, from `effects.compare`: on the facts of each `relation` of a
        pair (`first`, `second`), of the `neurons` that are `shared`, `its own` or `the other's`; `facts` names relation
        and pair. `differences`, the same of the effect less that of the other's neurons on the same facts, against the
        same differences of control sets: `falls` says of `shared` neurons that they harm a relation more than those
        that only the other has, and of `its own` that these do. All differences are one family of tests. `answers`.
    """
    sizes = [(*pair, len(sets[SHARED])) for pair, sets in chosen.items()]
    found = {"sets": pd.DataFrame(sizes, columns=["first", "second", "n_ablated"])}
    cases = [case for pair, sets in chosen.items() for case in _cases(study, pair, sets)]
    if not cases:
        return found | {name: pd.DataFrame() for name in ("effects", "differences", "answers")}
    own, controls = study.with_controls(cases, n=n_controls)
    seed = study.config.seed
    found["effects"] = compare(own, controls, by=LABELS, seed=seed)
    found["differences"] = compare(less_the_others(own), less_the_others(controls), by=LABELS, seed=seed)
    return found | {"answers": own}


def _cases(study: Study, pair: Pair, sets: Mapping[str, NeuronSet]) -> Sequence[Case]:
    first, second = pair
    cases = []
    for asked, other in (pair, pair[::-1]):
        for neurons, name in {SHARED: SHARED, OWN: asked, OTHER: other}.items():
            labels = {"first": first, "second": second, "facts": f"{asked} (with {other})", "neurons": neurons}
            cases.append(Case(sets[name], study.evaluation(asked), labels))
    return cases


def less_the_others(table: pd.DataFrame) -> pd.DataFrame:
    """The changes under shared and own neurons less those under the other's, row by row of the same prompts.

    Args:
        table: Of `Study.changes`, or of controls, whose draws are paired.
    """
    parts, prompt = [], ["subject", "object", "template", "fact"]
    for _, rows in table.groupby(["first", "second", "facts"], sort=False):
        keys = [*prompt, "draw"] if "draw" in rows else prompt
        kinds = {name: part.reset_index(drop=True) for name, part in rows.groupby("neurons", sort=False)}
        for name in (SHARED, OWN):
            assert (kinds[name][keys] == kinds[OTHER][keys]).all(axis=None), "the same prompts in the same order"
            changes = {f"d_{one}": kinds[name][f"d_{one}"] - kinds[OTHER][f"d_{one}"] for one in MEASURES}
            parts.append(kinds[name].assign(**changes))
    return pd.concat(parts, ignore_index=True) if parts else table
