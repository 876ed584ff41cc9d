"""What is written and tested together: a case, and the size of a family of cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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


def announcement(cases: Sequence[Case], n_controls: int, *, by_relation: bool = False, pooled: bool = False) -> str:
    """What a family of tests can show, in a sentence; see `design_of`.

    Args:
        cases: As for `design_of`.
        n_controls: As for `design_of`.
        by_relation: As for `design_of`.
        pooled: Whether the relations are tested together as well. Where none can be shown to have an effect alone, the
            sentence says what they can show together.
    """
    design = design_of(cases, n_controls, by_relation=by_relation)
    if design.can_show or not pooled:
        return f"{design}."
    together = [replace(case, labels=_without_set(case)) for case in cases]
    n_sets = len({case.labels["ablated"] for case in cases})
    whole = design_of(together, n_controls)._replace(n_sets=n_sets)
    if not whole.can_show:
        return f"{design}. Over all relations together no effect can be shown either."
    return f"{design}. Over all relations together the smallest p that can be reached is {whole.smallest_p:.2g}."


def _without_set(case: Case) -> dict[str, object]:
    return {name: value for name, value in case.labels.items() if name != "ablated"}
