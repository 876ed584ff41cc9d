"""The cards of a run's best neurons, read back: neither a model nor PyTorch is needed."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from relation_neurons.errors import refuse
from relation_neurons.storage.parquet import read_parquet

CARDS = "cards"
"""Folder of the tables within that of the run."""
ABOUT = "about.json"
CARDS_FORMAT = 1
"""Version of the tables; of others, cards are made anew."""
TABLES = ("neurons", "attributed", "effects", "scores", "prompts", "tokens")


@dataclass(frozen=True)
class Card:
    """All that is known of one neuron.

    Attributes:
        neuron: Its text, such as `gate:L5.N3`.
        places: A row per relation that chose it: `relation`, `rank`, `score`, `ap`, `n`, `effect`, `effect_low`,
            `effect_high`.
        scores: Its average precision, a row per relation, with the attributed effect of its ablation there.
        effects: What ablating it alone changed, a row per relation whose facts were asked.
        prompts: Top activating prompts, a row per token.
        tokens: Tokens that it promotes and suppresses.
    """

    neuron: str
    places: pd.DataFrame
    scores: pd.DataFrame
    effects: pd.DataFrame
    prompts: pd.DataFrame
    tokens: pd.DataFrame


@dataclass(frozen=True, repr=False)
class NeuronCards:
    """The cards of a run.

    Attributes:
        tables: Of `experiments.neuron_cards`, by name.
        about: How they were made.
    """

    tables: Mapping[str, pd.DataFrame]
    about: Mapping[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """The neurons that have a card, in order."""
        return tuple(self.tables["scores"]["neuron"].unique())

    def best(self, relation: str) -> tuple[str, ...]:
        """A relation's neurons that have a card, best first."""
        rows = self.tables["neurons"]
        own = rows[(rows["relation"] == relation) & (rows["kind"] == "chosen")]
        return tuple(name for name in own["neuron"] if name in self._known)

    def card(self, neuron: str) -> Card:
        """The card of a neuron.

        Raises:
            RelationNeuronsError: It has none.
        """
        if neuron not in self._known:
            raise refuse(
                f"{neuron} has no card", expected=f"one of the {len(self.names)} best neurons of the relations"
            )
        parts = {name: _of(self.tables[name], neuron) for name in ("scores", "effects", "prompts", "tokens")}
        parts["scores"] = with_attributed(parts["scores"], self.attributed(neuron))
        return Card(neuron, self.places(neuron), **parts)

    def places(self, neuron: str) -> pd.DataFrame:
        """The relations that chose a neuron, as of `Card`; none for others."""
        rows = _of(self.tables["neurons"], neuron)
        columns = ["relation", "rank", "score", "ap", "n", "effect", "effect_low", "effect_high"]
        return rows.loc[rows["kind"] == "chosen", columns].reset_index(drop=True)

    def attributed(self, neuron: str) -> pd.DataFrame:
        """The attributed effects of ablating a neuron, a row per relation; none for neurons that were not read."""
        return _of(self.tables["attributed"], neuron)

    def __repr__(self) -> str:
        return f"NeuronCards({len(self.names)} neurons of {self.tables['neurons']['relation'].nunique()} relations)"

    @functools.cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.names)


def with_attributed(scores: pd.DataFrame, attributed: pd.DataFrame) -> pd.DataFrame:
    """Scores with what ablation is estimated to change, the best relation first."""
    renamed = attributed.drop(columns="neuron").rename(columns={"n": "n_attributed"})
    rows = scores.merge(renamed, on="relation", how="left", validate="one_to_one")
    return rows.sort_values("ap", ascending=False, kind="stable", ignore_index=True)


def read_cards(folder: Path) -> NeuronCards | None:
    """The cards in a run folder; None where there are none that this version reads.

    Raises:
        RelationNeuronsError: A table is missing or cannot be read.
    """
    try:
        about = json.loads((folder / CARDS / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(about, dict) or about.get("format") != CARDS_FORMAT:
        return None
    do = f"remove {folder / CARDS}, and cards are made anew"
    tables = {name: read_parquet(folder / CARDS / f"{name}.parquet", do) for name in TABLES}
    for name, table in tables.items():
        if "neuron" not in table.columns:
            raise refuse(f"{folder / CARDS / name}.parquet is no table of cards", do=do)
    return NeuronCards(tables, about)


def _of(table: pd.DataFrame, neuron: str) -> pd.DataFrame:
    return table[table["neuron"] == neuron].reset_index(drop=True)
