"""The command `generate`: what a model writes with neurons ablated, beside the clean model and random neurons."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from relation_neurons.errors import nearest, refuse
from relation_neurons.evaluation.generations import Generations, compare_generations
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.loading import load_model
from relation_neurons.models.sites import Neuron, NeuronSpace
from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.controls import random_controls
from relation_neurons.neurons.files import load_neurons, read_neuron_file
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.results.run import open_run
from relation_neurons.statistics.notebook_html import line

SUFFIX = ".parquet"
"""Of files of neuron sets."""


def generate_command(
    prompts: tyro.conf.Positional[tuple[str, ...]],
    neurons: tuple[str, ...],
    model: str | None = None,
    device: str | None = None,
    k: int | None = None,
    n_controls: int = 1,
    max_new_tokens: int = 16,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Let a model continue texts: clean, with a relation's neurons ablated, and with matched random ones ablated.

    Args:
        prompts: Texts to continue, each in quotes.
        neurons: Which are ablated: the folder of a run and a relation, as runs/demo:country_language, or a file of
            neuron sets, as basket.parquet or sets.parquet:NAME; several are compared.
        model: By default that of the run.
        device: cpu, cuda, ...; by default the GPU if there is one.
        k: Only so many of the best neurons; by default all that the run chose.
        n_controls: Random sets for each, with as many neurons in each site and layer.
        max_new_tokens: Tokens of each continuation.
        seed: Of the random sets.
        out: Also write the comparison as an HTML page, differences marked.
    """
    if not neurons:
        raise refuse("There are no neurons", expected="--neurons RUN:RELATION, such as runs/demo:country_language")
    sources = {name: _source(name, k) for name in dict.fromkeys(neurons)}
    models = {model or source.model for source in sources.values()}
    if len(models) > 1:
        raise refuse(f"The neurons are of {len(models)} models", expected="neurons of one model, or --model")
    loaded = load_model(models.pop(), device=device)
    conditions = {}
    for source in sources.values():
        if source.file is not None:
            load_neurons(source.file, loaded)  # which refuses those of another model
        conditions[source.neurons.name] = source.neurons
        conditions |= _random(loaded, source, n_controls, seed)
    found = compare_generations(loaded, list(prompts), conditions, max_new_tokens=max_new_tokens)
    Console().print(as_table(found))
    if out is not None:
        style = "<style>td, th { padding: 0.3em 0.8em; vertical-align: top; text-align: left; }</style>"
        page = f'<!DOCTYPE html><meta charset="utf-8"><title>Generations</title>{style}{line(found)}'
        out.write_text(page + found._repr_html_(), encoding="utf-8")


class Source(NamedTuple):
    """Neurons, and where they come from.

    Attributes:
        neurons: The set.
        model: What `load_model` takes.
        excluded: Neurons that are no control.
        file: The file of neuron sets, if it is one.
    """

    neurons: NeuronSet
    model: str
    excluded: tuple[Neuron, ...] = ()
    file: Path | None = None


def _source(name: str, k: int | None) -> Source:
    """The neurons of a relation in a run, or those of a file."""
    path, _, label = name.rpartition(":")
    file = Path(name if name.endswith(SUFFIX) else path)
    if file.suffix == SUFFIX:
        return _of_file(file, "" if name.endswith(SUFFIX) else label, k)
    if not path:
        expected = "RUN:RELATION, such as runs/demo:country_language, or a file of neuron sets, such as basket.parquet"
        raise refuse(f"--neurons is '{name}'", expected=expected)
    run = open_run(path)
    sets = run.neurons()
    if label not in sets:
        raise refuse(f"{path} has no neurons of '{label}'", expected=nearest(label, sets))
    excluded: tuple[Neuron, ...] = ()
    if "critical" in run.tables and not run.key["config"].get("keep_critical"):
        rows = run.table("critical").to_dict("records")
        excluded = tuple(Neuron(row["site"], row["layer"], row["index"]) for row in rows)
    return Source(_best(sets[label], k), str(run.key["config"]["model"]), excluded)


def _of_file(path: Path, label: str, k: int | None) -> Source:
    """A set of a file, which need not be named if it is the only one."""
    found = read_neuron_file(path)
    label = label or next(iter(found.sets)) if len(found.sets) == 1 else label
    if label not in found.sets:
        raise refuse(f"{path} has no set '{label}'", expected=nearest(label, found.sets), do=f"pass {path}:NAME")
    model = str(found.made_from.get("model", found.space.model))
    return Source(_best(found.sets[label], k), model, file=path)


def _best(neurons: NeuronSet, k: int | None) -> NeuronSet:
    return neurons if k is None else neurons.part(0, k)


def _random(model: HookedModel, source: Source, n: int, seed: int) -> dict[str, NeuronSet]:
    """Random sets with as many neurons in each site and layer, which leave critical neurons out."""
    target, drawn = source.neurons, []
    if n:
        sites = sorted({one.site for one in target})
        widths = tuple(pair for site in sites for pair in neuron_space(model, site).widths)
        space = NeuronSpace(str(model.cfg.model_name), model.cfg.n_layers, widths)
        excluded = [neuron for neuron in source.excluded if neuron.site in sites]
        drawn = random_controls(target, space, n=n, seed=seed, exclude=excluded)
    return {one.name: one for one in drawn}


def as_table(found: Generations) -> Table:
    """Continuations for the terminal, what differs from the clean model's in bold."""
    table = Table("prompt", "neurons ablated", "continuation", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for prompt, rows in found.table.groupby("prompt", sort=False):
        for number, row in enumerate(rows.to_dict("records")):
            text = Text(_shown(row["agrees"]))
            text.append(_shown(row["generated"][len(row["agrees"]) :]), style="bold red" if row["differs"] else "")
            ablated = "none" if row["condition"] == "clean" else row["condition"]
            table.add_row(Text(str(prompt) if number == 0 else ""), Text(ablated), text)
        table.add_section()
    return table


def _shown(text: str) -> str:
    """Line breaks as signs, so that a continuation stays in its row."""
    return text.replace("\n", "⏎")
