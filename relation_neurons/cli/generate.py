"""The command `generate`: what a model writes with neurons ablated, beside the clean model and random neurons."""

from __future__ import annotations

from pathlib import Path

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from relation_neurons.errors import nearest, refuse
from relation_neurons.evaluation.generations import Generations, compare_generations
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.loading import load_model
from relation_neurons.models.sites import Neuron
from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.controls import random_controls
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.results.run import Run, open_run
from relation_neurons.statistics.notebook_html import line


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
        neurons: Which are ablated: the folder of a run and a relation, as runs/demo:country_language; several are
            compared.
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
    runs = {name: _of_run(name, k) for name in dict.fromkeys(neurons)}
    models = {model or str(run.key["config"]["model"]) for run, _ in runs.values()}
    if len(models) > 1:
        raise refuse(f"The runs are of {len(models)} models", expected="runs of one model, or --model")
    loaded = load_model(models.pop(), device=device)
    conditions = {}
    for run, target in runs.values():
        conditions[target.name] = target
        conditions |= _random(loaded, run, target, n_controls, seed)
    found = compare_generations(loaded, list(prompts), conditions, max_new_tokens=max_new_tokens)
    Console().print(as_table(found))
    if out is not None:
        style = "<style>td, th { padding: 0.3em 0.8em; vertical-align: top; text-align: left; }</style>"
        page = f'<!DOCTYPE html><meta charset="utf-8"><title>Generations</title>{style}{line(found)}'
        out.write_text(page + found._repr_html_(), encoding="utf-8")


def _of_run(name: str, k: int | None) -> tuple[Run, NeuronSet]:
    """The neurons of a relation in a run."""
    folder, _, relation = name.rpartition(":")
    if not folder:
        raise refuse(f"--neurons is '{name}'", expected="RUN:RELATION, such as runs/demo:country_language")
    run = open_run(folder)
    sets = run.neurons()
    if relation not in sets:
        raise refuse(f"{folder} has no neurons of '{relation}'", expected=nearest(relation, sets))
    return run, sets[relation] if k is None else sets[relation].part(0, k)


def _random(model: HookedModel, run: Run, target: NeuronSet, n: int, seed: int) -> dict[str, NeuronSet]:
    """Random sets like a run's, which leave critical neurons out."""
    sites = list(dict.fromkeys(neuron.site for neuron in target))
    site = str(run.key["config"]["site"]) if len(sites) > 1 else sites[0]
    excluded = []
    if "critical" in run.tables and not run.key["config"].get("keep_critical"):
        rows = run.table("critical").to_dict("records")
        excluded = [Neuron(row["site"], row["layer"], row["index"]) for row in rows if row["site"] in sites]
    drawn = random_controls(target, neuron_space(model, site), n=n, seed=seed, exclude=excluded) if n else []
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
