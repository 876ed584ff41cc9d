"""Prompts from relations: filled templates after few-shot examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from relation_neurons.errors import refuse, require_at_least, shortened
from relation_neurons.relations.relation import Fact, Relation, Translation, fact_ids, key
from relation_neurons.relations.splits import Split, SplitBy, split_relations
from relation_neurons.relations.translations import language, translate, translation
from relation_neurons.statistics.formatting import count_text
from relation_neurons.statistics.notebook_html import line, table
from relation_neurons.storage.fingerprint import UNLESS_DEFAULT
from relation_neurons.validation import validated

PROMPT_COLUMNS = ("relation", "subject", "object", "template", "language", "fact", "unit")
"""Columns of tables of answers that say which prompt was answered; tables are joined by relation, fact and template."""


@validated
@dataclass(frozen=True)
class PromptConfig:
    """Format of prompts and sizes of the split; stored with every result."""

    shots: int = 2
    """Few-shot examples before each query; 0 is the paper's zero-shot format."""
    template_set: Literal["main", "zs"] = "main"
    """`main`: the paper's P_eva; `zs`: the paper's P_eva-2."""
    templates: Literal["cycle", "all", "first"] = "cycle"
    """`all`: each fact in every template, as in the paper; `cycle`: one template per fact, in turn;
    `first`: only the first template."""
    answer: str | None = None
    """Text after the filled template; by default `? Answer:` in the prompt's language."""
    joint: str | None = None
    """Text between prompt and answer; by default a space, or nothing in Japanese and Chinese."""
    language: str | None = None
    """Language of the prompts, such as de, es, fr, ja or zh; by default each relation's own."""
    bos: bool | None = None
    """Whether prompts begin with a BOS token; by default as the model's tokenizer is configured."""
    n_evaluation: int = 40
    """Evaluation subjects per relation (the paper: 50)."""
    n_detection: int | None = None
    """Maximum number of detection facts per relation; None means all remaining facts."""
    split_seed: int = 0
    """Seed of the split into detection facts, evaluation facts and few-shot examples."""
    split: SplitBy = field(default="facts", metadata=UNLESS_DEFAULT)
    """`facts`: evaluation facts have other subjects than detection facts; `objects`: they also have other objects than
    detection facts and few-shot examples of their relation."""

    def __post_init__(self) -> None:
        require_at_least(self, shots=0, n_evaluation=1, n_detection=1)


@validated
@dataclass(frozen=True)
class Prompt:
    """A query for the object of one fact.

    Attributes:
        relation: The relation's name.
        subject: The subject of the fact.
        object: The correct answer.
        text: The input of the model: few-shot examples, if any, and the query.
        query_start: Offset of the query in `text`, in characters.
        template: Index of the template in its set.
        candidates: The relation's distinct objects, among which the correct one is ranked.
        aliases: Other names of the object.
        language: Language code of the prompt.
        joint: The text between prompt and answer.
        fact: Identifier of the fact among those of its relation, the same in every language and
            template; see `fact_ids`. By default "<subject> = <object>".
        unit: The subject in the relation's original language. All facts of a subject count as one
            unit in statistics, since they share a prompt. By default the subject.
        bos: Whether the prompt begins with a BOS token; None means as the tokenizer is configured.
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
    unit: str = ""
    bos: bool | None = None

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that identify the prompt in every table, `PROMPT_COLUMNS`."""
        named = {name: getattr(self, name) for name in PROMPT_COLUMNS}
        named["fact"] = self.fact or f"{self.subject} = {self.object}"
        named["unit"] = self.unit or self.subject
        return named

    @property
    def examples(self) -> str:
        """The few-shot examples before the query; equal examples are computed once."""
        return self.text[: self.query_start]

    def __repr__(self) -> str:
        after = ", after examples" if self.query_start else ""
        return f"Prompt({self.relation!r}, {shortened(self._query)!r} -> {shortened(self.object)!r}{after})"

    @property
    def _query(self) -> str:
        return self.text[self.query_start :]


@validated
@dataclass(frozen=True)
class Prompts:
    """Subject-disjoint prompts of all relations: the paper's P_det and P_eva."""

    detection: tuple[Prompt, ...]
    evaluation: tuple[Prompt, ...]
    config: PromptConfig

    @property
    def relations(self) -> tuple[str, ...]:
        """Relation names, in the order of the detection prompts."""
        return relation_names(self.detection)

    def __repr__(self) -> str:
        names = relation_names((*self.detection, *self.evaluation))
        of = repr(names[0]) if len(names) == 1 else count_text(len(names), "relation")
        return f"Prompts({of}, {len(self.detection):,} for detection, {len(self.evaluation):,} for evaluation)"

    def _repr_html_(self) -> str:
        detection, evaluation = (Counter(one.relation for one in part) for part in (self.detection, self.evaluation))
        first: dict[str, Prompt] = {}
        for prompt in (*self.detection, *self.evaluation):
            first.setdefault(prompt.relation, prompt)
        rows = [(name, detection[name], evaluation[name], one._query, one.object) for name, one in first.items()]
        columns = ["relation", "detection", "evaluation", "a query", "its object"]
        return line(self) + table(columns, rows, most=20)


