"""What takes neuron sets to other programs: the Hugging Face Hub, hooks, and code."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.snippets import hooks, snippet

SetT = TypeVar("SetT")


class Interchange:
    """The part of `NeuronSet` that other programs need."""

    def by_place(self) -> dict[tuple[str, int], list[int]]:
        """The indices of neurons in each site and layer."""
        raise NotImplementedError

    @classmethod
    def from_hub(
        cls: type[SetT],
        repo_id: str,
        name: str | None = None,
        *,
        model: HookedModel | None = None,
        revision: str | None = None,
        token: str | None = None,
        endpoint: str | None = None,
    ) -> SetT:
        """Download a set from the Hugging Face Hub; nothing that is read is executed or unpickled.

        Args:
            repo_id: Such as `me/language-neurons`, written by `push_to_hub`.
            name: Of the set, where the repository has several.
            model: The model that it will be used with, which is checked against the file.
            revision: A branch, tag or commit; by default the newest.
            token: Of a private repository; by default the one that you have logged in with.
            endpoint: Address of the hub; by default the public one.

        Raises:
            RelationNeuronsError: No such repository, file or set, a damaged file, or one of another model.
        """
        options = {"model": model, "revision": revision, "token": token, "endpoint": endpoint}
        return cast(SetT, _hub().pull(repo_id, name, **options))

    def push_to_hub(
        self,
        repo_id: str,
        model: HookedModel,
        *,
        score: str = "unknown",
        private: bool = False,
        made_from: Mapping[str, Any] | None = None,
        token: str | None = None,
        endpoint: str | None = None,
    ) -> str:
        """Upload the set to the Hugging Face Hub with a card that says what it is and how to use it.

        Args:
            repo_id: Such as `me/language-neurons`; made if it does not exist. A set that it holds is replaced.
            model: The model in which the neurons were found.
            score: What they were ranked by.
            private: Whether a new repository is private.
            made_from: Further information, as of `save_neurons`.
            token: By default the one that you have logged in with.
            endpoint: Address of the hub; by default the public one.

        Returns:
            The address of the repository.

        Raises:
            RelationNeuronsError: A neuron that the model lacks, or what the hub refuses.
        """
        options = {"private": private, "made_from": made_from, "token": token, "endpoint": endpoint}
        return str(_hub().push(self, repo_id, model, score=score, **options))

    def to_hooks(self, value: float = 0.0) -> list[tuple[str, Callable[..., Any]]]:
        """Hooks that set these neurons to a value at every position, for TransformerLens' `run_with_hooks`.

        Unlike `ablate`, which also proves that each hook fired, they need nothing of this package.

        Example:
            >>> from relation_neurons import NeuronSet
            >>> [name for name, _ in NeuronSet.from_pairs([(3, 1), (3, 5)]).to_hooks()]
            ['blocks.3.mlp.hook_post']
        """
        return hooks(self.by_place(), value)

    def to_snippet(self, library: str = "transformer_lens", model: str = "MODEL") -> str:
        """Code that ablates these neurons with another library, to paste.

        Args:
            library: `transformer_lens`, `nnsight` or `pyvene`; the last two know Llamas as Transformers builds them.
            model: What the code loads.

        Raises:
            RelationNeuronsError: Another library.
        """
        return snippet(self.by_place(), library, model)


def _hub() -> Any:
    """The module that sends sets to the hub, which itself imports this one, and is needed by few."""
    return importlib.import_module("relation_neurons.neurons.hub")
