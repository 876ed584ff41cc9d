"""Sentences that have nothing to do with a relation, with its neurons off (paper, Table 2)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from relation_neurons.errors import RelationNeuronsError, refuse, require_at_least
from relation_neurons.experiments.study import Study
from relation_neurons.interventions.interventions import Intervention
from relation_neurons.prompts.concepts import neutral_sentences
from relation_neurons.results import verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.results.sentences import without
from relation_neurons.statistics.by_fact import LEAST_NATS
from relation_neurons.statistics.effects import decide
from relation_neurons.statistics.hypothesis_tests import sign_flip_test
from relation_neurons.statistics.intervals import mean_interval
from relation_neurons.validation import validated

QUESTION = "Does ablating a relation's neurons damage the model's language beyond the relation?"


@validated
@dataclass(frozen=True)
class LanguageModellingConfig:
    """Perplexity of neutral sentences: clean, with the relation's neurons ablated, and with random ones ablated."""

    sentences: str | None = None
    """A folder with sentences of your own, <relation>.txt with one a line or <relation>.json with a list of them; by
    default those shipped."""
    n_sentences: int = 50
    """Sentences per relation at most."""
    n_sentence_controls: int = 25
    """Random control sets per relation."""

    def __post_init__(self) -> None:
        require_at_least(self, n_sentences=1, n_sentence_controls=2)


def language_modelling(study: Study, config: LanguageModellingConfig = LanguageModellingConfig()) -> ExperimentResult:
    """The paper's perplexities before and after, with matched controls and tests over sentences.

    Relations without sentences are left out.

    Returns:
        Tables `perplexity`, from `compare_sentences`; `states`, from `perplexities`, per `ablated` and `state`
        (`clean`, `own`, `random` with its number as `draw`); and `readings`, every sentence in every state.

        Note the sign: the measure is `nll`, the negative log-probability in nats per token, so that `rises` is damage
        and `falls` an improvement.
    """
    texts = {name: read_sentences(name, config) for name in study.names}
    left_out = [name for name, found in texts.items() if not found]
    if len(left_out) == len(texts):
        tables = dict.fromkeys(("perplexity", "states", "readings"), pd.DataFrame())
        nothing = f"Nothing was read.{without('neutral sentences', left_out)}"
        return ExperimentResult("language_modelling", QUESTION, tables, (nothing,))
    readings = _read(study, {name: found for name, found in texts.items() if found}, config)
    table = compare_sentences(readings, seed=study.config.seed)
    tables = {"perplexity": table, "states": perplexities(readings), "readings": readings.reset_index(drop=True)}
    return ExperimentResult("language_modelling", QUESTION, tables, verdicts.perplexity(table, left_out))


def read_sentences(relation: str, config: LanguageModellingConfig) -> tuple[str, ...]:
    """A relation's neutral sentences, the user's own if there is a folder of them; none if it has none.

    Raises:
        RelationNeuronsError: No such folder, or a file with invalid contents.
    """
    if config.sentences is None:
        try:
            return neutral_sentences(relation)[: config.n_sentences]
        except RelationNeuronsError:
            return ()
    folder = Path(config.sentences)
    if not folder.is_dir():
        raise refuse(f"{folder} is not a folder", expected="a folder with <relation>.txt or <relation>.json")
    paths = [path for path in (folder / f"{relation}.txt", folder / f"{relation}.json") if path.is_file()]
    if len(paths) > 1:
        raise refuse(f"{folder} has two files for '{relation}'", expected="one, .txt or .json")
    return _from_file(paths[0])[: config.n_sentences] if paths else ()


