"""One neuron up close: how well it tells relations apart, its values, its tokens, and its prompts token by token."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.common import MANY, errors, nothing, row_height
from relation_neurons.figures.effects import controls_figure
from relation_neurons.figures.style import OTHER, OWN, RANDOM, styled
from relation_neurons.statistics.effects import NOT_SHOWN

SIDES = {"promotes": OTHER, "suppresses": OWN}
"""The colours of what a neuron raises and lowers, as those of what it fires on: orange above zero, blue below."""
SHADES = {1: "230,159,0", -1: "0,114,178"}
STRONGEST = 0.65
"""Opacity of the deepest shade: text stays readable on it, on light and on dark pages."""
LONGEST = 100
"""Letters of a prompt under the pointer."""


def neuron_scores_figure(scores: pd.DataFrame) -> go.Figure:
    """A neuron's average precision for every relation, beside shuffled labels; filled where it is above chance.

    Args:
        scores: From the experiment `single_neuron`.
    """
    title = "Average precision for each relation"
    if scores.empty:
        return nothing(title)
    rows = scores.sort_values("ap", kind="stable").reset_index(drop=True)
    places, high = list(rows.index), rows["null_high"]
    hover = [
        f"{row['relation']}<br>average precision {row['ap']:.3f} [{row['ap_low']:.3f}, {row['ap_high']:.3f}], "
        f"n = {row['n_facts']} facts<br>{row['n_positive']} positives, {row['n_negative']} negatives: share "
        f"{row['chance']:.3f}<br>shuffled labels {row['null_mean']:.3f}, 97.5 % quantile {row['null_high']:.3f}<br>"
        f"{row['verdict']}, p = {row['p_holm']:.2g} (Holm)"
        for row in rows.to_dict("records")
    ]
    figure = go.Figure()
    figure.add_bar(
        x=high - rows["null_mean"],
        base=rows["null_mean"],
        y=places,
        orientation="h",
        marker={"color": RANDOM, "opacity": 0.5},
        width=0.5,
        name="shuffled labels, mean to 97.5 % quantile",
        hoverinfo="skip",
    )
    shown = rows["verdict"] != NOT_SHOWN
    for name, chosen, symbol in (("above chance (Holm)", shown, "circle"), ("not shown", ~shown, "circle-open")):
        there = rows[chosen]
        figure.add_scatter(
            x=there["ap"],
            y=list(there.index),
            error_x=errors(there, "ap"),
            mode="markers",
            marker={"color": OWN, "size": 8, "symbol": symbol},
            name=name,
            hovertext=[hover[place] for place in there.index],
            hoverinfo="text",
            showlegend=len(there) > 0,
        )
    figure = styled(figure, title, height=110 + row_height(places) * len(rows), legend_rows=2)
    figure.update_xaxes(title="average precision, 95 % over facts", range=[0, 1.02])
    return _named_rows(figure, list(rows["relation"]))


def neuron_values_figure(values: pd.DataFrame) -> go.Figure:
    """A neuron's mean activation on every relation's prompts: the others' are the negatives of each.

    Args:
        values: From the experiment `single_neuron`.
    """
    title = "Its value on each relation's prompts"
    if values.empty:
        return nothing(title)
    medians = values.groupby("relation", sort=False)["value"].median().sort_values(kind="stable")
    names, figure, crowded = list(medians.index), go.Figure(), len(medians) > MANY
    for place, name in enumerate(names):
        there = values[values["relation"] == name]
        figure.add_box(
            x=there["value"],
            y=[place] * len(there),
            orientation="h",
            boxpoints="outliers" if crowded else "all",
            jitter=0.6,
            pointpos=0,
            marker={"size": 3, "color": RANDOM, "opacity": 0.7},
            line={"width": 1.2, "color": OWN},
            fillcolor="rgba(0,114,178,0.15)",
            hoveron="points",
            hovertext=[
                f"{_plain(prompt)}<br>{value:.4g}"
                for prompt, value in zip(there["prompt"], there["value"], strict=True)
            ],
            hoverinfo="text",
            showlegend=False,
        )
    figure.add_scatter(
        x=medians,
        y=list(range(len(names))),
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 6 if crowded else 12, "color": OWN, "line": {"width": 3}},
        hovertext=[_quartiles(name, values.loc[values["relation"] == name, "value"]) for name in names],
        hoverinfo="text",
        showlegend=False,
    )
    figure = styled(figure, title, height=90 + row_height(names) * len(names), legend_rows=0)
    figure.update_xaxes(title="mean activation over the query").add_vline(x=0, line_width=1, line_color="#777")
    return _named_rows(figure, names)


def neuron_tokens_figure(tokens: pd.DataFrame) -> go.Figure:
    """The tokens that a neuron's output row raises and lowers most, directly, per unit of its activation.

    Args:
        tokens: From the experiment `single_neuron`. Spaces are drawn as dots.
    """
    title = "Tokens that it promotes and suppresses"
    if tokens.empty:
        return nothing(title, "it has no output row")
    order = [*tokens.index[tokens["side"] == "promotes"], *tokens.index[tokens["side"] == "suppresses"][::-1]][::-1]
    rows = tokens.loc[order].reset_index(drop=True)
    figure = go.Figure()
    for side, colour in SIDES.items():
        there = rows[rows["side"] == side]
        figure.add_bar(
            x=there["logit"],
            y=list(there.index),
            orientation="h",
            marker={"color": colour},
            name=side,
            hovertext=[
                f"{_plain(visible(row['token']))}<br>{side}, number {row['rank']:.0f}: {row['logit']:+.4g} per unit of "
                f"activation<br>{row['z']:+.1f} standard deviations from the mean of the vocabulary"
                for row in there.to_dict("records")
            ],
            hoverinfo="text",
        )
    figure = styled(figure, title, height=110 + 20 * len(rows))
    figure.update_xaxes(title="logit per unit of activation, norm's scale left out")
    figure.add_vline(x=0, line_width=1, line_color="#777")
    return _named_rows(figure, [_plain(visible(token)) for token in rows["token"]])


def neuron_effects_figure(effects: pd.DataFrame, answers: pd.DataFrame, measure: str = "logprob") -> go.Figure:
    """What ablating the neuron alone changes in each relation, beside random single neurons of its layer.

    Args:
        effects: From the experiment `single_neuron`.
        answers: From there as well, for a mark at each random neuron.
        measure: `logprob` or `correct`.
    """
    asked, given = effects.rename(columns={"relation": "asked"}), answers.assign(asked=answers["relation"])
    figure = controls_figure(asked, measure, "asked", answers=given)
    return figure.update_layout(title_text=figure.layout.title.text.replace("Ablated neurons", "Ablated alone"))


def shaded_prompts(firing: pd.DataFrame) -> str:
    """The prompts that fire a neuron most and least as HTML, each token shaded by its activation.

    Orange is above zero, blue below, the deepest shade the largest activation of all that is shown; the number stands
    under the pointer. Spaces are dots, ends of lines arrows.

    Args:
        firing: From the experiment `single_neuron`.
    """
    largest = float(firing["activation"].abs().max()) if len(firing) else 0.0
    parts = [f"<p>Deepest shade: {largest:.4g}. {_shade('above zero', 1, '')} {_shade('below zero', -1, '')}</p>"]
    for side, rows in firing.groupby("side", sort=False):
        parts.append(f"<h3>Fire it {html.escape(str(side))}</h3><ol>")
        for _, tokens in rows.groupby("place", sort=True):
            first = tokens.iloc[0]
            shaded = "<wbr>".join(
                _shade(token, value / largest if largest else 0.0, f"{value:+.4g}")
                for token, value in zip(tokens["token"], tokens["activation"], strict=True)
            )
            parts.append(
                f"<li>{shaded} <small>{html.escape(first['relation'])}, mean {first['value']:.4g}</small></li>"
            )
        parts.append("</ol>")
    return f'<div class="shaded" style="line-height:2">{"".join(parts)}</div>'


NEURON_FIGURES: Mapping[str, tuple[Callable[..., go.Figure], tuple[str, ...]]] = {
    "scores": (neuron_scores_figure, ("scores",)),
    "values": (neuron_values_figure, ("values",)),
    "tokens": (neuron_tokens_figure, ("tokens",)),
    "effects_logprob": (partial(neuron_effects_figure, measure="logprob"), ("effects", "answers")),
    "effects_accuracy": (partial(neuron_effects_figure, measure="correct"), ("effects", "answers")),
}
"""The figures of a close-up by label, and the tables that each is given."""


def visible(token: str) -> str:
    """A token with its spaces, tabs and ends of lines visible.

    Example:
        >>> visible(" Paris" + chr(10))
        '·Paris↵'
    """
    return token.replace(" ", "·").replace("\n", "↵").replace("\t", "→") or "∅"


def _shade(token: str, strength: float, title: str) -> str:
    """A token on its shade; strength is -1 to 1."""
    colour = f"rgba({SHADES[1 if strength >= 0 else -1]},{STRONGEST * abs(strength):.2f})"
    about = f' title="{html.escape(title)}"' if title else ""
    shown = visible(token) if title else token
    return f'<span{about} style="background:{colour};padding:2px 0;border-radius:2px">{html.escape(shown)}</span>'


def _plain(text: str) -> str:
    """A text of which plotly's labels read nothing as a tag."""
    return html.escape(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…", quote=False)


def _quartiles(name: str, values: pd.Series) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    ends = f"{values.min():.4g} to {values.max():.4g}"
    return f"{name}<br>median {middle:.4g}, quartiles {low:.4g} and {high:.4g}<br>{ends}, n = {len(values)} prompts"


def _named_rows(figure: go.Figure, names: list[str]) -> go.Figure:
    """A name at each of the rows 0, 1, ... from below."""
    size = 12 if len(names) <= MANY else 9
    return figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=names, tickfont_size=size, range=[-0.6, len(names) - 0.4]
    )
