"""Where a neuron is: named sites of a transformer, and the flat order in which all neurons of a model are counted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from relation_neurons.errors import nearest, number_text, refuse
from relation_neurons.validation import validated


@dataclass(frozen=True)
class Site:
    """A place in each layer whose activations are neurons.

    Attributes:
        hook: The hook's name in a `HookedTransformer`, with `{layer}` to fill.
        bridge_hook: The same in a `TransformerBridge`: a hook of the projection itself, because `hook_mlp_out` and
            `hook_attn_out` are read there after norms and multipliers where an architecture has any.
        width: The configuration fields whose product is the number of neurons in a layer.
    """

    hook: str
    bridge_hook: str
    width: tuple[str, ...]


SITES: Mapping[str, Site] = {
    "post": Site("blocks.{layer}.mlp.hook_post", "blocks.{layer}.mlp.out.hook_in", ("d_mlp",)),
    "gate": Site("blocks.{layer}.mlp.hook_pre", "blocks.{layer}.mlp.gate.hook_out", ("d_mlp",)),
    "up": Site("blocks.{layer}.mlp.hook_pre_linear", "blocks.{layer}.mlp.in.hook_out", ("d_mlp",)),
    "down": Site("blocks.{layer}.hook_mlp_out", "blocks.{layer}.mlp.out.hook_out", ("d_model",)),
    "q": Site("blocks.{layer}.attn.hook_q", "blocks.{layer}.attn.q.hook_out", ("n_heads", "d_head")),
    "k": Site("blocks.{layer}.attn.hook_k", "blocks.{layer}.attn.k.hook_out", ("n_key_value_heads", "d_head")),
    "v": Site("blocks.{layer}.attn.hook_v", "blocks.{layer}.attn.v.hook_out", ("n_key_value_heads", "d_head")),
    "o": Site("blocks.{layer}.hook_attn_out", "blocks.{layer}.attn.o.hook_out", ("d_model",)),
}
"""`post` is what the down projection reads, act(gate) * up; the others are the outputs of the projections whose neurons
the paper counts (section 2): gate, up and down in the MLP; q, k, v and o in attention. Nothing that follows a
projection, such as a norm, a rotation or a multiplier, is in them. A neuron of q, k or v has the index head * d_head +
place in the head."""

BLOCK = "blocks.{layer}."
MLP_SITES = ("post", "gate", "up", "down")

COMPOSITE_SITES: Mapping[str, tuple[str, ...]] = {
    "ffn": ("gate", "up", "down"),
    "attn": ("q", "k", "v", "o"),
    "all": ("gate", "up", "down", "q", "k", "v", "o"),
}
"""`ffn` are the paper's neurons, 835,584 in Llama-2-7B; `attn` and `all` its `self_attn` and `all` (Figures 24-29)."""


SiteName = Literal[
    "post", "gate", "up", "down", "ffn", "q", "k", "v", "o", "attn", "all",
    "mlp.hook_post", "mlp.hook_pre", "mlp.hook_pre_linear", "hook_mlp_out",
    "attn.hook_q", "attn.hook_k", "attn.hook_v", "hook_attn_out",
]  # fmt: skip
"""What options take: a site, or the hook of a simple one."""


def site_of_hook(name: str) -> str | None:
    """The site whose hook this is in a `HookedTransformer`, with or without `blocks.{layer}.`; None if there is none.

    Example:
        >>> site_of_hook("mlp.hook_post"), site_of_hook("blocks.{layer}.attn.hook_q"), site_of_hook("ln1")
        ('post', 'q', None)
    """
    part = name.removeprefix(BLOCK)
    return next((site for site, place in SITES.items() if place.hook == BLOCK + part), None)


def named_site(site: str) -> str:
    """The name of a site that is given by its name or by its hook's."""
    return site_of_hook(site) or site


def expand_site(site: str) -> tuple[str, ...]:
    """The simple sites that a name stands for; a hook's name such as `mlp.hook_post` stands for its site.

    Raises:
        RelationNeuronsError: Not a site.
    """
    if hooked := site_of_hook(site):
        return (hooked,)
    if re.match(r"blocks\.\d+\.", site) and site_of_hook(part := site.split(".", 2)[2]):
        raise refuse(f"'{site}' is a hook of one layer", expected=f"a site of all layers, such as '{part}'")
    if site in SITES:
        return (site,)
    if site in COMPOSITE_SITES:
        return COMPOSITE_SITES[site]
    raise refuse(f"'{site}' is not a site", expected=nearest(site, (*SITES, *COMPOSITE_SITES)))


