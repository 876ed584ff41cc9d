"""The whole way: find relation neurons, ablate them, write down what changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from relation_neurons.activations.cache import kept_activations
from relation_neurons.activations.shard_store import drop_shards
from relation_neurons.errors import refuse, require_at_least
from relation_neurons.evaluation.recall import recall
from relation_neurons.experiments.ablation import (
    Selection,
    conditions,
    control_of,
    keep_right,
    measure,
    parts,
    select_neurons,
    summarise,
)
from relation_neurons.experiments.study_key import study_key
from relation_neurons.inference.memory_estimate import estimate, require_memory
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.loading import load_model, named_device
from relation_neurons.models.sites import SiteName
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.progress import bar
from relation_neurons.prompts.prompts import Prompt, PromptConfig, Prompts, make_prompts
from relation_neurons.relations.loading import load_relations
from relation_neurons.report.run import Results, write_report
from relation_neurons.storage.run_folder import RunFolder

DEMO_RELATIONS = (
    "country_capital",
    "country_continent",
    "country_currency",
    "country_language",
    "landmark_continent",
    "landmark_country",
    "person_occupation",
    "person_pro_sport",
)
"""Relations of which the embedded model knows enough to lose something; see docs/decisions."""


@dataclass(frozen=True)
class RunConfig:
    """Find the neurons of each relation, ablate them, and compare recall with matched random controls."""

    model: str = "smollm2-135m"
    """`smollm2-135m`, a Hugging Face id such as meta-llama/Llama-2-7b-hf, a folder, or a .gguf file."""
    relations: tuple[str, ...] = DEMO_RELATIONS
    """Names of shipped relations, `shipped` (all), `paper` or `lre` (once fetched), JSON or CSV files, folders."""
    k: int = 400
    """Neurons per relation (the paper: 3,000 of Llama-2-7B's 835,584 at site ffn)."""
    site: SiteName = "gate"
    """Where neurons are: gate is before the activation function, post is act(gate) * up, ffn is gate, up and down
    together, as in the paper; attn is q, k, v and o of attention, all is ffn and attn. The default was chosen on
    detection data, see docs/decisions."""
    n_controls: int = 5
    """Random control sets per relation, matched by layer and site."""
    prompts: PromptConfig = dataclasses.field(default_factory=PromptConfig)
    """How facts become prompts."""
    validation: Literal["none", "prefix", "string"] = "none"
    """Detect only with prompts that the model answers rightly by this rule; the paper uses prefix."""
    include_bos: bool = False
    """Pool the BOS token too, where the tokenizer sets one."""
    seed: int = 0
    """Chooses negatives, controls and the resampling of intervals; split_seed chooses facts."""
    batch_size: int | None = None
    """Prompts at a time; by default what memory holds."""
    device: str | None = None
    """cpu, cuda, ...; by default the GPU if there is one."""
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    """Type of the weights; by default float32 on the CPU and the checkpoint's own on a GPU."""

    def __post_init__(self) -> None:
        require_at_least(self, k=1, n_controls=1, batch_size=1, seed=0)
        named_device(self.device)


def run(config: RunConfig, out: Path) -> Results:
    """Carry out a run, or go on with one that was interrupted, and write its folder.

    Args:
        config: What to do.
        out: The run folder: `run.json` (configuration, versions), `neurons.parquet`, `controls.parquet`,
            `counts.parquet`, `recall.parquet`, `summary.parquet`, `space.parquet` (layers and neurons of the model)
            and `report.html`, which `relation-neurons report` writes anew from these tables.

    Raises:
        RelationNeuronsError: Whatever of the input cannot be used, or a folder that holds another run.
    """
    relations = load_relations(*config.relations)
    if len(relations) < 2:
        raise refuse(f"{len(relations)} relation was asked for", expected="at least two: the others are the negatives")
    prompts = make_prompts(relations, config.prompts)
    _require_memory(config, prompts, len(relations), out)
    model = load_model(config.model, device=config.device, dtype=config.dtype)
    space = neuron_space(model, config.site)
    if config.k > len(space):
        raise refuse(f"k is {config.k}", expected=f"1 to {len(space)}, the number of neurons at '{config.site}'")
    folder = RunFolder(out, study_key(config, relations, model, prompts))

    selection = select(config, model, prompts, folder)
    table = _ask_all(config, model, prompts, selection, folder)
    summary = folder.table("summary", lambda: summarise(table, seed=config.seed))
    neurons = folder.table("neurons", pd.DataFrame)
    folder.table("space", lambda: pd.DataFrame({"n_layers": [space.n_layers], "n_neurons": [len(space)]}))
    results = Results(table, neurons, selection.counts, summary, space.n_layers, len(space))
    folder.write_text("report.html", write_report(results, folder.key))
    folder.drop_parts()
    return results


def _require_memory(config: RunConfig, prompts: Prompts, n_relations: int, out: Path) -> None:
    """Say what is needed, and refuse what cannot fit, before anything long begins."""
    needed = estimate(
        config.model,
        () if (out / "neurons.parquet").is_file() else prompts.detection,
        config.site,
        n_answers=len(prompts.evaluation) * (1 + n_relations + config.n_controls),
        batch_size=config.batch_size,
        device=config.device,
        dtype=config.dtype,
        out=out,
        shards=True,
    )
    require_memory(needed)


def select(config: RunConfig, model: Any, prompts: Prompts, folder: RunFolder) -> Selection:
    """Read the detection prompts once and choose neurons and controls, or take those that the folder holds."""
    names = ("neurons", "controls", "counts")
    if not folder.has(*names):
        selection = _select_anew(config, model, prompts.detection, folder)
        drawn = [one for ones in selection.controls.values() for one in ones]
        folder.table("neurons", lambda: pd.concat([one.to_frame() for one in selection.targets.values()]))
        folder.table("controls", lambda: pd.concat([one.to_frame() for one in drawn]))
        folder.table("counts", lambda: selection.counts)
        drop_shards(folder.path / "activations")
    neurons, controls, counts = (folder.table(name, pd.DataFrame) for name in names)
    targets = {str(name): NeuronSet.from_frame(rows) for name, rows in neurons.groupby("name", sort=False)}
    sets = [NeuronSet.from_frame(rows) for _, rows in controls.groupby("name", sort=False)]
    matched = {name: [one for one in sets if control_of(one.name) == name] for name in targets}
    return Selection(targets, matched, counts)


def _select_anew(config: RunConfig, model: Any, detection: tuple[Prompt, ...], folder: RunFolder) -> Selection:
    if config.validation != "none":
        with bar("Validating prompts", len(detection)) as progress:
            answers = folder.table(
                "detection",
                lambda: recall(model, detection, batch_size=config.batch_size, progress=progress),
            )
        detection = keep_right(detection, answers, config.validation, at_least=10)
    with bar("Reading activations", len(detection)) as progress:
        activations = kept_activations(
            model,
            detection,
            folder.path / "activations",
            site=config.site,
            include_bos=config.include_bos,
            batch_size=config.batch_size,
            progress=progress,
        )
    return select_neurons(activations, k=config.k, n_controls=config.n_controls, seed=config.seed)


def _ask_all(config: RunConfig, model: Any, prompts: Prompts, selection: Selection, folder: RunFolder) -> pd.DataFrame:
    """Recall in every condition; each part is written when it ends, so that a stopped run goes on from there."""
    asked = conditions(prompts.evaluation, selection.targets, selection.controls)
    total = sum(len(condition.prompts) for condition in asked)
    sizes = [sum(len(condition.prompts) for condition in part) for part in parts(asked)]
    with bar("Asking for facts", total) as progress:

        def keep(number: int, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
            name = f"parts/{number:04}"
            if folder.has(name):
                progress(sizes[number])
            return folder.table(name, make)

        return folder.table(
            "recall",
            lambda: measure(model, asked, keep=keep, batch_size=config.batch_size, progress=progress),
        )
