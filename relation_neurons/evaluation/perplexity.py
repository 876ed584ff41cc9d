"""Perplexity on unrelated texts, to measure the collateral damage of an ablation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy import ndarray

from relation_neurons.errors import refuse
from relation_neurons.inference.batch_plan import Task
from relation_neurons.inference.batching import Batch, run_batches
from relation_neurons.inference.decoding import log_probabilities
from relation_neurons.interventions.interventions import Intervention, rows_under
from relation_neurons.models.hooked_model import Cache, forward
from relation_neurons.models.position_kinds import PAD
from relation_neurons.models.types import HookedModel
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts.tokenization import Encoded, encode_texts
from relation_neurons.validation import validated

PLACES = 64
"""Positions that are unembedded at a time."""
N_LOGITS = 1
"""Positions of each row that count in the estimate of memory."""


@validated
def perplexity(
    model: HookedModel,
    texts: Sequence[str],
    conditions: Mapping[str, Sequence[Intervention]] | None = None,
    *,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Perplexity of texts under any number of conditions.

    The perplexity of a set of texts (the paper's Table 2) is `exp(nll.sum() / n_tokens.sum())`.

    Args:
        model: A model from `load_model`.
        texts: Texts of at least two tokens, including BOS if the tokenizer adds one.
        conditions: Interventions by the name of the condition; by default one condition, `clean`,
            without interventions. An enclosing `with ablate(...)` applies to all conditions.
        batch_size: Texts per batch; by default as many as fit in memory. Results do not depend on it.
        progress: Called with the number of finished texts.

    Returns:
        A row per condition and text, in order: `condition`; `text`, its index; `n_tokens`, the
        number of predicted tokens (all but the first); `nll`, their negative log-probability in
        nats; `perplexity`, exp(nll / n_tokens).

    Raises:
        RelationNeuronsError: There are no texts or conditions, or a text is too short or exceeds the
            model's context length.
    """
    conditions = {"clean": ()} if conditions is None else conditions
    if not texts or not conditions:
        raise refuse(f"There are {len(texts)} texts and {len(conditions)} conditions", expected="at least one of each")
    encoded = encode_predicted(model, texts)
    rows = [(number, text) for number in range(len(conditions)) for text in encoded]
    nll = losses(model, rows, list(conditions.values()), batch_size=batch_size, progress=progress)
    return _table(list(conditions), [len(text.ids) for text in encoded], nll)


def losses(
    model: HookedModel,
    rows: Sequence[tuple[int, Encoded]],
    conditions: Sequence[Sequence[Intervention]],
    *,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> Float[ndarray, " row"]:
    """The negative log-probability of each text but for its first token, in nats, under the condition of its row.

    Args:
        model: A model from `load_model`.
        rows: The number of a condition and a text from `encode_predicted`, each.
        conditions: The interventions of each.
        batch_size: As for `perplexity`.
        progress: As for `perplexity`.

    Raises:
        RelationNeuronsError: Some are NaN.
    """
    tasks = [Task(text, number) for number, text in rows]

    def read_batch(batch: Batch, cache: Cache) -> list[float]:
        tokens, kinds = batch.read()
        reading = forward(model, tokens, kinds, cache, keep=tokens.shape[1])
        rows, columns = ((kinds[:, :-1] != PAD) & (kinds[:, 1:] != PAD)).nonzero().T
        losses = torch.zeros(tokens.shape, dtype=torch.double, device=tokens.device)
        for row, column in zip(rows.split(PLACES), columns.split(PLACES), strict=True):
            found = log_probabilities(reading.at(row, column), tokens[row, column + 1])
            losses[row, column] = -found.to(losses.device).double()  # from that of the last layer
        return losses.sum(dim=1).tolist()

    with rows_under(model, conditions) as patches:
        found = run_batches(
            model, tasks, read_batch, patches=patches, n_logits=N_LOGITS, batch_size=batch_size, progress=progress
        )
    nll = np.array(found)
    if np.isnan(nll).any():
        raise refuse(
            "Some log-probabilities are NaN",
            do="check the model's weights and the interventions; float32 overflows later than float16",
        )
    return nll


def encode_predicted(model: HookedModel, texts: Sequence[str]) -> list[Encoded]:
    """Texts as tokens, all but the first of which are predicted.

    Raises:
        RelationNeuronsError: A text is too short or exceeds the model's context length, or there is none.
    """
    if isinstance(texts, str):
        raise refuse("texts is a single text", expected="a list of texts")
    if not texts:
        raise refuse("There are no texts", expected="at least one")
    encoded = encode_texts(model, texts)
    for number, text in enumerate(encoded):
        if len(text.ids) < 2:
            raise refuse(f"Text {number} ('{texts[number]}') has {len(text.ids)} token(s)", expected="at least two")
    return encoded


def _table(conditions: Sequence[str], lengths: Sequence[int], nll: Float[ndarray, " row"]) -> pd.DataFrame:
    n_tokens = np.tile(np.array(lengths) - 1, len(conditions))
    return pd.DataFrame(
        {
            "condition": np.repeat(conditions, len(lengths)),
            "text": np.tile(np.arange(len(lengths)), len(conditions)),
            "n_tokens": n_tokens,
            "nll": nll,
            "perplexity": np.exp(nll / n_tokens),
        }
    )
