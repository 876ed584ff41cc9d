"""Let Transformers read a GGUF file once, and refuse one of which it leaves out a part."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import transformers
from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

from relation_neurons.errors import refuse
from relation_neurons.models.unused_weights import require_all_used


@contextlib.contextmanager
def read_once(file: str | None) -> Iterator[None]:
    """Let Transformers parse a GGUF file once, and list the names of its tensors once, not for every module.

    It looks both functions up in `gguf` at every call and takes no parsed file, so that results are kept there. Without
    a file nothing is changed.
    """
    if file is None:
        yield
        return
    import gguf

    parse, list_names = gguf.GGUFReader, gguf.get_tensor_name_map
    vars(gguf).update(GGUFReader=functools.cache(parse), get_tensor_name_map=functools.cache(list_names))
    try:
        yield
    finally:
        vars(gguf).update(GGUFReader=parse, get_tensor_name_map=list_names)


def require_all_of_gguf(name: str, path: str, model: transformers.PreTrainedModel) -> None:
    """Refuse a GGUF file with tensors or a rotary scaling that Transformers leaves out.

    Args:
        name: The model's name, for the message.
        path: The file, as Transformers names it, so that within `read_once` it is not parsed again.
        model: What Transformers made of it.

    Raises:
        RelationNeuronsError: Tensors without a place, rotary factors other than 1, or a scaling that is not applied.
    """
    import gguf

    reader = gguf.GGUFReader(path)
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
