"""Everything that is wrong with relations of your own, with line numbers, before a run is spent on them.

Errors are what the package refuses: a file has none if and only if it loads and its facts suffice for the split.
Warnings are what it accepts although you may not have meant it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from relation_neurons.errors import RelationNeuronsError, number_text, refuse
from relation_neurons.relations.lint_parser import Content, contents_of, read_contents
from relation_neurons.relations.lint_warnings import lint_warnings
from relation_neurons.relations.relation import Fact, Relation
from relation_neurons.relations.splits import split_relations
from relation_neurons.relations.tables import Fault


@dataclass(frozen=True)
class Problem:
    """One thing to mend, or to look at.

    Attributes:
        level: `error` if the package refuses it, `warning` if not.
        file: The file, or the name of the relation where it was given as one.
        line: The line of the file, where there is one.
        field: The column of a table, or the field of a JSON file with list items counted from 1: `samples 3: object`.
        found: What is there.
        expected: What should be there.
    """

    level: Literal["error", "warning"]
    file: str
    line: int | None
    field: str
    found: str
    expected: str


def check(path_or_relation: str | Path | Relation, *, n_evaluation: int = 40, shots: int = 2) -> list[Problem]:
    """List all problems of a relation file, JSON or CSV, or of a relation.

    Args:
        path_or_relation: What to check. Of a translation in a file only the first error is listed, and a `Relation` is
            checked without its translations.
        n_evaluation: Evaluation subjects that the split shall have.
        shots: Solved examples that the split shall have.

    Returns:
        The problems by line. There is none of the level `error` if and only if the file loads and `split_relations`
        can split what it holds.

    Raises:
        RelationNeuronsError: `n_evaluation` or `shots` is no number of facts.

    Example:
        >>> facts = (Fact("Paris Saint-Germain", "Paris"), Fact("FC Porto", "Matosinhos"))
        >>> problems = check(Relation("city", ("{} plays in",), (), facts), n_evaluation=1, shots=0)
        >>> print(format_problems(problems))
        city: warning: samples 1: object: 'Paris' stands in 'Paris Saint-Germain'. Expected: an answer not given away.
        Errors: 0. Warnings: 1.
    """
    for name, value, least in (("n_evaluation", n_evaluation, 1), ("shots", shots, 0)):
        if value < least:
            raise refuse(f"{name} is {number_text(value)}", expected=f"at least {least}")
    if isinstance(path_or_relation, Relation):
        file = path_or_relation.name
        contents, errors, warnings = contents_of(_as_json(path_or_relation), {})
    else:
        file = str(path_or_relation)
        contents, errors, warnings = read_contents(file)
    errors = [*errors, *_split_faults(contents, n_evaluation, shots)]
    warnings = [*warnings, *chain.from_iterable(map(lint_warnings, contents))]
    problems = [Problem("error", file, *fault) for fault in errors]
    problems += [Problem("warning", file, *fault) for fault in warnings]
    return sorted(problems, key=lambda problem: problem.line or 0)


def format_problems(problems: Sequence[Problem]) -> str:
    """The problems as lines for the console, with their numbers at the end."""
    lines = []
    for problem in problems:
        place = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
        lines.append(f"{place}: {problem.level}: {problem.field}: {problem.found}. Expected: {problem.expected}.")
    count = Counter(problem.level for problem in problems)
    return "\n".join([*lines, f"Errors: {count['error']}. Warnings: {count['warning']}."])


def _split_faults(contents: Sequence[Content], n_evaluation: int, shots: int) -> Iterator[Fault]:
    """Relations with too few facts by themselves or, if there is none, beside the others of the file."""
    relations = []
    for content in contents:
        facts = tuple(Fact(subject.text, answer.text) for subject, answer in content.facts)
        relations.append(Relation(content.name, (), (), facts))
    relations = [relation for relation in relations if relation.facts]
    alone = [refusal for relation in relations if (refusal := _too_few([relation], n_evaluation, shots))]
    for refusal in alone or filter(None, [_too_few(relations, n_evaluation, shots)]):
        yield Fault(None, "samples", refusal, f"enough for n_evaluation={n_evaluation}, shots={shots}")


def _too_few(relations: Sequence[Relation], n_evaluation: int, shots: int) -> str:
    try:
        split_relations(relations, n_evaluation=n_evaluation, n_shots=shots)
    except RelationNeuronsError as error:
        return str(error).partition(". Do this: ")[0]
    return ""


def _as_json(relation: Relation) -> dict[str, Any]:
    aliases: dict[str, dict[str, None]] = {}
    for fact in relation.facts:
        aliases.setdefault(fact.object, {}).update(dict.fromkeys(fact.aliases))
    return {
        "name": relation.name,
        "prompt_templates": list(relation.templates),
        "prompt_templates_zs": list(relation.templates_zs),
        "language": relation.language,
        "samples": [{"subject": fact.subject, "object": fact.object} for fact in relation.facts],
        "aliases": {name: list(others) for name, others in aliases.items()},
    }
