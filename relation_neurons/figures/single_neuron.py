"""Figures of a single neuron: scores, activations, promoted tokens, prompts and ablation effects."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from relation_neurons.figures.common import VERDICT_LABELS, empty_figure, error_bars
from relation_neurons.figures.effects import controls_figure
from relation_neurons.figures.style import MANY, OTHER, OWN, RANDOM, name_size, row_height, styled
from relation_neurons.statistics.effects import SHOWN

SIDES = {"promotes": OTHER, "suppresses": OWN}
"""Colours of promoted and suppressed tokens; activations above and below zero have the same."""
SHADES = {1: "230,159,0", -1: "0,114,178"}
STRONGEST = 0.65
"""Opacity of the strongest shade, on which text is readable on light and dark pages."""
MAX_CHARACTERS = 100
"""Length at which texts in labels and on hover are cut."""


def neuron_scores_figure(scores: pd.DataFrame) -> go.Figure:
    """Average precision of a neuron for every relation, compared with shuffled labels.

    Filled marks are above chance after Holm's correction.

    Args:
        scores: Table `scores` of the experiment `single_neuron`.
    """
    title = "Average precision by relation"
    if scores.empty:
        return empty_figure(title)
    rows = scores.sort_values("ap", kind="stable").reset_index(drop=True)
    positions, hover = list(rows.index), _score_texts(rows)
    figure = go.Figure()
    figure.add_bar(
        x=rows["null_high"] - rows["null_mean"],
        base=rows["null_mean"],
        y=positions,
        orientation="h",
        marker={"color": RANDOM, "opacity": 0.5},
        width=0.5,
        name="shuffled labels, mean to 97.5 % quantile",
        hoverinfo="skip",
    )
    significant = rows["verdict"].isin(SHOWN)
    kinds = (("above chance (Holm)", significant, "circle"), ("not significant", ~significant, "circle-open"))
    for name, is_kind, symbol in kinds:
        selected = rows[is_kind]
        figure.add_scatter(
            x=selected["ap"],
            y=list(selected.index),
            error_x=error_bars(selected, "ap"),
            mode="markers",
            marker={"color": OWN, "size": 8, "symbol": symbol},
            name=name,
            hovertext=[hover[position] for position in selected.index],
            hoverinfo="text",
            showlegend=len(selected) > 0,
        )
    figure = styled(figure, title, height=110 + row_height(positions) * len(rows), legend_rows=2)
    figure.update_xaxes(title="average precision, 95 % over facts", range=[0, 1.02])
    return _named_rows(figure, list(rows["relation"]))


def _score_texts(rows: pd.DataFrame) -> list[str]:
    return [
        f"{row['relation']}<br>average precision {row['ap']:.3f} [{row['ap_low']:.3f}, {row['ap_high']:.3f}], "
        f"n = {row['n_facts']} facts<br>{row['n_positive']} positives, {row['n_negative']} negatives: chance "
        f"{row['chance']:.3f}<br>shuffled labels {row['null_mean']:.3f}, 97.5 % quantile {row['null_high']:.3f}<br>"
        f"{VERDICT_LABELS.get(row['verdict'], row['verdict'])}, p = {row['p_holm']:.2g} (Holm)"
        for row in rows.to_dict("records")
    ]


def neuron_values_figure(values: pd.DataFrame) -> go.Figure:
    """Distribution of a neuron's mean activation on the prompts of every relation.

    Args:
        values: Table `values` of the experiment `single_neuron`.
    """
    title = "Activations on each relation's prompts"
    if values.empty:
        return empty_figure(title)
    medians = values.groupby("relation", sort=False)["value"].median().sort_values(kind="stable")
    names, figure, crowded = list(medians.index), go.Figure(), len(medians) > MANY
    for position, name in enumerate(names):
        rows = values[values["relation"] == name]
        figure.add_box(
            x=rows["value"],
            y=[position] * len(rows),
            orientation="h",
            boxpoints="outliers" if crowded else "all",
            jitter=0.6,
            pointpos=0,
            marker={"size": 3, "color": RANDOM, "opacity": 0.7},
            line={"width": 1.2, "color": OWN},
            fillcolor="rgba(0,114,178,0.15)",
            hoveron="points",
            hovertext=[
                f"{_plain(prompt)}<br>{value:.4g}" for prompt, value in zip(rows["prompt"], rows["value"], strict=True)
            ],
            hoverinfo="text",
            showlegend=False,
        )
    figure.add_scatter(
        x=medians,
        y=list(range(len(names))),
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 6 if crowded else 12, "color": OWN, "line": {"width": 3}},
        hovertext=[_quartile_text(name, values.loc[values["relation"] == name, "value"]) for name in names],
        hoverinfo="text",
        showlegend=False,
    )
    figure = styled(figure, title, height=90 + row_height(names) * len(names), legend_rows=0)
    figure.update_xaxes(title="mean activation over the query").add_vline(x=0, line_width=1, line_color="#777")
    return _named_rows(figure, names)


def neuron_tokens_figure(tokens: pd.DataFrame) -> go.Figure:
    """Tokens that a neuron's output weights directly promote and suppress most (logit attribution).

    Args:
        tokens: Table `tokens` of the experiment `single_neuron`. Spaces are shown as dots.
    """
    title = "Promoted and suppressed tokens"
    if tokens.empty:
        return empty_figure(title, "this neuron has no output weights of its own")
    order = [*tokens.index[tokens["side"] == "promotes"], *tokens.index[tokens["side"] == "suppresses"][::-1]][::-1]
    rows = tokens.loc[order].reset_index(drop=True)
    figure = go.Figure()
    for side, colour in SIDES.items():
        selected = rows[rows["side"] == side]
        figure.add_bar(
            x=selected["logit"],
            y=list(selected.index),
            orientation="h",
            marker={"color": colour},
            name=side,
            hovertext=[
                f"{_plain(visible(row['token']))}<br>{side}, rank {row['rank']:.0f}: logit {row['logit']:+.4g} per "
                f"unit of activation<br>{row['z']:+z.1f} standard deviations from the vocabulary mean"
                for row in selected.to_dict("records")
            ],
            hoverinfo="text",
        )
    figure = styled(figure, title, height=110 + 20 * len(rows))
    figure.update_xaxes(title="logit per unit of activation, without the norm's scale")
    figure.add_vline(x=0, line_width=1, line_color="#777")
    return _named_rows(figure, [_plain(visible(token)) for token in rows["token"]])


def neuron_effects_figure(effects: pd.DataFrame, answers: pd.DataFrame, measure: str = "logprob") -> go.Figure:
    """Effects of ablating one neuron, compared with random single neurons of its layer and site.

    Args:
        effects: Table `effects` of the experiment `single_neuron`.
        answers: Table `answers` of the same experiment, for a mark at each random neuron.
        measure: `logprob` or `correct`.
    """
    by_facts, answers = effects.rename(columns={"relation": "facts"}), answers.assign(facts=answers["relation"])
    figure = controls_figure(by_facts, measure, "facts", answers=answers)
    title = figure.layout.title.text.replace("Effects of ablation", "Effects of ablating this neuron")
    return figure.update_layout(title_text=title)


def shaded_prompts(top_prompts: pd.DataFrame) -> str:
    """The top and bottom activating prompts as HTML, each token shaded by its activation.

    Orange is above zero, blue below zero; the strongest shade is the largest absolute activation.
    Hovering over a token shows its activation. Spaces are shown as dots, line breaks as arrows.

    Args:
        top_prompts: Table `top_prompts` of the experiment `single_neuron`.
    """
    largest = float(top_prompts["activation"].abs().max()) if len(top_prompts) else 0.0
    parts = [f"<p>Strongest shade: {largest:.4g}. {_shade('above zero', 1, '')} {_shade('below zero', -1, '')}</p>"]
    for side, rows in top_prompts.groupby("side", sort=False):
        parts.append(f"<h3>{html.escape(str(side)).capitalize()} activating prompts</h3><ol>")
        for _, tokens in rows.groupby("place", sort=True):
            first = tokens.iloc[0]
            shaded = "<wbr>".join(
                _shade(token, value / largest if largest else 0.0, f"{value:+.4g}")
                for token, value in zip(tokens["token"], tokens["activation"], strict=True)
            )
            note = f"{html.escape(first['relation'])}, mean activation {first['value']:.4g}"
            parts.append(f"<li>{shaded} <small>{note}</small></li>")
        parts.append("</ol>")
    return f'<div class="shaded" style="line-height:2">{"".join(parts)}</div>'


NEURON_FIGURES: Mapping[str, tuple[Callable[..., go.Figure], tuple[str, ...]]] = {
    "scores": (neuron_scores_figure, ("scores",)),
    "values": (neuron_values_figure, ("values",)),
    "tokens": (neuron_tokens_figure, ("tokens",)),
    "effects_logprob": (partial(neuron_effects_figure, measure="logprob"), ("effects", "answers")),
    "effects_accuracy": (partial(neuron_effects_figure, measure="correct"), ("effects", "answers")),
}
"""Functions of the figures of a single neuron by label, with the tables that they take."""


def visible(token: str) -> str:
    """Make the spaces, tabs and line breaks of a token visible.

    Example:
        >>> visible(" Paris" + chr(10))
        '·Paris↵'
    """
    return token.replace(" ", "·").replace("\n", "↵").replace("\t", "→") or "∅"


def _shade(token: str, strength: float, title: str) -> str:
    """A token as HTML on its shade; `strength` is between -1 and 1."""
    colour = f"rgba({SHADES[1 if strength >= 0 else -1]},{STRONGEST * abs(strength):.2f})"
    attribute = f' title="{html.escape(title)}"' if title else ""
    text = visible(token) if title else token
    return f'<span{attribute} style="background:{colour};padding:2px 0;border-radius:2px">{html.escape(text)}</span>'


def _plain(text: str) -> str:
    """Escape a text for plotly, which interprets HTML tags, and cut it."""
    return html.escape(text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…", quote=False)


def _quartile_text(name: str, values: pd.Series) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    ends = f"{values.min():.4g} to {values.max():.4g}"
    return f"{name}<br>median {middle:.4g}, quartiles {low:.4g} and {high:.4g}<br>{ends}, n = {len(values)} prompts"


def _named_rows(figure: go.Figure, names: list[str]) -> go.Figure:
    """Label the rows 0, 1, ... from the bottom."""
    return figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=names, tickfont_size=name_size(names), range=[-0.6, len(names) - 0.4]
    )
