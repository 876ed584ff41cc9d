"""Summaries of relations: facts, objects, split sizes, tokens, model accuracy and shared names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd

from relation_neurons.errors import nearest, refuse
from relation_neurons.evaluation.answers import RULES
from relation_neurons.evaluation.recall import recall
from relation_neurons.models.types import HookedModel
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts.prompts import Prompt, PromptConfig, make_prompts, split_facts
from relation_neurons.prompts.tokenization import encode
from relation_neurons.relations.relation import Relation, key
from relation_neurons.relations.splits import Split
from relation_neurons.relations.translations import translate, translation
from relation_neurons.statistics.intervals import accuracy_interval, proportion_interval
from relation_neurons.validation import validated

Part = Literal["subjects", "objects"]


@validated
def describe(
    relations: Sequence[Relation],
    *,
    model: HookedModel | None = None,
    config: PromptConfig | None = None,
    validate: str | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Summarise relations, their split, the tokens of their objects and a model's accuracy.

    Only facts in the language of `config` are counted, so for another language only translated
    facts. Spellings with the same `relations.key` are one name. The result is deterministic.

    Args:
        relations: At least one, each name once; they are split together.
        model: A model from `load_model`, for the columns on tokens.
        config: Configuration of prompts and split; by default `PromptConfig()`.
        validate: A rule of `answers.RULES`, such as `prefix` or `string`, by which to score the
            model's answers to all detection prompts.
        progress: Called with the number of finished prompts.

    Returns:
        A row per relation, in order, with columns
        `relation`; `facts`, `subjects` and `objects`: numbers of facts and of distinct names;
        `majority`: the most frequent object, of several the first by name; `majority_ties`: how many
        other objects are equally frequent; `majority_share`: its share of the facts, with
        `majority_low` and `majority_high`, a 95 % Wilson interval;
        `templates` and `templates_zs`: numbers of templates in each set;
        `detection` and `evaluation`: numbers of facts in the split.
        With a model, over distinct objects as continuations of a detection prompt:
        `tokens_median` and `tokens_max`: tokens per object; `single_token_share`: share of objects
        with a single token; `shared_first_share`: share of objects whose first token is also that of
        another object.
        With `validate`: `prompts`: number of detection prompts; `valid`: number answered correctly;
        `valid_share` with `valid_low` and `valid_high`: mean over `valid_n` subjects of the mean over
        their prompts, with a 95 % interval: Wilson's, or a bootstrap interval if some subject has both
        correct and incorrect answers.

    Raises:
        RelationNeuronsError: There are no relations or duplicates, too few facts for the split, no
            translation, an unknown rule, a rule without a model, or prompts that cannot be created
            or encoded.

    Example:
        >>> from relation_neurons.relations.loading import load_relations
        >>> table = describe(load_relations("country_continent"))
        >>> table[["facts", "objects", "majority"]].to_numpy().tolist()
        [[152, 6, 'Africa']]
    """
    _check_names(relations)
    if validate is not None and validate not in RULES:
        raise refuse(f"validate is '{validate}'", expected=nearest(validate, RULES))
    if validate is not None and model is None:
        raise refuse(f"validate is '{validate}' but there is no model", do="pass model=load_model(...)")
    config = config or PromptConfig()
    splits = split_facts(relations, config)
    rows = {
        relation.name: _fact_columns(*_in_language(relation, splits[relation.name], config)) for relation in relations
    }
    if model is not None:
        prompts = make_prompts(relations, config).detection
        for prompt in {prompt.relation: prompt for prompt in reversed(prompts)}.values():
            rows[prompt.relation] |= _token_columns(model, prompt)
        for name, columns in _accuracy_columns(model, prompts, validate, progress).items() if validate else ():
            rows[name] |= columns
    return pd.DataFrame(list(rows.values()))


def overlaps(relations: Sequence[Relation], part: Part) -> pd.DataFrame:
    """Count the names that each pair of relations shares (the paper's Figures 10 to 12).

    Args:
        relations: At least one, each name once.
        part: Whether to count subjects or objects.

    Returns:
        A square table with the relations' names as index and columns. The diagonal has the number of
        distinct names of each relation. Names are in the relation's own language; spellings with
        the same `relations.key` are one name; aliases are ignored.

    Raises:
        RelationNeuronsError: There are no relations, or one occurs twice.

    Example:
        >>> from relation_neurons.relations.loading import load_relations
        >>> overlaps(load_relations("country_continent", "landmark_continent"), "objects").to_numpy().tolist()
        [[6, 5], [5, 7]]
    """
    _check_names(relations)
    names = [relation.name for relation in relations]
    sets = [set(_distinct(relation, part)) for relation in relations]
    return pd.DataFrame([[len(own & other) for other in sets] for own in sets], index=names, columns=names)


