"""Prompts from relations: templates, solved examples, and which prompts speak for or against a relation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from relation_neurons.errors import refuse, require_at_least
from relation_neurons.relations.relation import Fact, Relation, Translation
from relation_neurons.relations.splits import split_relations
from relation_neurons.relations.translations import language, translate, translation
from relation_neurons.validation import validated


@validated
@dataclass(frozen=True)
class PromptConfig:
    """How facts become prompts; stored with every result."""

    shots: int = 2
    """Solved examples in front of each query; 0 is the paper's zero-shot form."""
    template_set: Literal["main", "zs"] = "main"
    """`main` is the paper's P_eva, `zs` its P_eva-2."""
    templates: Literal["cycle", "all", "first"] = "cycle"
    """`all` asks each fact in every template, as the paper does; `cycle` deals the templates out over the facts, so
    that there is one prompt a fact; `first` uses one template only."""
    answer: str | None = None
    """What follows the filled template; by default `? Answer:` in the prompt's language."""
    language: str | None = None
    """Ask in this language, such as de, es, fr, ja or zh; by default in each relation's own."""
    bos: bool | None = None
    """Whether prompts begin with a BOS token; by default as the model's tokenizer has it."""
    n_evaluation: int = 40
    """Evaluation facts per relation (the paper: 50)."""
    n_detection: int | None = None
    """Detection facts per relation at most; none means all that are left."""
    split_seed: int = 0
    """Chooses which facts detect, which are evaluated and which are the solved examples."""

    def __post_init__(self) -> None:
        require_at_least(self, shots=0, n_evaluation=1, n_detection=1)


@validated
@dataclass(frozen=True)
class Prompt:
    """One question about one fact.

    Attributes:
        relation: The relation's name.
        subject: Whom or what is asked about.
        object: The right answer.
        text: All that the model reads: solved examples, if any, then the query.
        query_start: Where in `text` (in characters) the query begins.
        template: Number of the template in its set.
        candidates: The relation's distinct objects, for ranking the right one among them.
        aliases: Other names of the right answer.
        language: What it is asked in.
        joint: What stands between prompt and answer.
        fact: The subject in the relation's own language, which is the same for a fact in all languages.
        bos: Whether a BOS token stands in front; none leaves it to the tokenizer.
    """

    relation: str
    subject: str
    object: str
    text: str
    query_start: int = 0
    template: int = 0
    candidates: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    language: str = "en"
    joint: str = " "
    fact: str = ""
    bos: bool | None = None

    @property
    def examples(self) -> str:
        """The solved examples in front of the query; prompts that share them can share their computation."""
        return self.text[: self.query_start]


@validated
@dataclass(frozen=True)
class Prompts:
    """Subject-disjoint prompts of all relations (the paper's P_det and P_eva) and how they were made."""

    detection: tuple[Prompt, ...]
    evaluation: tuple[Prompt, ...]
    config: PromptConfig

    @property
    def relations(self) -> tuple[str, ...]:
        """Relation names, in the order of the prompts."""
        return relation_names(self.detection)


@validated
def make_prompts(relations: Sequence[Relation], config: PromptConfig | None = None) -> Prompts:
    """Turn relations into detection and evaluation prompts.

    Args:
        relations: At least one relation, each name once.
        config: How to; the default is `PromptConfig()`.

    Returns:
        The prompts. Detection and evaluation share no subject, in whatever relation it stands; the solved examples
        are used nowhere else.

    Raises:
        RelationNeuronsError: Too few facts for the split, or a template set that a relation does not have.

    Example:
        >>> from relation_neurons.relations.loading import load_relations
        >>> prompts = make_prompts(load_relations("country_capital"), PromptConfig(shots=0, templates="first"))
        >>> prompts.evaluation[0].text.endswith(" is? Answer:")
        True
    """
    config = config or PromptConfig()
    splits = split_relations(relations, n_evaluation=config.n_evaluation, n_shots=config.shots, seed=config.split_seed)
    detection: list[Prompt] = []
    evaluation: list[Prompt] = []
    for relation in relations:
        split = splits[relation.name]
        detection += _ask(relation, split.detection[: config.n_detection], split.shots, config)
        evaluation += _ask(relation, split.evaluation, split.shots, config)
    return Prompts(tuple(detection), tuple(evaluation), config)


def relation_names(prompts: Sequence[Prompt]) -> tuple[str, ...]:
    """The relations of some prompts, each once, in order of appearance."""
    return tuple(dict.fromkeys(prompt.relation for prompt in prompts))


def _ask(relation: Relation, facts: Sequence[Fact], shots: Sequence[Fact], config: PromptConfig) -> list[Prompt]:
    """Prompts of some facts; each query is preceded by the solved examples in its own template."""
    code = config.language or relation.language
    spoken: Relation | Translation = relation if code == relation.language else translation(relation, code)
    templates = spoken.templates if config.template_set == "main" else spoken.templates_zs
    if not templates:
        raise refuse(
            f"Relation '{relation.name}' has no template in the set '{config.template_set}'",
            do="add prompt_templates_zs to its file or use the set 'main'",
        )
    said = partial(_say, spoken)
    numbered = [(number, one) for number, fact in enumerate(facts) for one in said([fact])]
    if not numbered or len(said(shots)) < config.shots:
        raise refuse(
            f"Relation '{relation.name}' has names in '{code}' for {len(numbered)} facts, {len(said(shots))} examples",
            expected=f"at least one and {config.shots}",
            do="translate more names, or lower shots",
        )
    answer = language(code).answer if config.answer is None else config.answer
    common = Prompt(
        relation.name,
        "",
        "",
        "",
        candidates=tuple(sorted({fact.object for fact in said(relation.facts)})),
        language=code,
        joint=language(code).joint,
        bos=config.bos,
    )
    return [
        _prompt(common, fact, said(shots), index, templates[index] + answer)
        for number, fact in numbered
        for index in _templates_of(number, len(templates), config.templates)
    ]


def _say(spoken: Relation | Translation, facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """Facts in the language of a relation or of its translation."""
    return translate(facts, spoken) if isinstance(spoken, Translation) else tuple(facts)


def _prompt(common: Prompt, fact: Fact, shots: Sequence[Fact], index: int, query: str) -> Prompt:
    """A prompt like `common`, about one fact, in one template."""
    examples = "".join(f"{query.replace('{}', shot.subject)}{common.joint}{shot.object}\n" for shot in shots)
    return replace(
        common,
        subject=fact.subject,
        object=fact.object,
        text=examples + query.replace("{}", fact.subject),
        query_start=len(examples),
        template=index,
        aliases=fact.aliases,
        fact=fact.original or fact.subject,
    )


def _templates_of(number: int, n_templates: int, how: str) -> Sequence[int]:
    return {"all": range(n_templates), "first": range(1), "cycle": (number % n_templates,)}[how]
