"""Where neurons are, in a few words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from relation_neurons.models.sites import Neuron
from relation_neurons.statistics.formatting import name_list


def place_text(neurons: Sequence[Neuron]) -> str:
    """Number, sites and layers of neurons, and the fewest neighbouring layers with more than half of them.

    Example:
        >>> place_text([Neuron("post", layer, 0) for layer in (2, 20, 21, 29)] + [Neuron("post", 21, 1)])
        '5 at post, layers 2-29, most in 20-21'
    """
    sites = name_list(list(dict.fromkeys(neuron.site for neuron in neurons)))
    counts = Counter(neuron.layer for neuron in neurons)
    first, last = min(counts), max(counts)
    text = f"{len(neurons):,} at {sites}, {_layers_text(first, last)}"
    densest = densest_layers(counts)
    return text if densest == (first, last) else f"{text}, most in {_span(*densest)}"


def densest_layers(counts: Mapping[int, int]) -> tuple[int, int]:
    """The first and last of the fewest neighbouring layers that hold more than half of the neurons.

    Args:
        counts: Neurons by layer; at least one. Of as few, those with more neurons come first, then the lower.
    """
    layers, half = sorted(counts), sum(counts.values()) / 2
    runs, start, held = [], 0, 0
    for layer in layers:
        held += counts[layer]
        while held - counts[layers[start]] > half:
            held -= counts[layers[start]]
            start += 1
        if held > half:
            runs.append((layer - layers[start], -held, layers[start]))
    width, _, first = min(runs)
    return first, first + width


def _layers_text(first: int, last: int) -> str:
    return f"layer {first}" if first == last else f"layers {_span(first, last)}"


def _span(first: int, last: int) -> str:
    return f"{first}-{last}" if first < last else str(first)
