"""The only place that knows TransformerLens: load a model, name its neurons, hook it, run it on token ids.

Up to TransformerLens 3.9 a loaded model is a `HookedTransformer`; from 4.0 on, which has none, a `TransformerBridge`.
Both take the same hook names, and everything else in the package treats them alike.
"""

from relation_neurons.models.load import Parity, load_model, parity
from relation_neurons.models.surface import (
    add_hook,
    forward,
    hook_name,
    neuron_space,
    new_cache,
    pass_hook_name,
    repeat_cache,
)
from relation_neurons.models.wrap import bridge, hook_llama

__all__ = [
    "Parity",
    "add_hook",
    "bridge",
    "forward",
    "hook_llama",
    "hook_name",
    "load_model",
    "neuron_space",
    "new_cache",
    "parity",
    "pass_hook_name",
    "repeat_cache",
]
