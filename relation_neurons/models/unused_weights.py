"""Refuse files that hold more than the model built from them, and so describe another model."""

from __future__ import annotations

import re
from collections.abc import Iterable

import transformers

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
