"""Proof that a wrapped model computes what Transformers' own does: logits, widths, and the values at every site."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from jaxtyping import Float, Int
from torch import Tensor

from relation_neurons.errors import refuse
from relation_neurons.models.hooked_model import forward, hook_name, hooked, new_cache
from relation_neurons.models.placement import first_device, is_readable
from relation_neurons.models.position_kinds import PAD, PROMPT
from relation_neurons.models.sites import MLP_SITES, SITES
from relation_neurons.models.types import HookedModel, is_bridge

TEXTS = (
    "The capital city of France is? Answer: Paris\nThe capital city of Japan is? Answer:",
    "Rivers carry rain from the mountains to the sea, and on the way they water the fields.",
)
MAX_TOKENS = 32
"""Tokens of each text that are read."""
TOLERANCE: Mapping[torch.dtype, float] = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""Largest acceptable difference, relative to the largest value: rounding stays below, a wrong conversion does not."""
OTHER_VERSION = "use another version of TransformerLens, whose conversion of this architecture is right"
LLAMA = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj", "post": "down_proj"} | {
    site: f"{site}_proj" for site in ("q", "k", "v", "o")
}
"""The projections of a Llama, by the sites that read them."""


@dataclass(frozen=True)
class Parity:
    """How far a loaded model's logits are from Hugging Face's own."""

    max_logit_difference: float
    argmax_agreement: float
    n_tokens: int


@dataclass(frozen=True)
class Projection:
    """What a projection of a Transformers model read and gave, at each token of the texts.

    Attributes:
        name: Its name in the model.
        module: The module itself.
        read: Its input.
        gave: Its output.
    """

    name: str
    module: torch.nn.Module
    read: Float[Tensor, "token width_in"]
    gave: Float[Tensor, "token width_out"]


