"""What the explorer knows of a run: its neurons, their cards, and the model, which answers one request at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from relation_neurons.errors import nearest, refuse
from relation_neurons.experiments.answer_cache import Show
from relation_neurons.experiments.neuron_cards import kept_cards, one_card
from relation_neurons.experiments.study import Study
from relation_neurons.explorer.finished_run import excluded_neurons, finished_run, reopen
from relation_neurons.models.sites import Neuron
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.progress import bar
from relation_neurons.results.neuron_cards import Card, NeuronCards, read_cards
from relation_neurons.results.run import Run
from relation_neurons.storage.fingerprint import code_digest
from relation_neurons.storage.run_folder import RunFolder


@dataclass
class RunData:
    """A run that is being explored.

    Attributes:
        run: Its folder.
        study: Its model and prompts.
        neurons: Each relation's neurons, best first.
        cards: Of the best of them.
        excluded: Neurons that are no control, such as critical ones.
        lock: Held while the model is at work, since interventions are the model's.
    """

    run: Run
    study: Study
    neurons: dict[str, NeuronSet]
    cards: NeuronCards
    excluded: tuple[Neuron, ...] = ()
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _made: dict[str, Card] = field(default_factory=dict, repr=False)

    @property
    def relations(self) -> tuple[str, ...]:
        """Names, in the order of the run."""
        return tuple(self.neurons)

    @property
    def is_of_this_code(self) -> bool:
        """Whether the run's numbers are of this version's code."""
        return bool(self.run.key.get("code") == code_digest()[:16])

    def scatter(self, relation: str) -> pd.DataFrame:
        """The rows of a relation in the table `neurons` of the cards.

        Raises:
            RelationNeuronsError: No relation of the run.
        """
        rows = self.cards.tables["neurons"]
        if relation not in self.neurons:
            raise refuse(f"'{relation}' is no relation of this run", expected=nearest(relation, self.neurons))
        return rows[rows["relation"] == relation]

    def card(self, neuron: str) -> Card | None:
        """The card of a neuron, if it has been made."""
        return self.cards.card(neuron) if neuron in self.cards.names else self._made.get(neuron)

    def make_card(self, neuron: str, relation: str) -> Card:
        """Make the card of a neuron that has none; it is kept in memory."""
        with self.lock:
            if neuron not in self._made:
                one = Neuron.parse(neuron)
                self._made[neuron] = one_card(self.study, one, [relation], self.cards, excluded=self.excluded)
        return self._made[neuron]


def open_run_data(path: Path, *, device: str | None = None, show: Show = bar) -> RunData:
    """Take up a run; cards that it does not have are made and stored in its folder.

    Args:
        path: What `run` or `reproduce` wrote.
        device: Where to compute; by default as `load_model` chooses.
        show: Makes a progress bar of a label and a total.

    Raises:
        RelationNeuronsError: As `finished_run` and `reopen`, or a folder that cannot be written.
    """
    run = finished_run(path)
    neurons, excluded = run.neurons(), excluded_neurons(run)
    study = reopen(run, device=device, show=show)
    _require_relations(run, study, neurons)
    cards = read_cards(path)
    if cards is None:
        cards = kept_cards(study, RunFolder(path, run.key), neurons, excluded=excluded)
    return RunData(run, study, neurons, cards, excluded)


def _require_relations(run: Run, study: Study, neurons: Sequence[str] | dict[str, NeuronSet]) -> None:
    if set(study.names) != set(neurons):
        raise refuse(
            f"The neurons in {run.path} are of {', '.join(neurons)}",
            expected=f"those of {', '.join(study.names)}",
            do="give the run's command again, which recreates the file",
        )
