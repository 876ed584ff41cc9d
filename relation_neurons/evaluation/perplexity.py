"""Collateral damage: how much worse a model predicts texts that have nothing to do with what was ablated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from relation_neurons.errors import refuse
from relation_neurons.inference.batching import Batch, Task, stream
from relation_neurons.interventions.interventions import Intervention, rows_under
from relation_neurons.models.hooked_model import Cache, forward
from relation_neurons.models.position_kinds import PAD
from relation_neurons.models.types import HookedModel
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts.tokenization import encode_texts
from relation_neurons.validation import validated


@validated
def perplexity(
    model: HookedModel,
    texts: Sequence[str],
    conditions: Mapping[str, Sequence[Intervention]] | None = None,
    *,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """How well a model predicts each token of texts from those before it, under any number of conditions.

    The perplexity of a set of texts (the paper's Table 2) is `exp(nll.sum() / n_tokens.sum())`.

    Args:
        model: A model from `load_model`.
        texts: Texts of at least two tokens, BOS included where the tokenizer sets one.
        conditions: Interventions by the name of the condition; by default one condition, `clean`, without any.
            An intervention from outside, `with ablate(...)`, holds under all of them.
        batch_size: Texts at a time; by default what memory holds. Results do not depend on it.
        progress: Called with the number of texts finished.

    Returns:
        A row per condition and text, in order: `condition`; `text`, its number; `n_tokens` that were predicted, all
        but the first; `nll`, their negative log-probability in nats; `perplexity`, exp(nll / n_tokens).

    Raises:
        RelationNeuronsError: No texts, or one that is too short or longer than the model's context.
    """
    conditions = {"clean": ()} if conditions is None else conditions
    if isinstance(texts, str):
        raise refuse("texts is one text", expected="a list of texts")
    if not texts or not conditions:
        raise refuse(f"There are {len(texts)} texts and {len(conditions)} conditions", expected="at least one of each")
    encoded = encode_texts(model, texts)
    for number, one in enumerate(encoded):
        if len(one.ids) < 2:
            raise refuse(f"Text {number} ('{texts[number]}') has {len(one.ids)} token(s)", expected="at least two")
    tasks = [Task(one, number) for number in range(len(conditions)) for one in encoded]
    nll = np.empty(len(tasks))

    def work(batch: Batch, cache: Cache) -> None:
        tokens, kinds = batch.read()
        logits = forward(model, tokens, kinds, cache, keep=tokens.shape[1]).all()[:, :-1]
        wanted = tokens[:, 1:, None]
        losses = logits.logsumexp(dim=2) - logits.gather(2, wanted)[:, :, 0]
        predicted = (kinds[:, :-1] != PAD) & (kinds[:, 1:] != PAD)
        nll[list(batch.rows)] = torch.where(predicted, losses, 0).double().sum(dim=1).numpy(force=True)

    longest = max(len(one.ids) for one in encoded)
    with rows_under(model, list(conditions.values())) as writer:
        stream(model, tasks, work, writer=writer, n_logits=longest, batch_size=batch_size, progress=progress)
    if np.isnan(nll).any():
        raise refuse(
            "Some log-probabilities are NaN",
            do="check the model's weights, and what interventions write; float32 overflows later than float16",
        )
    n_tokens = np.tile([len(one.ids) - 1 for one in encoded], len(conditions))
    return pd.DataFrame(
        {
            "condition": np.repeat(list(conditions), len(texts)),
            "text": np.tile(np.arange(len(texts)), len(conditions)),
            "n_tokens": n_tokens,
            "nll": nll,
            "perplexity": np.exp(nll / n_tokens),
        }
    )
