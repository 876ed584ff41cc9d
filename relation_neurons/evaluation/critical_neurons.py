"""Critical neurons: those whose ablation alone makes the model worse at any text."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from relation_neurons.errors import refuse
from relation_neurons.evaluation.perplexity import encode_predicted, perplexity
from relation_neurons.inference.batch_plan import Task
from relation_neurons.inference.batching import Batch, run_batches
from relation_neurons.interventions.interventions import Intervention
from relation_neurons.models.hooked_model import Cache, Hook, forward, hook_name, hooked, neuron_space
from relation_neurons.models.logit_attribution import output_norms
from relation_neurons.models.position_kinds import PAD
from relation_neurons.models.sites import Neuron, NeuronSpace, expand_site
from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts.concepts import screening_sentences
from relation_neurons.validation import validated

THRESHOLD = 1.0
"""Nats per token that ablating a critical neuron costs: the perplexity is multiplied by e. See docs/decisions/0016."""
N_CANDIDATES = 32
"""Neurons of each simple site that are ablated one by one."""
ReadRequest = tuple[Intervention | None, tuple[str, ...]]
"""What is written, None for the clean model, and texts to read."""
RESIDUAL = "blocks.{layer}.hook_resid_post"
"""TransformerLens's name for the residual stream behind a layer."""


