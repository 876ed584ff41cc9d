"""Refuse files that hold more than the model built from them, and so describe another model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import transformers
from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

from relation_neurons.errors import refuse

HARMLESS = re.compile(r"(^|\.)(rotary_emb\.inv_freq|rope\.freqs|masked_bias|attn\.bias|attention\.bias|position_ids)$")
"""Buffers of older checkpoints that follow from the configuration: rotary frequencies, causal masks, positions."""


def require_no_adapter(name: str, location: str) -> None:
    """Refuse a model that has an adapter beside it.

    Args:
        name: The model's name, for the message.
        location: A folder or a Hugging Face id.

    Raises:
        RelationNeuronsError: There is an `adapter_config.json`.
    """
    if transformers.utils.find_adapter_config_file(location) is not None:
        raise refuse(
            f"'{name}' holds an adapter (adapter_config.json), which is not applied to the model",
            expected="a model without adapters",
            do="merge the adapter (merge_and_unload of PEFT) and save the result, or remove adapter_config.json",
        )


def require_all_used(name: str, unexpected: Iterable[str]) -> None:
    """Refuse weights that the model has no place for, unless they are known to be harmless.

    Args:
        name: The model's name, for the message.
        unexpected: Names of the weights.

    Raises:
        RelationNeuronsError: One of them is not in `HARMLESS`.
    """
    unused = sorted(key for key in unexpected if not HARMLESS.search(key))
    if unused:
        listing = ", ".join(unused[:3]) + (f" and {len(unused) - 3} more" if len(unused) > 3 else "")
        raise refuse(
            f"{name}: the files hold weights that the model of this configuration has no place for: {listing}",
            expected="no weights beyond the model's",
            do="check that the configuration belongs to the weights (biases, number of layers), and merge adapters; "
            "or remove these weights if the model is meant to be without them",
        )


def require_all_of_gguf(name: str, reader: Any, model: transformers.PreTrainedModel) -> None:
    """Refuse a GGUF file with tensors or a rotary scaling that Transformers leaves out.

    Args:
        name: The model's name, for the message.
        reader: A `gguf.GGUFReader` of the file.
        model: What Transformers made of it.

    Raises:
        RelationNeuronsError: Tensors without a place, rotary factors other than 1, or a scaling that is not applied.
    """
    architecture = str(reader.fields["general.architecture"].contents())
    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config=model.config.to_dict())
    known = get_gguf_hf_weights_map(model, processor)
    neutral = {t.name for t in reader.tensors if t.name == "rope_freqs.weight" and (t.data == 1).all()}
    names = {tensor.name for tensor in reader.tensors} - neutral
    require_all_used(name, (one for one in names if one not in known and one.removesuffix(".weight") not in known))
    scaling = {key: field.contents() for key, field in reader.fields.items() if ".rope.scal" in key}
    rope = getattr(model.config, "rope_parameters", None) or {}
    if _scales(architecture, scaling) and rope.get("rope_type", "default") == "default":
        listing = ", ".join(f"{key} = {value}" for key, value in scaling.items())
        raise refuse(
            f"{name}: the file scales rotary positions ({listing}), which Transformers leaves out",
            expected="a GGUF file without rope.scaling",
            do="load the model from its safetensors files",
        )


def _scales(architecture: str, scaling: dict[str, Any]) -> bool:
    """Whether this metadata changes anything: a factor of 1 does not, nor the type `none`."""
    kind = scaling.get(f"{architecture}.rope.scaling.type")
    neutral = all(value == 1 for key, value in scaling.items() if key.endswith(("factor", "scale_linear")))
    return bool(kind != "none" and not (kind in (None, "linear") and neutral))
