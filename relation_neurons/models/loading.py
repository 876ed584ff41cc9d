"""Load a model by name, file or folder, and say how close it is to Hugging Face's own."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from relation_neurons.errors import nearest, refuse, shortened
from relation_neurons.models.load_check import Parity, Reference, check_loaded
from relation_neurons.models.placement import DeviceMap, Quantization, require_placement
from relation_neurons.models.pretrained import Source, clear_errors, load_pretrained, resolve
from relation_neurons.models.types import HookedModel
from relation_neurons.models.wrapping import HookedTransformer, bridge, hook_llama, is_plain_llama
from relation_neurons.validation import validated

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@validated
def load_model(
    source: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    device_map: DeviceMap | None = None,
    quantize: Quantization | None = None,
) -> HookedModel:
    """Load a language model with TransformerLens, its weights unprocessed.

    With TransformerLens 3.9 a plain Llama becomes a `HookedTransformer`, built from its own configuration around the
    loaded weights, without a copy. All other architectures, and with TransformerLens 4 Llamas too, become a
    `TransformerBridge` around the Transformers model. Either is compared with that model before it is returned: the
    logits of two short texts, and the values at every site in the middle layer.

    A model with a device map, or with weights in 8 or 4 bits, is always a `TransformerBridge`. Tokens go to the device
    of its embedding, `cfg.device`; activations and the key-value cache stay where their layers are. On GPUs neither has
    been run yet.

    Args:
        source: `smollm2-135m`, `gemma3-270m`, a Hugging Face id (`meta-llama/Llama-2-7b-hf`), a folder, or a `.gguf`
            file.
        device: Where to; by default the GPU if there is one.
        dtype: Type of the weights, also by name (`float32`, `float16`, `bfloat16`); by default float32 on the CPU and
            the checkpoint's own type on a GPU.
        device_map: Instead of a device, spread the layers: `auto` fills the GPUs, then memory, then disk; or a device,
            such as 0, `cuda:1`, `cpu` and `disk`, for each module by its name, as Transformers takes it.
        quantize: Weights in `8bit` or `4bit`, by the package bitsandbytes, on GPUs only. What reads weights, such as
            `models.output_row`, then refuses.

    Returns:
        The model in evaluation mode, without gradients. `model.cfg.default_prepend_bos` is what its tokenizer does
        by default: true for Llama-2, false for SmolLM2.

    Raises:
        RelationNeuronsError: Gated weights, an unknown name, no network, a folder without a configuration, or an
            architecture that TransformerLens does not know or gets wrong; both a device and a device map, or weights in
            8 or 4 bits without a GPU.
    """
    require_placement(device, device_map, quantize)
    place = _device(device)
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise refuse(f"dtype is '{dtype}'", expected=nearest(dtype, DTYPES))
        dtype = DTYPES[dtype]
    dtype = dtype or (torch.float32 if place.type == "cpu" else None)
    return _load(resolve(source), place, dtype, device_map, quantize)[0]


def load_with_reference(
    source: str | Path,
    *,
    device: str | torch.device | None = None,
    device_map: DeviceMap | None = None,
    quantize: Quantization | None = None,
) -> tuple[HookedModel, Reference]:
    """Load a model in float32, and what Hugging Face's implementation makes of its weights before they are wrapped.

    Args:
        source: As for `load_model`.
        device: As for `load_model`.
        device_map: As for `load_model`.
        quantize: As for `load_model`.

    Raises:
        RelationNeuronsError: As `load_model`.
    """
    require_placement(device, device_map, quantize)
    return _load(resolve(source), _device(device), torch.float32, device_map, quantize, all_layers=True)


def parity(
    source: str | Path, *, device: str | torch.device | None = None, device_map: DeviceMap | None = None
) -> Parity:
    """Compare logits with Hugging Face's implementation on short texts, in float32.

    Args:
        source: As for `load_model`.
        device: Where to compute; by default the GPU if there is one.
        device_map: As for `load_model`.

    Raises:
        RelationNeuronsError: As `load_model`.
    """
    model, reference = load_with_reference(source, device=device, device_map=device_map)
    return reference.parity(model)


def cast(model: HookedModel, dtype: torch.dtype) -> bool:
    """Turn a float32 model of Llama's architecture, in place, into what `load_model` gives in another type.

    That is to the bit the same, because there the loaders, too, only round each weight and the finished table of
    rotary positions; of other architectures they may keep some weights as they are, or compute with them.

    Returns:
        Whether it was done; a model of another type or architecture, or one on several devices, is left as it is.
    """
    if len(getattr(model.cfg, "places", ())) > 1:
        return False
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
    source: Source,
    place: torch.device,
    dtype: torch.dtype | None,
    device_map: DeviceMap | None,
    quantize: Quantization | None,
    *,
    all_layers: bool = False,
) -> tuple[HookedModel, Reference]:
    """Load, wrap and check a model."""
    pretrained, tokenizer = load_pretrained(source, device=place, dtype=dtype, device_map=device_map, quantize=quantize)
    whole = device_map is None and quantize is None
    with clear_errors(source):
        reference = Reference.of(pretrained, tokenizer, all_layers=all_layers)
        plain = whole and HookedTransformer is not None and is_plain_llama(pretrained.config)
        model = (hook_llama if plain else bridge)(pretrained, tokenizer, name=source.name, digest=source.digest)
        _note_bits(model, quantize)
        check_loaded(model, reference)
    return model, reference


def _note_bits(model: HookedModel, quantize: Quantization | None) -> None:
    """Tell weights in fewer bits apart from the files that they were made of."""
    model.cfg.quantize = quantize
    if quantize is not None and model.cfg.weights_digest:
        model.cfg.weights_digest = f"{model.cfg.weights_digest} in {quantize}"


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
