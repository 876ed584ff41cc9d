"""Answers as a stream from one number of ablated neurons to the next: which are lost, and which come back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Int
from numpy import ndarray

from relation_neurons.figures.answer_trajectories import FATES, courses_of, fates_of, step_labels
from relation_neurons.figures.common import choose, nothing
from relation_neurons.figures.style import BUTTONS, RANDOM, styled

SHORT = ("right", "right again", "gained", "lost", "wrong")
"""What boxes are called, in the order of `FATES`."""
COLUMNS = 5
EXAMPLES = 4
HEIGHT, GAP, THICK = 400, 18, 12
"""Of the diagram, between its boxes, and of its boxes, in pixels."""


class Box(NamedTuple):
    """Answers of one fate at one step."""

    step: int
    fate: int
    n: int
    middle: float


def answer_flows_figure(facts: pd.DataFrame, ks: Sequence[int] | None = None, columns: int = COLUMNS) -> go.Figure:
    """The answers of all relations, or of one chosen from a menu, as more neurons are ablated.

    Args:
        facts: From `cumulativity.flip_table`.
        ks: The numbers of neurons, ascending, as for `answer_trajectories_figure`.
        columns: At most so many of them are shown, the unsilenced model and the largest k among them. What has become
            of an answer counts every k: one is `right again` if it was wrong at any k before.
    """
    title = "From answer to answer: lost, gained and right again"
    if facts.empty:
        return nothing(title)
    courses = courses_of(facts)
    labels = ["0", *step_labels(facts, courses, ks)]
    if ks is not None:
        labels[1:] = [f"{k:,}" for k in ks]
    steps = np.unique(np.linspace(0, len(labels) - 1, min(columns, len(labels))).round().astype(int))
    fates, relations = fates_of(courses)[:, steps], facts["relation"].to_numpy()
    shown = [labels[step] for step in steps]
    chosen = {f"all relations ({len(facts)})": np.ones(len(facts), dtype=bool)}
    for name in facts["relation"].unique():
        there = relations == name
        chosen[f"{name} ({there.sum()})"] = there
    figure = go.Figure([_stream(facts[there], fates[there], shown) for there in chosen.values()])
    figure = choose(styled(figure, title, height=HEIGHT + 30, legend_rows=0), list(chosen))
    figure.update_layout(height=HEIGHT + 130, margin={"t": 110, "b": 20, "l": 14, "r": 14})
    names = [[*_heads(shown), *_names(fates[there])] for there in chosen.values()]
    menu = figure.layout.updatemenus[0]
    menu.pad.b = 30
    for button, said in zip(menu.buttons, names, strict=True):
        button.update(method="update", args=[*button.args, {"annotations": said}])
    return figure.update_layout(annotations=names[0])


def _stream(facts: pd.DataFrame, fates: Int[ndarray, "answer column"], labels: Sequence[str]) -> go.Sankey:
    """The diagram of some answers; its boxes stand in the order of fates, so that right answers are on top."""
    boxes = _boxes(fates)
    place = {(box.step, box.fate): number for number, box in enumerate(boxes)}
    about = (facts["relation"] + ": " + facts["subject"]).to_numpy()
    source, target, values, hover, colours = [], [], [], [], []
    for step in range(fates.shape[1] - 1):
        for before, after in sorted(set(zip(fates[:, step].tolist(), fates[:, step + 1].tolist(), strict=True))):
            there = (fates[:, step] == before) & (fates[:, step + 1] == after)
            source.append(place[step, before])
            target.append(place[step + 1, after])
            values.append(int(there.sum()))
            change = f"{SHORT[before]} at k = {labels[step]}, {SHORT[after]} at k = {labels[step + 1]}"
            hover.append(f"{change}<br>{there.sum()} of {len(facts)} answers<br>{_examples(about[there])}")
            colours.append(_pale(after))
    last = max(fates.shape[1] - 1, 1)
    names = list(FATES)
    return go.Sankey(
        arrangement="fixed",
        node={
            "x": [min(max(box.step / last, 0.001), 0.999) for box in boxes],
            "y": [min(max(box.middle, 0.001), 0.999) for box in boxes],
            "color": [RANDOM if box.fate == 4 else FATES[names[box.fate]] for box in boxes],
            "customdata": [f"k = {labels[box.step]}<br>{box.n} of {len(facts)} {names[box.fate]}" for box in boxes],
            "hovertemplate": "%{customdata}<extra></extra>",
            "pad": GAP,
            "thickness": THICK,
            "line": {"width": 0},
        },
        link={
            "source": source,
            "target": target,
            "value": values,
            "color": colours,
            "customdata": hover,
            "hovertemplate": "%{customdata}<extra></extra>",
        },
    )


def _boxes(fates: Int[ndarray, "answer column"]) -> list[Box]:
    """Every box with the middle of its height, from 0 on top to 1, as many answers as high in every column."""
    most = max(len(np.unique(column)) for column in fates.T)
    scale = (1 - (most - 1) * GAP / HEIGHT) / len(fates)
    boxes = []
    for step, column in enumerate(fates.T):
        top = 0.0
        for fate, n in zip(*np.unique(column, return_counts=True), strict=True):
            boxes.append(Box(step, int(fate), int(n), top + scale * n / 2))
            top += scale * n + GAP / HEIGHT
    return boxes


def _examples(about: ndarray) -> str:
    """A few of the answers, spread over all of them."""
    chosen = about[np.unique(np.linspace(0, len(about) - 1, min(EXAMPLES, len(about))).round().astype(int))]
    return "<br>".join([*map(str, chosen), *(["..."] if len(about) > EXAMPLES else [])])


def _pale(fate: int) -> str:
    """The colour of a stream."""
    colour = FATES[list(FATES)[fate]]
    if not colour.startswith("#"):
        return "rgba(127,127,127,0.2)"
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.45)"


def _heads(labels: Sequence[str]) -> list[dict[str, object]]:
    """The number of ablated neurons above each column."""
    return [
        {
            **_beside(number, len(labels)),
            "text": "not ablated" if number == 0 else f"k = {label}",
            "xshift": 0,
            "y": 1,
            "yanchor": "bottom",
            "yshift": 8,
        }
        | ({} if number in (0, len(labels) - 1) else {"xanchor": "center"})
        for number, label in enumerate(labels)
    ]


def _names(fates: Int[ndarray, "answer column"]) -> list[dict[str, object]]:
    """What each box is, and how many answers are in it: dark on light on every page, as streams lie behind."""
    return [
        {
            **_beside(box.step, fates.shape[1]),
            "text": f"{SHORT[box.fate]} {box.n}",
            "y": 1 - box.middle,
            "yanchor": "middle",
            "font": {"size": 11, **BUTTONS["font"]},
            "bgcolor": "rgba(245,245,245,0.8)",
            "borderpad": 1,
        }
        for box in _boxes(fates)
    ]


def _beside(column: int, n: int) -> dict[str, object]:
    """Right of a column's boxes, or left of the last one's."""
    last = column == n - 1 > 0
    place = {"x": column / max(n - 1, 1), "xanchor": "right" if last else "left", "xref": "paper", "yref": "paper"}
    return {**place, "xshift": -THICK - 3 if last else THICK + 3 if column == 0 else THICK / 2 + 3, "showarrow": False}