@validated
def critical_neurons(
    model: HookedModel,
    site: str = "post",
    *,
    texts: Sequence[str] | None = None,
    threshold: float | int = THRESHOLD,
    n_candidates: int = N_CANDIDATES,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Neurons whose ablation alone makes the model predict neutral sentences much worse.

    Of each simple site the neurons that write most (see `candidates`) are set to zero one by one.

    Args:
        model: A model from `load_model`.
        site: Where neurons are; a site such as `ffn` is screened part by part.
        texts: Neutral texts of at least two tokens; by default eight that are shipped.
        threshold: Least increase of the negative log-probability, in nats per token, of a critical neuron.
        n_candidates: Neurons of each simple site to ablate; all of them make the result exact.
        batch_size: Texts per batch; by default as many as fit in memory.
        progress: Called with the number of texts read; in all there are `n_readings`.

    Returns:
        A row per critical neuron, the largest increase first: `site`, `layer`, `index`, `increase` in nats per token,
        and `clean`, the negative log-probability of the model as it is, in nats per token.

    Raises:
        RelationNeuronsError: Not a site of the model, no candidates, a threshold that is not above 0, or texts that
            cannot be read.

    Example:
        >>> critical_neurons(model, "down")                     # doctest: +SKIP
           site  layer  index  increase   clean
        0  down     11    507     10.54    6.30
    """
    if n_candidates < 1 or not threshold > 0:
        raise refuse(f"n_candidates is {n_candidates}, threshold {threshold}", expected="at least 1, and above 0")
    texts = screening_sentences() if texts is None else texts
    neurons = [
        neuron
        for part in expand_site(site)
        for neuron in candidates(model, part, texts, n_candidates, batch_size=batch_size)
    ]

    def read(requests: Sequence[ReadRequest]) -> pd.DataFrame:
        conditions = {str(number): [one] if one else [] for number, (one, _) in enumerate(requests)}
        return perplexity(model, texts, conditions, batch_size=batch_size, progress=progress)

    return most_critical(solo_ablations(neurons, texts, read), threshold)


def most_critical(table: pd.DataFrame, threshold: float | int = THRESHOLD) -> pd.DataFrame:
    """The neurons of a table of `solo_ablations` that cost more than the threshold, the largest increase first."""
    critical = table[table["increase"] > threshold]
    return critical.sort_values("increase", ascending=False, kind="stable", ignore_index=True)


def n_readings(space: NeuronSpace, *, n_texts: int | None = None, n_candidates: int = N_CANDIDATES) -> int:
    """How many texts `critical_neurons` reads in all while it ablates the candidates of these neurons."""
    neurons = sum(min(n_candidates, space.n_layers * width) for _, width in space.widths)
    return (1 + neurons) * (len(screening_sentences()) if n_texts is None else n_texts)


def solo_ablations(
    neurons: Sequence[Neuron], texts: Sequence[str], read: Callable[[Sequence[ReadRequest]], pd.DataFrame]
) -> pd.DataFrame:
    """How much worse the model predicts texts with each neuron alone set to zero.

    Args:
        neurons: Which.
        texts: Neutral texts.
        read: Reads the texts in the clean model and with each neuron off; a row per request and text, with `n_tokens`
            and `nll`.

    Returns:
        A row per neuron: `site`, `layer`, `index`, `increase` and `clean`, as of `critical_neurons`.
    """
    requests: list[ReadRequest] = [(None, tuple(texts))]
    requests += [(Intervention(NeuronSet((one,), str(one))), tuple(texts)) for one in neurons]
    found = read(requests)[["nll", "n_tokens"]].to_numpy(dtype=float).reshape(len(requests), len(texts), 2)
    totals = found.sum(axis=1)
    clean, *ablated = (totals[:, 0] / totals[:, 1]).tolist()
    table = pd.DataFrame(neurons, columns=["site", "layer", "index"])
    return table.assign(increase=np.array(ablated, dtype=float) - clean, clean=clean)


def candidates(
    model: HookedModel, site: str, texts: Sequence[str], n: int, *, batch_size: int | None = None
) -> list[Neuron]:
    """The neurons of a simple site whose ablation may matter most, from one pass over texts.

    Half of them write most for their layer (largest write over the median of their layer's), half most beside the
    residual stream that they write into; see `largest_writes`.
    """
    space = neuron_space(model, site)
    sizes, shares = largest_writes(model, site, texts, batch_size=batch_size).astype(np.float64)
    by_layer = sizes.reshape(space.n_layers, -1)
    typical = np.maximum(np.median(by_layer, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    first = np.argsort(-(by_layer / typical).ravel(), kind="stable")[: (n + 1) // 2]
    others = np.argsort(-shares, kind="stable")
    chosen = np.concatenate([first, others[~np.isin(others, first)][: n - len(first)]])
    _, layers, indices = space.locate(chosen)
    return [Neuron(site, layer, index) for layer, index in zip(layers.tolist(), indices.tolist(), strict=True)]


def largest_writes(
    model: HookedModel, site: str, texts: Sequence[str], *, batch_size: int | None = None
) -> Float[ndarray, "2 neuron"]:
    """The most that zeroing each neuron of a simple site takes from the residual stream at any token.

    What it takes is |activation| times the norm of the neuron's output row; of `gate` and `up`, the activation of the
    MLP unit that they feed. Neurons of q, k and v have no output row, and their |activation| stands for it. BOS and the
    first token count: an ablation acts there too, and the largest activations are there.

    Returns:
        The largest write of each neuron, and its largest ratio to the norm of the residual stream behind the layer.
    """
    space = neuron_space(model, site)
    norms = [output_norms(model, site, layer) for layer in range(space.n_layers)]
    read_at = "post" if site in ("gate", "up") and norms[0] is not None else site
    tasks = [Task(one) for one in encode_predicted(model, texts)]

    def read_batch(batch: Batch, cache: Cache) -> Tensor:
        tokens, kinds = batch.read()
        with _largest(model, space, read_at, kinds != PAD) as largest:
            forward(model, tokens, kinds, cache, keep=0)
        return largest.cpu()

    values = torch.empty((len(texts), 2, len(space)))
    run_batches(model, tasks, read_batch, into=values, share=False, batch_size=batch_size)
    parts = zip(values.amax(dim=0).split(len(space) // space.n_layers, dim=1), norms, strict=True)
    return torch.cat([part if norm is None else part * norm for part, norm in parts], dim=1).numpy()


@contextlib.contextmanager
def _largest(
    model: HookedModel, space: NeuronSpace, site: str, mask: Bool[Tensor, "row pos"]
) -> Iterator[Float[Tensor, "row 2 neuron"]]:
    """The largest |activation| where the mask is true, alone and over the stream's norm, of the pass in this block."""
    largest = torch.full((len(mask), 2, len(space)), float("nan"), device=mask.device)
    sizes: dict[int, Float[Tensor, "row pos neuron"]] = {}

    def read(place: slice, activation: Tensor) -> None:
        sizes[place.start] = activation.flatten(2).float().abs() * mask[:, :, None].to(activation.device)

    def compare(place: slice, stream: Tensor) -> None:
        size = sizes.pop(place.start).to(stream.device)
        norm = stream.float().norm(dim=2, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        largest[:, 0, place] = size.amax(dim=1).to(largest.device)
        largest[:, 1, place] = (size / norm).amax(dim=1).to(largest.device)

    hooks: list[tuple[str, Hook]] = []
    for _, layer, place in space.slices():
        hooks.append((hook_name(model, site, layer), partial(read, place)))
        hooks.append((RESIDUAL.format(layer=layer), partial(compare, place)))
    with hooked(model, hooks):
        yield largest
