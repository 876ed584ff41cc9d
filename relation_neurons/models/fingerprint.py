"""Digests of a model's weights and of its tokenizer."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

from relation_neurons.models.placement import all_weights
from relation_neurons.models.types import HookedModel
from relation_neurons.storage.fingerprint import digest


def weights_digest(model: HookedModel) -> str:
    """SHA-256 of a model's weights: that of the files they were loaded from, or of the weights themselves."""
    if getattr(model.cfg, "weights_digest", None):
        return str(model.cfg.weights_digest)
    plain = {name: value for name, value in vars(model.cfg).items() if isinstance(value, str | int | float)}
    hasher = hashlib.sha256(repr(sorted(plain.items())).encode())
    for name, value in all_weights(model):
        hasher.update(repr((name, value.dtype, tuple(value.shape))).encode())
        numbers: Any = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        hasher.update(numbers)
    return hasher.hexdigest()


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 of how a tokenizer divides text."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        rules: Any = sorted(tokenizer.get_vocab().items())
    else:
        kept = json.loads(fast.to_str())
        rules = sorted((name, value) for name, value in kept.items() if name not in ("padding", "truncation"))
    return digest(type(tokenizer).__name__, rules, sorted(tokenizer.special_tokens_map.items(), key=str))
