"""One neuron: which relations it tells apart, what activates it, what it promotes, and the effect of ablating it.

The paper looks at sets of neurons; this looks at a single one, of any site. Its direct effect on the logits is
TransformerLens's direct logit attribution, which ignores the effect of later layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from relation_neurons.activations.collection import token_activations
from relation_neurons.errors import require_at_least
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.single_neuron_scores import pooled_values, score_table, top_prompts_table
from relation_neurons.experiments.study import Study
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.logit_attribution import direct_logits, output_row
from relation_neurons.models.placement import is_readable
from relation_neurons.models.sites import Neuron
from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.controls import random_controls
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.prompts.prompts import Prompt
from relation_neurons.relations.splits import stable_rank
from relation_neurons.results import neuron_verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.results.sentences import critical_cost
from relation_neurons.scores.scoring import needs_attributions
from relation_neurons.statistics.effects import compare
from relation_neurons.statistics.intervals import mean_interval
from relation_neurons.validation import validated

QUESTION = "What activates {neuron}, what does it promote, and what is lost without it?"


@validated
@dataclass(frozen=True)
class SingleNeuronConfig:
    """One neuron: average precision, top activating prompts, tokens it promotes, and its ablation alone."""

    n_prompts_shown: int = 5
    """Top activating prompts, and as many with the lowest activation, shown token by token."""
    n_tokens_shown: int = 10
    """Tokens that it promotes most, and as many that it suppresses most."""
    n_resamples: int = 2000
    """Of facts, for the interval of its average precision."""
    n_shuffles: int = 1999
    """Of labels, for what average precision is by chance."""

    def __post_init__(self) -> None:
        require_at_least(self, n_prompts_shown=1, n_tokens_shown=1, n_resamples=100, n_shuffles=99)


def single_neuron(study: Study, neuron: Neuron, config: SingleNeuronConfig = SingleNeuronConfig()) -> ExperimentResult:
    """One neuron on the study's prompts, which are read once; its ablation beside that of random single neurons.

    Args:
        study: The model and its prompts; `site` and `k` of its configuration are not used.
        neuron: Any of the model's; its controls are random neurons of its site and layer.
        config: How much to show.

    Returns:
        Tables `scores`, from `score_table`; `values`, from `pooled_values`; `top_prompts`, from `top_prompts_table`;
        `tokens`, from `token_table`; `effects`, from `effects.compare` by `ablated` (the neuron) and `relation` over
        evaluation facts; `answers`, those behind the effects, with `draw` -1 for the neuron's own; and `contributions`,
        from `contribution_table` if the study's scorer reads attributions, else empty.

    Raises:
        RelationNeuronsError: A neuron that the model does not have.
    """
    prompts, seed = study.detection(), study.config.seed
    with study.show("reading one neuron", len(prompts)) as progress:
        tokens = token_activations(
            study.model,
            prompts,
            neuron,
            include_bos=study.config.include_bos,
            batch_size=study.config.batch_size,
            progress=progress,
        )
    values = pooled_values(prompts, tokens)
    scores = score_table(
        prompts,
        values,
        balanced=study.config.negatives == "balanced",
        n_resamples=config.n_resamples,
        n_shuffles=config.n_shuffles,
        seed=seed,
    )
    own, controls = _ablated(study, neuron)
    tables = {
        "scores": scores,
        "values": values,
        "top_prompts": top_prompts_table(study.model, prompts, values, tokens, config.n_prompts_shown),
        "tokens": token_table(study.model, neuron, config.n_tokens_shown),
        "effects": compare(own, controls, by=["ablated", "relation"], seed=seed),
        "answers": pd.concat([own.assign(draw=-1), controls], ignore_index=True),
        "contributions": contribution_table(study, neuron, prompts),
    }
    sentences = neuron_verdicts.single_neuron(neuron, tables)
    if not study.config.keep_critical:  # else nothing is screened
        sentences += critical_cost(study.critical.at(neuron.site), neuron)
    return ExperimentResult("neuron", QUESTION.format(neuron=neuron), tables, sentences)


def contribution_table(study: Study, neuron: Neuron, prompts: tuple[Prompt, ...]) -> pd.DataFrame:
    """What the neuron contributes to the answers to detection prompts, estimated by `attribute`.

    Returns:
        A row per relation: `relation`; `n`, facts; `contribution` in nats, with `_low` and `_high` (95 % over facts);
        and `others`, the mean over the prompts of the other relations. No rows if the study's scorer reads activations
        alone, since attributing takes several times as long.
    """
    columns = ["relation", "n", "contribution", "contribution_low", "contribution_high", "others"]
    if not needs_attributions(study.config.scorer):
        return pd.DataFrame({name: pd.Series(dtype=float) for name in columns})
    found = study.attributions(prompts, neuron.site)
    values = found.values[:, found.space.flatten([neuron])[0]].double().cpu().numpy()
    of, units = (np.array([one.columns[name] for one in prompts]) for name in ("relation", "unit"))
    rows = []
    for name in study.names:
        own = of == name
        interval = mean_interval(values[own], units[own].tolist(), seed=study.config.seed)
        rows.append((name, interval.n, interval.mean, interval.low, interval.high, values[~own].mean()))
    return pd.DataFrame(rows, columns=columns)


def token_table(model: HookedModel, neuron: Neuron, n: int) -> pd.DataFrame:
    """The tokens that a neuron's output row promotes and suppresses most, directly and per unit of its activation.

    For `gate` and `up` it is per unit of the activation of the MLP unit that they feed, act(gate) * up.

    Returns:
        A row per token: `side` (`promotes` or `suppresses`), `rank` from 1, `id`, `token`, `logit`, with the final
        norm's scale left out (see `models.direct_logits`), and `z`, its distance from the mean of the vocabulary in
        standard deviations, positive for what is promoted. No rows if the neuron has no output row, or one
        that cannot be read because weights are in 8 or 4 bits.
    """
    names = ["side", "rank", "id", "token", "logit", "z"]
    row = output_row(model, neuron) if is_readable(model) or neuron.site in ("down", "o") else None
    if row is None:
        return pd.DataFrame({name: pd.Series(dtype=float) for name in names})
    logits = direct_logits(model, row)[: len(model.tokenizer)].numpy()
    z = (logits - logits.mean()) / max(float(logits.std()), np.finfo(np.float32).tiny)
    order = np.argsort(-logits, kind="stable")
    sides = {"promotes": order[z[order] > 0][:n], "suppresses": order[z[order] < 0][::-1][:n]}
    rows = [
        (side, rank, number, token_text(model.tokenizer, number), float(logits[number]), float(z[number]))
        for side, chosen in sides.items()
        for rank, number in enumerate(chosen.tolist(), start=1)
    ]
    return pd.DataFrame(rows, columns=names)


def token_text(tokenizer: Any, number: int) -> str:
    """A token as the text that it stands for, its space in front included; its own name if it is not a whole letter."""
    name, text = str(tokenizer.convert_ids_to_tokens(number)), str(tokenizer.decode([number]))
    if not text or "\ufffd" in text:
        return name
    return f" {text}" if name.startswith("\u2581") and not text.startswith(" ") else text  # SentencePiece's space


def _ablated(study: Study, neuron: Neuron) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What ablating the neuron alone changes in all evaluation facts, and what random single neurons do."""
    target, prompts = NeuronSet((neuron,), str(neuron)), study.evaluation()
    seed = int.from_bytes(stable_rank(study.config.seed, str(neuron))[:6], "big")
    space, excluded = neuron_space(study.model, neuron.site), study.critical.excluded(neuron.site)
    own = study.changes([Case(target, prompts, {"ablated": str(neuron)})])
    drawn = random_controls(target, space, n=study.config.n_controls, seed=seed, exclude=excluded)
    cases = [Case(control, prompts, {"ablated": str(neuron), "draw": draw}) for draw, control in enumerate(drawn)]
    return own, study.changes(cases)
