"""The same facts asked in other languages, with the neurons of one language off (paper, Figures 7 and 19)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from relation_neurons.errors import refuse, require_at_least
from relation_neurons.experiments.study import Case, Study
from relation_neurons.prompts.prompts import Prompt, make_prompts
from relation_neurons.relations.relation import Relation, Translation
from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.statistics.effects import FALLS, MEASURES, RATIO, RISES, WHAT, compare, share_of_drop
from relation_neurons.statistics.formatting import interval_text, name_list, range_text

QUESTION = "Do neurons found in one language carry the same facts in others?"


@dataclass(frozen=True)
class LanguagesConfig:
    """Ablate the neurons found in each relation's own language and ask its facts in others."""

    languages: tuple[str, ...] = ("de", "es", "fr", "zh", "ja")
    """Codes of the languages to ask in, beside each relation's own."""
    n_language_controls: int = 3
    """Random control sets per relation, the same in every language."""

    def __post_init__(self) -> None:
        require_at_least(self, n_language_controls=2)
        if not self.languages:
            raise refuse("There is no language", expected="at least one code, such as de")


def languages(study: Study, config: LanguagesConfig = LanguagesConfig()) -> ExperimentResult:
    """The paper's multilingual experiment, with matched controls in every language.

    A relation's own language is asked too, for reference. Relations without a translation are left out.

    Returns:
        Tables `effects`, from `effects.compare` by `ablated` and `language`, with `own_language`; `by_language`, the
        same pooled over relations (`ablated` is `all`), with the `ratio` of `transfer`; `transfer`, from
        `transfers`; and `answers`.
    """
    asked, left_out = _asked(study, config.languages)
    if not asked:
        tables = dict.fromkeys(("effects", "by_language", "transfer", "answers"), pd.DataFrame())
        return ExperimentResult("languages", QUESTION, tables, (f"Nothing was asked.{_left_out(left_out)}",))
    seed, home = study.config.seed, {name: prompts[0].language for name, prompts in asked.items()}
    own = study.changes([Case(study.target(name), prompts, {"ablated": name}) for name, prompts in asked.items()])
    cases = [
        Case(control, prompts, {"ablated": name, "draw": draw})
        for name, prompts in asked.items()
        for draw, control in enumerate(study.controls(study.target(name), n=config.n_language_controls))
    ]
    controls = study.changes(cases)
    # The same sets are asked in all languages, so that only other relations' sets tell more of their spread.
    effects = compare(own, controls, by=["ablated", "language"], pool="language", seed=seed)
    effects.insert(2, "own_language", effects["ablated"].map(home))
    transfer = transfers(own, home, seed=seed)
    ratios = transfers(own, home, pooled=True, seed=seed)[["language", "measure", *RATIO]]
    pooled = [table.assign(ablated="all") for table in (own, controls)]
    by_language = compare(*pooled, by=["ablated", "language"], seed=seed).merge(
        ratios, on=["language", "measure"], how="left"
    )
    tables = {"effects": effects, "by_language": by_language, "transfer": transfer, "answers": own}
    return ExperimentResult("languages", QUESTION, tables, verdict(effects, by_language, transfer, left_out))


def transfers(own: pd.DataFrame, home: Mapping[str, str], *, pooled: bool = False, seed: int = 0) -> pd.DataFrame:
    """The drop in each language as a share of that in the relation's own, over the facts asked in both.

    Args:
        own: From `Study.changes`, under the relations' own neurons.
        home: Each relation's own language.
        pooled: Over all relations, as relation `all`.
        seed: Of resamples.

    Returns:
        A row per `ablated`, `language` other than its own, and `measure`: `n`, facts; `effect` and `own_effect`;
        `ratio` of the two with `_low` and `_high`, see `share_of_drop`.
    """
    rows = []
    unit = ["ablated", "fact"]
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


def verdict(
    effects: pd.DataFrame, by_language: pd.DataFrame, transfer: pd.DataFrame, left_out: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """What the tables say; `left_out` are the languages that each relation could not be asked in."""
    sentences = []
    for measure, what in WHAT.items():
        rows, pooled = (table[table["measure"] == measure] for table in (effects, by_language))
        counts = []
        for code, group in rows.groupby("language", sort=False):
            rises = int((group["verdict"] == RISES).sum())
            falls = int((group["verdict"] == FALLS).sum())
            counts.append(f"{code} {falls} of {len(group)}" + (f" (rises in {rises})" if rises else ""))
        changes = [f"{row['language']} {interval_text(row)}" for row in pooled.to_dict("records")]
        shown = list(pooled.loc[pooled["verdict"] == FALLS, "language"])
        sentences.append(
            f"{what} falls beyond chance and beyond matched random neurons in so many relations: "
            f"{name_list(counts, most=12)} (Holm-corrected over all, n = {range_text(rows['n'])} facts, "
            f"{rows['n_controls'].min()} control sets each). Pooled over relations it changes by "
            f"{name_list(changes, most=12)} (n = {range_text(pooled['n'])} facts); "
            f"a fall is shown in {name_list(shown, most=12)}."
        )
    ratios = transfer.loc[transfer["measure"] == "logprob", "ratio"]
    known = ratios.dropna()
    middle = f", with a median of {known.median():.2f}" if len(known) else ""
    sentences.append(
        "The change elsewhere as a share of that in the relation's own language, in nats, can be named in "
        f"{len(known)} of {len(ratios)} pairs of relation and language, where the interval of the latter lies below "
        f"zero{middle}.{_left_out(left_out)}"
    )
    return tuple(sentences)


def _left_out(left_out: Mapping[str, Sequence[str]]) -> str:
    named = [f"{name} ({', '.join(codes)})" for name, codes in left_out.items()]
    return f" Without a translation and left out: {'; '.join(named)}." if named else ""


def _asked(study: Study, codes: Sequence[str]) -> tuple[dict[str, tuple[Prompt, ...]], dict[str, list[str]]]:
    """Evaluation prompts of each relation, those in its own language first; and which languages it does not have."""
    asked: dict[str, tuple[Prompt, ...]] = dict.fromkeys(study.names, ())
    missing: dict[str, list[str]] = {name: [] for name in study.names}
    for code in dict.fromkeys(codes):
        foreign = [one for one in study.relations if code != (study.config.prompts.language or one.language)]
        able = [one.name for one in foreign if code in (one.language, *one.translations)]
        for one in foreign:
            if one.name not in able:
                missing[one.name].append(code)
        for prompt in _in_language(study, code, able):
            asked[prompt.relation] += (prompt,)
    return (
        {name: study.evaluation(name) + prompts for name, prompts in asked.items() if prompts},
        {name: found for name, found in missing.items() if found},
    )


def _in_language(study: Study, code: str, able: Sequence[str]) -> tuple[Prompt, ...]:
    """Evaluation prompts of some relations; the others stand in as they are, so that the facts are split alike."""
    if not able:
        return ()
    relations = [
        one if one.name in able or code == one.language else _untranslated(one, code) for one in study.relations
    ]
    prompts = make_prompts(relations, replace(study.config.prompts, language=code)).evaluation
    return tuple(prompt for prompt in prompts if prompt.relation in able)


def _untranslated(relation: Relation, code: str) -> Relation:
    subjects = {fact.subject: fact.subject for fact in relation.facts}
    objects = {fact.object: fact.object for fact in relation.facts}
    same = Translation(relation.templates, relation.templates_zs, subjects, objects)
    return replace(relation, translations={**relation.translations, code: same})
