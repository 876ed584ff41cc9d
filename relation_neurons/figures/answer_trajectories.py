"""What becomes of single answers as more neurons are ablated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Int
from numpy import ndarray

from relation_neurons.errors import refuse
from relation_neurons.figures.common import nothing, panels, short
from relation_neurons.figures.style import FAINT, GREEN, OWN, RISE, SKY

FATES = {
    "right throughout": OWN,
    "right again": SKY,
    "gained": GREEN,
    "lost": RISE,
    "wrong without ablating": FAINT,
}
"""What has become of an answer, the right ones first, with its colour."""


def answer_trajectories_figure(facts: pd.DataFrame, ks: Sequence[int] | None = None, max_panels: int = 16) -> go.Figure:
    """What becomes of the answers as more neurons are ablated, in all relations and in each.

    Args:
        facts: From `cumulativity.flip_table`.
        ks: The numbers of neurons, ascending; by default those at which some answer first changed, the others unnamed.
        max_panels: Relations up to which each has a small panel; of more, one is chosen from a menu.
    """
    title = "Fates of answers"
    if facts.empty:
        return nothing(title)
    courses = courses_of(facts)
    labels = ["0", *step_labels(facts, courses, ks)]
    relations = facts["relation"].to_numpy()
    parts = {f"all relations ({len(facts)})": _fates(courses, labels)}
    for name in facts["relation"].unique():
        there = courses[relations == name]
        parts[f"{name} ({len(there)})"] = _fates(there, labels)
    figure = panels(parts, title, max_panels + 1, "neurons ablated")
    figure.update_layout(barmode="stack", bargap=0.06)
    stride = 1 if len(parts) > max_panels + 1 else 1 + (len(labels) - 1) // 6
    figure.update_xaxes(
        tickvals=list(range(len(labels)))[::stride], ticktext=labels[::stride], tickangle=0, showgrid=False
    )
    return figure.update_yaxes(range=[0, 1], tickvals=[0, 0.5, 1], tickformat=".0%", title="answers", col=1)


def _fates(courses: Int[ndarray, "answer step"], labels: Sequence[str]) -> list[go.Bar]:
    """The share of answers in each state at every step."""
    fates, bars = fates_of(courses), []
    for number, (name, colour) in enumerate(FATES.items()):
        state = fates == number
        counts, fresh = state.sum(axis=0), (state[:, 1:] & ~state[:, :-1]).sum(axis=0)
        hover = [f"k = {label}<br>{n} of {len(courses)} {name}" for label, n in zip(labels, counts, strict=True)]
        hover[1:] = [f"{text}, {n} of them not at the k before" for text, n in zip(hover[1:], fresh, strict=True)]
        about = {"name": name, "legendgroup": name, "marker_color": colour, "hovertext": hover, "hoverinfo": "text"}
        bars.append(go.Bar(x=list(range(len(labels))), y=counts / len(courses), **about))
    return bars


def courses_of(facts: pd.DataFrame) -> Int[ndarray, "answer step"]:
    """Right (1) or wrong (0) answers at every step, from the column `course`."""
    return np.array([list(map(int, course)) for course in facts["course"]])


def fates_of(courses: Int[ndarray, "answer step"]) -> Int[ndarray, "answer step"]:
    """What has become of each answer at every step, as a number in `FATES`."""
    right, at_first = courses == 1, courses[:, :1] == 1
    throughout = np.logical_and.accumulate(right, axis=1)
    return np.select([throughout, right & at_first, right, at_first], [0, 1, 2, 3], 4)


def step_labels(facts: pd.DataFrame, courses: Int[ndarray, "answer step"], ks: Sequence[int] | None) -> list[str]:
    """What the steps are called: their k where it is given, or where an answer first changed."""
    n_steps = courses.shape[1] - 1
    if ks is not None:
        if len(ks) != n_steps:
            raise refuse(f"{len(ks)} ks were given", expected=f"{n_steps}, as many as the courses have steps")
        return [short(k) for k in ks]
    changed = courses != courses[:, :1]
    first = facts["lost_at"].fillna(facts["gained_at"])
    known = dict(zip(changed.argmax(axis=1), first, strict=True))
    return [short(known[step]) if known.get(step, np.nan) > 0 else "?" for step in range(1, n_steps + 1)]
