"""How large a model is, known before its weights are loaded."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
import transformers

from relation_neurons.models.embedded import EMBEDDED, embedded_file
from relation_neurons.models.types import HookedModel
from relation_neurons.models.wrapping import MAX_CONTEXT

GGUF_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
GGUF_STRING, GGUF_ARRAY = 8, 9
"""Types of values in the head of a GGUF file."""


@dataclass(frozen=True)
class Shape:
    """The size of a model, with TransformerLens's names for its parts.

    Attributes:
        model_name: What it is called.
        n_parameters: Numbers in its weights, each once where layers share them.
        n_ctx: Longest input; its attention keeps a mask of that size in every layer.
        stored_dtype: Type in which the weights are stored, if known.
        n_copies: How often the weights are in memory while they are loaded.
        packed: Whether they are stored with fewer bits and unpacked one by one, as in a GGUF file.
    """

    model_name: str
    n_parameters: int
    n_layers: int
    d_model: int
    d_mlp: int
    n_heads: int
    n_key_value_heads: int
    d_head: int
    d_vocab: int
    n_ctx: int = MAX_CONTEXT
    stored_dtype: torch.dtype | None = None
    n_copies: int = 1
    packed: bool = False
    gated_mlp: bool = True


def shape_of(source: str | Path) -> Shape | None:
    """The size of a model that is not loaded yet, from its configuration alone.

    The configuration of a hub model is taken from the local cache, or fetched (a few kB).

    Args:
        source: As `load_model` takes it.

    Returns:
        None where it cannot be known; why not, `load_model` will say.
    """
    try:
        path = embedded_file(str(source)) if str(source) in EMBEDDED else Path(source).expanduser()
        return _gguf_shape(path) if path.is_file() else _config_shape(str(path if path.is_dir() else source))
    except Exception:  # loaders raise whatever a damaged file makes them raise
        return None


def loaded_shape(model: HookedModel) -> Shape:
    """The size of a model that is loaded; its weights are counted no more, since they are in memory."""
    cfg = model.cfg
    return Shape(
        model_name=str(cfg.model_name),
        n_parameters=0,
        n_layers=cfg.n_layers,
        d_model=cfg.d_model,
        d_mlp=cfg.d_mlp or 0,
        n_heads=cfg.n_heads,
        n_key_value_heads=getattr(cfg, "n_key_value_heads", None) or cfg.n_heads,
        d_head=cfg.d_head,
        d_vocab=cfg.d_vocab,
        stored_dtype=cfg.dtype,
        gated_mlp=bool(cfg.gated_mlp),
    )


def _config_shape(location: str) -> Shape:
    """From a folder or hub name; weights are counted in a model that has none."""
    whole = transformers.AutoConfig.from_pretrained(location)
    with torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(whole)
    config = whole.get_text_config()
    heads = config.num_attention_heads
    return Shape(
        model_name=location,
        n_parameters=sum(weights.numel() for weights in empty.parameters()),
        n_layers=config.num_hidden_layers,
        d_model=config.hidden_size,
        d_mlp=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        n_heads=heads,
        n_key_value_heads=getattr(config, "num_key_value_heads", None) or heads,
        d_head=getattr(config, "head_dim", None) or config.hidden_size // heads,
        d_vocab=config.vocab_size,
        n_ctx=min(config.max_position_embeddings, MAX_CONTEXT),
        stored_dtype=config.dtype,
        n_copies=1 if whole.model_type == "llama" else 2,  # TransformerLens converts others
    )


def _gguf_shape(path: Path) -> Shape:
    """From the head of a GGUF file; the reader that Transformers uses takes seconds, for it reads every token."""
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ValueError(f"{path} is no GGUF file")
        _, n_tensors, n_values = struct.unpack("<IQQ", file.read(20))
        values = {_gguf_string(file): _gguf_value(file) for _ in range(n_values)}
        tensors = dict(_gguf_tensor(file) for _ in range(n_tensors))
    kind = values["general.architecture"]
    sizes = {name.removeprefix(f"{kind}."): value for name, value in values.items()}
    heads, width = sizes["attention.head_count"], sizes["embedding_length"]
    return Shape(
        model_name=path.stem,
        n_parameters=sum(tensors.values()),
        n_layers=sizes["block_count"],
        d_model=width,
        d_mlp=sizes["feed_forward_length"],
        n_heads=heads,
        n_key_value_heads=sizes.get("attention.head_count_kv", heads),
        d_head=sizes.get("attention.key_length", width // heads),
        d_vocab=tensors["token_embd.weight"] // width,
        n_ctx=min(sizes["context_length"], MAX_CONTEXT),
        packed=True,
    )


def _gguf_string(file: BinaryIO) -> str:
    return file.read(struct.unpack("<Q", file.read(8))[0]).decode("utf-8", "replace")


def _gguf_value(file: BinaryIO, kind: int | None = None) -> Any:
    """A value of the head; of a list only its length."""
    kind = struct.unpack("<I", file.read(4))[0] if kind is None else kind
    if kind == GGUF_STRING:
        return _gguf_string(file)
    if kind == GGUF_ARRAY:
        of, n = struct.unpack("<IQ", file.read(12))
        if of in GGUF_NUMBERS:
            file.seek(n * struct.calcsize(GGUF_NUMBERS[of]), 1)
        else:
            for _ in range(n):
                _gguf_value(file, of)
        return n
    number = "<" + GGUF_NUMBERS[kind]
    return struct.unpack(number, file.read(struct.calcsize(number)))[0]


def _gguf_tensor(file: BinaryIO) -> tuple[str, int]:
    """Name of a tensor and how many numbers it has."""
    name = _gguf_string(file)
    (n_dimensions,) = struct.unpack("<I", file.read(4))
    *dimensions, _, _ = struct.unpack(f"<{n_dimensions}QIQ", file.read(8 * n_dimensions + 12))
    return name, torch.Size(dimensions).numel()
