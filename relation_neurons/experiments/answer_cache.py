"""Every answer that a model has given in a study: computed once, stored, and never computed again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from relation_neurons.evaluation.recall import Condition, recall_under
from relation_neurons.interventions.interventions import Intervention
from relation_neurons.models.types import HookedModel
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts.prompts import PROMPT_COLUMNS, Prompt
from relation_neurons.storage.fingerprint import digest
from relation_neurons.storage.run_folder import RunFolder

PART_ROWS = 1000
"""Answers that are stored together, so that a stopped study loses no more than these."""
INDEX = ["state", "prompt"]
Request = tuple[Intervention | None, tuple[Prompt, ...]]
"""An intervention, None for the clean model, and prompts to answer."""
Key = tuple[str, str]
"""The state of the model and the prompt, each by its digest."""


Show = Callable[[str, int], AbstractContextManager[Progress]]
"""Makes a progress bar of a label and a total."""


@contextlib.contextmanager
def quiet(label: str, total: int) -> Iterator[Progress]:
    """No progress bar."""
    yield silent


@dataclass
class AnswerCache:
    """Answers by state of the model and prompt.

    Attributes:
        model: A model from `load_model`.
        folder: Where answers are stored in parts, from which a stopped study is resumed; None keeps them in memory.
        batch_size: Prompts at a time.
        show: Makes a progress bar of a label and a total.
        n_computed: Answers that the model has given since this was made.
        seconds: How long it took over them.
    """

    model: HookedModel
    folder: RunFolder | None = None
    batch_size: int | None = None
    show: Show = quiet
    n_computed: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)
    _known: dict[str, pd.DataFrame] = field(default_factory=dict, init=False, repr=False)
    _prompt_keys: dict[Prompt, str] = field(default_factory=dict, init=False, repr=False)

    def get(self, requests: Sequence[Request], *, generate: bool) -> pd.DataFrame:
        """The table of `recall_under` without its conditions, a row per request and prompt, in order.

        Only the answers that are not known yet are computed.
        """
        kind = "generated" if generate else "given"
        named = [(_state(intervention), intervention, batch) for intervention, batch in requests]
        states = {state: intervention for state, intervention, _ in named}
        prompts = [prompt for _, _, batch in named for prompt in batch]
        keys = [(state, self._prompt_key(prompt)) for state, _, batch in named for prompt in batch]
        known = self._stored(kind)
        present = set(known.index)
        missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in present}
        if missing:
            self._known[kind] = known = pd.concat([known, *self._compute(missing, states, kind)])
        answers = known.loc[pd.MultiIndex.from_tuples(keys)].reset_index(drop=True)
        return pd.concat([pd.DataFrame([prompt.columns for prompt in prompts]), answers], axis=1)

    def _compute(
        self, missing: dict[Key, Prompt], states: dict[str, Intervention | None], kind: str
    ) -> Iterator[pd.DataFrame]:
        """Answer what is missing, one part after the other."""
        keys = list(missing)
        with self.show("answering prompts", len(keys)) as progress:
            for start in range(0, len(keys), PART_ROWS):
                part = keys[start : start + PART_ROWS]

                def measure(part: list[Key] = part) -> pd.DataFrame:
                    return self._recall(part, missing, states, kind == "generated", progress)

                name = f"answers/{kind}-{digest(part)[:16]}"
                yield _indexed(measure() if self.folder is None else self.folder.table(name, measure))

    def _recall(
        self,
        part: list[Key],
        missing: dict[Key, Prompt],
        states: dict[str, Intervention | None],
        generate: bool,
        progress: Progress,
    ) -> pd.DataFrame:
        """The answers of one part, by state and prompt, without the columns that say what the prompt is."""
        by_state: dict[str, list[Key]] = {}
        for key in part:
            by_state.setdefault(key[0], []).append(key)
        conditions = [
            _condition(state, states[state], tuple(missing[key] for key in keys)) for state, keys in by_state.items()
        ]
        started = time.monotonic()
        table = recall_under(self.model, conditions, generate=generate, batch_size=self.batch_size, progress=progress)
        self.seconds, self.n_computed = self.seconds + time.monotonic() - started, self.n_computed + len(table)
        answers = table.drop(columns=["condition", *PROMPT_COLUMNS])
        answers.insert(0, "state", table["condition"])
        answers.insert(1, "prompt", [prompt for keys in by_state.values() for _, prompt in keys])
        return answers

    def _stored(self, kind: str) -> pd.DataFrame:
        """Answers of this kind so far, those in the folder included."""
        if kind not in self._known:
            stored = [] if self.folder is None else self.folder.tables(f"answers/{kind}-*")
            self._known[kind] = _indexed(pd.concat(stored)) if stored else pd.DataFrame()
        return self._known[kind]

    def _prompt_key(self, prompt: Prompt) -> str:
        if prompt not in self._prompt_keys:
            self._prompt_keys[prompt] = digest(prompt)[:16]
        return self._prompt_keys[prompt]


def _state(intervention: Intervention | None) -> str:
    """The digest of what is written where; the order of neurons and the kind of value do not matter.

    The paper's ablation has the digest of its neurons alone, so that older folders are read.
    """
    if intervention is None:
        return "clean"
    neurons = intervention.neurons
    if intervention == Intervention(neurons):
        return digest(*sorted(map(tuple, neurons)))[:16]
    numbers = np.asarray(intervention.value.numbers(neurons), dtype=np.float64)
    written = sorted((*neuron, number) for neuron, number in zip(neurons, numbers.tolist(), strict=True))
    return digest(intervention.value.scale, intervention.positions, intervention.bos, repr(written))[:16]


def _condition(state: str, intervention: Intervention | None, prompts: tuple[Prompt, ...]) -> Condition:
    return Condition(state, prompts, () if intervention is None else (intervention,))


def _indexed(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop_duplicates(INDEX).set_index(INDEX)
