"""The only module that knows TransformerLens: load a model, name its neurons, run it on token ids."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Float, Int
from torch import Tensor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache
    from transformer_lens.hook_points import HookPoint
    from transformer_lens.pretrained.weight_conversions import convert_llama_weights

from relation_neurons.errors import refuse
from relation_neurons.sites import SITES, NeuronSpace, expand_site
from relation_neurons.sources import Source, clear_errors, load_pretrained, resolve

MAX_CONTEXT = 2048
"""Longest input in tokens; questions about facts are far shorter, and tables of positions stay small."""

Hook = Callable[[Tensor], Tensor | None]
PARITY_TEXTS = (
    "The capital city of France is? Answer: Paris\nThe capital city of Japan is? Answer:",
    "In the beginning the Universe was created. This has made a lot of people very angry.",
)


def load_model(
    source: str | Path, *, device: str | torch.device | None = None, dtype: torch.dtype | None = None
) -> HookedTransformer:
    """Load a language model as a `HookedTransformer`, its weights unprocessed.

    Llama-architecture models are built from their own configuration around the loaded weights, without a copy;
    others go through TransformerLens's own loader.

    Args:
        source: `smollm2-135m`, a Hugging Face id (`meta-llama/Llama-2-7b-hf`), a folder, or a `.gguf` file.
        device: Where to; by default the GPU if there is one.
        dtype: Type of the weights; by default float32 on the CPU and the checkpoint's own type on a GPU.

    Returns:
        The model in evaluation mode, without gradients. `model.cfg.default_prepend_bos` is what its tokenizer does
        by default: true for Llama-2, false for SmolLM2.

    Raises:
        RelationNeuronsError: Gated weights, an unknown name, no network, a folder without a configuration.
    """
    place = _device(device)
    dtype = dtype or (torch.float32 if place.type == "cpu" else None)
    found = resolve(source)
    pretrained, tokenizer = load_pretrained(found, device=place, dtype=dtype)
    if _is_plain_llama(pretrained.config):
        return hook_llama(pretrained, tokenizer, name=found.name, digest=found.digest)
    return _load_by_transformer_lens(found, pretrained, tokenizer)


def hook_llama(
    llama: transformers.PreTrainedModel,
    tokenizer: transformers.PreTrainedTokenizerBase | None,
    *,
    name: str = "llama",
    digest: str | None = None,
) -> HookedTransformer:
    """Wrap a Transformers Llama as a `HookedTransformer` that shares its weights.

    Args:
        llama: A `LlamaForCausalLM`; its parameters are used in place, not copied.
        tokenizer: Its tokenizer, or none for a model that is only given token ids.
        name: What to call it in results.
        digest: What pins its weights, if known.

    Raises:
        RelationNeuronsError: Weights that the conversion does not cover.
    """
    cfg = _llama_config(llama, name)
    model = _build(cfg)
    state = convert_llama_weights(llama, cfg)
    missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
    constants = ("IGNORE", "mask", "rotary_sin", "rotary_cos")
    missing = [key for key in missing if not key.endswith(constants)]
    if missing or unexpected:
        raise refuse(f"Model '{name}': weights do not fit (missing {missing[:3]}, unexpected {unexpected[:3]})")
    model.to(llama.device, print_details=False)
    if tokenizer is not None:
        _set_tokenizer(model, tokenizer)
    model.weights_digest = digest or getattr(llama.config, "_commit_hash", None)
    return model.eval().requires_grad_(False)


@dataclass(frozen=True)
class Parity:
    """How far a loaded model's logits are from Hugging Face's own, in float32."""

    max_logit_difference: float
    argmax_agreement: float
    n_tokens: int


def parity(source: str | Path, *, device: str | torch.device | None = None) -> Parity:
    """Compare logits with Hugging Face's implementation on short texts, in float32.

    Args:
        source: As for `load_model`; a Llama-architecture model.
        device: Where to compute; by default the GPU if there is one.

    Raises:
        RelationNeuronsError: As `load_model`, and for other architectures, whose loader copies weights.
    """
    found = resolve(source)
    llama, tokenizer = load_pretrained(found, device=_device(device), dtype=torch.float32)
    if not _is_plain_llama(llama.config):
        raise refuse(f"'{found.name}' is not a plain Llama", expected="a Llama-architecture model")
    model = hook_llama(llama, tokenizer, name=found.name)
    worst, agree, n_tokens = 0.0, 0, 0
    with torch.inference_mode():
        for text in PARITY_TEXTS:
            tokens = tokenizer(text, return_tensors="pt").input_ids.to(llama.device)
            theirs, ours = llama(tokens).logits.float(), model(tokens).float()
            worst = max(worst, float((theirs - ours).abs().max()))
            agree += int((theirs.argmax(-1) == ours.argmax(-1)).sum())
            n_tokens += tokens.numel()
    return Parity(worst, agree / n_tokens, n_tokens)


def neuron_space(model: HookedTransformer, site: str = "post") -> NeuronSpace:
    """All neurons of a model at a site.

    Raises:
        RelationNeuronsError: Not a site, or a gated site of a model without a gated MLP.
    """
    sites = expand_site(site)
    for one in sites:
        if one in ("gate", "up") and not model.cfg.gated_mlp:
            raise refuse(
                f"Model '{model.cfg.model_name}' has no gated MLP, so no site '{one}'", do="use the site 'post'"
            )
    widths = tuple((one, int(getattr(model.cfg, SITES[one].width))) for one in sites)
    return NeuronSpace(str(model.cfg.model_name), int(model.cfg.n_layers), widths)


def add_hook(model: HookedTransformer, name: str, function: Hook) -> Callable[[], None]:
    """Hook one place of a model, so that nothing but the returned function takes the hook away.

    TransformerLens's own context managers clear every hook on the points they touched unless it is permanent.

    Args:
        model: Any hooked model.
        name: Such as `blocks.0.mlp.hook_post`.
        function: Takes the activation; what it returns replaces it, unless it returns none.

    Returns:
        A function that removes this hook and no other.

    Raises:
        RelationNeuronsError: The model has no such place.
    """
    point: HookPoint | None = model.hook_dict.get(name)
    if point is None:
        raise refuse(f"Model '{model.cfg.model_name}' has no hook '{name}'", do="check the site and the layer")

    def call(activation: Tensor, hook: HookPoint) -> Tensor | None:
        return function(activation)

    point.add_hook(call, is_permanent=True)
    handle = point.fwd_hooks[-1]

    def remove() -> None:
        handle.hook.remove()
        point.fwd_hooks[:] = [other for other in point.fwd_hooks if other is not handle]

    return remove


def hook_name(site: str, layer: int) -> str:
    """TransformerLens's name for a simple site in a layer."""
    return SITES[site].hook.format(layer=layer)


