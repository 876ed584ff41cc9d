"""What a neuron writes into the residual stream, and what that adds to the logits directly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from relation_neurons.models.hooked_model import Hook, hook_name, hooked, neuron_space
from relation_neurons.models.placement import is_readable, require_readable, weights_present
from relation_neurons.models.sites import Neuron
from relation_neurons.models.types import HookedModel, is_bridge

RESIDUAL = "blocks.{layer}.hook_resid_post"
N_TOKENS = 4
"""Tokens of the pass that measures what a block does to an output."""
UNEXPLAINED = {True: 1e-3, False: 0.05}
"""Largest share of a change that rounding may explain, in 32 bits and in 16."""


def output_row(model: HookedModel, neuron: Neuron) -> Float[Tensor, " d_model"] | None:
    """What one unit of a neuron's activation adds to the residual stream, in float32.

    For `post`, and for `gate` and `up`, which feed the same unit of the MLP, it is the unit's row of the output
    projection; for `down` and `o`, which are directions of the stream, a unit vector; both times the number by which
    an architecture such as Granite multiplies what a block adds. A neuron of q, k or v has none: what it does goes
    through attention. Nor have neurons of a block that norms its output before adding it, such as Gemma's or OLMo 2's.

    Raises:
        RelationNeuronsError: A neuron that the model does not have, or weights in 8 or 4 bits.
    """
    neuron_space(model, neuron.site).flatten([neuron])
    factor = _factor(model, neuron.site, neuron.layer)
    if factor is None:
        return None
    if neuron.site in ("down", "o"):
        return factor * torch.nn.functional.one_hot(torch.tensor(neuron.index), model.cfg.d_model).float()
    require_readable(model, f"What neuron {neuron} writes")
    return factor * _output_weights(model, neuron.layer)[neuron.index].float().cpu()


def output_norms(model: HookedModel, site: str, layer: int) -> Float[Tensor, " neuron"] | None:
    """The norm of the `output_row` of every neuron of a simple site in a layer, or none where they have none.

    Weights in 8 or 4 bits are not read: their neurons count as if they had none.
    """
    factor = _factor(model, site, layer)
    if factor is None or not (is_readable(model) or site in ("down", "o")):
        return None
    if site in ("down", "o"):
        return abs(factor) * torch.ones(model.cfg.d_model)
    return abs(factor) * _output_weights(model, layer).float().norm(dim=1).cpu()


def _output_weights(model: HookedModel, layer: int) -> Float[Tensor, "neuron d_model"]:
    """The output projection of the MLP units of a layer, brought in where it is kept on the CPU or on disk."""
    mlp = model.blocks[layer].mlp
    with weights_present(getattr(mlp, "out", None)):
        weights: Tensor = mlp.W_out.detach()
    return weights


def _factor(model: HookedModel, site: str, layer: int) -> float | None:
    """By what a block multiplies an output before adding it to the residual stream; none if it does anything else."""
    if site in ("q", "k", "v") or getattr(model.cfg, "has_experts", False):
        return None
    output = "o" if site == "o" else "down"
    known: dict[tuple[str, int], float | None] = model.cfg.__dict__.setdefault("output_factors", {})
    if (output, layer) not in known:
        known[output, layer] = _measured_factor(model, output, layer)
    return known[output, layer]


@torch.inference_mode()
def _measured_factor(model: HookedModel, output: str, layer: int) -> float | None:
    """See how the stream behind a block changes when random numbers are added to an output in it."""
    tokens = torch.arange(5, 5 + N_TOKENS, device=model.cfg.device)[None]
    streams: list[Tensor] = []
    hooks: list[tuple[str, Hook]] = [
        (RESIDUAL.format(layer=layer), lambda stream: streams.append(stream.float().cpu())),
    ]
    if output == "o":  # what attention adds is also read by the MLP
        hooks.append((hook_name(model, "down", layer), torch.zeros_like))
    with hooked(model, hooks):
        model(tokens)
        added = torch.randn(streams[0].shape, generator=torch.Generator().manual_seed(0)) * streams[0].std()
        with hooked(model, [(hook_name(model, output, layer), lambda values: values + added.to(values))]):
            model(tokens)
    change = streams[1] - streams[0]
    usual = {1.0, float(getattr(_config(model), "residual_multiplier", 1.0))}
    limit = UNEXPLAINED[model.cfg.dtype.itemsize > 2]
    return next((factor for factor in usual if (change - factor * added).norm() <= limit * change.norm()), None)


def _config(model: HookedModel) -> Any:
    """Transformers' configuration of a bridge, TransformerLens's of a `HookedTransformer`."""
    return model.original_model.config.get_text_config() if is_bridge(model) else model.cfg


def direct_logits(
    model: HookedModel, direction: Float[Tensor, " d_model"], tokens: Sequence[int] | None = None
) -> Float[Tensor, " token"]:
    """What a direction of the residual stream adds to every logit (TransformerLens's direct logit attribution).

    The direction is centred where the final norm centres, multiplied by that norm's weight and unembedded. The norm's
    scale, which depends on the whole stream and is the same for every token, is left out, and so are all biases: only
    comparisons between tokens mean something.

    Args:
        model: A model from `load_model`.
        direction: Such as from `output_row`.
        tokens: Of which logits are wanted; by default of the whole vocabulary.

    Returns:
        In float32, on the CPU.
    """
    norm = model.ln_final
    with weights_present(model.unembed), weights_present(norm):
        unembedding = model.unembed.W_U
        weight = getattr(norm, "weight" if is_bridge(model) else "w", None)  # a bridge's `w` stays what it was at load
    if str(model.cfg.normalization_type).startswith("LN"):
        direction = direction - direction.mean()
    if weight is not None:  # else it was folded into the unembedding
        weight = weight.detach().float().cpu() + float(getattr(norm, "uses_weight_offset", False))
        direction = direction * weight
    with torch.inference_mode():
        columns = unembedding if tokens is None else unembedding[:, list(tokens)]
        return (direction.to(columns) @ columns).float().cpu()


def final_scale(model: HookedModel, stream: Float[Tensor, "row d_model"]) -> Float[Tensor, " row"]:
    """By what the final norm divides a stream before the unembedding, in float32."""
    stream = stream.float()
    if str(model.cfg.normalization_type).startswith("LN"):
        stream = stream - stream.mean(dim=-1, keepdim=True)
    return (stream.square().mean(dim=-1) + float(getattr(model.cfg, "eps", 0.0))).sqrt()
