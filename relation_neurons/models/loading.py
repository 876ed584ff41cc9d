"""Load a model by name, file or folder, and say how close it is to Hugging Face's own."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from relation_neurons.errors import nearest, refuse, shortened
from relation_neurons.models.load_check import Parity, Reference, check_loaded
from relation_neurons.models.pretrained import Source, clear_errors, load_pretrained, resolve
from relation_neurons.models.types import HookedModel
from relation_neurons.models.wrapping import HookedTransformer, bridge, hook_llama, is_plain_llama
from relation_neurons.validation import validated

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@validated
def load_model(
    source: str | Path, *, device: str | torch.device | None = None, dtype: torch.dtype | str | None = None
) -> HookedModel:
    """Load a language model with TransformerLens, its weights unprocessed.

    With TransformerLens 3.9 a plain Llama becomes a `HookedTransformer`, built from its own configuration around the
    loaded weights, without a copy. All other architectures, and with TransformerLens 4 Llamas too, become a
    `TransformerBridge` around the Transformers model. Either is compared with that model before it is returned: the
    logits of two short texts, and the values at every site in the middle layer.

    Args:
        source: `smollm2-135m`, `gemma3-270m`, a Hugging Face id (`meta-llama/Llama-2-7b-hf`), a folder, or a `.gguf`
            file.
        device: Where to; by default the GPU if there is one.
        dtype: Type of the weights, also by name (`float32`, `float16`, `bfloat16`); by default float32 on the CPU and
            the checkpoint's own type on a GPU.

    Returns:
        The model in evaluation mode, without gradients. `model.cfg.default_prepend_bos` is what its tokenizer does
        by default: true for Llama-2, false for SmolLM2.

    Raises:
        RelationNeuronsError: Gated weights, an unknown name, no network, a folder without a configuration, or an
            architecture that TransformerLens does not know or gets wrong.
    """
    place = _device(device)
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise refuse(f"dtype is '{dtype}'", expected=nearest(dtype, DTYPES))
        dtype = DTYPES[dtype]
    return _load(resolve(source), place, dtype or (torch.float32 if place.type == "cpu" else None))[0]


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
    return _load(resolve(source), _device(device), torch.float32, all_layers=True)


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


def _load(
    source: Source, place: torch.device, dtype: torch.dtype | None, *, all_layers: bool = False
) -> tuple[HookedModel, Reference]:
    """Load, wrap and check a model."""
    pretrained, tokenizer = load_pretrained(source, device=place, dtype=dtype)
    with clear_errors(source):
        reference = Reference.of(pretrained, tokenizer, all_layers=all_layers)
        plain = HookedTransformer is not None and is_plain_llama(pretrained.config)
        model = (hook_llama if plain else bridge)(pretrained, tokenizer, name=source.name, digest=source.digest)
        check_loaded(model, reference)
    return model, reference


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