def pass_hook_name() -> str:
    """A hook that fires exactly once in every forward pass, generation included."""
    return "blocks.0.hook_resid_pre"


def new_cache(model: HookedTransformer, n_rows: int) -> TransformerLensKeyValueCache:
    """An empty key-value cache for `n_rows` rows."""
    return TransformerLensKeyValueCache.init_cache(model.cfg, model.cfg.device, n_rows)


def repeat_cache(cache: TransformerLensKeyValueCache, n_rows: int) -> TransformerLensKeyValueCache:
    """The cache of one row, seen by `n_rows` rows; keys and values are not copied until something is appended."""
    entries = [
        type(entry)(entry.past_keys.expand(n_rows, -1, -1, -1), entry.past_values.expand(n_rows, -1, -1, -1))
        for entry in cache.entries
    ]
    return type(cache)(entries, cache.previous_attention_mask.expand(n_rows, -1))


def forward(
    model: HookedTransformer,
    tokens: Int[Tensor, "row pos"],
    mask: Int[Tensor, "row pos"],
    cache: TransformerLensKeyValueCache | None = None,
    *,
    keep: int,
    grow: bool = True,
) -> Float[Tensor, "row keep vocab"]:
    """Run a model and unembed only the last `keep` positions.

    Args:
        model: Any hooked model.
        tokens: New tokens, padded on either side.
        mask: 1 on real tokens.
        cache: What came before, if anything.
        keep: How many positions at the end to give logits for; 0 computes none.
        grow: Whether the cache takes up the new tokens.

    Returns:
        Logits in float32.
    """
    if cache is not None and not grow:
        cache.freeze()
    try:
        # `padding_side` left makes TransformerLens derive positions from the mask, which holds for both sides.
        residual = model(
            tokens,
            attention_mask=mask,
            past_kv_cache=cache,
            stop_at_layer=model.cfg.n_layers,
            return_type=None,
        )
    finally:
        if cache is not None and not grow:
            cache.unfreeze()
    if keep == 0:
        return residual.new_empty((len(tokens), 0, model.cfg.d_vocab_out), dtype=torch.float32)
    return model.unembed(model.ln_final(residual[:, -keep:])).float()


