"""What each neuron contributes to the log-probability of each prompt's object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from relation_neurons.activations.collection import Activations
from relation_neurons.attribution.beginnings import Beginning
from relation_neurons.attribution.gradients import by_gradient
from relation_neurons.attribution.paths import by_path
from relation_neurons.attribution.single_ablations import by_ablation
from relation_neurons.attribution.targets import TargetName, Targets, make_targets
from relation_neurons.errors import refuse
from relation_neurons.inference.batching import Batch, run_batches
from relation_neurons.models.hooked_model import Cache, neuron_space
from relation_neurons.models.relevance_rules import RelevanceRules
from relation_neurons.models.sites import Neuron, NeuronSpace
from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.validation import validated

Method = Literal["gradient", "integrated_gradients", "relp", "exact"]
STEPS = 8
"""Points on each part of a path of integrated gradients."""


@validated
@dataclass(frozen=True, repr=False)
class Attributions(Activations):
    """Contributions of neurons to answers, shaped as `Activations` and taken where those are.

    A contribution is what the target would lose if the neuron were set to zero at every position: positive where the
    neuron helps. It is the change that the ablation causes with the sign turned round.

    Attributes:
        values: Contributions in nats, on the CPU; NaN for neurons that `exact` was not asked for.
        prompts: One for each row.
        space: The neurons, one for each column.
        include_bos: Whether the prompts have a BOS token, where an ablation acts too.
        method: How they were computed, see `attribute`.
        target: What is contributed to, see `attribute`.
    """

    kind: ClassVar[str] = "attributions"

    method: str = "gradient"
    target: str = "logprob"

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, {self.method} of {self.target})"


@validated
def attribute(
    model: HookedModel,
    prompts: Sequence[Prompt],
    *,
    site: str = "post",
    method: Method = "gradient",
    target: TargetName = "logprob",
    steps: int = STEPS,
    neurons: NeuronSet | Sequence[Neuron] | None = None,
    batch_size: int | None = None,
    dtype: torch.dtype = torch.float32,
    progress: Progress = silent,
) -> Attributions:
    """Estimate what each prompt's object would lose if each neuron alone were set to zero.

    All positions of the pass count, as those of `ablate` do: BOS, few-shot examples, and the object's tokens that are
    read. Inside `with ablate(...)`, contributions are those in the ablated model.

    Args:
        model: A model from `load_model`.
        prompts: Prompts of facts, each read once.
        site: `post` (default) or any other of `relation_neurons.models.sites`.
        method: `gradient`: activation times gradient, summed over tokens; one pass and its derivative.
            `integrated_gradients`: the same with the mean gradient on the way from zeros, for each layer of each simple
            site; they sum over the layer to what is lost without it within 1 %, or a warning tells otherwise.
            `steps` points for each layer and more where the way is steep.
            `relp`: activation times the derivative by rules of relevance; see
            `relation_neurons.models.relevance_rules`; not for queries and keys, and only for models whose
            norms, attention patterns and MLPs are hooked.
            `exact`: ablate the given neurons one by one; a pass for each, of the layers above it where nothing is
            hooked and the model is a Llama of 32 bits as a `HookedTransformer`.
        target: `logprob`: log-probability of the whole object, as of `recall`; `first_token`: that of its first token;
            `margin`: log-odds of its first token against those of the relation's other objects.
        steps: For `integrated_gradients`, the points on each path; where their sum misses too much, the path is
            divided, with as many on each piece.
        neurons: For `exact`, which neurons.
        batch_size: Prompts at a time; by default what memory holds. Results do not depend on it.
        dtype: Type to store.
        progress: Called with the number of prompts read: all of them, and with `exact` once more for each neuron.

    Raises:
        RelationNeuronsError: No prompts, a prompt without an object, an unknown site, `neurons` without `exact` or the
            other way round, a site or a model for which `relp` is not defined, or contributions that are not finite.

    Example:
        >>> found = attribute(model, prompts, site="post")               # doctest: +SKIP
        >>> found.values.mean(dim=0).topk(10)                            # doctest: +SKIP
    """
    if not prompts:
        raise refuse("There are no prompts", expected="at least one")
    if steps < 1:
        raise refuse(f"steps is {steps}", expected="at least 1")
    space, targets = neuron_space(model, site), make_targets(model, prompts, target)
    if (neurons is None) == (method == "exact"):
        raise refuse(
            f"Method '{method}' was given {'no' if neurons is None else 'some'} neurons",
            expected="neurons with 'exact', which ablates each of them, and with no other method",
        )
    if neurons is not None and not len(neurons):
        raise refuse("There are no neurons", expected="at least one with method 'exact'")
    if neurons is not None:
        columns = torch.from_numpy(space.flatten(list(neurons)))
        values = torch.full((len(prompts), len(space)), float("nan"), dtype=dtype)
        solo = by_ablation(model, list(neurons), targets, batch_size=batch_size, progress=progress)
        values[:, columns] = _finite(solo, dtype)
    else:
        rules = _rules(model, space) if method == "relp" else None
        path = steps if method == "integrated_gradients" else None
        values = _collect(model, space, targets, rules, path, batch_size, dtype, progress)
    bos = any(task.encoded.bos for task in targets.tasks)
    return Attributions(values, tuple(prompts), space, bos, method, target)


def _collect(
    model: HookedModel,
    space: NeuronSpace,
    targets: Targets,
    rules: RelevanceRules | None,
    steps: int | None,
    batch_size: int | None,
    dtype: torch.dtype,
    progress: Progress,
) -> Float[Tensor, "prompt neuron"]:
    """Contributions from derivatives, batch by batch."""
    beginning = Beginning(model, space, rules)

    def read_batch(batch: Batch, cache: Cache) -> Tensor:
        if steps is None:
            return _finite(by_gradient(model, space, targets, batch, cache, beginning, rules), dtype)
        return _finite(by_path(model, space, targets, batch, steps), dtype)

    values = torch.empty((len(targets.tasks), len(space)), dtype=dtype)
    run_batches(
        model,
        targets.tasks,
        read_batch,
        begin=beginning.read,
        into=values,
        share=steps is None,
        n_logits=targets.n_logits,
        gradients=True,
        batch_size=batch_size,
        progress=progress,
    )
    return values


def _rules(model: HookedModel, space: NeuronSpace) -> RelevanceRules:
    constant = [site for site, _ in space.widths if site in ("q", "k")]
    if constant:
        raise refuse(
            f"Method 'relp' holds attention patterns constant, so that site '{constant[0]}' contributes nothing",
            do="use method 'gradient', or another site",
        )
    return RelevanceRules(model)


def _finite(values: Float[Tensor, "row neuron"], dtype: torch.dtype) -> Float[Tensor, "row neuron"]:
    """Contributions as they are stored."""
    values = values.to("cpu", dtype)
    if not torch.isfinite(values).all():
        raise refuse(
            f"Some contributions are not finite as {dtype}",
            do="store float32, load the model with dtype float32, and check its weights for NaN",
        )
    return values
