"""What the rest of the package does to a model: name its neurons, hook it, run it with a cache."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache
from transformer_lens.hook_points import HookPoint

from relation_neurons.errors import refuse
from relation_neurons.models.position_kinds import PAD, announce
from relation_neurons.models.sites import MLP_SITES, SITES, NeuronSpace, expand_site
from relation_neurons.models.types import HookedModel, is_bridge

Hook = Callable[[Tensor], Tensor | None]


def neuron_space(model: HookedModel, site: str = "post") -> NeuronSpace:
    """All neurons of a model at a site.

    Raises:
        RelationNeuronsError: Not a site, a gated site of a model without a gated MLP, or a site in the MLPs of a
            mixture of experts.
    """
    return config_space(model.cfg, site)


def config_space(cfg: Any, site: str) -> NeuronSpace:
    """All neurons of a model of this configuration, or of this `Shape`; see `neuron_space`."""
    sites, experts = expand_site(site), bool(getattr(cfg, "has_experts", False))
    for one in sites:
        if experts and one in MLP_SITES:
            raise refuse(
                f"TransformerLens reaches no projections in the MLPs of model '{cfg.model_name}' (they may be mixtures "
                f"of experts), so that there is no site '{one}'",
                do="use the site 'attn', or one of q, k, v and o",
            )
        if one in ("gate", "up") and not cfg.gated_mlp:
            raise refuse(f"Model '{cfg.model_name}' has no gated MLP, so no site '{one}'", do="use the site 'post'")
    return NeuronSpace(str(cfg.model_name), int(cfg.n_layers), tuple((one, _site_width(cfg, one)) for one in sites))


def _site_width(cfg: Any, site: str) -> int:
    """How many neurons a layer has at a simple site."""
    return math.prod(_size(cfg, field) for field in SITES[site].width)


def _width(cfg: Any, name: str) -> int | None:
    """How many neurons a layer has at a hook of this name, if it is that of a site."""
    pattern = re.sub(r"^blocks\.\d+", "blocks.{layer}", name)
    found = (site for site, place in SITES.items() if pattern in (place.hook, place.bridge_hook))
    return next((_site_width(cfg, site) for site in found), None)


def _size(cfg: Any, field: str) -> int:
    """A field of the configuration; without grouped queries there are as many key-value heads as heads."""
    grouped = getattr(cfg, "n_key_value_heads", None)
    return int(cfg.n_heads if field == "n_key_value_heads" and grouped is None else getattr(cfg, field))


def hook_name(model: HookedModel, site: str, layer: int) -> str:
    """TransformerLens's name for a simple site in a layer of a model."""
    place = SITES[site]
    return (place.bridge_hook if is_bridge(model) else place.hook).format(layer=layer)


def add_hook(model: HookedModel, name: str, function: Hook) -> Callable[[], None]:
    """Hook one place of a model, so that nothing but the returned function takes the hook away.

    TransformerLens's own context managers clear every hook on the points they touched unless it is permanent. At a site
    of neurons, each activation must have as many as the site has, or they would be taken for others.

    Args:
        model: A hooked model.
        name: Such as `blocks.0.mlp.hook_post`.
        function: Takes the activation; what it returns replaces it, unless it returns none.

    Returns:
        A function that removes this hook and no other.

    Raises:
        RelationNeuronsError: The model has no such place; or, as it runs, another number of neurons there.
    """
    point: HookPoint | None = model.hook_dict.get(name)
    if point is None:
        raise refuse(f"Model '{model.cfg.model_name}' has no hook '{name}'", do="check the site and the layer")

    width = _width(model.cfg, name)

    def call(activation: Tensor, hook: Any) -> Tensor | None:
        if width is not None and math.prod(activation.shape[2:]) != width:
            raise refuse(
                f"Model '{model.cfg.model_name}' has {math.prod(activation.shape[2:])} neurons at {name} in this pass",
                expected=f"{width}, by its configuration",
                do="undo what regroups them, such as set_ungroup_grouped_query_attention(True), or load it again",
            )
        return function(activation)

    point.add_hook(call, is_permanent=True)
    handle = point.fwd_hooks[-1]

    def remove() -> None:
        handle.hook.remove()
        point.fwd_hooks[:] = [other for other in point.fwd_hooks if other is not handle]

    return remove


