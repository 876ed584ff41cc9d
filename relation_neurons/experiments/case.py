"""What is written and tested together: a case, and the size of a family of cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relation_neurons.experiments.config import SelectionConfig
from relation_neurons.interventions.interventions import Intervention
from relation_neurons.interventions.values import Value, Zero
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.statistics.formatting import count_text
from relation_neurons.statistics.power import Design
from relation_neurons.validation import validated


@validated
@dataclass(frozen=True)
class Case:
    """Neurons to write, and the prompts to answer meanwhile.

    Attributes:
        neurons: The neurons.
        prompts: The prompts.
        labels: Columns that name both in tables, such as `{"ablated": "country_capital", "k": 400}`.
        selection: How the neurons were chosen, which their controls are drawn by; None is the study's own way.
        match: What their controls are matched by; None is what the study matches by.
        value: What the neurons become at every position; by default zero, the paper's ablation.
        bos: Whether a BOS token counts as a position.
    """

    neurons: NeuronSet
    prompts: tuple[Prompt, ...]
    labels: Mapping[str, object]
    selection: SelectionConfig | None = None
    match: str | None = None
    value: Value = Zero()
    bos: bool = True

    @property
    def intervention(self) -> Intervention:
        """What is written."""
        return Intervention(self.neurons, self.value, bos=self.bos)

    def __repr__(self) -> str:
        labels = ", ".join(f"{name}={value!r}" for name, value in self.labels.items())
        return f"Case({labels or 'no labels'}, {self.neurons!r}, {count_text(len(self.prompts), 'prompt')})"


def design_of(cases: Sequence[Case], n_controls: int, *, by_relation: bool = False) -> Design:
    """The size of a family of tests.

    Args:
        cases: All that are tested together; each is a group of facts.
        n_controls: Control sets of each.
        by_relation: Whether the facts of each relation are a group of their own; facts of the relation
            whose neurons are ablated are then another experiment's.
    """
    groups: dict[tuple[object, ...], set[tuple[str, str]]] = {}
    for case in cases:
        labels = tuple(case.labels.values())
        for prompt in case.prompts:
            if not by_relation or prompt.relation not in labels:
                group = (*labels, prompt.relation) if by_relation else labels
                groups.setdefault(group, set()).add((prompt.relation, prompt.columns["unit"]))
    return Design(len(groups), min(map(len, groups.values()), default=0), n_controls)
