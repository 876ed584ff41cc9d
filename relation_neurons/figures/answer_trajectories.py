"""Outcomes of individual answers as more neurons are ablated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Int
from numpy import ndarray

from relation_neurons.errors import refuse
from relation_neurons.figures.common import empty_figure, panel_figure, tick_text
from relation_neurons.figures.style import FAINT, GREEN, OWN, RISE, SKY

OUTCOMES = {
    "always right": OWN,
    "regained": SKY,
    "gained": GREEN,
    "lost": RISE,
    "wrong without ablation": FAINT,
}
"""Outcomes of an answer at some k with their colours, right answers first."""


def answer_trajectories_figure(facts: pd.DataFrame, ks: Sequence[int] | None = None, max_panels: int = 16) -> go.Figure:
    """Shares of lost, gained and regained answers by number of ablated neurons.

    Args:
        facts: Table of `cumulativity.flip_table`.
        ks: Numbers of ablated neurons, ascending. By default they are read from the facts, which only
            reveal those at which some answer changed for the first time; the others are labelled `?`.
        max_panels: Largest number of relations with a panel each; of more, one is selected from a menu.
    """
    title = "Answer trajectories"
    if facts.empty:
        return empty_figure(title)
    courses = course_matrix(facts)
    labels = ["0", *step_labels(facts, courses, ks)]
    relations = facts["relation"].to_numpy()
    parts = {f"all relations ({len(facts)})": _outcome_bars(courses, labels)}
    for name in facts["relation"].unique():
        of_relation = courses[relations == name]
        parts[f"{name} ({len(of_relation)})"] = _outcome_bars(of_relation, labels)
    figure = panel_figure(parts, title, max_panels + 1, "neurons ablated")
    figure.update_layout(barmode="stack", bargap=0.06)
    stride = 1 if len(parts) > max_panels + 1 else 1 + (len(labels) - 1) // 6
    figure.update_xaxes(
        tickvals=list(range(len(labels)))[::stride], ticktext=labels[::stride], tickangle=0, showgrid=False
    )
    return figure.update_yaxes(range=[0, 1], tickvals=[0, 0.5, 1], tickformat=".0%", title="answers", col=1)


def _outcome_bars(courses: Int[ndarray, "answer step"], labels: Sequence[str]) -> list[go.Bar]:
    """Bars of the share of each outcome at every step."""
    outcomes, bars = outcome_matrix(courses), []
    for number, (name, colour) in enumerate(OUTCOMES.items()):
        state = outcomes == number
        counts, new = state.sum(axis=0), (state[:, 1:] & ~state[:, :-1]).sum(axis=0)
        hover = [f"k = {label}<br>{n} of {len(courses)} {name}" for label, n in zip(labels, counts, strict=True)]
        hover[1:] = [f"{text}, {n} of them new at this k" for text, n in zip(hover[1:], new, strict=True)]
        style = {"name": name, "legendgroup": name, "marker_color": colour, "hovertext": hover, "hoverinfo": "text"}
        bars.append(go.Bar(x=list(range(len(labels))), y=counts / len(courses), **style))
    return bars


def course_matrix(facts: pd.DataFrame) -> Int[ndarray, "answer step"]:
    """Correctness (1 or 0) of each answer at every step, from the column `course`."""
    return np.array([list(map(int, course)) for course in facts["course"]])


def outcome_matrix(courses: Int[ndarray, "answer step"]) -> Int[ndarray, "answer step"]:
    """Outcome of each answer at every step, as an index into `OUTCOMES`."""
    right, at_first = courses == 1, courses[:, :1] == 1
    throughout = np.logical_and.accumulate(right, axis=1)
    return np.select([throughout, right & at_first, right, at_first], [0, 1, 2, 3], 4)


def step_labels(facts: pd.DataFrame, courses: Int[ndarray, "answer step"], ks: Sequence[int] | None) -> list[str]:
    """Labels of the steps: their k if given or known from a first change of an answer, else `?`."""
    n_steps = courses.shape[1] - 1
    if ks is not None:
        if len(ks) != n_steps:
            raise refuse(f"There are {len(ks)} values of k", expected=f"{n_steps}, one per step of the courses")
        return [tick_text(k) for k in ks]
    changed = courses != courses[:, :1]
    first = facts["lost_at"].fillna(facts["gained_at"])
    known = dict(zip(changed.argmax(axis=1), first, strict=True))
    return [tick_text(known[step]) if known.get(step, np.nan) > 0 else "?" for step in range(1, n_steps + 1)]