@contextlib.contextmanager
def hooked(model: HookedModel, functions: Iterable[tuple[str, Hook]]) -> Iterator[None]:
    """Hook places of a model for as long as the block runs; those of one place run in this order; see `add_hook`."""
    with contextlib.ExitStack() as hooks:
        for name, function in functions:
            hooks.callback(add_hook(model, name, function))
        yield


@dataclass
class Cache:
    """Keys and values of what a model has read, for some rows.

    Attributes:
        stored: TransformerLens's cache for a `HookedTransformer`, Transformers' for a `TransformerBridge`.
        mask: 1 on the real tokens read so far; positions are counted by it.
    """

    stored: Any
    mask: Int[Tensor, "row pos"]


def new_cache(model: HookedModel, n_rows: int) -> Cache:
    """An empty key-value cache for `n_rows` rows."""
    mask = torch.zeros((n_rows, 0), dtype=torch.long, device=model.cfg.device)
    if is_bridge(model):
        # Made without the configuration, so that no layer forgets what has left its window.
        return Cache(transformers.DynamicCache(), mask)
    return Cache(TransformerLensKeyValueCache.init_cache(model.cfg, model.cfg.device, n_rows), mask)


def select_cache(model: HookedModel, cache: Cache, rows: Sequence[int]) -> Cache:
    """A cache whose rows are these rows of another, which stays as it is."""
    chosen = torch.tensor(rows, dtype=torch.long, device=cache.mask.device)
    selected = new_cache(model, len(rows))
    selected.mask = cache.mask[chosen]
    if isinstance(cache.stored, TransformerLensKeyValueCache):
        for entry, old in zip(selected.stored.entries, cache.stored.entries, strict=True):
            entry.past_keys = old.past_keys.index_select(0, chosen.to(old.past_keys.device))
            entry.past_values = old.past_values.index_select(0, chosen.to(old.past_values.device))
    elif cache.mask.shape[1]:
        for layer, old in enumerate(cache.stored.layers):
            at = chosen.to(old.keys.device)
            selected.stored.update(old.keys.index_select(0, at), old.values.index_select(0, at), layer)
    return selected


def cached(cache: Cache) -> list[Tensor]:
    """The keys and values that a cache holds, layer by layer, with rows first."""
    if isinstance(cache.stored, TransformerLensKeyValueCache):
        return [part for entry in cache.stored.entries for part in (entry.past_keys, entry.past_values)]
    return [part for layer in cache.stored.layers for part in (layer.keys, layer.values)]


def cut_graph(cache: Cache) -> list[Tensor]:
    """Let a cache hold copies without their history, which take gradients where that had any; the copies."""
    parts = [part.detach().requires_grad_(part.requires_grad) for part in cached(cache)]
    hooked_cache = isinstance(cache.stored, TransformerLensKeyValueCache)
    layers = cache.stored.entries if hooked_cache else cache.stored.layers
    for layer, keys, values in zip(layers, parts[::2], parts[1::2], strict=True):
        if hooked_cache:
            layer.past_keys, layer.past_values = keys, values
        else:
            layer.keys, layer.values = keys, values
    return parts


def crop_cache(cache: Cache, n: int) -> None:
    """Forget the last `n` positions."""
    if n == 0:
        return
    cache.mask = cache.mask[:, :-n]
    if isinstance(cache.stored, TransformerLensKeyValueCache):
        for entry in cache.stored.entries:
            entry.past_keys, entry.past_values = entry.past_keys[:, :-n], entry.past_values[:, :-n]
    else:
        cache.stored.crop(-n)


