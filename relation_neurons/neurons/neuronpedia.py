"""Links to Neuronpedia, where it shows a model's MLP neurons."""

from __future__ import annotations

from relation_neurons.models.sites import Neuron

MODELS = {"gpt2": "gpt2-small", "gpt2-small": "gpt2-small", "openai-community/gpt2": "gpt2-small"}
"""Names there of models whose neurons, not only features of autoencoders, have pages."""


def neuronpedia_url(neuron: Neuron, model: str) -> str | None:
    """The page of a neuron at the site `post`; None where there is none.

    Args:
        neuron: The neuron.
        model: Name of the model, as `load_model` takes it.

    Example:
        >>> neuronpedia_url(Neuron("post", 6, 650), "gpt2"), neuronpedia_url(Neuron("post", 6, 650), "smollm2-135m")
        ('https://www.neuronpedia.org/gpt2-small/6/650', None)
    """
    if model not in MODELS or neuron.site != "post":
        return None
    return f"https://www.neuronpedia.org/{MODELS[model]}/{neuron.layer}/{neuron.index}"
