"""Every answer that a model has given in a study: computed once, stored, and never computed again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from relation_neurons.experiments.answer_jobs import Ask, Question, plan_batches
from relation_neurons.experiments.answer_plans import Key, Plan, PlanFolder, indexed
from relation_neurons.inference.units import InProcess, Pool
from relation_neurons.interventions.interventions import Intervention
from relation_neurons.models.types import HookedModel
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.storage.fingerprint import digest
from relation_neurons.storage.run_folder import RunFolder

Request = tuple[Intervention | None, tuple[Prompt, ...]]
"""An intervention, None for the clean model, and prompts to answer."""
TextRequest = tuple[Intervention | None, tuple[str, ...]]
"""An intervention, None for the clean model, and texts to read."""
Show = Callable[[str, int], AbstractContextManager[Progress]]
"""Makes a progress bar of a label and a total."""


@contextlib.contextmanager
def quiet(label: str, total: int) -> Iterator[Progress]:
    """No progress bar."""
    yield silent


@dataclass
class AnswerCache:
    """Answers by state of the model and prompt.

    What is not known when it is asked is cut into batches, which are fixed and stored before the first of them is
    read. So no answer depends on which other answers are asked later, on who computes it, or on whether the study was
    stopped in between.

    Attributes:
        model: A model from `load_model`, for its tokenizer and its configuration.
        folder: Where answers are stored, from which a stopped study is resumed; None keeps them in memory.
        batch_size: Prompts at a time; by default what memory holds.
        show: Makes a progress bar of a label and a total.
        pool: Who computes; by default this process, with the model.
        n_computed: Answers that the model has given since this was made.
        n_twice: Those of them that were known already, which there should never be.
        seconds: How long it took over them.
    """

    model: HookedModel
    folder: RunFolder | None = None
    batch_size: int | None = None
    show: Show = quiet
    pool: Pool | None = None
    n_computed: int = field(default=0, init=False)
    n_twice: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)
    _known: dict[str, pd.DataFrame] = field(default_factory=dict, init=False, repr=False)
    _begun: dict[str, list[Plan]] = field(default_factory=dict, init=False, repr=False)
    _digests: dict[Prompt | str, str] = field(default_factory=dict, init=False, repr=False)

    def get(self, requests: Sequence[Request], *, generate: bool) -> pd.DataFrame:
        """The table of `recall_under` without its conditions, a row per request and prompt, in order.

        Only the answers that are not known yet are computed.
        """
        answers = self._answers("generated" if generate else "given", requests, "answering prompts")
        prompts = [prompt.columns for _, batch in requests for prompt in batch]
        return pd.concat([pd.DataFrame(prompts), answers], axis=1)

    def losses(self, requests: Sequence[TextRequest], label: str = "reading texts") -> pd.DataFrame:
        """How well texts are predicted, a row per request and text, in order; those that are not known are read.

        Args:
            requests: The texts, and what is written while they are read.
            label: What a progress bar says.

        Returns:
            `n_tokens` and `nll`, as of `perplexity`.
        """
        return self._answers("losses", requests, label)

    def _answers(
        self, kind: str, requests: Sequence[tuple[Intervention | None, Sequence[Prompt | str]]], label: str
    ) -> pd.DataFrame:
        states = [_state(intervention) for intervention, _ in requests]
        questions = [
            Question(state, self._digest(one), intervention, one)
            for state, (intervention, asked) in zip(states, requests, strict=True)
            for one in asked
        ]
        keys = [(one.state, one.prompt) for one in questions]
        present = set(self._stored(kind).index)
        missing = {key: one for key, one in zip(keys, questions, strict=True) if key not in present}
        if missing:
            self._compute(kind, missing, label)
        return self._known[kind].loc[pd.MultiIndex.from_tuples(keys)].reset_index(drop=True)

    def _compute(self, kind: str, missing: Mapping[Key, Question], label: str) -> None:
        """Answer what is missing: whole batches of plans that were begun, then the rest in a plan of its own."""
        kept, pool, rest = PlanFolder(self.folder), self.pool or InProcess(self.model), dict(missing)
        work: list[tuple[Plan, list[int]]] = []
        for plan in self._begun[kind]:
            numbers = [number for number, batch in enumerate(plan.batches) if all(key in rest for key in batch)]
            work.append((plan, numbers))
            for key in (key for number in numbers for key in plan.batches[number]):
                del rest[key]
        if rest:
            batches = plan_batches(pool, self.model, kind, list(rest.values()), self.batch_size)
            plan = Plan(kind, tuple(tuple((one.state, one.prompt) for one in batch) for batch in batches))
            kept.begin(plan)
            self._begun[kind].append(plan)
            work.append((plan, list(range(len(plan.batches)))))
        started = time.monotonic()
        with self.show(label, len(missing)) as progress:
            for plan, numbers in work:
                self._carry_out(plan, {n: [missing[key] for key in plan.batches[n]] for n in numbers}, pool, progress)
        self.seconds += time.monotonic() - started
        self._finish(kind)

    def _carry_out(self, plan: Plan, batches: Mapping[int, list[Question]], pool: Pool, progress: Progress) -> None:
        kept, found = PlanFolder(self.folder), []

        def store(unit: Sequence[int], results: Sequence[pd.DataFrame]) -> None:
            answers = pd.concat(results, ignore_index=True)
            kept.store(plan, unit, answers)
            found.append(answers)
            self.n_computed += len(answers)

        try:
            pool.compute(Ask(plan.kind), batches, store, progress=progress)
        finally:
            if found:
                before = [self._known[plan.kind].reset_index()] if len(self._known[plan.kind]) else []
                every = pd.concat([*before, *found], ignore_index=True)
                self._known[plan.kind] = indexed(every)
                self.n_twice += len(every) - len(self._known[plan.kind])

    def _stored(self, kind: str) -> pd.DataFrame:
        """Answers of this kind so far, those in the folder included."""
        if kind not in self._known:
            kept = PlanFolder(self.folder)
            self._known[kind], self._begun[kind] = kept.answers(kind), kept.unfinished(kind)
            self._finish(kind)
        return self._known[kind]

    def _finish(self, kind: str) -> None:
        """Put away the plans of which everything is known."""
        known = set(self._known[kind].index)
        for plan in list(self._begun[kind]):
            if not plan.left(known):
                PlanFolder(self.folder).finish(plan, self._known[kind])
                self._begun[kind].remove(plan)

    def _digest(self, asked: Prompt | str) -> str:
        if asked not in self._digests:
            self._digests[asked] = digest(asked)[:16]
        return self._digests[asked]


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
