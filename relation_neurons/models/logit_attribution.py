"""What a neuron writes into the residual stream, and what that adds to the logits directly."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.placement import is_readable, require_readable, weights_present
from relation_neurons.models.sites import Neuron
from relation_neurons.models.types import HookedModel, is_bridge


def output_row(model: HookedModel, neuron: Neuron) -> Float[Tensor, " d_model"] | None:
    """What one unit of a neuron's activation adds to the residual stream, in float32.

    For `post`, and for `gate` and `up`, which feed the same unit of the MLP, it is the unit's row of the output
    projection; for `down` and `o`, which are the stream's own directions, a unit vector. A neuron of q, k or v has
    none: what it does goes through attention. Nor has a unit of an MLP whose output is normed again before it is added,
    or of several experts.

    Raises:
        RelationNeuronsError: A neuron that the model does not have, or weights in 8 or 4 bits.
    """
    neuron_space(model, neuron.site).flatten([neuron])
    if neuron.site in ("down", "o"):
        return torch.nn.functional.one_hot(torch.tensor(neuron.index), model.cfg.d_model).float()
    require_readable(model, f"What neuron {neuron} writes")
    weights = _output_weights(model, neuron.site, neuron.layer)
    return None if weights is None else weights[neuron.index].detach().float().cpu()


def output_norms(model: HookedModel, site: str, layer: int) -> Float[Tensor, " neuron"] | None:
    """The norm of the `output_row` of every neuron of a simple site in a layer, or none where they have none.

    Weights in 8 or 4 bits are not read: their neurons count as if they had none.
    """
    if site in ("down", "o"):
        return torch.ones(model.cfg.d_model)
    weights = _output_weights(model, site, layer)
    return None if weights is None else weights.detach().float().norm(dim=1).cpu()


def _output_weights(model: HookedModel, site: str, layer: int) -> Float[Tensor, "neuron d_model"] | None:
    """The output projection of the MLP units of a layer, if each unit adds its row of it to the residual stream."""
    block = model.blocks[layer]
    if site in ("q", "k", "v") or hasattr(block, "ln2_post"):
        return None
    if not is_readable(model):
        return None
    with weights_present(getattr(block.mlp, "out", None)):
        return getattr(block.mlp, "W_out", None)


def direct_logits(model: HookedModel, direction: Float[Tensor, " d_model"]) -> Float[Tensor, " vocab"]:
    """What a direction of the residual stream adds to every logit (TransformerLens's direct logit attribution).

    The direction is centred where the final norm centres, multiplied by that norm's weight and unembedded. The norm's
    scale, which depends on the whole stream and is the same for every token, is left out, and so are all biases: only
    comparisons between tokens mean something.

    Args:
        model: A model from `load_model`.
        direction: Such as from `output_row`.

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
        return (direction.to(unembedding) @ unembedding).float().cpu()