def jaccard(table: pd.DataFrame) -> pd.DataFrame:
    """The Jaccard index of each pair of relations: shared names divided by all names of both.

    Args:
        table: A result of `overlaps`.
    """
    sizes = np.diag(table)
    return table / (sizes[:, None] + sizes[None, :] - table)


def _check_names(relations: Sequence[Relation]) -> None:
    if not relations:
        raise refuse("There are no relations", expected="at least one", do="pass load_relations()")
    name, n = Counter(relation.name for relation in relations).most_common(1)[0]
    if n > 1:
        raise refuse(f"Relation '{name}' occurs {n} times", expected="each relation once")


def _distinct(relation: Relation, part: Part) -> dict[str, str]:
    """A relation's distinct names by key, each in its first spelling."""
    names = [fact.subject if part == "subjects" else fact.object for fact in relation.facts]
    return {key(name): name for name in reversed(names)}


def _in_language(relation: Relation, split: Split, config: PromptConfig) -> tuple[Relation, Split]:
    """A relation and its split in the language and with the detection facts of the prompts."""
    split = replace(split, detection=split.detection[: config.n_detection])
    if config.language in (None, relation.language):
        return relation, split
    into = translation(relation, str(config.language))
    facts, detection, evaluation = (
        translate(part, into) for part in (relation.facts, split.detection, split.evaluation)
    )
    if not facts:
        raise refuse(f"Relation '{relation.name}' has no fact in '{config.language}'", do="translate more names")
    translated = replace(relation, templates=into.templates, templates_zs=into.templates_zs, facts=facts)
    return translated, replace(split, detection=detection, evaluation=evaluation)


def _fact_columns(relation: Relation, split: Split) -> dict[str, object]:
    """The columns on facts, templates and the split."""
    objects = _distinct(relation, "objects")
    answers = [key(fact.object) for fact in relation.facts]
    counts = Counter(answers)
    most = sorted(name for name, n in counts.items() if n == max(counts.values()))
    share = proportion_interval(np.array([answer == most[0] for answer in answers]))
    return {
        "relation": relation.name,
        "facts": len(relation.facts),
        "subjects": len(_distinct(relation, "subjects")),
        "objects": len(objects),
        "majority": objects[most[0]],
        "majority_ties": len(most) - 1,
        "majority_share": share.mean,
        "majority_low": share.low,
        "majority_high": share.high,
        "templates": len(relation.templates),
        "templates_zs": len(relation.templates_zs),
        "detection": len(split.detection),
        "evaluation": len(split.evaluation),
    }


def _token_columns(model: HookedModel, prompt: Prompt) -> dict[str, object]:
    """The columns on the tokens of the relation's objects as continuations of a prompt."""
    objects = {key(name): name for name in reversed(prompt.candidates)}.values()
    tokens = [encoded.object_ids for encoded in encode(model, [replace(prompt, object=name) for name in objects])]
    lengths = [len(ids) for ids in tokens]
    firsts = Counter(ids[0] for ids in tokens)
    return {
        "tokens_median": float(np.median(lengths)),
        "tokens_max": max(lengths),
        "single_token_share": lengths.count(1) / len(lengths),
        "shared_first_share": sum(n for n in firsts.values() if n > 1) / len(tokens),
    }


def _accuracy_columns(
    model: HookedModel, prompts: Sequence[Prompt], rule: str, progress: Progress
) -> dict[str, dict[str, object]]:
    """The columns on a model's accuracy, by relation."""
    whole = RULES[rule].tokens is None  # rules that use fewer tokens need no generation
    answers = recall(model, prompts, generate=whole, progress=progress)
    columns: dict[str, dict[str, object]] = {}
    for name, rows in answers.groupby("relation", sort=False):
        correct = rows[f"correct_{rule}"]
        interval = accuracy_interval(correct.to_numpy(dtype=bool), list(rows["unit"]))
        named = zip(("valid_share", "valid_low", "valid_high", "valid_n"), interval, strict=True)
        columns[str(name)] = {"prompts": len(rows), "valid": int(correct.sum()), **dict(named)}
    return columns
