"""Open a study: estimate its memory, load its model, refuse what cannot be run; only then make a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from relation_neurons.experiments.answer_cache import Show
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.registry import find_experiment, options, study_config
from relation_neurons.experiments.study import Study, require_two
from relation_neurons.inference.memory_estimate import estimate, require_memory, require_room_for_copies
from relation_neurons.models.loading import load_model
from relation_neurons.models.types import HookedModel
from relation_neurons.progress import bar, keep_quiet, tell
from relation_neurons.prompts.prompts import make_prompts
from relation_neurons.relations.lint_warnings import only_negatives
from relation_neurons.relations.loading import load_relations
from relation_neurons.relations.relation import Relation
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.scores.scoring import needs_attributions
from relation_neurons.storage.fingerprint import digest
from relation_neurons.validation import validated
from relation_neurons.workers.config import NO_WORKERS, WorkersConfig, workers_from_environment
from relation_neurons.workers.starting import start_workers


@validated
def open_study(
    model: str = "smollm2-135m",
    relations: Sequence[str | Path | Relation] = ("shipped",),
    *,
    profile: str = "demo",
    folder: str | Path | None = None,
    show: Show = bar,
    read: str | None = None,
    workers: WorkersConfig | int | None = None,
    **changes: Any,
) -> Study:
    """Load a model and its relations, ready for experiments.

    Args:
        model: As `relation-neurons run --model` takes it.
        relations: Names, files, folders, or relations themselves.
        profile: The size of the study: `smoke`, `demo` or `full`.
        folder: Where answers are stored, in a folder named after everything that they depend on; a later call
            with the same arguments resumes from there. None keeps them in memory.
        show: Makes a progress bar of a label and a total.
        read: Sites to read together, such as `all`, where several sites will be ranked.
        workers: Processes that share the work, or how many; by default what the environment variable
            RELATION_NEURONS_WORKERS says, which `notebooks run --workers` sets, or none. `study.pool.close()` ends
            them.
        changes: Other fields of `StudyConfig`, such as `k`, `site` and `seed`.

    Raises:
        RelationNeuronsError: Whatever of the input cannot be used.
    """
    found = load_relations(*relations, templates=changes.get("template", ()), columns=changes.get("columns", ()))
    named = tuple(one.name if isinstance(one, Relation) else str(one) for one in relations)
    config = study_config(profile, model=model, relations=named, **changes)
    # Free memory differs between machines, so notebooks should not record it.
    asked = WorkersConfig(workers=workers) if isinstance(workers, int) else workers or workers_from_environment()
    study = prepare(config, found, out=folder, show=show, read=read, say=keep_quiet, workers=asked)
    if folder is not None:
        study.keep_in(Path(folder) / digest(study.key)[:16])
    return study


def prepare(
    config: StudyConfig,
    relations: Sequence[Relation] | None = None,
    *,
    out: str | Path | None = None,
    read: str | None = None,
    n_experiments: int = 1,
    scorers: Sequence[str] = (),
    cards: bool = False,
    show: Show = bar,
    say: Callable[[str], None] | None = None,
    workers: WorkersConfig = NO_WORKERS,
) -> Study:
    """Load the model and relations of a study after checking memory and disk; nothing is written.

    Args:
        config: The model, the relations and the measurements.
        relations: The relations that it names, where they are loaded already.
        out: Where answers and activations will be kept, if anywhere.
        read: Sites to read together, where several will be ranked.
        n_experiments: How many will run; the disk space of each is a rough guess.
        scorers: What else than the study's scorer they rank by, which may read attributions.
        cards: Whether cards are made, which read attributions.
        show: Makes a progress bar of a label and a total.
        say: Takes lines for the user: the memory needed, and what each family of tests can show.
        workers: Processes that load the model too and run it; then this one only reads its configuration and weights.

    Raises:
        RelationNeuronsError: Input that cannot be used, or that cannot fit; the message names options with which it
            would.
    """
    if relations is None:
        found = load_relations(*config.relations, templates=config.template, columns=config.columns)
    else:
        found = tuple(relations)
    require_two(found)
    if doubt := only_negatives([one.name for one in found]):
        (say or tell)(f"Note: {doubt[0]}. Better: {doubt[1]}.")
    prompts = make_prompts(found, config.prompts)
    needed = estimate(
        config.model,
        prompts.detection,
        read or config.site,
        n_answers=len(prompts.evaluation) * (1 + len(found) + config.n_controls) * n_experiments,
        batch_size=config.batch_size,
        device=config.device,
        dtype=config.dtype,
        device_map=config.device_map,
        quantize=config.quantize,
        out=out,
        shards=out is not None,
        attributed=cards or any(map(needs_attributions, (config.scorer, *scorers))),
    )
    require_memory(needed, say)
    if workers.workers is not None and workers.ray_address is None:
        require_room_for_copies(needed, workers.workers)
    if not workers.wanted:
        return Study(_loaded(config), found, config, show=show, read=read, say=say or tell)
    if say is not None:
        say("Starting workers, which load the model.")
    pool = start_workers(workers, config)
    try:
        model = load_model(config.model, device="cpu", dtype=pool.identity.dtype)
        return Study(model, found, config, show=show, read=read, say=say or tell, pool=pool)
    except BaseException:
        pool.close()
        raise


def _loaded(config: StudyConfig) -> HookedModel:
    return load_model(
        config.model,
        device=config.device,
        dtype=config.dtype,
        device_map=config.device_map,
        quantize=config.quantize,
    )


@validated
def run_experiment(study: Study, name: str, profile: str = "demo", **changes: Any) -> ExperimentResult:
    """Run an experiment by name, with the options of a profile.

    Args:
        study: From `open_study`.
        name: Of `EXPERIMENTS` or `BESIDE`.
        profile: The size of the experiment: `smoke`, `demo` or `full`.
        changes: Options of the experiment to override.

    Raises:
        RelationNeuronsError: An unknown experiment or profile, or a value that an option cannot have.
    """
    chosen = replace(options(name, profile), **changes)
    return replace(find_experiment(name).run(study, chosen), name=name)
