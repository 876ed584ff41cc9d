"""What sets of neurons write directly towards an object and away from its strongest rival, behind a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from relation_neurons.inference.batch_plan import Task
from relation_neurons.inference.batching import Batch, run_batches
from relation_neurons.interventions.interventions import Intervention, rows_under
from relation_neurons.models.hooked_model import Cache, Hook, forward, hooked
from relation_neurons.models.logit_attribution import RESIDUAL, direct_logits, final_scale
from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.prompts.tokenization import encode

MAX_ROWS = 16
"""Prompts at a time: the streams of all layers and positions are held."""


class DirectMargin(NamedTuple):
    """The margin of an object's first token over the strongest other one, in logits.

    Attributes:
        rival: The token that is the most probable but for the object's, in the clean model.
        written: What the set writes to the margin directly; below 0 it writes for the rival.
        change: How the margin changes when the set is ablated: all that the ablation does.
    """

    rival: int
    written: float
    change: float


def direct_margins(
    model: HookedModel, questions: Sequence[tuple[NeuronSet, Prompt]], *, batch_size: int | None = None
) -> list[DirectMargin]:
    """Direct logit attribution of sets of neurons at the last position of prompts.

    What a set writes in a layer is the difference of what the layer adds to the clean stream with and without the set.
    It is found at every site and behind any norm: the model is run with the set ablated, and behind every layer its
    stream is replaced by the clean one. For `gate`, `up` and `post` that is the product that enters the down
    projection, for `down` the projection's output; for `ffn`, where both are in the set, what is lost when both are
    zero, and nothing twice. For sites of attention it includes what the same layer's MLP makes of it. The sum over
    layers is divided by the final norm's scale in the clean model and unembedded, biases, scales and caps of logits
    left out. Effects through later layers are not in it. In 16 bits a difference has the stream's rounding error.

    Args:
        model: A model from `load_model`.
        questions: A set, which becomes zero, and a prompt.
        batch_size: Prompts at a time, at most `MAX_ROWS`.

    Returns:
        One for each question, in order.
    """
    if not questions:
        return []
    sets = list(dict.fromkeys(neurons for neurons, _ in questions))
    numbers = {neurons: number for number, neurons in enumerate(sets, start=1)}
    unique = list(dict.fromkeys(prompt for _, prompt in questions))
    encoded = dict(zip(unique, encode(model, unique), strict=True))
    tasks = [Task(encoded[prompt], numbers[neurons]) for neurons, prompt in questions]
    with rows_under(model, [[], *[[Intervention(neurons)] for neurons in sets]]) as patches:
        return run_batches(
            model,
            tasks,
            partial(_read_batch, model),
            patches=patches,
            share=False,
            n_logits=1,
            batch_size=min(batch_size or MAX_ROWS, MAX_ROWS),
        )


def _read_batch(model: HookedModel, batch: Batch, _: Cache) -> list[DirectMargin]:
    """Three passes: clean, with the set ablated behind clean layers, and with the set ablated."""
    assert batch.patches is not None
    batch.patches.use([0] * len(batch.rows))
    logits, clean = _pass(model, batch)
    batch.use()
    without, ablated = _pass(model, batch, clean)[1], _pass(model, batch)[0]
    written = sum((one[:, -1].float() - other[:, -1].float()).cpu() for one, other in zip(clean, without, strict=True))
    assert isinstance(written, Tensor)
    written = written / final_scale(model, clean[-1][:, -1]).cpu()[:, None]
    objects = [task.encoded.object_ids[0] for task in batch.tasks]
    others = logits.clone()
    others[range(len(objects)), objects] = -torch.inf
    margins = []
    for row, (right, rival) in enumerate(zip(objects, others.argmax(dim=1).tolist(), strict=True)):
        toward = direct_logits(model, written[row], [right, rival])
        before, after = (float(one[row, right] - one[row, rival]) for one in (logits, ablated))
        margins.append(DirectMargin(rival, float(toward[0] - toward[1]), after - before))
    return margins


def _pass(
    model: HookedModel, batch: Batch, instead: Sequence[Tensor] | None = None
) -> tuple[Float[Tensor, "row vocab"], list[Tensor]]:
    """Logits behind the prompts, and the stream behind every layer, which may be replaced there by another."""
    streams: list[Tensor] = []

    def record(layer: int) -> Hook:
        def keep(stream: Tensor) -> Tensor | None:
            streams.append(stream)
            return None if instead is None else instead[layer]

        return keep

    with hooked(model, [(RESIDUAL.format(layer=layer), record(layer)) for layer in range(model.cfg.n_layers)]):
        reading = forward(model, *batch.read(), keep=1)
    return reading.all()[:, 0].float().cpu(), streams
