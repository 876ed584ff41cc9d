"""Neuron sets as hooks of TransformerLens, and as code for other libraries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from relation_neurons.errors import nearest, refuse
from relation_neurons.models.sites import SITES
from relation_neurons.neurons.module_names import MODULE_OF

Places = Mapping[tuple[str, int], list[int]]
"""Indices of neurons by site and layer, as of `NeuronSet.by_place`."""

TRANSFORMER_LENS = """
from transformer_lens import HookedTransformer

model = HookedTransformer.from_pretrained({model!r})
neurons = {places}


def ablate(activation, hook):
    flat = activation.flatten(2)  # heads, where there are any, side by side
    flat[..., neurons[hook.name]] = {value}
    return flat.view(activation.shape)


logits = model.run_with_hooks({prompt!r}, fwd_hooks=[(name, ablate) for name in neurons])
"""
NNSIGHT = """
from nnsight import LanguageModel

model = LanguageModel({model!r}, dispatch=True)
with model.trace({prompt!r}):
{writes}
    logits = model.lm_head.output.save()
"""
FORWARD = ("q", "k", "v", "o", "gate", "up", "post", "down")
"""Sites in the order of a forward pass, in which nnsight wants them."""
PYVENE = """
import pyvene
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({model!r})
tokenizer = AutoTokenizer.from_pretrained({model!r})
neurons = {places}


def setting(indices):
    def ablate(activation, source, *_, **__):
        activation = activation.clone()
        activation[..., indices] = {value}
        return activation

    return ablate


ablated = pyvene.IntervenableModel(
    [{{"component": where, "intervention": setting(indices)}} for where, indices in neurons.items()], model=model
)
_, output = ablated(tokenizer({prompt!r}, return_tensors="pt"))
logits = output.logits
"""
PROMPT = "The capital of France is"


def hooks(places: Places, value: float = 0.0) -> list[tuple[str, Callable[..., Any]]]:
    """See `NeuronSet.to_hooks`."""
    return [
        (SITES[site].hook.format(layer=layer), _setting(indices, value)) for (site, layer), indices in places.items()
    ]


def _setting(indices: list[int], value: float) -> Callable[..., Any]:
    def write(activation: Any, hook: Any) -> Any:
        flat = activation.flatten(2).clone()
        flat[..., indices] = value
        return flat.view(activation.shape)

    return write


def snippet(places: Places, library: str, model: str) -> str:
    """See `NeuronSet.to_snippet`."""
    writers = {"transformer_lens": _transformer_lens, "nnsight": _nnsight, "pyvene": _pyvene}
    if library not in writers:
        raise refuse(f"'{library}' is not a library with snippets", expected=nearest(library, writers))
    return writers[library](places, model)


def _transformer_lens(places: Places, model: str) -> str:
    named = {SITES[site].hook.format(layer=layer): indices for (site, layer), indices in places.items()}
    return TRANSFORMER_LENS.format(model=model, places=_lines(named), value=0.0, prompt=PROMPT).lstrip()


def _nnsight(places: Places, model: str) -> str:
    writes = [
        f"    model.model.layers[{layer}].{MODULE_OF[site]}.{_side(site)}[..., {places[site, layer]}] = 0.0"
        for site, layer in sorted(places, key=lambda place: (place[1], FORWARD.index(place[0])))
    ]
    return NNSIGHT.format(model=model, prompt=PROMPT, writes="\n".join(writes)).lstrip()


def _pyvene(places: Places, model: str) -> str:
    named = {
        f"model.layers.{layer}.{MODULE_OF[site]}.{_side(site)}": indices for (site, layer), indices in places.items()
    }
    return PYVENE.format(model=model, places=_lines(named), value=0.0, prompt=PROMPT).lstrip()


def _side(site: str) -> str:
    return "input" if site == "post" else "output"


def _lines(places: dict[str, list[int]]) -> str:
    """A dictionary as code, a line for each place."""
    return "{\n" + "".join(f"    {place!r}: {indices},\n" for place, indices in places.items()) + "}"
