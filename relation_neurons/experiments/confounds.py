"""Alternative explanations of a drop: the detection prompts, their negatives, the choice of control neurons."""

from __future__ import annotations

from dataclasses import dataclass, replace

from relation_neurons.errors import RelationNeuronsError, require_at_least
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.config import SelectionConfig
from relation_neurons.experiments.study import Study
from relation_neurons.results import verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.statistics.effects import compare
from relation_neurons.validation import validated

QUESTION = "Do the drops depend on how neurons were detected, or on what the random neurons were matched by?"
MATCHES = ("none", "layer", "activation")


@validated
@dataclass(frozen=True)
class ConfoundsConfig:
    """Detect neurons in other ways, and compare them with controls matched in other ways."""

    n_confound_controls: int = 25
    """Control sets for each way."""

    def __post_init__(self) -> None:
        require_at_least(self, n_confound_controls=2)


def confounds(study: Study, config: ConfoundsConfig = ConfoundsConfig()) -> ExperimentResult:
    """Own facts under neurons detected in other ways, and under controls matched by nothing, by layer, by activation.

    Returns:
        Tables `selections`, from `effects.compare` by `ablated` and `selection`, with `shared`, the share of neurons
        that are among those detected as configured; `controls`, from `effects.compare` by `ablated` and `match`.
    """
    detected, impossible = _detected(study)
    n, seed = config.n_confound_controls, study.config.seed
    cases = [
        Case(
            study.target(name, selection=selection),
            study.evaluation(name),
            {"ablated": name, "selection": way},
            selection,
        )
        for way, selection in detected.items()
        for name in study.names
    ]
    selections = compare(*study.with_controls(cases, n=n), by=["ablated", "selection"], seed=seed)
    shared = {
        (name, way): study.target(name, selection=selection).overlap(study.target(name)) / study.k
        for way, selection in detected.items()
        for name in study.names
    }
    selections["shared"] = [
        shared[name, way] for name, way in zip(selections["ablated"], selections["selection"], strict=True)
    ]
    cases = [
        Case(study.target(name), study.evaluation(name), {"ablated": name, "match": match}, match=match)
        for name in study.names
        for match in MATCHES
    ]
    controls = compare(*study.with_controls(cases, n=n), by=["ablated", "match"], seed=seed)
    return ExperimentResult(
        "confounds",
        QUESTION,
        {"selections": selections, "controls": controls},
        verdicts.confounds(selections, controls, impossible),
    )


def _ways(study: Study) -> dict[str, SelectionConfig]:
    """Ways to choose neurons."""
    configured = study.selection
    first, every = (replace(configured.prompts, templates=templates) for templates in ("first", "all"))
    return {
        "as configured": configured,
        "all prompts": replace(configured, validation="none"),
        "rightly answered prompts": replace(
            configured, validation="string" if study.config.rule == "string" else "prefix"
        ),
        "balanced negatives": replace(configured, negatives="balanced"),
        "pooled negatives": replace(configured, negatives="pooled"),
        "one template": replace(configured, prompts=first),
        "all templates": replace(configured, prompts=every),
    }


def _detected(study: Study) -> tuple[dict[str, SelectionConfig], dict[str, str]]:
    """The distinct ways to choose neurons, and those that this model does not allow, each with the reason."""
    possible: dict[str, SelectionConfig] = {}
    impossible, seen = {}, set()
    for way, selection in _ways(study).items():
        try:
            ranking = study.ranking(selection)
        except RelationNeuronsError as error:
            impossible[way] = str(error)
            continue
        best = tuple(ranking.best.values())
        if best not in seen:  # the same neurons as before
            seen.add(best)
            possible[way] = selection
    return possible, impossible