@validated
def make_prompts(relations: Sequence[Relation], config: PromptConfig | None = None) -> Prompts:
    """Create the detection and evaluation prompts of relations.

    Args:
        relations: At least one relation, each name once.
        config: Configuration of the prompts; by default `PromptConfig()`.

    Returns:
        The prompts. No subject is in both detection and evaluation, even across relations; facts
        of the few-shot examples are in neither.

    Raises:
        RelationNeuronsError: A relation has too few facts for the split, no templates in the set,
            or no translation.

    Example:
        >>> from relation_neurons.relations.loading import load_relations
        >>> prompts = make_prompts(load_relations("country_capital"), PromptConfig(shots=0, templates="first"))
        >>> prompts.evaluation[0].text.endswith(" is? Answer:")
        True
    """
    config = config or PromptConfig()
    splits = split_facts(relations, config)
    detection: list[Prompt] = []
    evaluation: list[Prompt] = []
    for relation in relations:
        split = splits[relation.name]
        detection += _fact_prompts(relation, split.detection[: config.n_detection], split.shots, config)
        evaluation += _fact_prompts(relation, split.evaluation, split.shots, config)
    return Prompts(tuple(detection), tuple(evaluation), config)


def split_facts(relations: Sequence[Relation], config: PromptConfig) -> dict[str, Split]:
    """`split_relations` as configured."""
    return split_relations(
        relations,
        n_evaluation=config.n_evaluation,
        n_shots=config.shots,
        seed=config.split_seed,
        by=config.split,
    )


def first_facts(prompts: Sequence[Prompt], n: int | None) -> tuple[Prompt, ...]:
    """All prompts of the first n facts of each relation; None keeps all."""
    kept: dict[str, dict[str, None]] = {}
    for prompt in prompts:
        facts = kept.setdefault(prompt.relation, {})
        if n is None or len(facts) < n:
            facts.setdefault(prompt.columns["fact"])
    return tuple(prompt for prompt in prompts if prompt.columns["fact"] in kept[prompt.relation])


def relation_names(prompts: Sequence[Prompt]) -> tuple[str, ...]:
    """The distinct relations of prompts, in order of appearance."""
    return tuple(dict.fromkeys(prompt.relation for prompt in prompts))


def _fact_prompts(
    relation: Relation, facts: Sequence[Fact], shots: Sequence[Fact], config: PromptConfig
) -> list[Prompt]:
    """Prompts of facts; each query is preceded by the few-shot examples in the same template."""
    code = config.language or relation.language
    source: Relation | Translation = relation if code == relation.language else translation(relation, code)
    templates = source.templates if config.template_set == "main" else source.templates_zs
    if not templates:
        raise refuse(
            f"Relation '{relation.name}' has no template in the set '{config.template_set}'",
            do="add prompt_templates_zs to its file or use the set 'main'",
        )
    numbered = [(number, named) for number, fact in enumerate(facts) for named in _in_language(source, [fact])]
    examples = _in_language(source, shots)
    if not numbered or len(examples) < config.shots:
        raise refuse(
            f"Relation '{relation.name}' has names in '{code}' for {len(numbered)} facts, {len(examples)} examples",
            expected=f"at least one and {config.shots}",
            do="translate more names, or lower shots",
        )
    answer = language(code).answer if config.answer is None else config.answer
    common = Prompt(
        relation.name,
        "",
        "",
        "",
        candidates=tuple(sorted({fact.object for fact in _in_language(source, relation.facts)})),
        language=code,
        joint=language(code).joint if config.joint is None else config.joint,
        bos=config.bos,
    )
    ids, units = fact_ids(facts), _units(facts)
    return [
        _prompt(common, fact, examples, index, templates[index] + answer, identity=(ids[number], units[number]))
        for number, fact in numbered
        for index in _templates_of(number, len(templates), config.templates)
    ]


def _in_language(source: Relation | Translation, facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """Facts in the language of a relation or of its translation."""
    return translate(facts, source) if isinstance(source, Translation) else tuple(facts)


def _prompt(
    common: Prompt, fact: Fact, shots: Sequence[Fact], index: int, query: str, *, identity: tuple[str, str]
) -> Prompt:
    """The prompt of one fact in one template, with its `fact` and `unit`, and the other attributes of `common`."""
    examples = "".join(f"{query.replace('{}', shot.subject)}{common.joint}{shot.object}\n" for shot in shots)
    return replace(
        common,
        subject=fact.subject,
        object=fact.object,
        text=examples + query.replace("{}", fact.subject),
        query_start=len(examples),
        template=index,
        aliases=fact.aliases,
        fact=identity[0],
        unit=identity[1],
    )


def _units(facts: Sequence[Fact]) -> list[str]:
    """The subject of each fact, in its first spelling."""
    first: dict[str, str] = {}
    return [first.setdefault(key(fact.subject), fact.subject) for fact in facts]


def _templates_of(number: int, n_templates: int, mode: str) -> Sequence[int]:
    return {"all": range(n_templates), "first": range(1), "cycle": (number % n_templates,)}[mode]
