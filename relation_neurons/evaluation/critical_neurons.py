"""Critical neurons: those whose ablation alone breaks the model's language, whatever is asked of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from relation_neurons.errors import refuse
from relation_neurons.evaluation.perplexity import perplexity
from relation_neurons.inference.batching import Batch, Task, run_batches
from relation_neurons.interventions.interventions import Intervention
from relation_neurons.models.hooked_model import Cache, forward, hook_name, hooked, neuron_space
from relation_neurons.models.logit_attribution import output_norms
from relation_neurons.models.position_kinds import PAD
from relation_neurons.models.sites import Neuron, NeuronSpace, expand_site
from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts.concepts import screening_sentences
from relation_neurons.prompts.tokenization import encode_texts
from relation_neurons.validation import validated

THRESHOLD = 0.5
"""Nats per token that a critical neuron's ablation costs at least; see docs/decisions/0016-critical-neurons.md."""
N_CANDIDATES = 32
"""Neurons of each simple site that are ablated one by one."""


@validated
def critical_neurons(
    model: HookedModel,
    site: str = "post",
    *,
    texts: Sequence[str] | None = None,
    threshold: float = THRESHOLD,
    n_candidates: int = N_CANDIDATES,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Neurons whose ablation alone makes the model predict neutral sentences much worse.

    Of each simple site the neurons of the largest size (see `largest_writes`) are set to zero one by one.

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
    if not texts:
        raise refuse("There are no texts", expected="at least one")
    neurons = [
        neuron for part in expand_site(site) for neuron in candidates(model, part, texts, n_candidates, batch_size)
    ]
    table = solo_ablations(model, neurons, texts, batch_size=batch_size, progress=progress)
    critical = table[table["increase"] > threshold]
    return critical.sort_values("increase", ascending=False, kind="stable", ignore_index=True)


def n_readings(space: NeuronSpace, *, n_texts: int | None = None, n_candidates: int = N_CANDIDATES) -> int:
    """How many texts `critical_neurons` reads in all while it ablates the candidates of these neurons."""
    neurons = sum(min(n_candidates, space.n_layers * width) for _, width in space.widths)
    return (1 + neurons) * (len(screening_sentences()) if n_texts is None else n_texts)


def solo_ablations(
    model: HookedModel,
    neurons: Sequence[Neuron],
    texts: Sequence[str],
    *,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """How much worse the model predicts texts with each neuron alone set to zero.

    Returns:
        A row per neuron: `site`, `layer`, `index`, `increase` and `clean`, as of `critical_neurons`.
    """
    conditions = {str(one): [Intervention(NeuronSet((one,), str(one)))] for one in neurons}
    read = perplexity(model, texts, {"clean": [], **conditions}, batch_size=batch_size, progress=progress)
    totals = read.groupby("condition", sort=False)[["nll", "n_tokens"]].sum()
    clean, *ablated = (totals["nll"] / totals["n_tokens"]).tolist()
    table = pd.DataFrame(neurons, columns=["site", "layer", "index"])
    return table.assign(increase=np.array(ablated, dtype=float) - clean, clean=clean)


def candidates(
    model: HookedModel, site: str, texts: Sequence[str], n: int, batch_size: int | None = None
) -> list[Neuron]:
    """The neurons of a simple site with the largest writes."""
    space = neuron_space(model, site)
    sizes = largest_writes(model, site, texts, batch_size=batch_size)
    best = np.argsort(-sizes, kind="stable")[:n]
    _, layers, indices = space.locate(best)
    return [Neuron(site, layer, index) for layer, index in zip(layers.tolist(), indices.tolist(), strict=True)]


def largest_writes(
    model: HookedModel, site: str, texts: Sequence[str], *, batch_size: int | None = None
) -> Float[ndarray, " neuron"]:
    """The most that zeroing each neuron of a simple site takes from the residual stream, over all tokens.

    It is the largest |activation| times the norm of the neuron's output row; of `gate` and `up`, the activation of
    the MLP unit that they feed. Of q, k and v, which have no output row, it is the largest |activation|. BOS and the
    first token count: an ablation acts there too, and the largest activations are there.
    """
    space = neuron_space(model, site)
    norms = [output_norms(model, site, layer) for layer in range(space.n_layers)]
    read_at = "post" if site in ("gate", "up") and norms[0] is not None else site
    tasks, sizes = [Task(one) for one in encode_texts(model, texts)], torch.empty((len(texts), len(space)))

    def read_batch(batch: Batch, cache: Cache) -> Tensor:
        tokens, kinds = batch.read()
        with _largest(model, space, read_at, kinds != PAD) as largest:
            forward(model, tokens, kinds, cache, keep=0)
        return largest.cpu()

    run_batches(model, tasks, read_batch, into=sizes, share=False, batch_size=batch_size)
    parts = zip(sizes.amax(dim=0).split(len(space) // space.n_layers), norms, strict=True)
    return torch.cat([part if norm is None else part * norm for part, norm in parts]).numpy()


@contextlib.contextmanager
def _largest(
    model: HookedModel, space: NeuronSpace, site: str, mask: Bool[Tensor, "row pos"]
) -> Iterator[Float[Tensor, "row neuron"]]:
    """The largest |activation| over the positions of the mask in the pass of this block, which fills it in."""
    largest = torch.full((len(mask), len(space)), float("nan"), device=mask.device)

    def hook(place: slice, activation: Tensor) -> None:
        largest[:, place] = (activation.flatten(2).float().abs() * mask[:, :, None]).amax(dim=1)

    with hooked(model, {hook_name(site, layer): partial(hook, place) for _, layer, place in space.slices()}):
        yield largest
