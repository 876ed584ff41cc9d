"""Load a model by name, file or folder, and say how close it is to Hugging Face's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from relation_neurons.errors import nearest, refuse, shortened
from relation_neurons.models.pretrained import Source, clear_errors, load_pretrained, resolve
from relation_neurons.models.types import HookedModel
from relation_neurons.models.wrapping import HookedTransformer, bridge, by_transformer_lens, hook_llama, is_plain_llama
from relation_neurons.validation import validated

PARITY_TEXTS = (
    "The capital city of France is? Answer: Paris\nThe capital city of Japan is? Answer:",
    "Rivers carry rain from the mountains to the sea, and on the way they water the fields.",
)


DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@validated
def load_model(
    source: str | Path, *, device: str | torch.device | None = None, dtype: torch.dtype | str | None = None
) -> HookedModel:
    """Load a language model with TransformerLens, its weights unprocessed.

    With TransformerLens 3.9 the result is a `HookedTransformer`: Llama-architecture models are built from their own
    configuration around the loaded weights, without a copy; others go through TransformerLens's own loader. With
    TransformerLens 4 it is a `TransformerBridge`.

    Args:
        source: `smollm2-135m`, a Hugging Face id (`meta-llama/Llama-2-7b-hf`), a folder, or a `.gguf` file.
        device: Where to; by default the GPU if there is one.
        dtype: Type of the weights, also by name (`float32`, `float16`, `bfloat16`); by default float32 on the CPU and
            the checkpoint's own type on a GPU.

    Returns:
        The model in evaluation mode, without gradients. `model.cfg.default_prepend_bos` is what its tokenizer does
        by default: true for Llama-2, false for SmolLM2.

    Raises:
        RelationNeuronsError: Gated weights, an unknown name, no network, a folder without a configuration.
    """
    place = _device(device)
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise refuse(f"dtype is '{dtype}'", expected=nearest(dtype, DTYPES))
        dtype = DTYPES[dtype]
    dtype = dtype or (torch.float32 if place.type == "cpu" else None)
    found = resolve(source)
    return _wrapped(found, *load_pretrained(found, device=place, dtype=dtype))


@dataclass(frozen=True)
class Parity:
    """How far a loaded model's logits are from Hugging Face's own, in float32."""

    max_logit_difference: float
    argmax_agreement: float
    n_tokens: int


@dataclass(frozen=True)
class Reference:
    """What Hugging Face's implementation makes of short texts.

    Attributes:
        texts: Their token ids.
        logits: Of each text.
    """

    texts: tuple[Int[Tensor, "1 _"], ...]
    logits: tuple[Float[Tensor, "1 _ vocab"], ...]

    def parity(self, model: HookedModel) -> Parity:
        """Compare a loaded model, as it now is."""
        with torch.inference_mode():
            pairs = [(model(text).float(), theirs) for text, theirs in zip(self.texts, self.logits, strict=True)]
        n_tokens = sum(text.numel() for text in self.texts)
        agree = sum(int((a.argmax(-1) == b.argmax(-1)).sum()) for a, b in pairs)
        difference = torch.stack([(a - b).abs().max() for a, b in pairs]).max()  # NaN if any is
        return Parity(float(difference), agree / n_tokens, n_tokens)


def load_with_reference(
    source: str | Path, *, device: str | torch.device | None = None
) -> tuple[HookedModel, Reference]:
    """Load a model in float32, and what Hugging Face's implementation makes of its weights before they are wrapped.

    Args:
        source: As for `load_model`.
        device: As for `load_model`.

    Raises:
        RelationNeuronsError: As `load_model`.
    """
    found, place = resolve(source), _device(device)
    pretrained, tokenizer = load_pretrained(found, device=place, dtype=torch.float32)
    texts = tuple(tokenizer(text, return_tensors="pt").input_ids.to(place) for text in PARITY_TEXTS)
    with torch.inference_mode():
        reference = Reference(texts, tuple(pretrained(text).logits.float() for text in texts))
    return _wrapped(found, pretrained, tokenizer), reference


def parity(source: str | Path, *, device: str | torch.device | None = None) -> Parity:
    """Compare logits with Hugging Face's implementation on short texts, in float32.

    Args:
        source: As for `load_model`.
        device: Where to compute; by default the GPU if there is one.

    Raises:
        RelationNeuronsError: As `load_model`.
    """
    model, reference = load_with_reference(source, device=device)
    return reference.parity(model)


def cast(model: HookedModel, dtype: torch.dtype) -> bool:
    """Turn a float32 model of Llama's architecture, in place, into what `load_model` gives in another type.

    That is to the bit the same, because there the loaders, too, only round each weight and the finished table of
    rotary positions; of other architectures they may keep some weights as they are, or compute with them.

    Returns:
        Whether it was done; a model of another type or architecture is left as it is.
    """
    architecture = getattr(model.cfg, "original_architecture", None) or getattr(model.cfg, "architecture", None)
    if architecture != "LlamaForCausalLM" or any(one.dtype != torch.float32 for one in model.parameters()):
        return False
    kept = getattr(model, "original_model", model).state_dict(keep_vars=True).values()
    rounded: dict[int, Tensor] = {}  # by where it was stored, so that what was shared stays so
    for values in {id(one): one for one in kept if one.is_floating_point() and one.dim()}.values():
        place = values.untyped_storage().data_ptr()
        if place not in rounded:
            rounded[place] = values.new_empty(0).set_(values.untyped_storage()).to(dtype)
        values.data = rounded[place].as_strided(values.shape, values.stride(), values.storage_offset())
    model.cfg.dtype = dtype
    return True


def _wrapped(found: Source, pretrained: Any, tokenizer: Any) -> HookedModel:
    """Whatever of TransformerLens's there is for a model."""
    if HookedTransformer is None:
        return bridge(pretrained, tokenizer, name=found.name, digest=found.digest)
    if is_plain_llama(pretrained.config):
        return hook_llama(pretrained, tokenizer, name=found.name, digest=found.digest)
    with clear_errors(found):
        return by_transformer_lens(found.location, pretrained, tokenizer)


def _device(device: str | torch.device | None) -> torch.device:
    place = named_device(device)
    if place.type == "cuda" and not torch.cuda.is_available():
        raise refuse(f"Device '{place}' was asked for, but no GPU is visible", do="use device='cpu'")
    return place


def named_device(device: str | torch.device | None) -> torch.device:
    """A device by its name, there or not; none is the GPU if there is one.

    Raises:
        RelationNeuronsError: Not the name of a device.
    """
    try:
        return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise refuse(f"device is '{shortened(str(device))}'", expected="cpu, cuda, cuda:1, mps, ...") from error