def _from_file(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = json.loads(text) if path.suffix == ".json" else [line.strip() for line in text.splitlines()]
    except (OSError, ValueError, RecursionError) as error:
        raise refuse(f"{path}: cannot be read ({error})", expected="sentences in UTF-8") from error
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise refuse(f"{path}: is not a list of texts", expected='JSON such as ["A sentence.", "Another."]')
    sentences = tuple(one for one in found if one.strip())
    if not sentences:
        raise refuse(f"{path}: contains no sentence", expected="at least one", do="add some, or remove the file")
    return sentences


def _read(study: Study, texts: Mapping[str, Sequence[str]], config: LanguageModellingConfig) -> pd.DataFrame:
    """How well the model predicts each relation's sentences in each state; kept with the study's answers."""
    rows, requests = [], []
    for name, sentences in texts.items():
        target = study.target(name)
        drawn = study.controls(target, n=config.n_sentence_controls)
        states = [("clean", -1, None), ("own", -1, target), *(("random", draw, one) for draw, one in enumerate(drawn))]
        for state, draw, one in states:
            requests.append((Intervention(one) if one else None, tuple(sentences)))
            rows += [(name, state, draw, number, text) for number, text in enumerate(sentences)]
    labels = pd.DataFrame(rows, columns=["ablated", "state", "draw", "sentence", "text"])
    read = study.answers.losses(requests, "reading sentences")
    return pd.concat([labels.drop(columns="text"), read, labels[["text"]]], axis=1)


def perplexities(readings: pd.DataFrame) -> pd.DataFrame:
    """Each relation's sentences in each state.

    Returns:
        A row per `ablated`, `state` and `draw`: `sentences` and `tokens`; `perplexity` of all of them together; and
        `effect`, the mean over sentences of the change in nats per token from the clean model.
    """
    rows = []
    for name, group in readings.groupby("ablated", sort=False):
        changes = _changes(group)
        for (state, draw), read in group.groupby(["state", "draw"], sort=False):
            tokens = int(read["n_tokens"].sum())
            together = float(np.exp(read["nll"].sum() / tokens))
            rows.append((name, state, draw, len(read), tokens, together, changes[state, draw].mean()))
    return pd.DataFrame(rows, columns=["ablated", "state", "draw", "sentences", "tokens", "perplexity", "effect"])


def _changes(readings: pd.DataFrame) -> pd.DataFrame:
    """Change in nats per token from the clean model, a row per sentence and a column per state and draw."""
    rates = readings.assign(rate=readings["nll"] / readings["n_tokens"])
    table = rates.pivot(index="sentence", columns=["state", "draw"], values="rate")
    return table.sub(table["clean", -1], axis=0)


def compare_sentences(readings: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Each relation's sentences with its neurons ablated, against the clean model and against random neurons.

    Returns:
        A row per relation: `ablated`; `measure`, always `nll`; `n` sentences and their `tokens`; the perplexities
        `clean` and `own`, and of the `n_controls` control sets `random` (geometric mean), `random_min` and
        `random_max`; `effect`, the mean over sentences of the change in nats per token, with `_low` and `_high`;
        `random_effect`, the same of the control sets (mean), and `random_sd` between them; and the tests of
        `effects.decide`, over sentences; the verdict `rises` is damage.
    """
    rows = []
    by_relation = {name: _changes(group) for name, group in readings.groupby("ablated", sort=False)}
    for name, changes in by_relation.items():
        states = perplexities(readings[readings["ablated"] == name])
        shown, effect = states.groupby("state")["perplexity"], mean_interval(changes["own", -1].to_numpy(), seed=seed)
        mean, least, most = shown.apply(lambda one: np.exp(np.log(one).mean())), shown.min(), shown.max()
        sets = changes["random"].to_numpy().mean(axis=0)
        rows.append(
            {"ablated": name, "measure": "nll", "n": len(changes), "tokens": int(states["tokens"].iloc[0])}
            | {"clean": mean["clean"], "own": mean["own"], "n_controls": len(sets)}
            | {"random": mean["random"], "random_min": least["random"], "random_max": most["random"]}
            | {"effect": effect.mean, "effect_low": effect.low, "effect_high": effect.high}
            | {"random_effect": float(sets.mean()), "random_sd": float(sets.std(ddof=1))}
        )
    own = [changes["own", -1].to_numpy() for changes in by_relation.values()]
    controls = [changes["random"].to_numpy() for changes in by_relation.values()]
    tests = decide(own, controls, [sign_flip_test(values, seed=seed) for values in own], resolution=LEAST_NATS)
    return pd.concat([pd.DataFrame(rows), tests], axis=1)
