"""Batches that were fixed and perhaps not finished: kept in the folder of a study until all of them are answered.

`parts/` holds plans, which are the questions of each batch by their digests, and the answers of whole batches; both are
gone when `answers/` has all. So a study that is stopped and resumed, by as many workers as there are then, asks the
same batches, and none of them twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from relation_neurons.experiments.answer_jobs import INDEX
from relation_neurons.storage.fingerprint import digest
from relation_neurons.storage.run_folder import RunFolder

Key = tuple[str, str]
"""The state of the model and what is asked, each by its digest."""


@dataclass(frozen=True)
class Plan:
    """Questions of one kind in batches.

    Attributes:
        kind: Of `answer_jobs.KINDS`.
        batches: The keys of the questions in each.
    """

    kind: str
    batches: tuple[tuple[Key, ...], ...]

    @property
    def name(self) -> str:
        """Of its files: the kind, and a digest of the batches."""
        return f"{self.kind}-{digest(self.batches)[:16]}"

    @property
    def keys(self) -> list[Key]:
        """Of all questions, in order."""
        return [key for batch in self.batches for key in batch]

    def left(self, known: Mapping[Key, object] | set[Key]) -> list[int]:
        """Numbers of the batches that are not answered."""
        return [number for number, batch in enumerate(self.batches) if not all(key in known for key in batch)]


class PlanFolder:
    """The plans of a study and what has been answered of them, in its folder; without one nothing is kept."""

    def __init__(self, folder: RunFolder | None) -> None:
        """Nothing is read yet."""
        self._folder = folder

    def answers(self, kind: str) -> pd.DataFrame:
        """All answers of a kind that the folder holds, those of unfinished plans too."""
        if self._folder is None:
            return pd.DataFrame()
        # parts first: they vanish only after the table that holds them all is there
        parts, whole = (self._folder.tables(f"{place}/{kind}-*") for place in ("parts", "answers"))
        return indexed(pd.concat([*whole, *parts])) if parts or whole else pd.DataFrame()

    def unfinished(self, kind: str) -> list[Plan]:
        """The plans of a kind that were begun."""
        tables = [] if self._folder is None else self._folder.tables(f"parts/plan-{kind}-*")
        return [_plan(kind, table) for table in tables]

    def begin(self, plan: Plan) -> None:
        """Keep a plan before any of it is answered."""
        if self._folder is not None:
            rows = [(*key, number) for number, batch in enumerate(plan.batches) for key in batch]
            self._folder.write_table(f"parts/plan-{plan.name}", pd.DataFrame(rows, columns=[*INDEX, "batch"]))

    def store(self, plan: Plan, unit: Sequence[int], answers: pd.DataFrame) -> None:
        """Keep the answers of some batches."""
        if self._folder is not None:
            self._folder.write_table(f"parts/{plan.name}-{unit[0]:05}", answers)

    def finish(self, plan: Plan, known: pd.DataFrame) -> None:
        """Put the answers of a plan, whoever computed them, into one table, and drop what led to it."""
        if self._folder is not None:
            answers = known.loc[pd.MultiIndex.from_tuples(plan.keys, names=INDEX)].reset_index()
            self._folder.write_table(f"answers/{plan.name}", answers)
            self._folder.drop(f"parts/{plan.name}-*", f"parts/plan-{plan.name}")


def indexed(answers: pd.DataFrame) -> pd.DataFrame:
    """Answers by state and prompt."""
    return answers.drop_duplicates(INDEX).set_index(INDEX)


def _plan(kind: str, table: pd.DataFrame) -> Plan:
    batches: dict[int, list[Key]] = {}
    for state, prompt, number in table.itertuples(index=False):
        batches.setdefault(number, []).append((state, prompt))
    return Plan(kind, tuple(map(tuple, batches.values())))
