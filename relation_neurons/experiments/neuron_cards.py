"""Cards of the best neurons of every relation, computed together: one pass over the detection prompts for all.

A card says what `single_neuron` says of one neuron: the prompts that activate it, the tokens that it promotes, how well
it tells each relation apart, and what its ablation costs. Where `single_neuron` asks the model about every evaluation
fact for one neuron, cards ablate each neuron on a few facts of its relations, beside random neurons of its layer; its
effect on the other relations is attributed, from one pass and its derivative.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from relation_neurons.activations.neuron_tokens import NeuronTokens, neuron_tokens
from relation_neurons.errors import TooFewNeuronsError, require_at_least
from relation_neurons.experiments.neuron_card_effects import ablation_effects, attributed_effects
from relation_neurons.experiments.single_neuron import token_table
from relation_neurons.experiments.single_neuron_scores import pooled_values, score_table, top_prompts_table
from relation_neurons.experiments.study import Study
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.sites import Neuron
from relation_neurons.neurons.controls import random_controls
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.prompts.contrast import contrast
from relation_neurons.prompts.prompts import Prompt, relation_names
from relation_neurons.report.neuron_cards import CARDS_PAGE, cards_page
from relation_neurons.results.neuron_cards import (
    ABOUT,
    CARDS,
    CARDS_FORMAT,
    TABLES,
    Card,
    NeuronCards,
    read_cards,
    with_attributed,
)
from relation_neurons.scores.average_precision import average_precision
from relation_neurons.storage.fingerprint import code_digest
from relation_neurons.storage.run_folder import RunFolder
from relation_neurons.validation import validated

Tables = dict[str, pd.DataFrame]


@validated
@dataclass(frozen=True)
class CardsConfig:
    """What cards show, and of how many neurons."""

    n_cards: int = 20
    """Best neurons of each relation that get a card."""
    n_scattered: int = 200
    """Best neurons of each relation whose score and attributed effect are computed, beside as many random ones."""
    n_facts: int = 10
    """Evaluation facts of its relation on which each neuron is ablated."""
    n_random: int = 2
    """Random neurons of each layer that are ablated for comparison."""
    n_prompts_shown: int = 5
    """Top activating prompts, shown token by token."""
    n_tokens_shown: int = 10
    """Tokens that it promotes most, and as many that it suppresses most."""
    n_resamples: int = 200
    """Of facts, for the interval of average precision."""
    n_shuffles: int = 199
    """Of labels, for what average precision is by chance."""

    def __post_init__(self) -> None:
        require_at_least(self, n_cards=1, n_scattered=1, n_facts=1, n_random=1, n_prompts_shown=1, n_tokens_shown=1)


DEFAULT_CARDS = CardsConfig()


def neuron_cards(
    study: Study,
    chosen: Mapping[str, NeuronSet],
    config: CardsConfig = DEFAULT_CARDS,
    *,
    excluded: Sequence[Neuron] = (),
) -> Tables:
    """The cards of the best neurons of each relation, and where all chosen neurons are.

    Args:
        study: The model and its prompts.
        chosen: Each relation's neurons, best first.
        config: How much is shown.
        excluded: Neurons that are no control, such as critical ones.

    Returns:
        Tables whose column `neuron` is a neuron's text, such as `gate:L5.N3`: `neurons`, of `_scatter`; `scores`, of
        `score_table`; `attributed`, of `attributed_effects`, for all chosen and random neurons; `effects`, of
        `ablation_effects`; `prompts`, the most active of `top_prompts_table`; and `tokens`, of `token_table`.
    """
    prompts, seed = study.detection(), study.config.seed
    best = {name: one[: config.n_cards] for name, one in chosen.items()}
    wide = {name: one[: config.n_scattered] for name, one in chosen.items()}
    controls = {name: _like(study, one, excluded) for name, one in wide.items()}
    shown = _distinct(best.values())
    pooled = [neuron for neuron in _distinct([*wide.values(), *controls.values()]) if neuron not in set(shown)]
    read = _read(study, prompts, shown, pooled)
    attributed = attributed_effects(study, prompts, [*shown, *pooled])
    labels, mask = contrast(prompts, balanced=study.config.negatives == "balanced", seed=seed)
    found = average_precision(read.means.numpy(), labels, mask).numpy()
    precision = pd.DataFrame(found.T, index=list(map(str, [*shown, *pooled])), columns=list(relation_names(prompts)))
    ablated = {name: tuple(one) for name, one in best.items()}
    forbidden = {*excluded, *_distinct(chosen.values())}
    made_from = ablated, sorted(forbidden), config.n_facts, config.n_random, study.evaluation()
    effects = study.table("rankings/cards", lambda: _ablated(study, best, forbidden, config), *made_from)
    return {
        "neurons": _scatter(wide, controls, precision, attributed),
        "attributed": attributed,
        "effects": effects,
        **_described(study, prompts, shown, read, config),
    }


def kept_cards(
    study: Study,
    folder: RunFolder,
    chosen: Mapping[str, NeuronSet],
    config: CardsConfig = DEFAULT_CARDS,
    *,
    excluded: Sequence[Neuron] = (),
) -> NeuronCards:
    """The cards in a run folder; made and stored, with the page that the report links to, unless they are there.

    Args:
        study: The model and its prompts.
        folder: Of the run.
        chosen: Each relation's neurons, best first.
        config: How much is shown.
        excluded: Neurons that are no control, such as critical ones.
    """
    about = {"format": CARDS_FORMAT, "code": code_digest()[:16], **asdict(config)}
    if folder.has(*(f"{CARDS}/{name}" for name in TABLES)):
        known = read_cards(folder.path)
        if known is not None and known.about == about:
            return known
    cards = NeuronCards(neuron_cards(study, chosen, config, excluded=excluded), about)
    for name, table in cards.tables.items():
        folder.write_table(f"{CARDS}/{name}", table)
    folder.write_text(f"{CARDS}/{ABOUT}", json.dumps(about, indent=2) + "\n")  # last: with it they are complete
    folder.write_text(CARDS_PAGE, cards_page(cards, folder.key))
    return cards


def one_card(
    study: Study,
    neuron: Neuron,
    relations: Sequence[str],
    known: NeuronCards,
    config: CardsConfig = DEFAULT_CARDS,
    *,
    excluded: Sequence[Neuron] = (),
) -> Card:
    """The card of a neuron that has none in the run, from a pass of its own; nothing is stored.

    Args:
        study: The model and its prompts.
        neuron: Which.
        relations: On whose facts it is ablated.
        known: The cards of the run, which may hold what is attributed to the neuron.
        config: How much is shown.
        excluded: Neurons that are no control, such as critical ones.
    """
    prompts, alone = study.detection(), NeuronSet((neuron,), str(neuron))
    parts = _described(study, prompts, [neuron], _read(study, prompts, [neuron], []), config)
    effects = _ablated(study, dict.fromkeys(relations, alone), {*excluded, neuron}, config)
    scores = with_attributed(parts["scores"], known.attributed(str(neuron)))
    return Card(str(neuron), known.places(str(neuron)), scores, effects, parts["prompts"], parts["tokens"])


def _read(study: Study, prompts: tuple[Prompt, ...], shown: list[Neuron], pooled: list[Neuron]) -> NeuronTokens:
    read = functools.partial(
        neuron_tokens,
        prompts=prompts,
        shown=shown,
        pooled=pooled,
        include_bos=study.config.include_bos,
        batch_size=study.config.batch_size,
    )
    with study.show("cards: reading neurons", len(prompts)) as progress:
        return study.pool.call(read, progress)


def _ablated(study: Study, best: Mapping[str, NeuronSet], forbidden: set[Neuron], config: CardsConfig) -> pd.DataFrame:
    return ablation_effects(study, best, forbidden, n_facts=config.n_facts, n_random=config.n_random)


def _distinct(sets: Iterable[Iterable[Neuron]]) -> list[Neuron]:
    return list(dict.fromkeys(neuron for one in sets for neuron in one))


def _like(study: Study, target: NeuronSet, excluded: Sequence[Neuron]) -> NeuronSet:
    """Random neurons, as many as chosen ones in each layer and site; where there are too few others, of all."""
    space, seed = neuron_space(study.model, study.config.site), study.config.seed
    try:
        return random_controls(target, space, n=1, seed=seed, exclude=excluded)[0]
    except TooFewNeuronsError:
        return random_controls(target, space, n=1, seed=seed, disjoint=False)[0]


def _described(
    study: Study, prompts: tuple[Prompt, ...], shown: Sequence[Neuron], read: NeuronTokens, config: CardsConfig
) -> Tables:
    """What each neuron tells apart, which prompts activate it, and which tokens it promotes."""
    parts: dict[str, list[pd.DataFrame]] = {"scores": [], "prompts": [], "tokens": []}
    with study.show("cards: scoring neurons", len(shown)) as progress:
        for column, neuron in enumerate(shown):
            tokens = [one[:, column] for one in read.tokens]
            values = pooled_values(prompts, tokens)
            scores = score_table(
                prompts,
                values,
                balanced=study.config.negatives == "balanced",
                n_resamples=config.n_resamples,
                n_shuffles=config.n_shuffles,
                seed=study.config.seed,
            )
            top = top_prompts_table(study.model, prompts, values, tokens, config.n_prompts_shown)
            top = top[top["side"] == "most"].drop(columns="side")
            promoted = token_table(study.model, neuron, config.n_tokens_shown)
            for name, table in (("scores", scores), ("prompts", top), ("tokens", promoted)):
                table.insert(0, "neuron", str(neuron))
                parts[name].append(table)
            progress(1)
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}


def _scatter(
    wide: Mapping[str, NeuronSet],
    controls: Mapping[str, NeuronSet],
    precision: pd.DataFrame,
    attributed: pd.DataFrame,
) -> pd.DataFrame:
    """A row per relation and neuron, chosen or random.

    Returns:
        Columns `relation`, `kind` (`chosen` or `random`), `rank` from 1 (of a random neuron: of the one it is matched
        to), `neuron`, `site`, `layer`, `index`, `score` (the run's; NaN for random neurons), `ap`, and `n`, `effect`,
        `effect_low` and `effect_high` on the relation's own answers, of `attributed_effects`.
    """
    parts = []
    for name, target in wide.items():
        own = attributed[attributed["relation"] == name].set_index("neuron")
        for kind, neurons in (("chosen", target), ("random", controls[name])):
            rows = neurons.to_frame().drop(columns="name")
            rows["score"] = rows["score"].astype(float)
            names = list(map(str, neurons))
            rows.insert(0, "relation", name)
            rows.insert(1, "kind", kind)
            rows.insert(3, "neuron", names)
            rows["ap"] = precision.loc[names, name].to_numpy()
            effects = own.loc[names, ["n", "effect", "effect_low", "effect_high"]].reset_index(drop=True)
            parts.append(pd.concat([rows, effects], axis=1))
    return pd.concat(parts, ignore_index=True)