@dataclass(frozen=True)
class Reference:
    """What Hugging Face's implementation makes of short texts, before it is wrapped.

    Attributes:
        texts: Their token ids.
        logits: Of each text.
        projections: Those of each layer that is compared.
    """

    texts: tuple[Int[Tensor, "1 _"], ...]
    logits: tuple[Float[Tensor, "1 _ vocab"], ...]
    projections: Mapping[int, tuple[Projection, ...]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, pretrained: transformers.PreTrainedModel, tokenizer: Any, *, all_layers: bool = False) -> Reference:
        """Read the texts with a Transformers model, noting the projections of the middle layer, or of all."""
        texts = tuple(torch.tensor([ids], device=first_device(pretrained)) for ids in _token_ids(pretrained, tokenizer))
        n = pretrained.config.get_text_config().num_hidden_layers
        modules = dict(_projections(pretrained, range(n) if all_layers else [n // 2]))
        seen: dict[tuple[int, str], list[tuple[Tensor, Tensor]]] = {}

        def note(place: tuple[int, str], read: Tensor, gave: object) -> None:
            if isinstance(gave, Tensor):  # routers of experts give several
                seen.setdefault(place, []).append((_tokens(read), _tokens(gave)))

        handles = [
            module.register_forward_hook(lambda _, read, gave, place=place: note(place, read[0], gave))
            for place, module in modules.items()
        ]
        try:
            with torch.inference_mode():
                logits = tuple(pretrained(text).logits.float() for text in texts)
        finally:
            for handle in handles:
                handle.remove()
        _require_finite(pretrained, logits)
        found: dict[int, list[Projection]] = {}
        for (layer, name), pairs in seen.items():
            read, gave = (torch.cat(parts) for parts in zip(*pairs, strict=True))
            found.setdefault(layer, []).append(Projection(name, modules[layer, name], read, gave))
        return cls(texts, logits, {layer: tuple(there) for layer, there in found.items()})

    def parity(self, model: HookedModel) -> Parity:
        """Compare a loaded model, as it now is."""
        with torch.inference_mode():
            pairs = [(model(text).float(), theirs) for text, theirs in zip(self.texts, self.logits, strict=True)]
        n_tokens = sum(text.numel() for text in self.texts)
        agree = sum(int((a.argmax(-1) == b.argmax(-1)).sum()) for a, b in pairs)
        difference = torch.stack([(a - b).abs().max() for a, b in pairs]).max()  # NaN if any is
        return Parity(float(difference), agree / n_tokens, n_tokens)


def _require_finite(pretrained: transformers.PreTrainedModel, logits: Iterable[Tensor]) -> None:
    """Refuse a model that gives NaN or infinity, naming the weights if they are."""
    if all(bool(torch.isfinite(of_text).all()) for of_text in logits):
        return
    broken = [name for name, weights in pretrained.named_parameters() if not _finite(weights)]
    where = f" ({len(broken)} of its weights hold such, {broken[0]} among them)" if broken else ""
    raise refuse(
        f"The logits of model '{pretrained.name_or_path}' are NaN or infinite in {pretrained.dtype}{where}",
        do="download its files again" if broken else "use float32 or bfloat16, which overflow later than float16",
    )


def _finite(weights: Tensor) -> bool:
    """Whether weights hold no NaN or infinity; those that are kept on the CPU or on disk are not looked at."""
    return weights.is_meta or bool(torch.isfinite(weights).all())


def _token_ids(pretrained: transformers.PreTrainedModel, tokenizer: Any) -> Iterator[list[int]]:
    """The texts as tokens; numbers, if there is no tokenizer or none that knows the words."""
    vocabulary = pretrained.config.get_text_config().vocab_size
    for number, text in enumerate(TEXTS):
        ids = [] if tokenizer is None else tokenizer(text).input_ids[:MAX_TOKENS]
        yield ids if len(set(ids)) > 4 else [(7 * number + 3 * place) % vocabulary for place in range(MAX_TOKENS)]


def _projections(model: torch.nn.Module, layers: Collection[int]) -> Iterator[tuple[tuple[int, str], torch.nn.Module]]:
    """The modules of these layers that multiply by a matrix, by layer and name."""
    for name, module in model.named_modules():
        number = re.match(r"\D*?\.(\d+)\.", name)
        weight = getattr(module, "weight", None)
        if number and int(number[1]) in layers and isinstance(weight, Tensor) and weight.dim() == 2:
            yield (int(number[1]), name), module


def _tokens(values: Tensor) -> Float[Tensor, "token width"]:
    """Copied, since some models go on to add to what a projection gave."""
    return values.detach().flatten(0, -2).float().clone()


def check_loaded(model: HookedModel, reference: Reference) -> None:
    """Refuse a wrapped model that differs from the one it was made of, and note what else it needs.

    Sets `cfg.d_mlp` to the width that the MLPs have, `cfg.has_experts`, and `cfg.counts_columns`: whether a position is
    taken to be its column, so that padding and what is masked would shift it.

    Raises:
        RelationNeuronsError: Logits or the values at a site differ, or layers have different widths.
    """
    _note_widths(model)
    name, tolerance = str(model.cfg.model_name), TOLERANCE.get(model.cfg.dtype, 5e-2)
    if not is_readable(model):  # weights in few bits are multiplied in 16 bits, whatever the type
        tolerance = max(TOLERANCE.values())
    logits, values = read_reference(model, reference)
    difference = max(_distance(ours, theirs) for ours, theirs in zip(logits, reference.logits, strict=True))
    _require_close(
        f"Model '{name}', wrapped by TransformerLens, gives other logits than Transformers", difference, tolerance
    )
    for (site, layer), difference in values.items():
        problem = f"Model '{name}': the values at site '{site}' in layer {layer} are not those of a projection of "
        _require_close(f"{problem}Transformers' model", difference, tolerance)
    model.cfg.counts_columns = False
    if is_bridge(model):
        model.cfg.counts_columns = not _difference_in_two_passes(model, reference, 3, 2) <= tolerance
        if model.cfg.counts_columns and not _difference_in_two_passes(model, reference, 0, 0) <= tolerance:
            raise refuse(
                f"Model '{name}', wrapped by TransformerLens, reads a text otherwise when it begins with a part of it "
                "in its key-value cache",
                do=OTHER_VERSION,
            )


def _require_close(problem: str, difference: float, tolerance: float) -> None:
    if not difference <= tolerance:  # NaN is refused as well
        raise refuse(
            f"{problem} (differing by {difference:.2g} of the largest)",
            expected=f"at most {tolerance:g}",
            do=OTHER_VERSION,
        )


def _note_widths(model: HookedModel) -> None:
    """Take the width of the MLPs from the model's weights; configurations of some families say another."""
    model.cfg.has_experts, model.cfg.gated_mlp = not _has(model, "post"), _has(model, "gate")
    if model.cfg.has_experts:
        return
    widths: dict[int, int] = {}
    points = [(layer, model.hook_dict[hook_name(model, "post", layer)]) for layer in range(model.cfg.n_layers)]
    handles = [
        point.register_forward_hook(lambda *call, layer=layer: widths.update({layer: call[2].shape[-1]}))
        for layer, point in points
    ]
    try:
        with torch.inference_mode():
            model(torch.zeros((1, 1), dtype=torch.long, device=model.cfg.device))
    finally:
        for handle in handles:
            handle.remove()
    if len({*widths.values()}) > 1:
        raise refuse(
            f"The MLPs of model '{model.cfg.model_name}' have different widths: {sorted({*widths.values()})}",
            expected="the same in every layer",
        )
    model.cfg.d_mlp = widths[0]


def _has(model: HookedModel, site: str) -> bool:
    """Whether a model has a site in every layer."""
    return all(hook_name(model, site, layer) in model.hook_dict for layer in range(model.cfg.n_layers))


def read_reference(
    model: HookedModel, reference: Reference
) -> tuple[list[Float[Tensor, "1 _ vocab"]], dict[tuple[str, int], float]]:
    """What a model makes of the texts.

    Returns:
        The logits of each text, and how far the values at each site and layer are from those of the reference.
    """
    sites = [site for site in SITES if _has(model, site) and not (model.cfg.has_experts and site in MLP_SITES)]
    parts: dict[tuple[str, int], list[Tensor]] = {
        (site, layer): [] for site in sites for layer in reference.projections
    }
    hooks = [
        (hook_name(model, *place), lambda values, to=to: to.append(_tokens(values.flatten(2))))
        for place, to in parts.items()
    ]
    with torch.inference_mode(), hooked(model, hooks):
        logits = [
            forward(model, text, torch.full_like(text, PROMPT), keep=text.shape[1]).all() for text in reference.texts
        ]
    values = {place: torch.cat(found) for place, found in parts.items()}
    return logits, {place: _site_difference(model, reference, *place, found) for place, found in values.items()}


def _site_difference(
    model: HookedModel, reference: Reference, site: str, layer: int, values: Float[Tensor, "token neuron"]
) -> float:
    """How far values are from those of the projection that the site reads, relative to the largest.

    A site whose projection is a part of a larger one is compared neuron by neuron with the nearest output of those that
    are wider.
    """
    direct = _own_projection(model, reference, site, layer)
    if direct is not None:
        return _distance(values, direct.read if site == "post" else direct.gave)
    wider = [one.gave for one in reference.projections[layer] if one.gave.shape[1] > values.shape[1]]
    if not wider:
        return float("inf")
    columns = torch.cat(wider, dim=1).T.to(values.device)
    nearest = [torch.cdist(part, columns, p=float("inf")).amin(dim=1).max() for part in values.T.split(256)]
    return float(max(nearest) / columns.abs().max())


def _own_projection(model: HookedModel, reference: Reference, site: str, layer: int) -> Projection | None:
    """The projection that is read at a site, if it is one of the Transformers model."""
    there = reference.projections[layer]
    if is_bridge(model):
        part, name = SITES[site].bridge_hook.removeprefix("blocks.{layer}.").split(".")[:2]
        component = getattr(getattr(model.blocks[layer], part), name)
        return next((one for one in there if one.module is component.original_component), None)
    return next((one for one in there if one.name.endswith(LLAMA[site])), None)


def _difference_in_two_passes(model: HookedModel, reference: Reference, *n_pads: int) -> float:
    """How far the last logits of a text are from the reference if it is read in two passes, each behind padding."""
    text, n = reference.texts[0], reference.texts[0].shape[1] // 2
    cache = new_cache(model, 1)
    try:
        with torch.inference_mode():
            for part, n_pad in zip((text[:, :n], text[:, n:]), n_pads, strict=True):
                kinds = torch.nn.functional.pad(torch.full_like(part, PROMPT), (n_pad, 0), value=PAD)
                last = forward(model, torch.nn.functional.pad(part, (n_pad, 0)), kinds, cache, keep=1).all()[0, -1]
    except RuntimeError:  # shapes that do not fit
        return float("inf")
    return _distance(last, reference.logits[0][0, -1])


def _distance(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, relative to the largest value; infinite if shapes differ."""
    if ours.shape != theirs.shape:
        return float("inf")
    theirs = theirs.to(ours.device)
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=torch.finfo(torch.float32).tiny))
