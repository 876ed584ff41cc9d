"""The commands `parity` and `compare-scores`: parse, call, print."""

from __future__ import annotations

from typing import Annotated, Literal

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from relation_neurons.experiments.score_correlation import ScoreAgreementConfig, score_agreement
from relation_neurons.models.loading import parity


def parity_command(model: str = "smollm2-135m", device_map: Literal["auto"] | None = None) -> None:
    """Compare the loaded model's logits with Hugging Face's, in float32.

    Args:
        model: A Llama-architecture model, named as for `run`.
        device_map: auto spreads a model that is larger than one GPU over all, then over memory and disk.
    """
    found = parity(model, device_map=device_map)
    Console().print(
        f"{model}: largest logit difference {found.max_logit_difference:.1e} over {found.n_tokens} tokens, "
        f"same next token at {found.argmax_agreement:.1%}",
        soft_wrap=True,
    )


def compare_scores_command(config: Annotated[ScoreAgreementConfig, tyro.conf.arg(name="")]) -> None:
    """Rank neurons by average precision and by scorers of other methods, and say how many of the best are common.

    Args:
        config: What to compare.
    """
    found = score_agreement(config)
    over = f"mean over {found['n'].iloc[0]} relations [least, largest]"
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=f"Common neurons among the {config.k:,} best: {over}")
    for column in ("scorer", "and", "common", "by chance"):
        table.add_column(column, overflow="fold")  # names that begin alike stay different
    for row in found.to_dict("records"):
        common = f"{row['mean']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        table.add_row(row["first"], row["second"], common, f"{row['chance']:.2f}")
    Console().print(table)