class _Place(NamedTuple):
    site: str
    layer: int
    index: int  # type: ignore[assignment]


@validated
class Neuron(_Place):
    """One neuron; written `L12.N345` for site `post` and `gate:L12.N345` for others.

    Raises:
        RelationNeuronsError: A site that is not a text, or a layer or index that is not an integer.
    """

    __slots__ = ()

    def __new__(cls, site: Any, layer: Any, index: Any) -> Neuron:
        """Check what is given; a set may have hundreds of thousands, so nothing else is done."""
        if type(layer) is not int or type(index) is not int or type(site) is not str:
            layer, index = _integer("layer", layer), _integer("index", index)
            if not isinstance(site, str):
                raise refuse(f"The site of a neuron is {number_text(site)}", expected=nearest("", SITES))
        return super().__new__(cls, site, layer, index)

    def __str__(self) -> str:
        return f"{'' if self.site == 'post' else self.site + ':'}L{self.layer}.N{self.index}"

    @classmethod
    def parse(cls, text: str, site: str = "post") -> Neuron:
        """Read what `str` writes; whether a model has such a neuron is seen when it is used.

        Args:
            text: Such as `L12.N345` or `gate:L12.N345`.
            site: The simple site of a neuron that names none.

        Raises:
            RelationNeuronsError: Another text, or not a simple site.

        Example:
            >>> Neuron.parse("gate:L12.N345"), str(Neuron.parse("L3.N4"))
            (Neuron(site='gate', layer=12, index=345), 'L3.N4')
        """
        found = re.fullmatch(r"(?:([^:]*):)?L([0-9]+)\.N([0-9]+)", text.strip())
        if found is None:
            raise refuse(f"'{text}' is not a neuron", expected="layer and index such as L12.N345 or gate:L12.N345")
        site = site if found[1] is None else found[1]
        if site not in SITES:
            several = f", it stands for {', '.join(COMPOSITE_SITES[site])}" if site in COMPOSITE_SITES else ""
            raise refuse(f"'{site}' is not the site of one neuron{several}", expected=nearest(site, SITES))
        return cls(site, int(found[2]), int(found[3]))


def _integer(what: str, number: object) -> int:
    """An integer of any kind as Python's, but no truth value."""
    if isinstance(number, bool) or not isinstance(number, Integral):
        raise refuse(f"The {what} of a neuron is {number_text(number)}", expected="an integer")
    return int(number)


@dataclass(frozen=True)
class NeuronSpace:
    """All neurons of a model at some sites, in one flat order: site by site, layer by layer, index by index.

    Attributes:
        model: Name of the model.
        n_layers: Its number of layers.
        widths: Neurons per layer for each simple site, in order.
    """

    model: str
    n_layers: int
    widths: tuple[tuple[str, int], ...]

    def __len__(self) -> int:
        return self.n_layers * sum(width for _, width in self.widths)

    def slices(self) -> Iterator[tuple[str, int, slice]]:
        """Every site and layer with the place of its neurons in the flat order."""
        start = 0
        for site, width in self.widths:
            for layer in range(self.n_layers):
                yield site, layer, slice(start, start + width)
                start += width

    def locate(self, flat: Int[ndarray, " n"]) -> tuple[list[str], Int[ndarray, " n"], Int[ndarray, " n"]]:
        """Sites, layers and indices of neurons given by their flat number."""
        places = list(self.slices())
        starts = np.array([place.start for _, _, place in places])
        which = np.searchsorted(starts, flat, side="right") - 1
        layers = np.array([layer for _, layer, _ in places])[which]
        return [places[i][0] for i in which], layers, flat - starts[which]

    def flatten(self, neurons: list[Neuron]) -> Int[ndarray, " n"]:
        """Flat numbers of neurons.

        Raises:
            RelationNeuronsError: A neuron that this model does not have.
        """
        starts = {(site, layer): place for site, layer, place in self.slices()}
        flat = np.empty(len(neurons), dtype=np.int64)
        for i, neuron in enumerate(neurons):
            place = starts.get((neuron.site, neuron.layer))
            if place is None or not 0 <= neuron.index < place.stop - place.start:
                raise self.outside(neuron)
            flat[i] = place.start + neuron.index
        return flat

    def outside(self, neuron: Neuron) -> Exception:
        """The error for a neuron that is not here."""
        widths = ", ".join(f"{site} 0-{width - 1}" for site, width in self.widths)
        return refuse(
            f"Model '{self.model}' has no neuron {neuron.site}:L{neuron.layer}.N{neuron.index}",
            expected=f"a layer in 0-{self.n_layers - 1} and an index in {widths}",
        )
