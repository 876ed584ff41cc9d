"""Neuron sets on the Hugging Face Hub: one parquet file and a card in a repository."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relation_neurons.errors import RelationNeuronsError, nearest, refuse, shortened
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.sites import Neuron
from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.files import load_neurons, save_neurons
from relation_neurons.neurons.neuronpedia import neuronpedia_url
from relation_neurons.neurons.place_text import place_text

if TYPE_CHECKING:
    from relation_neurons.neurons.neuron_set import NeuronSet

FILE, CARD = "neurons.parquet", "README.md"
TEMPLATE = """---
library_name: relation-neurons
tags:
- neurons
- interpretability
---

# {title}

{text}, in `{model}` (weights `{weights}`), ranked by `{score}`.

{listing}
```python
import relation_neurons as rn

model = rn.load_model({model!r})
neurons = rn.NeuronSet.from_hub({repo!r}, model=model)
with rn.ablate(model, neurons):
    print(model.generate("The capital of France is", max_new_tokens=8))
```

The file `{file}` is a parquet file with a digest of its contents; nothing in it is executed or unpickled.
"""
MOST_LISTED = 20


def push(
    neurons: NeuronSet,
    repo_id: str,
    model: HookedModel,
    *,
    score: str,
    private: bool,
    made_from: Mapping[str, Any] | None,
    token: str | None,
    endpoint: str | None,
) -> str:
    """See `NeuronSet.push_to_hub`."""
    from huggingface_hub import HfApi

    sites = list(dict.fromkeys(neuron.site for neuron in neurons))
    space = neuron_space(model, sites[0])
    widths = tuple(pair for site in sites for pair in neuron_space(model, site).widths)
    weights = getattr(model.cfg, "weights_digest", None)
    api = HfApi(endpoint=endpoint, token=token)
    with tempfile.TemporaryDirectory() as folder:
        save_neurons(
            Path(folder) / FILE,
            {neurons.name: neurons},
            space=type(space)(space.model, space.n_layers, widths),
            score=score,
            weights_digest=weights,
            made_from=made_from,
        )
        (Path(folder) / CARD).write_text(card(neurons, repo_id, space.model, weights, score), encoding="utf-8")
        try:
            url = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=f"Add {neurons!r}")
        except Exception as error:
            raise _refused(repo_id, error) from error
    return str(url)


def card(neurons: NeuronSet, repo_id: str, model: str, weights: str | None, score: str) -> str:
    """The card of a repository: what the neurons are, where most are, and how to use them."""
    rows = "".join(f"| {rank} | {_linked(neuron, model)} |\n" for rank, neuron in enumerate(neurons[:MOST_LISTED], 1))
    more = f"\nand {len(neurons) - MOST_LISTED:,} more.\n" if len(neurons) > MOST_LISTED else ""
    return TEMPLATE.format(
        title=neurons.name.replace("_", " "),
        text=f"The set `{neurons.name}`: {place_text(neurons.neurons)}",
        model=model,
        weights=weights or "unknown",
        score=score,
        listing=f"| rank | neuron |\n|---:|---|\n{rows}{more}",
        repo=repo_id,
        file=FILE,
    )


def _linked(neuron: Neuron, model: str) -> str:
    url = neuronpedia_url(neuron, model)
    return f"[`{neuron}`]({url})" if url else f"`{neuron}`"


def pull(
    repo_id: str,
    name: str | None,
    *,
    model: HookedModel | None,
    revision: str | None,
    token: str | None,
    endpoint: str | None,
) -> NeuronSet:
    """See `NeuronSet.from_hub`."""
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(repo_id, FILE, revision=revision, token=token, endpoint=endpoint)
    except Exception as error:
        raise _refused(repo_id, error) from error
    sets = load_neurons(path, model)
    if name is None and len(sets) > 1:
        raise refuse(f"{repo_id} has the sets {', '.join(sets)}", do="name one")
    if name is not None and name not in sets:
        raise refuse(f"{repo_id} has no set '{name}'", expected=nearest(name, sets))
    return sets[name] if name is not None else next(iter(sets.values()))


def _refused(repo_id: str, error: Exception) -> RelationNeuronsError:
    """The error for what the hub or the connection refuses, of whatever kind its client raises."""
    if isinstance(error, RelationNeuronsError):
        return error
    found = f"The hub refuses {repo_id!r} ({type(error).__name__}: {shortened(' '.join(str(error).split()))})"
    return refuse(found, do="check its name, your token (hf auth login), and the connection")
