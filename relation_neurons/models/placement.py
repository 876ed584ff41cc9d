"""Models larger than one GPU: layers on several devices, on the CPU or on disk, and weights in 8 or 4 bits."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
import transformers
from accelerate.utils import align_module_device, has_offloaded_params
from torch import Tensor

from relation_neurons.errors import nearest, refuse, shortened
from relation_neurons.models.types import HookedModel, is_bridge

DeviceMap = Literal["auto"] | Mapping[str, int | str | torch.device]
"""Where layers go: `auto`, or devices (also `disk`) by the names of modules, as Transformers takes it."""
Quantization = Literal["8bit", "4bit"]


def require_placement(device: object, device_map: object, quantize: object = None, *, in_float32: bool = False) -> None:
    """Refuse what cannot be placed: a device beside a device map, an unknown device, or bits without a GPU.

    Args:
        device: As for `load_model`.
        device_map: As for `load_model`.
        quantize: As for `load_model`.
        in_float32: Whether the model is to be in float32 whatever is asked for.

    Raises:
        RelationNeuronsError: Any of these; or `bitsandbytes` is not installed.
    """
    if device is not None and device_map is not None:
        raise refuse("device and device_map were both given", expected="one of them")
    if isinstance(device_map, str) and device_map != "auto":
        raise refuse(f"device_map is '{shortened(device_map)}'", expected="auto, or a device for each module by name")
    if isinstance(device_map, Mapping):
        _require_devices(device_map)
    if quantize is None:
        return
    if quantize not in ("8bit", "4bit"):
        raise refuse(f"quantize is '{shortened(str(quantize))}'", expected=nearest(str(quantize), ("8bit", "4bit")))
    where = f"Weights in {str(quantize).removesuffix('bit')} bits"
    if not torch.cuda.is_available() or str(device or "cuda").startswith("cpu"):
        raise refuse(
            f"{where} need a GPU, and none is {'visible' if device is None else 'asked for'}", do="leave out quantize"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise refuse(f"{where} need the package bitsandbytes, which is not installed", do="pip install bitsandbytes")


def _require_devices(device_map: Mapping[Any, Any]) -> None:
    """Refuse an empty map, or one that names what is no device or no GPU of this machine."""
    if not device_map:
        raise refuse("device_map is empty", expected="auto, or a device for each module by name")
    for part, place in device_map.items():
        try:
            found = torch.device("cpu" if place == "disk" else "cuda" if isinstance(place, int) else place)
        except (RuntimeError, TypeError) as error:
            raise refuse(
                f"device_map puts '{part}' on '{shortened(str(place))}'",
                expected="the number of a GPU, cpu, cuda:1, disk, ...",
            ) from error
        if found.type == "cuda" and not torch.cuda.is_available():
            raise refuse(f"device_map puts '{part}' on a GPU, but none is visible", do="use cpu or disk there")


def loading_arguments(
    device: torch.device, dtype: torch.dtype | None, device_map: DeviceMap | None, quantize: Quantization | None
) -> dict[str, Any]:
    """Keyword arguments by which Transformers places the weights; none for a whole model that is moved afterwards.

    Args:
        device: Where a quantised model goes without a map.
        dtype: In which 4-bit weights are multiplied; by default bfloat16.
        device_map: As for `load_model`.
        quantize: As for `load_model`.
    """
    if device_map is None and quantize is None:
        return {}
    mapped = {"": device} if device_map is None else device_map if isinstance(device_map, str) else {**device_map}
    arguments: dict[str, Any] = {"device_map": mapped}
    if quantize == "8bit":
        arguments["quantization_config"] = transformers.BitsAndBytesConfig(load_in_8bit=True)
    if quantize == "4bit":
        arguments["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype or torch.bfloat16
        )
    return arguments


@contextlib.contextmanager
def spare_folder(arguments: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], Callable[[torch.nn.Module], Any]]]:
    """Add a folder for weights on disk that cannot be read from their own files, if any may be.

    Yields:
        The arguments with it, and a function that leaves the folder to a model, with which it goes.
    """
    mapped = arguments.get("device_map", {})
    if mapped != "auto" and "disk" not in mapped.values():
        yield {**arguments}, lambda model: None
        return
    folder = tempfile.TemporaryDirectory(prefix="relation-neurons-")
    with contextlib.ExitStack() as stack:
        stack.callback(folder.cleanup)
        yield {**arguments, "offload_folder": folder.name}, lambda model: weakref.finalize(model, stack.pop_all().close)


def first_device(pretrained: transformers.PreTrainedModel) -> torch.device:
    """Where the embedding computes, and tokens go; its weights may be kept elsewhere."""
    embedding = pretrained.get_input_embeddings()
    weights = next(embedding.parameters())
    if not weights.is_meta:
        return torch.device(weights.device)
    place = embedding._hf_hook.execution_device
    return torch.device("cuda", place) if isinstance(place, int) else torch.device(place)


def places_of(pretrained: transformers.PreTrainedModel) -> tuple[str, ...]:
    """Names of the devices where the weights are kept, that of the first layers first."""
    kept = getattr(pretrained, "hf_device_map", None) or {"": first_device(pretrained)}
    return tuple(dict.fromkeys(f"cuda:{one}" if isinstance(one, int) else str(one) for one in kept.values()))


def devices_in_words(model: HookedModel) -> str:
    """The devices where a model's weights are kept, such as `cuda:0, cuda:1`."""
    return ", ".join(getattr(model.cfg, "places", None) or (str(model.cfg.device),))


