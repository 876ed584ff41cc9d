"""The page of a single neuron."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2
import pandas as pd
import plotly.offline

from relation_neurons.figures.single_neuron import shaded_prompts
from relation_neurons.models.sites import Neuron
from relation_neurons.report.figure_registry import draw
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.statistics.effects import SHOWN
from relation_neurons.statistics.formatting import interval_text


def neuron_page(result: ExperimentResult, neuron: Neuron, run: Mapping[str, Any]) -> str:
    """Render the result of a single neuron as one page.

    Args:
        result: Result of `single_neuron`.
        neuron: The neuron.
        run: Configuration and versions, shown at the end.

    Returns:
        HTML of a few megabytes that includes plotly.js.
    """
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        (resources.files("relation_neurons.report") / "templates" / "neuron.html").read_text(encoding="utf-8")
    )
    figures = {
        label: figure.to_html(
            full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True}
        )
        for label, figure in draw("neuron", result).items()
    }
    return template.render(
        plotlyjs=plotly.offline.get_plotlyjs(),
        neuron=neuron,
        model=run["model"]["name"],
        n_prompts=len(result.tables["values"]),
        n_controls=run["config"]["n_controls"],
        seed=run["config"]["seed"],
        verdict=result.verdict,
        figures=figures,
        prompts=shaded_prompts(result.tables["top_prompts"]),
        scores=_score_rows(result.tables["scores"]),
        effects=_effect_rows(result.tables["effects"]),
        run=run,
    )


def _score_rows(scores: pd.DataFrame) -> list[dict[str, str]]:
    """Format the scores as text, the best relation first."""
    rows = scores.sort_values("ap", ascending=False, kind="stable").to_dict("records")
    return [
        {str(name): str(value) for name, value in row.items()}
        | {name: f"{row[name]:.3f}" for name in ("chance", "null_high")}
        | {"ap": f"{row['ap']:.3f} [{row['ap_low']:.3f}, {row['ap_high']:.3f}]", "p_holm": f"{row['p_holm']:.2g}"}
        for row in rows
    ]


def _effect_rows(effects: pd.DataFrame) -> list[dict[str, Any]]:
    """Format the effects as text, one row per relation, the largest drop in log-probability first."""
    by_measure = {str(measure): rows.set_index("relation") for measure, rows in effects.groupby("measure", sort=False)}
    texts: list[dict[str, Any]] = []
    for name in by_measure["logprob"].sort_values("effect", kind="stable").index:
        texts.append({"relation": name, "n": str(by_measure["logprob"].loc[name, "n"])})
        for measure, rows in by_measure.items():
            row = rows.loc[name].to_dict()
            texts[-1] |= {
                measure: interval_text(row, decimals=3 if measure == "logprob" else 2),
                f"random_{measure}": f"{row['random']:+z.3f}",
                f"p_{measure}": f"{row['p_holm']:.2g}",
                f"shown_{measure}": row["verdict"] in SHOWN,
            }
    return texts
