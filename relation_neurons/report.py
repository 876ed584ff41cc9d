"""A run as one self-contained page: summary, figures, neurons, answers; works offline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
import pandas as pd
import plotly.graph_objects as go
import plotly.offline

from relation_neurons.experiments.ablation import effect_matrix, effects, verdict
from relation_neurons.figures import effect_matrix_figure, effects_figure, layers_figure, overlap_figure
from relation_neurons.sites import Neuron
from relation_neurons.statistics import Interval

TOP_SHOWN = 10
ANSWERS_SHOWN = 5


@dataclass(frozen=True)
class Results:
    """Everything that a run found.

    Attributes:
        recall: A row per prompt and condition, from `experiments.ablation.measure`.
        neurons: A row per relation and neuron, from `NeuronSet.to_frame`.
        counts: A row per relation: detection prompts and the cut, from `Selection.counts`.
        summary: A row per relation and measure, from `experiments.ablation.summarise`.
        n_layers: Layers of the model.
        n_neurons: Neurons of the model at the site.
    """

    recall: pd.DataFrame
    neurons: pd.DataFrame
    counts: pd.DataFrame
    summary: pd.DataFrame
    n_layers: int
    n_neurons: int


def figures_of(results: Results) -> dict[str, go.Figure]:
    """The figures of a run by name."""
    changes = effects(results.recall)
    return {
        "effects": effects_figure(results.summary, changes),
        "accuracy": effects_figure(results.summary, changes, "correct_string"),
        "matrix": effect_matrix_figure(effect_matrix(results.recall)),
        "layers": layers_figure(results.neurons, results.n_layers),
        "overlap": overlap_figure(results.neurons),
    }


def verdict_sentence(summary: pd.DataFrame, measure: str = "logprob") -> str:
    """In words, for how many relations own minus random lies below, across and above zero."""
    sides = verdict(summary, measure)
    total = sum(map(len, sides.values()))

    def listed(side: str) -> str:
        return f" ({', '.join(sides[side])})" if sides[side] else ""

    what = "log-probability of the right object" if measure == "logprob" else "accuracy"
    return (
        f"The {what} falls more than under matched random neurons, its 95 % interval below zero, in "
        f"{len(sides['below'])} of {total} relations{listed('below')}; the interval crosses zero in "
        f"{len(sides['across'])}{listed('across')} and lies above it in {len(sides['above'])}{listed('above')}."
    )


def summary_rows(summary: pd.DataFrame, measure: str) -> list[dict[str, str]]:
    """The summary of one measure as text, `mean [low, high]`, a dictionary per relation."""
    rows = []
    for row in summary[summary["measure"] == measure].to_dict("records"):
        found = {
            part: Interval(*(row[f"{part}_{field}"] for field in Interval._fields))
            for part in ("clean", "own", "other", "random", "own_minus_random")
        }
        clean = found["clean"]
        shown = {part: str(interval) if interval.n else "" for part, interval in found.items()}
        shown["clean"] = f"{clean.mean:.2f} [{clean.low:.2f}, {clean.high:.2f}]"
        rows.append(
            {"relation": str(row["relation"]), "n": str(clean.n), **shown, "side": found["own_minus_random"].side}
        )
    return rows


def write_report(results: Results, run: Mapping[str, Any]) -> str:
    """The page.

    Args:
        results: What the run found.
        run: What determined it (configuration, versions), shown at the end.

    Returns:
        HTML with plotly inside, a few megabytes.
    """
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        (resources.files("relation_neurons") / "templates" / "report.html").read_text(encoding="utf-8")
    )
    figures = {
        name: figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})
        for name, figure in figures_of(results).items()
    }
    return template.render(
        plotlyjs=plotly.offline.get_plotlyjs(),
        figures=figures,
        tables={measure: summary_rows(results.summary, measure) for measure in results.summary["measure"].unique()},
        verdict=verdict_sentence(results.summary),
        verdict_accuracy=verdict_sentence(results.summary, "correct_string"),
        counts=results.counts.to_dict("records"),
        top=_top_neurons(results.neurons),
        answers=_changed_answers(results.recall),
        run=run,
        config=run["config"],
        n_neurons=results.n_neurons,
    )


def _top_neurons(neurons: pd.DataFrame) -> list[dict[str, object]]:
    shown: list[dict[str, object]] = []
    for relation, rows in neurons.groupby("name", sort=False):
        best = rows.head(TOP_SHOWN)[["site", "layer", "index", "score"]].to_numpy().tolist()
        named = [(str(Neuron(site, layer, index)), score) for site, layer, index, score in best]
        shown.append({"relation": relation, "neurons": named})
    return shown


def _changed_answers(recall: pd.DataFrame) -> list[dict[str, object]]:
    """For each relation the facts whose probability fell most, with the answers before and after."""
    changes = effects(recall)
    own = changes[changes["kind"] == "own"].sort_values("d_logprob", kind="stable")
    clean = recall[recall["kind"] == "clean"].set_index(["relation", "subject", "template"])["generated"]
    shown = []
    for relation in recall["relation"].unique():
        rows = own[own["relation"] == relation].head(ANSWERS_SHOWN)
        shown += [
            {**row, "before": clean.loc[(row["relation"], row["subject"], row["template"])]}
            for row in rows.to_dict("records")
        ]
    return shown
