"""Take up the study of a run folder again, without touching what is in it: its configuration, relations and model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relation_neurons.errors import RelationNeuronsError, refuse
from relation_neurons.experiments.answer_cache import Show
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.session import prepare
from relation_neurons.experiments.study import Study
from relation_neurons.models.sites import Neuron
from relation_neurons.progress import bar, keep_quiet
from relation_neurons.prompts.prompts import PromptConfig
from relation_neurons.relations.loading import load_relations
from relation_neurons.results.run import Run, open_run
from relation_neurons.storage.fingerprint import digest
from relation_neurons.storage.run_files import KEY

SAME = ("relations", "tokens", "model")
"""Parts of a key that must be as they were; code, versions and device may differ, and numbers then in their last
digits."""


def finished_run(path: Path) -> Run:
    """A run whose neurons have been chosen.

    Raises:
        RelationNeuronsError: There is no such folder, it is no run folder or one of another version, or its run has not
            ended.
    """
    if not path.is_dir():
        raise refuse(f"There is no folder {path}", expected="a folder that `run` or `reproduce` wrote")
    run = open_run(path)
    if not {"config", "relations", "model"} <= run.key.keys():
        raise refuse(f"{path / KEY} describes no run", expected="a folder that `run` or `reproduce` wrote")
    if not {"neurons", "critical"} <= {*run.tables}:
        raise refuse(f"{path} has no neurons yet", do="let the run end (the same command resumes it)")
    return run


def stored_config(run: Run) -> StudyConfig:
    """The configuration of a run.

    Raises:
        RelationNeuronsError: It has options that this version does not have, or values that they cannot have.
    """
    try:
        given = dict(run.key["config"])
        prompts = PromptConfig(**_as_fields(given.pop("prompts")))
        return StudyConfig(**_as_fields(given), prompts=prompts)
    except (RelationNeuronsError, TypeError, ValueError, KeyError, AttributeError) as error:
        do = "give the run's command again, with this version"
        raise refuse(f"{run.path / KEY} has options of another version ({error})", do=do) from error


def reopen(run: Run, *, device: str | None = None, show: Show = bar) -> Study:
    """The study of a run with its model loaded; it keeps what it computes in memory.

    Args:
        run: From `finished_run`.
        device: Where to compute; by default as `load_model` chooses.
        show: Makes a progress bar of a label and a total.

    Raises:
        RelationNeuronsError: Relations or a model that are gone, or no longer what they were.
    """
    config = stored_config(run)
    relations = load_relations(*config.relations)
    now = {relation.name: digest(relation)[:16] for relation in relations}
    _require_same(run, "relations", run.key["relations"], now)
    placed = dataclasses.replace(config, device=device, dtype=config.dtype or run.key["model"]["dtype"])
    if placed.device_map is not None and device is not None:
        placed = dataclasses.replace(placed, device_map=None)
    study = prepare(placed, relations, show=show, say=keep_quiet)
    for part in SAME:
        _require_same(run, part, run.key.get(part), study.key[part])
    return study


def excluded_neurons(run: Run) -> tuple[Neuron, ...]:
    """Critical neurons, which the run left out of its sets and controls, unless it kept them."""
    if run.key["config"].get("keep_critical"):
        return ()
    rows = run.table("critical").to_dict("records")
    return tuple(Neuron(row["site"], int(row["layer"]), int(row["index"])) for row in rows)


def _as_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """Values as the fields of a dataclass hold them: lists, which JSON makes of tuples, as tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _require_same(run: Run, part: str, then: Any, now: Any) -> None:
    if then == now:
        return
    names: list[str] = []
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        names = [str(name) for name in {**then, **now} if then.get(name) != now.get(name)]
    which = f" ({', '.join(sorted(names))})" if names else ""
    do = "restore what the run was made with, or give the run's command again with another --out"
    raise refuse(f"The {part} of {run.path} are no longer what they were{which}", do=do)
