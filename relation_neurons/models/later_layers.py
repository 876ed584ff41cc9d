"""Run a model from the residual stream behind a layer to the end."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from relation_neurons.models.hooked_model import Cache, Reading
from relation_neurons.models.position_kinds import PAD
from relation_neurons.models.types import HookedModel, is_bridge

STREAM = "blocks.{layer}.hook_resid_post"
"""The hook of the residual stream behind a layer."""
ZEROING_SITES = ("post", "gate", "up")
"""Sites of which a neuron at zero takes its unit's row of the output projection out of the residual stream."""


def splits_at(model: HookedModel, site: str) -> bool:
    """Whether a neuron of this site can be ablated in the residual stream behind its layer.

    So it is in a `HookedTransformer` from `load_model`, a Llama: what an MLP writes is added to the stream as it is,
    and its activation function is zero at zero. Its numbers must be of 32 bits, since the row is subtracted from what
    was rounded; and nothing may be hooked, since hooks count on whole passes.
    """
    return (
        not is_bridge(model)
        and model.cfg.original_architecture == "LlamaForCausalLM"
        and model.cfg.dtype == torch.float32
        and site in ZEROING_SITES
        and (site != "gate" or float(model.blocks[0].mlp.act_fn(torch.zeros(1))) == 0)
        and not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    )


def run_from(
    model: HookedModel,
    layer: int,
    stream: Float[Tensor, "row pos d_model"],
    kinds: Int[Tensor, "row pos"],
    cache: Cache,
    *,
    keep: int,
) -> Reading:
    """Run the layers above one.

    Args:
        model: A model that `splits_at` a site.
        layer: The last one that is not run.
        stream: The residual stream behind it.
        kinds: What stands at each position.
        cache: What came before in the layers above; it takes up the new positions.
        keep: How many positions at the end may be unembedded.
    """
    whole = torch.cat([cache.mask, (kinds != PAD).long()], dim=1)
    start, end = layer + 1, model.cfg.n_layers
    stream = model(stream, attention_mask=whole, past_kv_cache=cache.stored, start_at_layer=start, stop_at_layer=end)
    cache.mask = whole
    return Reading(model, stream[:, stream.shape[1] - keep :])
