"""What a reader must know about a relation before believing a number: its facts, its answers, what it shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from relation_neurons.errors import nearest, refuse
from relation_neurons.evaluation.answers import RULES
from relation_neurons.evaluation.recall import recall
from relation_neurons.models.types import HookedModel
from relation_neurons.progress import Progress, silent
from relation_neurons.prompts.prompts import Prompt, PromptConfig, make_prompts
from relation_neurons.prompts.tokenization import encode
from relation_neurons.relations.relation import Relation, key
from relation_neurons.relations.splits import Split, split_relations
from relation_neurons.relations.translations import translate, translation
from relation_neurons.statistics.intervals import mean_interval, proportion_interval
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
    """Describe relations and what a split, a tokenizer and a model make of them.

    All is said of the facts as `config` asks them, so in another language only of those that are translated. Spellings
    with the same `relations.key` are one name. Nothing here is random.

    Args:
        relations: At least one, each name once; they are split together.
        model: A model from `load_model`; without one the table says nothing of tokens.
        config: How facts become prompts; the default is `PromptConfig()`.
        validate: A rule of `answers.RULES`, such as `prefix` or `string`: ask the model all detection prompts and count
            what it answers rightly.
        progress: Called with the number of prompts asked.

    Returns:
        A row per relation, in order, with columns
        `relation`, `facts`, and `subjects` and `objects`, how many distinct ones there are;
        `majority`, the most frequent object, the first by name where `majority_ties` other ones are as frequent, and
        `majority_share` of the facts with `majority_low` and `majority_high`, its 95 % Wilson interval;
        `templates` and `templates_zs`, how many are in each set;
        `detection` and `evaluation`, facts under the split.
        With a model, over distinct objects that continue a detection prompt:
        `tokens_median` and `tokens_max` of each object; `single_token_share`, how many are one token;
        `shared_first_share`, how many have the first token of another object.
        With `validate`: `prompts`, the detection prompts; `valid`, how many of them are answered rightly;
        `valid_share` with `valid_low` and `valid_high`, a 95 % interval over `valid_n` subjects, each the mean of its
        prompts: Wilson's, or the bootstrap's where some subject has both right and wrong answers.

    Raises:
        RelationNeuronsError: No relations or one twice, too few facts for the split, a rule that does not exist or has
            no model to judge, no translation, or prompts that cannot be made or encoded.

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
        raise refuse(f"validate is '{validate}' and there is no model to ask", do="give model=load_model(...)")
    config = config or PromptConfig()
    splits = split_relations(relations, n_evaluation=config.n_evaluation, n_shots=config.shots, seed=config.split_seed)
    rows = {relation.name: _facts(*_as_asked(relation, splits[relation.name], config)) for relation in relations}
    if model is not None:
        prompts = make_prompts(relations, config).detection
        for prompt in {prompt.relation: prompt for prompt in reversed(prompts)}.values():
            rows[prompt.relation] |= _tokens(model, prompt)
        for name, found in _validated(model, prompts, validate, progress).items() if validate else ():
            rows[name] |= found
    return pd.DataFrame(list(rows.values()))


