"""The number that is attributed to neurons: how much a model favours the object of each prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from relation_neurons.errors import refuse
from relation_neurons.evaluation.scoring import candidate_tokens
from relation_neurons.inference.batch_plan import Task
from relation_neurons.inference.batching import Batch
from relation_neurons.models.hooked_model import Cache, Reading, forward
from relation_neurons.models.types import HookedModel
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.prompts.tokenization import encode

TargetName = Literal["logprob", "first_token", "margin"]


@dataclass(frozen=True)
class Targets:
    """What is read of prompts.

    Attributes:
        name: `logprob`: the log-probability of the whole object, in nats, as of `recall`; `first_token`: that of its
            first token; `margin`: the log-odds of its first token against those of the relation's other objects.
        tasks: The prompts.
        rivals: For `margin`, the first tokens of the other objects for each prompt, without the object's own.
    """

    name: TargetName
    tasks: tuple[Task, ...]
    rivals: tuple[tuple[int, ...], ...]

    @property
    def n_logits(self) -> int:
        """The most positions of a row that are unembedded."""
        return max(len(self._answer(task)) for task in self.tasks)

    def part(self, prompts: slice) -> Targets:
        """What is read of some of the prompts."""
        return replace(self, tasks=self.tasks[prompts], rivals=self.rivals[prompts])

    def read(self, batch: Batch) -> tuple[Int[Tensor, "row pos"], Int[Tensor, "row pos"]]:
        """The tokens that are read of each row, the object's but for the last among them, and their kinds."""
        return batch.read([self._answer(task)[:-1] for task in batch.tasks])

    def longest(self, batch: Batch) -> int:
        """The most positions of a row of a batch that are unembedded."""
        return max(len(self._answer(task)) for task in batch.tasks)

    def values(self, model: HookedModel, batch: Batch, cache: Cache) -> Float[Tensor, " row"]:
        """The target of each row, from one pass over prompts with their objects behind them, padded on the left."""
        return self.judge(batch, forward(model, *self.read(batch), cache, keep=self.longest(batch)))

    def judge(self, batch: Batch, reading: Reading) -> Float[Tensor, " row"]:
        """The target of each row, from what the model made of the last positions, as many as the longest answer's."""
        answers, longest = [self._answer(task) for task in batch.tasks], self.longest(batch)
        places = [(row, step) for row, answer in enumerate(answers) for step in range(len(answer))]
        rows, columns = [row for row, _ in places], [longest - len(answers[row]) + step for row, step in places]
        logits = reading.at(rows, columns)
        wanted = torch.tensor([answers[row][step] for row, step in places], device=logits.device)
        chosen = logits.gather(1, wanted[:, None])[:, 0]
        if self.name == "margin":
            against = [self.rivals[number] for number in batch.rows]
            others = [one[list(tokens)].logsumexp(dim=0) for one, tokens in zip(logits, against, strict=True)]
            return chosen - torch.stack(others)
        logprobs = chosen - logits.logsumexp(dim=1)
        index = torch.tensor(rows, device=logits.device)
        return torch.zeros(len(answers), device=logits.device).index_add(0, index, logprobs)

    def _answer(self, task: Task) -> tuple[int, ...]:
        ids = task.encoded.object_ids
        return ids if self.name == "logprob" else ids[:1]


def make_targets(model: HookedModel, prompts: Sequence[Prompt], name: TargetName) -> Targets:
    """Encode prompts for a target.

    Args:
        model: A model from `load_model`.
        prompts: The prompts.
        name: See `Targets`.

    Raises:
        RelationNeuronsError: A prompt has no object; or, for `margin`, no other object with another first token.
    """
    encoded = encode(model, prompts)
    for prompt, one in zip(prompts, encoded, strict=True):
        if not one.object_ids:
            raise refuse(
                f"The prompt '{prompt.text[-40:]}' has no object", expected="prompts of facts, as of make_prompts"
            )
    candidates = candidate_tokens(model, prompts) if name == "margin" else {}
    rivals = []
    for prompt, one in zip(prompts, encoded, strict=True):
        firsts = dict.fromkeys(ids[0] for ids in candidates.get(prompt.candidates, ()))
        rivals.append(tuple(first for first in firsts if first != one.object_ids[0]))
        if name == "margin" and not rivals[-1]:
            raise refuse(
                f"No other object of '{prompt.relation}' begins with another token than '{prompt.object}'",
                do="use target 'logprob'",
            )
    tasks = tuple(Task(one, 0, max(0, len(one.object_ids) - 1)) for one in encoded)
    return Targets(name, tasks, tuple(rivals))
