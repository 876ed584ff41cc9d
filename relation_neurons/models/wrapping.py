"""A Transformers model as a `HookedTransformer` or a `TransformerBridge` that shares its weights."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import transformers
from accelerate.utils import has_offloaded_params

from relation_neurons.models.placement import first_device, is_offloaded, places_of
from relation_neurons.models.types import HookedModel

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.model_bridge.generalized_components.normalization import NormalizationBridge

    try:
        from transformer_lens import HookedTransformer, HookedTransformerConfig
        from transformer_lens.pretrained.weight_conversions import convert_llama_weights
    except ImportError:  # TransformerLens 4 has only the bridge
        HookedTransformer = None

from relation_neurons.errors import refuse

MAX_CONTEXT = 2048
"""Longest input in tokens; questions about facts are far shorter, and tables of positions stay small."""
SPECIAL_TOKENS = ("bos_token", "eos_token", "pad_token")


def hook_llama(
    llama: transformers.PreTrainedModel,
    tokenizer: transformers.PreTrainedTokenizerBase | None,
    *,
    name: str = "llama",
    digest: str | None = None,
) -> HookedModel:
    """Wrap a Transformers Llama as a `HookedTransformer` (TransformerLens 3.9) around its own weights.

    Args:
        llama: A `LlamaForCausalLM`; its parameters are used in place, not copied.
        tokenizer: Its tokenizer, or none for a model that is only given token ids.
        name: What to call it in results.
        digest: What pins its weights, if known.

    Raises:
        RelationNeuronsError: Weights that the conversion does not cover.
    """
    cfg = _llama_config(llama, name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        model = HookedTransformer(cfg, move_to_device=False)
    missing, unexpected = model.load_state_dict(convert_llama_weights(llama, cfg), strict=False, assign=True)
    constants = ("IGNORE", "mask", "rotary_sin", "rotary_cos")
    missing = [key for key in missing if not key.endswith(constants)]
    if missing or unexpected:
        raise refuse(f"Model '{name}': weights do not fit (missing {missing[:3]}, unexpected {unexpected[:3]})")
    model.to(llama.device, print_details=False)
    return _finished(model, llama, tokenizer, name, digest)


def bridge(
    pretrained: transformers.PreTrainedModel,
    tokenizer: transformers.PreTrainedTokenizerBase,
    *,
    name: str = "bridge",
    digest: str | None = None,
) -> HookedModel:
    """Wrap any Transformers model that TransformerLens knows as a `TransformerBridge`, in place.

    It may be spread over devices; then its tokens go to that of the embedding, `cfg.device`.

    Args:
        pretrained: The model; the bridge hooks this very object.
        tokenizer: Its tokenizer.
        name: What to call it in results.
        digest: What pins its weights, if known.

    Raises:
        RelationNeuronsError: An architecture that TransformerLens does not know, or fails on; or one whose projections
            it splits, while their weights are kept on the CPU or on disk.
    """
    device, offloaded = first_device(pretrained), is_offloaded(pretrained)
    head = pretrained.get_output_embeddings()
    had_bias = getattr(head, "bias", None) is not None
    # Without these TransformerLens loads the tokenizer again from its name to make it prepend BOS.
    arguments, special = tokenizer.init_kwargs, {name: getattr(tokenizer, name) for name in SPECIAL_TOKENS}
    pretrained.config.architectures = [type(pretrained).__name__]  # which GGUF files do not name
    tokenizer.init_kwargs = {**arguments, "name_or_path": "", "add_bos_token": True}
    try:
        with _map_hidden(pretrained, offloaded):
            model = TransformerBridge.boot_transformers(
                "bridge", hf_model=pretrained, tokenizer=tokenizer, device=str(device), dtype=pretrained.dtype
            )
    except Exception as error:  # it raises whatever an architecture that it does not foresee makes it raise
        known = "supported architecture" not in str(error)
        raise refuse(
            f"TransformerLens {metadata.version('transformer-lens')} "
            f"{'fails on' if known else 'does not know'} the architecture {type(pretrained).__name__} of model '{name}'"
            + (f" as configured ({type(error).__name__})" if known else ""),
            expected="a decoder-only architecture such as Llama, Gemma, Qwen, Mistral, Phi, GPT-NeoX or OLMo 2",
        ) from error
    finally:
        tokenizer.init_kwargs = arguments
        for token, given in special.items():  # those that a tokenizer lacks are invented, and then end answers
            setattr(tokenizer, token, given)
    if not had_bias and head.weight.is_meta:
        head.bias = None  # TransformerLens adds one, which accelerate has no numbers for
    model.cfg.device = str(device)
    _follow_hooks(pretrained, name)
    return _finished(model, pretrained, tokenizer, name, digest)


@contextlib.contextmanager
def _map_hidden(pretrained: transformers.PreTrainedModel, offloaded: bool) -> Iterator[None]:
    """Keep the map of a model with offloaded layers from TransformerLens, which refuses it for what we then mend."""
    device_map = vars(pretrained).pop("hf_device_map", None) if offloaded else None
    try:
        yield
    finally:
        if device_map is not None:
            pretrained.hf_device_map = device_map


def _follow_hooks(pretrained: transformers.PreTrainedModel, name: str) -> None:
    """Let norms, which a bridge computes from their weights, bring these in and take their input as accelerate would.

    Raises:
        RelationNeuronsError: Weights that nothing brings in.
    """
    for place, module in pretrained.named_modules():
        original = getattr(module, "original_component", None) if isinstance(module, NormalizationBridge) else None
        if original is not None and hasattr(original, "_hf_hook"):
            module.register_forward_pre_hook(lambda _, args, norm=original: norm._hf_hook.pre_forward(norm, *args)[0])
            module.register_forward_hook(
                lambda *call, norm=original: norm._hf_hook.post_forward(norm, call[2]), always_call=True
            )
        if any(one.is_meta for one in module.parameters(recurse=False)) and not has_offloaded_params(module):
            raise refuse(
                f"TransformerLens splits weights of model '{name}' (at {place}), which it cannot do where they are "
                "kept on the CPU beside a GPU, or on disk",
                do="put all layers on GPUs, or all on the CPU",
            )


def is_plain_llama(config: transformers.PretrainedConfig) -> bool:
    """Whether `hook_llama` covers this configuration."""
    rope_type = _rope(config).get("rope_type", "default")
    biased = getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False)
    return config.model_type == "llama" and rope_type in ("default", "linear", "llama3") and not biased


def _finished(
    model: Any,
    pretrained: transformers.PreTrainedModel,
    tokenizer: transformers.PreTrainedTokenizerBase | None,
    name: str,
    digest: str | None,
) -> HookedModel:
    """Attach what every loaded model has: name, tokenizer, end tokens, and what pins the weights."""
    model.cfg.model_name, model.cfg.places = name, places_of(pretrained)
    model.cfg.end_tokens, model.cfg.window = _end_tokens(pretrained), _window(pretrained.config)
    model.cfg.weights_digest = digest or getattr(pretrained.config, "_commit_hash", None)
    if tokenizer is not None:
        if model.tokenizer is not tokenizer:  # a bridge has it, and would set it up once more
            model.tokenizer = tokenizer
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        empty = tokenizer.encode("")
        prepends = bool(empty) and empty[0] == tokenizer.bos_token_id
        model.cfg.tokenizer_prepends_bos = model.cfg.default_prepend_bos = prepends
    return model.eval().requires_grad_(False)


def _end_tokens(pretrained: transformers.PreTrainedModel) -> tuple[int, ...]:
    """All end tokens of the generation configuration, which lists several for many chat models."""
    ends = getattr(getattr(pretrained, "generation_config", None), "eos_token_id", None)
    return tuple(ends) if isinstance(ends, list | tuple) else () if ends is None else (ends,)


def _window(config: transformers.PretrainedConfig) -> int | None:
    """How many tokens back some layers see, if not all."""
    text = config.get_text_config()
    names = ("sliding_window", "attention_chunk_size", "window_size")
    return min((size for name in names if isinstance(size := getattr(text, name, None), int)), default=None)


def _rope(config: transformers.PretrainedConfig) -> dict[str, Any]:
    return dict(getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {})


def _llama_config(llama: transformers.PreTrainedModel, name: str) -> HookedTransformerConfig:
    config, rope = llama.config, _rope(llama.config)
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    grouped = config.num_key_value_heads != config.num_attention_heads
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
        **_rope_options(rope),
    )


def _rope_options(rope: dict[str, Any]) -> dict[str, Any]:
    """TransformerLens's names for Hugging Face's ways to stretch rotary positions."""
    if rope.get("rope_type") == "llama3":
        return {
            "use_NTK_by_parts_rope": True,
            "NTK_original_ctx_len": rope["original_max_position_embeddings"],
            "NTK_by_parts_low_freq_factor": rope["low_freq_factor"],
            "NTK_by_parts_high_freq_factor": rope["high_freq_factor"],
            "NTK_by_parts_factor": rope["factor"],
        }
    return {"rotary_scaling_factor": rope["factor"]} if rope.get("rope_type") == "linear" else {}