def overlaps(relations: Sequence[Relation], part: Part) -> pd.DataFrame:
    """How many names each two relations share (the paper's Figures 10 to 12).

    Args:
        relations: At least one, each name once.
        part: Whether to count subjects or objects.

    Returns:
        A square table with the relations' names as index and columns, and in its diagonal how many distinct names each
        relation has, in its own language. Spellings with the same `relations.key` are one name; aliases are not read.

    Raises:
        RelationNeuronsError: No relations, or one twice.

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
    """Names that two relations share, as a share of all names that either has.

    Args:
        table: From `overlaps`.
    """
    sizes = np.diag(table)
    return table / (sizes[:, None] + sizes[None, :] - table)


def console_table(description: pd.DataFrame) -> Table:
    """A description as a table for a console of 100 columns or more.

    Args:
        description: From `describe`; what it lacks is left out.
    """
    caption = "templates: main + second set; (+n): n more objects are as frequent"
    if "tokens_median" in description:
        caption += "; first shared: objects that begin with another one's first token"
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0, caption=caption, caption_justify="left")
    table.add_column("relation", no_wrap=True)
    table.add_column("facts,\nsubjects", justify="right")
    table.add_column("objects", justify="right")
    table.add_column("most frequent,\n95 % interval", max_width=18)
    table.add_column("tem-\nplates")
    table.add_column("detect,\nevaluate", justify="right")
    if "tokens_median" in description:
        table.add_column("tokens of\nobjects")
        table.add_column("first\nshared", justify="right")
    if "valid" in description:
        table.add_column("right of\nprompts")
    for row in description.to_dict("records"):
        table.add_row(*_cells({str(name): value for name, value in row.items()}))
    return table


def _cells(row: Mapping[str, Any]) -> list[str]:
    ties = f" (+{row['majority_ties']})" if row["majority_ties"] else ""
    cells = [escape(row["relation"]), f"{row['facts']}\n{row['subjects']}", str(row["objects"])]
    cells.append(f"{escape(row['majority'])}{ties}\n{row['majority_share']:.0%} {_range(row, 'majority')}")
    cells += [f"{row['templates']} + {row['templates_zs']}", f"{row['detection']}\n{row['evaluation']}"]
    if "tokens_median" in row:
        cells.append(f"{row['tokens_median']:g}, max {row['tokens_max']}\n{row['single_token_share']:.0%} one")
        cells.append(f"{row['shared_first_share']:.0%}")
    if "valid" in row:
        cells.append(f"{row['valid_share']:.0%} of {row['prompts']}\n{_range(row, 'valid')}")
    return cells


def _range(row: Mapping[str, Any], name: str) -> str:
    return f"[{100 * row[f'{name}_low']:.0f}, {100 * row[f'{name}_high']:.0f}]"


def _check_names(relations: Sequence[Relation]) -> None:
    if not relations:
        raise refuse("There are no relations", expected="at least one", do="give load_relations()")
    name, n = Counter(relation.name for relation in relations).most_common(1)[0]
    if n > 1:
        raise refuse(f"Relation '{name}' is there {n} times", expected="each relation once")


def _distinct(relation: Relation, part: Part) -> dict[str, str]:
    """A relation's distinct names, each in its first spelling, by key."""
    named = [fact.subject if part == "subjects" else fact.object for fact in relation.facts]
    return {key(name): name for name in reversed(named)}


def _as_asked(relation: Relation, split: Split, config: PromptConfig) -> tuple[Relation, Split]:
    """A relation and its split in the language asked, with as many detection facts as are taken."""
    split = replace(split, detection=split.detection[: config.n_detection])
    if config.language in (None, relation.language):
        return relation, split
    into = translation(relation, str(config.language))
    facts, detection, evaluation = (
        translate(ones, into) for ones in (relation.facts, split.detection, split.evaluation)
    )
    if not facts:
        raise refuse(f"Relation '{relation.name}' has no fact in '{config.language}'", do="translate more names")
    said = replace(relation, templates=into.templates, templates_zs=into.templates_zs, facts=facts)
    return said, replace(split, detection=detection, evaluation=evaluation)


def _facts(relation: Relation, split: Split) -> dict[str, object]:
    """What the facts alone say."""
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


def _tokens(model: HookedModel, prompt: Prompt) -> dict[str, object]:
    """What the tokenizer makes of the relation's objects when they continue a prompt."""
    objects = {key(name): name for name in reversed(prompt.candidates)}.values()
    tokens = [one.object_ids for one in encode(model, [replace(prompt, object=name) for name in objects])]
    lengths = [len(ids) for ids in tokens]
    firsts = Counter(ids[0] for ids in tokens)
    return {
        "tokens_median": float(np.median(lengths)),
        "tokens_max": max(lengths),
        "single_token_share": lengths.count(1) / len(lengths),
        "shared_first_share": sum(n for n in firsts.values() if n > 1) / len(tokens),
    }


def _validated(
    model: HookedModel, prompts: Sequence[Prompt], rule: str, progress: Progress
) -> dict[str, dict[str, object]]:
    """By relation, how many prompts the model answers rightly."""
    whole = RULES[rule].tokens is None  # what reads less than the whole answer needs no generation
    answers = recall(model, prompts, generate=whole, progress=progress)
    found: dict[str, dict[str, object]] = {}
    for name, rows in answers.groupby("relation", sort=False):
        right = rows[f"correct_{rule}"]
        means = right.groupby(rows["subject"]).mean().to_numpy()
        plain = np.isin(means, (0, 1)).all()  # where the bootstrap would be wrong, above all near 0 and 1
        interval = proportion_interval(means == 1) if plain else mean_interval(means)
        named = zip(("valid_share", "valid_low", "valid_high", "valid_n"), interval, strict=True)
        found[str(name)] = {"prompts": len(rows), "valid": int(right.sum()), **dict(named)}
    return found
