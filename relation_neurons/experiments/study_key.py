"""What determines results: digests of the configuration, the model, its input, and the code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relation_neurons.inference.units import Identity, identity_of
from relation_neurons.models.fingerprint import tokenizer_digest
from relation_neurons.models.types import HookedModel
from relation_neurons.prompts.prompts import Prompts
from relation_neurons.prompts.tokenization import encode
from relation_neurons.relations.relation import Relation
from relation_neurons.storage.fingerprint import as_key, digest


def study_key(
    config: Any, relations: Sequence[Relation], model: HookedModel, prompts: Prompts, identity: Identity | None = None
) -> dict[str, Any]:
    """Everything that tables depend on.

    The prompts' tokens are the model's input. The relations and the tokenizer, which determine them, also determine
    the other prompts that experiments make, and show what has changed where a key differs.

    Args:
        config: A frozen configuration.
        relations: The relations it names.
        model: The model it names, from `load_model`.
        prompts: Made from these relations as configured.
        identity: Of what measures, if that is not the model in this process.

    Raises:
        RelationNeuronsError: Prompts that the model cannot read.
    """
    measures = identity or identity_of(model)
    encoded = encode(model, [*prompts.detection, *prompts.evaluation])
    return {
        "config": as_key(config),
        "relations": {relation.name: digest(relation)[:16] for relation in relations},
        "tokens": digest([(one.ids, one.query_start, one.object_ids, one.bos) for one in encoded])[:16],
        "model": {
            "name": model.cfg.model_name,
            "weights": measures.weights,
            "dtype": measures.dtype,
            "tokenizer": tokenizer_digest(model.tokenizer)[:16],
            "end_tokens": sorted(getattr(model.cfg, "end_tokens", ())),
        },
        "device": measures.devices,
        "code": measures.code[:16],
        "versions": dict(measures.versions),
    }
