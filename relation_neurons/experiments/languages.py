"""The same facts in other languages, with the neurons of one language ablated (paper, Figures 7 and 19)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from relation_neurons.errors import refuse, require_at_least
from relation_neurons.experiments.case import Case
from relation_neurons.experiments.study import Study
from relation_neurons.prompts.prompts import Prompt, first_facts, make_prompts
from relation_neurons.relations.relation import Relation, Translation
from relation_neurons.results import transfer_verdicts
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.statistics.effects import MEASURES, RATIO, compare, pooled
from relation_neurons.statistics.intervals import share_of_drop
from relation_neurons.validation import validated

QUESTION = "Do neurons found in one language carry the same facts in others?"


@validated
@dataclass(frozen=True)
class LanguagesConfig:
    """Ablate the neurons found in each relation's own language and test its facts in others."""

    languages: tuple[str, ...] = ("de", "es", "fr", "zh", "ja")
    """Codes of the languages to test, besides each relation's own."""
    n_language_controls: int = 25
    """Random control sets per relation, the same in every language."""

    def __post_init__(self) -> None:
        require_at_least(self, n_language_controls=2)
        if not self.languages:
            raise refuse("There is no language", expected="at least one code, such as de")


def languages(study: Study, config: LanguagesConfig = LanguagesConfig()) -> ExperimentResult:
    """The paper's multilingual experiment, with matched controls in every language.

    A relation's own language is tested too, for reference. Relations without a translation are left out.

    Returns:
        Tables `effects`, from `effects.compare` by `ablated` and `language`, with `own_language`; `by_language`, the
        same pooled over relations (`ablated` is `all`), with the `ratio` of `transfer`; `transfer`, from
        `transfers`; and `answers`.
    """
    prompts_of, left_out = _prompts(study, config.languages)
    if not prompts_of:
        tables = dict.fromkeys(("effects", "by_language", "transfer", "answers"), pd.DataFrame())
        return ExperimentResult("languages", QUESTION, tables, (transfer_verdicts.no_translation(left_out),))
    seed, home = study.config.seed, {name: prompts[0].language for name, prompts in prompts_of.items()}
    cases = [Case(study.target(name), prompts, {"ablated": name}) for name, prompts in prompts_of.items()]
    own, controls = study.with_controls(cases, n=config.n_language_controls, pooled=True)
    effects = compare(own, controls, by=["ablated", "language"], seed=seed)
    effects.insert(2, "own_language", effects["ablated"].map(home))
    transfer = transfers(own, home, seed=seed)
    ratios = transfers(own, home, pooled=True, seed=seed)[["language", "measure", *RATIO]]
    over_all = pooled(own, controls)
    by_language = compare(*over_all, by=["ablated", "language"], seed=seed).merge(
        ratios, on=["language", "measure"], how="left"
    )
    tables = {"effects": effects, "by_language": by_language, "transfer": transfer, "answers": own}
    return ExperimentResult(
        "languages", QUESTION, tables, transfer_verdicts.languages(effects, by_language, transfer, left_out)
    )


def transfers(own: pd.DataFrame, home: Mapping[str, str], *, pooled: bool = False, seed: int = 0) -> pd.DataFrame:
    """The drop in each language as a share of that in the relation's own, over the facts tested in both.

    Args:
        own: From `Study.changes`, under the relations' own neurons.
        home: Each relation's own language.
        pooled: Over all relations, as relation `all`.
        seed: Of resamples.

    Returns:
        A row per `ablated`, `language` other than its own, and `measure`: `n`, facts; `effect` and `own_effect`;
        `ratio` of the two with `_low` and `_high`, see `intervals.share_of_drop`.
    """
    rows = []
    unit = ["ablated", "unit"]
    for measure in MEASURES:
        by_fact = own.groupby(["language", *unit], sort=False)[f"d_{measure}"].mean()
        mine = by_fact[[language == home[name] for language, name, _ in by_fact.index]].droplevel("language")
        for code, found in by_fact.groupby(level="language", sort=False):
            there = found.droplevel("language")
            there = there[[home[name] != code for name, _ in there.index]]
            both = pd.DataFrame({"there": there, "home": mine.reindex(there.index)}).dropna()
            groups = [("all", both)] if pooled else list(both.groupby(level="ablated", sort=False))
            for name, pair in groups:
                if pair.empty:
                    continue
                ratio = share_of_drop(pair["there"].to_numpy(), pair["home"].to_numpy(), seed=seed)
                means = (pair["there"].mean(), pair["home"].mean())
                rows.append((name, code, measure, len(pair), *means, *ratio[:3]))
    return pd.DataFrame(rows, columns=["ablated", "language", "measure", "n", "effect", "own_effect", *RATIO])


def _prompts(study: Study, codes: Sequence[str]) -> tuple[dict[str, tuple[Prompt, ...]], dict[str, list[str]]]:
    """Evaluation prompts of each relation, those in its own language first; and which languages it does not have."""
    prompts_of: dict[str, tuple[Prompt, ...]] = dict.fromkeys(study.names, ())
    missing: dict[str, list[str]] = {name: [] for name in study.names}
    for code in dict.fromkeys(codes):
        foreign = [one for one in study.relations if code != (study.config.prompts.language or one.language)]
        able = [one.name for one in foreign if code in (one.language, *one.translations)]
        for one in foreign:
            if one.name not in able:
                missing[one.name].append(code)
        for prompt in _in_language(study, code, able):
            prompts_of[prompt.relation] += (prompt,)
    return (
        {name: study.evaluation(name) + prompts for name, prompts in prompts_of.items() if prompts},
        {name: found for name, found in missing.items() if found},
    )


def _in_language(study: Study, code: str, able: Sequence[str]) -> tuple[Prompt, ...]:
    """Evaluation prompts of some relations; the others stand in as they are, so that the facts are split alike."""
    if not able:
        return ()
    relations = [
        one if one.name in able or code == one.language else _untranslated(one, code) for one in study.relations
    ]
    made = make_prompts(relations, replace(study.config.prompts, language=code))
    prompts = first_facts(made.evaluation, study.n_tested)
    return tuple(prompt for prompt in prompts if prompt.relation in able)


def _untranslated(relation: Relation, code: str) -> Relation:
    subjects = {fact.subject: fact.subject for fact in relation.facts}
    objects = {fact.object: fact.object for fact in relation.facts}
    same = Translation(relation.templates, relation.templates_zs, subjects, objects)
    return replace(relation, translations={**relation.translations, code: same})