def is_offloaded(model: Any) -> bool:
    """Whether some weights of a model are brought in for each use only, from the CPU or from disk."""
    return any(weights.is_meta for weights in model.parameters())


def require_tied_together(pretrained: transformers.PreTrainedModel, name: str) -> None:
    """Refuse a device map that puts weights which are one on different devices.

    Raises:
        RelationNeuronsError: The embedding and the unembedding, as a rule.
    """
    kept = {part: str(place) for part, place in getattr(pretrained, "hf_device_map", {}).items()}
    for part, other in getattr(pretrained, "all_tied_weights_keys", {}).items():
        places = [_longest_prefix(one, kept) for one in (part, other)]
        if len({*places} - {None}) > 1:
            raise refuse(
                f"device_map puts {part} and {other} of model '{name}', which share their numbers, on "
                f"{' and '.join(map(str, places))}",
                expected="the same device",
            )


def _longest_prefix(name: str, kept: Mapping[str, str]) -> str | None:
    """Where a weight is kept: what the map says of the innermost of its modules that it names."""
    modules = [part for part in kept if not part or name == part or name.startswith(f"{part}.")]
    return kept[max(modules, key=len)] if modules else None


@contextlib.contextmanager
def weights_present(component: Any) -> Iterator[None]:
    """Bring in the weights of a part of a bridge, in this block, where they are kept on the CPU or on disk."""
    original = getattr(component, "original_component", None)
    with contextlib.nullcontext() if original is None else align_module_device(original):
        yield


def all_weights(model: HookedModel) -> Iterator[tuple[str, Tensor]]:
    """All weights by name, in a fixed order; those kept on the CPU or on disk are brought in one by one."""
    kept = sorted(model.state_dict().items())
    if not is_bridge(model) or not any(value.is_meta for _, value in kept):
        yield from kept
        return
    for name, module in sorted(model.original_model.named_modules()):
        with align_module_device(module) if has_offloaded_params(module) else contextlib.nullcontext():
            for part, value in sorted({**module._parameters, **module._buffers}.items()):
                if value is not None:
                    yield f"{name}.{part}", value


def is_readable(model: HookedModel) -> bool:
    """Whether a model's weights are numbers, not packed into 8 or 4 bits."""
    return getattr(model.cfg, "quantize", None) is None


def require_readable(model: HookedModel, what: str) -> None:
    """Refuse to read weights that are in 8 or 4 bits.

    Raises:
        RelationNeuronsError: The model's weights are.
    """
    if not is_readable(model):
        raise refuse(
            f"{what} is read from the weights of model '{model.cfg.model_name}', which are in "
            f"{model.cfg.quantize.removesuffix('bit')} bits",
            do="load the model without quantize",
        )
