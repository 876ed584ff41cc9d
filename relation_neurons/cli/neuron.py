"""The command `neuron NEURON`: one neuron as tables and as one page that works offline."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from relation_neurons.cli.neuron_card import first_of, shown_at_once, text_table
from relation_neurons.errors import refuse
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.registry import DEMO_RELATIONS
from relation_neurons.experiments.runner import default_folder
from relation_neurons.experiments.session import prepare
from relation_neurons.experiments.single_neuron import SingleNeuronConfig, single_neuron
from relation_neurons.explorer.finished_run import finished_run, stored_config
from relation_neurons.figures.single_neuron import visible
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.sites import SITES, Neuron
from relation_neurons.prompts.prompts import PromptConfig
from relation_neurons.report.single_neuron import _effect_rows, _score_rows, neuron_page
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.statistics.formatting import range_text
from relation_neurons.storage.fingerprint import code_digest, versions

QUICK = StudyConfig(
    relations=DEMO_RELATIONS,
    n_controls=4,
    prompts=PromptConfig(n_evaluation=20, n_detection=40),
    validation="none",
)
"""The defaults: relations that the embedded model knows, with so few facts that a CPU needs about a minute."""


def neuron_command(
    neuron: tyro.conf.Positional[str],
    options: Annotated[SingleNeuronConfig, tyro.conf.arg(name="")],
    study: Annotated[StudyConfig, tyro.conf.arg(name="")] = QUICK,
    run: Path | None = None,
    out: Path | None = None,
) -> None:
    """Analyse one neuron: average precision, top activating prompts, promoted tokens and ablation effects.

    Writes a folder with tables and neuron.html, one page that works offline.

    Args:
        neuron: Such as gate:L11.N507, or L11.N507 for one of the site that --site names (post where that is several).
        options: How much is shown.
        study: The model, the relations and the measurements.
        run: The folder of a finished run, whose settings are taken; a neuron that has a card there is shown at once.
        out: The folder of the study, in which the neuron gets one of its own; by default one under `runs/` named after
            model and options, shared with the experiments of the same study, or that of --run.
    """
    console, started = Console(), time.monotonic()
    if run is not None:
        study, out = settings_of(run, study, QUICK, out)
    chosen = Neuron.parse(neuron, study.site if study.site in SITES else "post")
    if run is not None and shown_at_once([neuron, "--run", str(run)]):
        return
    if run is not None and out == run:
        require_same_code(run)
    out = out or default_folder(study)
    result, place = look_at(chosen, study, out, options)
    for sentence in result.verdict:
        console.print(f"- {sentence}", soft_wrap=True, markup=False, highlight=False)
    for table in _printed(result):
        console.print(table)
    console.print(f"Took {time.monotonic() - started:.0f} s. Open {place / 'neuron.html'}", soft_wrap=True)


def settings_of(path: Path, given: StudyConfig, default: StudyConfig, out: Path | None) -> tuple[StudyConfig, Path]:
    """The settings of a finished run, and where to write.

    Args:
        path: Of the run.
        given: The settings on the command line, which must be the defaults.
        default: The defaults.
        out: Where the user wants to write, if he says so.

    Raises:
        RelationNeuronsError: No finished run, or settings beside it.
    """
    if given != default:
        raise refuse("There are settings of a study beside --run", do="leave them out: those of the run are taken")
    run = finished_run(path)
    return stored_config(run), out or path


def require_same_code(path: Path) -> None:
    """Refuse to write measurements into the folder of a run that other code has made, which would archive it."""
    key = finished_run(path).key
    if (key.get("code"), key.get("versions")) != (code_digest()[:16], versions()):
        do = "pass --out for a folder of its own, or give the run's command again"
        raise refuse(f"{path} was made by another version of the code, and this neuron has no card there", do=do)


def look_at(
    neuron: Neuron, config: StudyConfig, out: Path, options: SingleNeuronConfig
) -> tuple[ExperimentResult, Path]:
    """Inspect one neuron and write its folder: tables as parquet, `options.json`, and `neuron.html`.

    Args:
        neuron: Which.
        config: The model, the relations and the measurements.
        out: The folder of the study, which keeps its answers.
        options: How much is shown.

    Returns:
        What was found, and the neuron's folder, `out/neuron/SITE-LAYER.INDEX`.

    Raises:
        RelationNeuronsError: A neuron that the model does not have, input that cannot be used, or a folder
            of another study.
    """
    study = prepare(config, out=out)
    neuron_space(study.model, neuron.site).flatten([neuron])  # before anything is written
    folder = study.keep_in(out)
    result = single_neuron(study, neuron, options)
    name = f"neuron/{neuron.site}-L{neuron.layer}.N{neuron.index}"
    for label, table in result.tables.items():
        folder.write_table(f"{name}/{label}", table)
    folder.write_text(f"{name}/options.json", json.dumps(asdict(options), indent=2) + "\n")
    folder.write_text(f"{name}/neuron.html", neuron_page(result, neuron, folder.key))
    return result, folder.path / name


def _printed(result: ExperimentResult) -> list[Table]:
    """Short tables for a terminal: the relations of highest average precision, tokens, and effects."""
    scores, effects = (make(result.tables[name]) for make, name in ((_score_rows, "scores"), (_effect_rows, "effects")))
    tables = [
        text_table(
            f"Average precision{first_of(scores)}: 95 % over facts",
            {
                "relation": [row["relation"] for row in scores],
                "AP": [row["ap"] for row in scores],
                "shuffled, 97.5 %": [row["null_high"] for row in scores],
                "p (Holm)": [row["p_holm"] for row in scores],
            },
        )
    ]
    tokens = result.tables["tokens"]
    if len(tokens):
        sides = {side: rows.to_dict("records") for side, rows in tokens.groupby("side", sort=False)}
        columns = {
            str(side): [f"{visible(row['token'])} ({row['z']:+z.1f})" for row in rows] for side, rows in sides.items()
        }
        tables.append(text_table("Tokens, standard deviations from the mean of the vocabulary", columns))
    columns = {
        title: [row[name] for row in effects]
        for title, name in (
            ("relation", "relation"),
            ("logprob (nats)", "logprob"),
            ("random", "random_logprob"),
            ("accuracy", "correct"),
        )
    }
    n = range_text(int(row["n"]) for row in effects)
    return [*tables, text_table(f"Ablated alone{first_of(effects)}: 95 % over {n} facts", columns)]
