"""Tiny random models of every architecture, and where their projections are in Transformers' own modules."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import transformers

from tests.planted import word_tokenizer

SIZES = {
    "vocab_size": 67,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "bos_token_id": 3,
    "eos_token_id": 2,
    "pad_token_id": 1,
}
OLDER = {"vocab_size": 67, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256, "initializer_range": 0.3}
FALCON = {
    "vocab_size": 67,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
}
OPT = {"vocab_size": 67, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}
ENDS = {"bos_token_id": 3, "eos_token_id": 2, "pad_token_id": 1}
WINDOW = 16
TURNS = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}


@dataclass(frozen=True)
class Place:
    """A site in a layer of a Transformers model.

    Attributes:
        module: The projection, as its layer names it.
        part: Which of its outputs, given all of them in its last dimension; by default all.
        read: Whether it is the projection's input.
    """

    module: str
    part: Callable[[torch.Tensor], torch.Tensor] = lambda values: values
    read: bool = False


def heads(number: int, of: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """The queries, keys or values of a projection that gives all of them head by head."""
    return lambda values: values.unflatten(-1, (4, of, 8))[..., number, :].flatten(-2)


def columns(start: int, stop: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda values: values[..., start:stop]


def places(mlp: dict[str, str], attention: dict[str, str | Place]) -> dict[str, Place]:
    """Sites by the names of modules."""
    found = {site: Place(name) if isinstance(name, str) else name for site, name in {**mlp, **attention}.items()}
    return found | ({"post": Place(found["down"].module, read=True)} if "down" in found else {})


def attention(prefix: str, out: str = "o_proj") -> dict[str, str]:
    return {site: f"{prefix}.{site}_proj" for site in "qkv"} | {"o": f"{prefix}.{out}"}


def fused(module: str, out: str, parts: list) -> dict[str, str | Place]:
    return {site: Place(module, part) for site, part in zip("qkv", parts, strict=True)} | {"o": out}


GATED = {site: f"mlp.{site}_proj" for site in ("gate", "up", "down")}
LLAMA_LIKE = places(GATED, attention("self_attn"))
BY_HEADS = [heads(number, 3) for number in range(3)]
NEOX_MLP = {"down": "mlp.dense_4h_to_h"}


@dataclass(frozen=True)
class Architecture:
    """A tiny model.

    Attributes:
        config: Makes its configuration.
        sites: Its sites; those it lacks are refused.
        refused: What `load_model` says of it, by the first digit of TransformerLens's version, where it is refused.
    """

    config: Callable[[], transformers.PretrainedConfig]
    sites: dict[str, Place]
    refused: dict[str, str] | None = None

    def model(self) -> transformers.PreTrainedModel:
        """A random model, biases and norms included."""
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(self.config(), attn_implementation="eager").eval()
        for weights in model.parameters():
            if weights.dim() == 1:
                weights.data += 0.3 * torch.randn_like(weights)
        return model.requires_grad_(False)


def _made(name: str, *without: str, **changes: object) -> Callable[[], transformers.PretrainedConfig]:
    sizes = {field: value for field, value in {**SIZES, **changes}.items() if field not in without}
    return lambda: getattr(transformers, f"{name}Config")(**sizes)


EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
NO_GROUPS = ("num_key_value_heads", "head_dim")
ATTENTION_ONLY = places({}, attention("self_attn"))
GPT2 = places(
    {"down": "mlp.c_proj"}, fused("attn.c_attn", "attn.c_proj", [columns(0, 32), columns(32, 64), columns(64, 96)])
)
PHI3 = places({"down": "mlp.down_proj"}, {}) | {
    **{"gate": Place("mlp.gate_up_proj", columns(0, 48)), "up": Place("mlp.gate_up_proj", columns(48, 96))},
    **places(
        {},
        fused("self_attn.qkv_proj", "self_attn.o_proj", [columns(0, 32), columns(32, 48), columns(48, 64)]),
    ),
}
FALCON_ATTENTION = ("self_attention.query_key_value", "self_attention.dense")
FALCON_ONE = places(NEOX_MLP, fused(*FALCON_ATTENTION, [columns(0, 32), columns(32, 40), columns(40, 48)]))
FALCON_HEADS = places(NEOX_MLP, fused(*FALCON_ATTENTION, BY_HEADS))

ARCHITECTURES = {
    "llama": Architecture(_made("Llama"), LLAMA_LIKE),
    "llama-llama3": Architecture(_made("Llama", rope_parameters=LLAMA3), LLAMA_LIKE),
    "llama-yarn": Architecture(_made("Llama", rope_parameters=YARN), LLAMA_LIKE),
    "llama-biases": Architecture(_made("Llama", attention_bias=True, mlp_bias=True), LLAMA_LIKE),
    "llama-tied": Architecture(_made("Llama", tie_word_embeddings=True), LLAMA_LIKE),
    "mistral": Architecture(_made("Mistral", sliding_window=WINDOW), LLAMA_LIKE),
    "qwen2": Architecture(_made("Qwen2"), LLAMA_LIKE),
    "qwen3": Architecture(_made("Qwen3"), LLAMA_LIKE),
    "gemma": Architecture(_made("Gemma"), LLAMA_LIKE),
    "gemma2": Architecture(_made("Gemma2", sliding_window=WINDOW), LLAMA_LIKE),
    "gemma3": Architecture(_made("Gemma3Text", **TURNS), LLAMA_LIKE),
    "gpt2": Architecture(lambda: transformers.GPT2Config(**OLDER, **ENDS), GPT2),
    "gpt-neox": Architecture(
        _made("GPTNeoX", *NO_GROUPS, intermediate_size=96),
        places(NEOX_MLP, fused("attention.query_key_value", "attention.dense", BY_HEADS)),
    ),
    "gpt-j": Architecture(
        lambda: transformers.GPTJConfig(**OLDER, **ENDS, rotary_dim=4),
        places({"down": "mlp.fc_out"}, attention("attn", "out_proj")),
    ),
    "opt": Architecture(
        lambda: transformers.OPTConfig(
            **OPT, **ENDS, max_position_embeddings=256, word_embed_proj_dim=32, init_std=0.3
        ),
        places({"down": "fc2"}, attention("self_attn", "out_proj")),
    ),
    "phi": Architecture(_made("Phi", *NO_GROUPS), places({"down": "mlp.fc2"}, attention("self_attn", "dense"))),
    "phi3": Architecture(_made("Phi3", "head_dim", sliding_window=WINDOW), PHI3),
    "olmo2": Architecture(_made("Olmo2", "head_dim"), LLAMA_LIKE),
    "falcon-7b": Architecture(
        lambda: transformers.FalconConfig(**FALCON, **ENDS, alibi=False, ffn_hidden_size=96, bias=False), FALCON_ONE
    ),
    "falcon-new": Architecture(
        lambda: transformers.FalconConfig(
            **FALCON, **ENDS, alibi=False, new_decoder_architecture=True, num_kv_heads=2, bias=False
        ),
        {},
        dict.fromkeys("34", "fails on the architecture FalconForCausalLM"),
    ),
    "falcon-alibi": Architecture(
        lambda: transformers.FalconConfig(
            **FALCON, **ENDS, alibi=True, multi_query=False, parallel_attn=False, bias=True
        ),
        FALCON_HEADS,
        {"3": "reads a text otherwise"},
    ),
    "bloom": Architecture(lambda: transformers.BloomConfig(**{**OLDER, **ENDS, "hidden_size": 32}), FALCON_HEADS),
    "stablelm": Architecture(_made("StableLm", "head_dim"), LLAMA_LIKE),
    "cohere": Architecture(_made("Cohere", "head_dim"), LLAMA_LIKE, {"3": "gives other logits"}),
    "mixtral": Architecture(_made("Mixtral", **EXPERTS), ATTENTION_ONLY),
    "qwen3-moe": Architecture(
        _made("Qwen3Moe", num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24), ATTENTION_ONLY
    ),
    "gpt-oss": Architecture(_made("GptOss", **EXPERTS, **TURNS), ATTENTION_ONLY),
    "smollm3": Architecture(_made("SmolLM3", "head_dim"), LLAMA_LIKE),
    "granite": Architecture(
        _made("Granite", "head_dim", residual_multiplier=0.22, attention_multiplier=0.3, logits_scaling=2.0), LLAMA_LIKE
    ),
}


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """The words of `tests.helpers.word_prompts`, with BOS."""
    return word_tokenizer([f"w{number}" for number in range(60)] + ["?", "Answer", ":"], bos=True)