@dataclass
class Reading:
    """What a model made of the last positions of a forward pass, to be unembedded where it is wanted.

    Attributes:
        model: The model.
        kept: What the unembedding reads there: in a `HookedTransformer` before the final norm, else behind it.
    """

    model: HookedModel
    kept: Float[Tensor, "row keep d_model"]

    def at(self, rows: Sequence[int] | Tensor, columns: Sequence[int] | Tensor) -> Float[Tensor, "place vocab"]:
        """Logits, in float32, at some places of the kept positions."""
        places = (torch.as_tensor(one, dtype=torch.long, device=self.kept.device) for one in (rows, columns))
        return self._unembed(self.kept[*places][None])[0]

    def all(self) -> Float[Tensor, "row keep vocab"]:
        """Logits, in float32, at all kept positions."""
        return self._unembed(self.kept)

    def _unembed(self, kept: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row pos vocab"]:
        return (_unembed_bridge if is_bridge(self.model) else _unembed_hooked)(self.model, kept).float()


def forward(
    model: HookedModel,
    tokens: Int[Tensor, "row pos"],
    kinds: Int[Tensor, "row pos"],
    cache: Cache | None = None,
    *,
    keep: int,
) -> Reading:
    """Run a model over some tokens.

    Args:
        model: A hooked model.
        tokens: New tokens, padded on either side.
        kinds: What stands at each position, see `relation_neurons.models.position_kinds`.
        cache: What came before, if anything; it takes up the new tokens.
        keep: How many positions at the end may be unembedded.
    """
    cache = cache or new_cache(model, len(tokens))
    mask = (kinds != PAD).long()
    whole = torch.cat([cache.mask, mask], dim=1)
    run = _run_bridge if is_bridge(model) else _run_hooked
    with announce(kinds):
        kept = run(model, tokens, mask, whole, cache, keep)
    cache.mask = whole
    return Reading(model, kept)


def _run_hooked(
    model: HookedModel, tokens: Tensor, mask: Tensor, whole: Tensor, cache: Cache, keep: int
) -> Float[Tensor, "row keep d_model"]:
    cache.stored.previous_attention_mask = cache.mask
    residual = model(
        tokens, attention_mask=mask, past_kv_cache=cache.stored, stop_at_layer=model.cfg.n_layers, return_type=None
    )
    return residual[:, tokens.shape[1] - keep :]


def _unembed_hooked(model: HookedModel, residual: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row pos vocab"]:
    logits = model.unembed(model.ln_final(residual))
    return _capped(logits, model.cfg.output_logits_soft_cap)


def _run_bridge(
    model: HookedModel, tokens: Tensor, mask: Tensor, whole: Tensor, cache: Cache, keep: int
) -> Float[Tensor, "row keep d_model"]:
    """Read what the unembedding is given, and let it unembed nothing."""
    inner, kept = model.original_model, []

    def keep_back(module: Any, args: tuple[Tensor]) -> tuple[Tensor]:
        kept.append(args[0][:, args[0].shape[1] - keep :])
        return (args[0][:, :0],)

    positions = (whole.cumsum(dim=1) - 1).clamp(min=0)[:, cache.mask.shape[1] :]
    placed = {"position_ids": positions} if _takes_positions(inner.__class__) else {}
    handle = inner.get_output_embeddings().register_forward_pre_hook(keep_back)
    try:
        inner(input_ids=tokens, attention_mask=whole, past_key_values=cache.stored, use_cache=True, **placed)
    finally:
        handle.remove()
    return kept.pop()


@functools.cache
def _takes_positions(architecture: Any) -> bool:
    return "position_ids" in inspect.signature(architecture.forward).parameters


def _unembed_bridge(model: HookedModel, hidden: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row pos vocab"]:
    """Unembed, and scale and cap the logits as the families do that scale or cap them (checked at load)."""
    config = model.original_model.config.get_text_config()
    logits = model.original_model.get_output_embeddings()(hidden)
    logits = logits * getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0)
    return _capped(logits, getattr(config, "final_logit_softcapping", None) or 0.0)


def _capped(logits: Float[Tensor, "row pos vocab"], cap: float) -> Float[Tensor, "row pos vocab"]:
    return cap * torch.tanh(logits / cap) if cap > 0 else logits
