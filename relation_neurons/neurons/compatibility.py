"""Check that saved neurons belong to a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relation_neurons.errors import refuse
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.sites import NeuronSpace
from relation_neurons.models.types import HookedModel


def require_same_shape(space: NeuronSpace, model: HookedModel, path: str | Path) -> None:
    """Refuse neurons of a model with another number of layers or neurons."""
    widths = tuple(pair for site, _ in space.widths for pair in neuron_space(model, site).widths)
    if (model.cfg.n_layers, widths) != (space.n_layers, space.widths):
        raise refuse(
            f"{path} has neurons of '{space.model}', {_shape(space.n_layers, space.widths)}",
            expected=f"neurons of '{model.cfg.model_name}', {_shape(model.cfg.n_layers, widths)}",
            do="load the model that they were selected in, or select neurons of this model",
        )


def require_same_weights(space: NeuronSpace, weights_digest: str | None, model: HookedModel, path: str | Path) -> None:
    """Refuse neurons of other weights: by digest, or by model name if neither side has a digest."""
    theirs, own = weights_digest, getattr(model.cfg, "weights_digest", None)
    if theirs == own and (own is not None or space.model == model.cfg.model_name):
        return
    described = "neurons of '{}' with weights {}"
    raise refuse(
        f"{path} has {described.format(space.model, theirs or 'unknown')}",
        expected=described.format(model.cfg.model_name, own or "unknown"),
        do="load the model that they were selected in, or pass allow_other_weights=True",
    )


def _shape(n_layers: int, widths: Sequence[tuple[str, int]]) -> str:
    return f"{n_layers} layers of {', '.join(f'{width} at {site}' for site, width in widths)}"
