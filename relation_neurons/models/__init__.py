"""The only place that knows TransformerLens: load a model, name its neurons, hook it, run it on token ids.

Up to TransformerLens 3.9 a loaded model is a `HookedTransformer`; from 4.0 on, which has none, a `TransformerBridge`.
Both take the same hook names, and everything else in the package treats them alike.
"""

from relation_neurons.models.attribution import direct_logits, output_row
from relation_neurons.models.load import (
    Parity,
    Reference,
    cast,
    load_model,
    load_with_reference,
    named_device,
    parity,
)
from relation_neurons.models.passes import BOS, DECODE, LAST, PAD, PROMPT, Watcher, watch
from relation_neurons.models.surface import (
    Cache,
    Reading,
    add_hook,
    crop_cache,
    forward,
    hook_name,
    neuron_space,
    new_cache,
    select_cache,
)
from relation_neurons.models.wrap import bridge, hook_llama

__all__ = [
    "BOS",
    "DECODE",
    "LAST",
    "PAD",
    "PROMPT",
    "Cache",
    "Parity",
    "Reading",
    "Reference",
    "Watcher",
    "add_hook",
    "bridge",
    "cast",
    "crop_cache",
    "direct_logits",
    "forward",
    "hook_llama",
    "hook_name",
    "load_model",
    "load_with_reference",
    "named_device",
    "neuron_space",
    "new_cache",
    "output_row",
    "parity",
    "select_cache",
    "watch",
]
