"""The type of a loaded model: what TransformerLens's two kinds have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, _ProtocolMeta, runtime_checkable


class _AsksTheClass(_ProtocolMeta):
    """Looks for attributes in a value's class first: a bridge makes its whole `hook_dict` anew whenever it is read."""

    def __instancecheck__(cls, value: object) -> bool:
        return callable(value) and all(
            hasattr(type(value), name) or hasattr(value, name) for name in HookedModel.__annotations__
        )


@runtime_checkable
class HookedModel(Protocol, metaclass=_AsksTheClass):
    """A model from `load_model`: a `HookedTransformer` or a `TransformerBridge`, both of them PyTorch modules.

    Attributes:
        cfg: Its configuration, with TransformerLens's names, such as `n_layers`, `d_mlp`, `device` and `dtype`.
        tokenizer: Hugging Face's, none for a model that is only given token ids.
        hook_dict: TransformerLens's hook points by name.
    """

    cfg: Any
    tokenizer: Any
    hook_dict: Mapping[str, Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model as TransformerLens describes it."""

    def __getattr__(self, name: str) -> Any:
        """Its parts by TransformerLens's names, such as `blocks` and `unembed`, and PyTorch's methods."""


def is_bridge(model: HookedModel) -> bool:
    """Whether a model is a `TransformerBridge`, which keeps the Transformers model that it hooks."""
    return hasattr(model, "original_model")
