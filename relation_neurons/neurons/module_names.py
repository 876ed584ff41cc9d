"""Sites under the names of others: hooks of TransformerLens, and modules of Transformers models."""

from __future__ import annotations

import re

from relation_neurons.errors import refuse
from relation_neurons.models.sites import site_of_hook

MODULES = {
    "mlp.gate_proj": "gate",
    "mlp.up_proj": "up",
    "mlp.down_proj": "down",
    "self_attn.q_proj": "q",
    "self_attn.k_proj": "k",
    "self_attn.v_proj": "v",
    "self_attn.o_proj": "o",
    "self_attn.out_proj": "o",
    "attn.c_proj": "o",
    "self_attention.dense": "o",
    "mlp.c_fc": "up",
    "mlp.c_proj": "down",
    "mlp.dense_h_to_4h": "up",
    "mlp.dense_4h_to_h": "down",
    "fc1": "up",
    "fc2": "down",
}
"""Sites by the modules whose outputs they are, in models of Transformers. Modules that compute queries, keys and values
at once have no site."""
MODULE_OF = {"gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj", "post": "mlp.down_proj"} | {
    part: f"self_attn.{part}_proj" for part in "qkvo"
}
"""The module of each site in a Llama of Transformers; `post` is its input, the others are outputs."""


def place_of(name: str) -> tuple[str, int]:
    """Site and layer of a hook or of a module, whose name may end in `:0` for its first output.

    Raises:
        RelationNeuronsError: A name without a layer, or of no site.

    Example:
        >>> place_of("blocks.3.mlp.hook_post"), place_of("model.layers.12.mlp.gate_proj:0")
        (('post', 3), ('gate', 12))
    """
    found = re.fullmatch(r"(?:.*\.)?(?:blocks|layers|h)\.(\d+)\.(.+?)(?::0)?", name)
    if found:
        layer, rest = int(found[1]), found[2]
        site = MODULES.get(rest) or site_of_hook(rest)
        if site:
            return site, layer
    raise refuse(
        f"'{name}' is neither a hook nor a module of a site",
        expected="a hook such as blocks.3.mlp.hook_post, or a module such as model.layers.3.mlp.gate_proj",
    )
