"""What determines results: digests of the question, of the model, of what it reads, and of the code."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from relation_neurons.encoding import encode
from relation_neurons.prompts import Prompts
from relation_neurons.relations import Relation

PACKAGES = ("relation-neurons", "transformer-lens", "transformers", "torch", "numpy", "pandas", "scipy", "plotly")


def study_key(config: Any, relations: Sequence[Relation], model: Any, prompts: Prompts) -> dict[str, Any]:
    """All that tables depend on.

    The prompts' tokens are what the model reads; the relations and the tokenizer, from which they follow, also
    determine what other prompts an experiment makes, and tell what it is that changed.

    Args:
        config: A frozen configuration.
        relations: The relations it names.
        model: The model it names, from `load_model`.
        prompts: Made of these relations as the configuration says.

    Raises:
        RelationNeuronsError: Prompts that the model cannot read.
    """
    encoded = encode(model, [*prompts.detection, *prompts.evaluation])
    return {
        "config": dataclasses.asdict(config),
        "relations": {relation.name: digest(relation)[:16] for relation in relations},
        "tokens": digest([(one.ids, one.query_start, one.object_ids, one.bos) for one in encoded])[:16],
        "model": {
            "name": model.cfg.model_name,
            "weights": weights_digest(model),
            "dtype": str(model.cfg.dtype).removeprefix("torch."),
            "tokenizer": tokenizer_digest(model.tokenizer)[:16],
        },
        "device": str(model.cfg.device),
        "code": code_digest()[:16],
        "versions": versions(),
    }


def weights_digest(model: Any) -> str:
    """SHA-256 of a model's weights: that of the files they were loaded from, or of the weights themselves."""
    if getattr(model.cfg, "weights_digest", None):
        return str(model.cfg.weights_digest)
    plain = {name: value for name, value in vars(model.cfg).items() if isinstance(value, str | int | float)}
    hasher = hashlib.sha256(repr(sorted(plain.items())).encode())
    for name, value in sorted(model.state_dict().items()):
        hasher.update(repr((name, value.dtype, tuple(value.shape))).encode())
        hasher.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
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


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def code_digest() -> str:
    """SHA-256 of this package's source, so that tables of other code are never continued."""
    folder = Path(__file__).parent
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".html"))
    return digest(*((path.relative_to(folder).as_posix(), path.read_bytes()) for path in files))


def digest(*parts: object) -> str:
    """SHA-256 of the parts' representations, to tell contents apart."""
    return hashlib.sha256("\x1f".join(map(repr, parts)).encode()).hexdigest()
