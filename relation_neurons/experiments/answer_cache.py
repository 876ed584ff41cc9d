"""Every answer that a model has given in a study: asked once, kept, and never asked again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import pandas as pd

from relation_neurons.evaluation.recall import Condition, recall_under
from relation_neurons.interventions.interventions import Intervention
from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.storage.fingerprint import digest
from relation_neurons.storage.run_folder import RunFolder

PART_ROWS = 1000
"""Answers after which what was asked is kept."""
ABOUT = ("relation", "subject", "object", "template", "language")
"""What a table of answers says of each prompt, beside its fact."""

Show = Callable[[str, int], AbstractContextManager[Progress]]
Wanted = tuple[NeuronSet | None, tuple[Prompt, ...]]
"""Neurons to ablate, none for the model as it is, and what to ask."""


@contextlib.contextmanager
def quiet(label: str, total: int) -> Iterator[Progress]:
    """No progress bar."""
    yield silent


@dataclass
class Answers:
    """Answers by state of the model and prompt.

    Attributes:
        model: A model from `load_model`.
        folder: Where answers are kept in parts, so that asking goes on where it was stopped; none keeps them in memory.
        batch_size: Prompts at a time.
        show: Makes a progress bar of a label and a total.
    """

    model: HookedModel
    folder: RunFolder | None = None
    batch_size: int | None = None
    show: Show = quiet
    _known: dict[str, pd.DataFrame] = field(default_factory=dict, init=False, repr=False)
    _keys: dict[Prompt, str] = field(default_factory=dict, init=False, repr=False)

    def ask(self, wanted: Sequence[Wanted], *, generate: bool) -> pd.DataFrame:
        """The table of `recall_under` without its conditions, for all that is wanted, in order.

        Only what was not asked before is asked now.
        """
        kind = "generated" if generate else "given"
        named = [_state(neurons) for neurons, _ in wanted]
        states = {state: neurons for state, (neurons, _) in zip(named, wanted, strict=True)}
        rows = [(state, prompt) for state, (_, prompts) in zip(named, wanted, strict=True) for prompt in prompts]
        keys = [(state, self._key(prompt)) for state, prompt in rows]
        known = self._stored(kind)
        there = set(known.index)
        missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in there}
        if missing:
            self._known[kind] = known = pd.concat([known, *self._measure(missing, states, kind)])
        found = known.loc[pd.MultiIndex.from_tuples(keys)].reset_index(drop=True)
        described = [[*(getattr(prompt, name) for name in ABOUT), prompt.fact or prompt.subject] for _, prompt in rows]
        return pd.concat([pd.DataFrame(described, columns=[*ABOUT, "fact"]), found], axis=1)

    def _measure(
        self, missing: Mapping[tuple[str, str], tuple[str, Prompt]], states: Mapping[str, NeuronSet | None], kind: str
    ) -> list[pd.DataFrame]:
        """Ask what is missing, a part after the other."""
        keys, found = list(missing), []
        with self.show("asking", len(keys)) as progress:
            for start in range(0, len(keys), PART_ROWS):
                part = keys[start : start + PART_ROWS]
                asked: dict[str, list[tuple[str, Prompt]]] = {}
                for state, prompt in part:
                    asked.setdefault(state, []).append((prompt, missing[state, prompt][1]))

                def measure(asked: dict[str, list[tuple[str, Prompt]]] = asked) -> pd.DataFrame:
                    conditions = [_condition(state, states[state], prompts) for state, prompts in asked.items()]
                    table = recall_under(
                        self.model,
                        conditions,
                        generate=kind == "generated",
                        batch_size=self.batch_size,
                        progress=progress,
                    )
                    return _to_store(table, [prompt for prompts in asked.values() for prompt, _ in prompts])

                name = f"answers/{kind}-{digest(part)[:16]}"
                found.append(_indexed(measure() if self.folder is None else self.folder.table(name, measure)))
        return found

    def _stored(self, kind: str) -> pd.DataFrame:
        """Answers of this kind so far, those in the folder included."""
        if kind not in self._known:
            stored = [] if self.folder is None else self.folder.tables(f"answers/{kind}-*")
            self._known[kind] = _indexed(pd.concat(stored)) if stored else pd.DataFrame()
        return self._known[kind]

    def _key(self, prompt: Prompt) -> str:
        if prompt not in self._keys:
            self._keys[prompt] = digest(prompt)[:16]
        return self._keys[prompt]


def _state(neurons: NeuronSet | None) -> str:
    return "clean" if neurons is None else digest(*sorted(map(tuple, neurons)))[:16]


def _condition(state: str, neurons: NeuronSet | None, prompts: Sequence[tuple[str, Prompt]]) -> Condition:
    asked = tuple(prompt for _, prompt in prompts)
    return Condition(state, asked, () if neurons is None else (Intervention(neurons),))


def _to_store(table: pd.DataFrame, prompts: Sequence[str]) -> pd.DataFrame:
    """What is kept of answers: everything but what the prompt says."""
    kept = table.drop(columns=["condition", *ABOUT, "fact"])
    kept.insert(0, "state", table["condition"])
    kept.insert(1, "prompt", list(prompts))
    return kept


def _indexed(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop_duplicates(["state", "prompt"]).set_index(["state", "prompt"])