def _device(device: str | torch.device | None) -> torch.device:
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if place.type == "cuda" and not torch.cuda.is_available():
        raise refuse(f"Device '{place}' was asked for, but no GPU is visible", do="use device='cpu'")
    return place


def _rope(config: transformers.PretrainedConfig) -> dict[str, Any]:
    return dict(getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {})


def _is_plain_llama(config: transformers.PretrainedConfig) -> bool:
    """Whether the zero-copy route covers this configuration."""
    rope_type = _rope(config).get("rope_type", "default")
    biased = getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False)
    return config.model_type == "llama" and rope_type in ("default", "linear", "llama3") and not biased


def _llama_config(llama: transformers.PreTrainedModel, name: str) -> HookedTransformerConfig:
    config, rope = llama.config, _rope(llama.config)
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    grouped = config.num_key_value_heads != config.num_attention_heads
    options: dict[str, Any] = {}
    if rope.get("rope_type") == "llama3":
        options = {
            "use_NTK_by_parts_rope": True,
            "NTK_original_ctx_len": rope["original_max_position_embeddings"],
            "NTK_by_parts_low_freq_factor": rope["low_freq_factor"],
            "NTK_by_parts_high_freq_factor": rope["high_freq_factor"],
            "NTK_by_parts_factor": rope["factor"],
        }
    elif rope.get("rope_type") == "linear":
        options = {"rotary_scaling_factor": rope["factor"]}
    return HookedTransformerConfig(
        model_name=name,
        original_architecture="LlamaForCausalLM",
        d_model=config.hidden_size,
        d_head=d_head,
        n_heads=config.num_attention_heads,
        n_key_value_heads=config.num_key_value_heads if grouped else None,
        d_mlp=config.intermediate_size,
        n_layers=config.num_hidden_layers,
        n_ctx=min(config.max_position_embeddings, MAX_CONTEXT),
        d_vocab=config.vocab_size,
        eps=config.rms_norm_eps,
        act_fn=config.hidden_act,
        normalization_type="RMS",
        final_rms=True,
        gated_mlp=True,
        positional_embedding_type="rotary",
        rotary_dim=d_head,
        rotary_base=rope.get("rope_theta") or getattr(config, "rope_theta", 10000.0),
        dtype=llama.dtype,
        device=str(llama.device),
        init_weights=False,
        **options,
    )


def _build(cfg: HookedTransformerConfig) -> HookedTransformer:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        return HookedTransformer(cfg, move_to_device=False)


def _set_tokenizer(model: HookedTransformer, tokenizer: transformers.PreTrainedTokenizerBase) -> None:
    """Attach a tokenizer as it is; TransformerLens's own method would load it again from its name."""
    model.tokenizer = tokenizer
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    prepends = bool(tokenizer.encode("")) and tokenizer.encode("")[0] == tokenizer.bos_token_id
    model.cfg.tokenizer_prepends_bos = prepends
    model.cfg.default_prepend_bos = prepends


def _load_by_transformer_lens(
    source: Source, pretrained: transformers.PreTrainedModel, tokenizer: transformers.PreTrainedTokenizerBase
) -> HookedTransformer:
    """Other architectures, which TransformerLens knows by name."""
    with clear_errors(source), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        model = HookedTransformer.from_pretrained_no_processing(
            source.location,
            hf_model=pretrained,
            tokenizer=tokenizer,
            device=str(pretrained.device),
            dtype=pretrained.dtype,
        )
    _set_tokenizer(model, tokenizer)
    model.weights_digest = getattr(pretrained.config, "_commit_hash", None)
    return model.eval().requires_grad_(False)
