"""Check custom relations and report every problem with its line number.

A file has no errors if and only if it loads and has enough facts for the split. Warnings point out
likely mistakes that do not prevent loading.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from relation_neurons.errors import RelationNeuronsError, number_text, refuse
from relation_neurons.relations.diagnostics import Diagnostic
from relation_neurons.relations.lint_parser import ParsedRelation, parse_file, parse_relation
from relation_neurons.relations.lint_warnings import lint_warnings, only_negatives
from relation_neurons.relations.relation import Fact, Relation
from relation_neurons.relations.splits import split_relations
from relation_neurons.relations.table_layout import TableLayout
from relation_neurons.relations.tables import AS_IS, require_table


@dataclass(frozen=True)
class Problem:
    """One error or warning.

    Attributes:
        level: `error` if the package cannot use the relation, `warning` otherwise.
        file: The file, or the name of the relation if a `Relation` was checked.
        line: The line of the file, if known.
        field: The column of a table, or the field of a JSON file with list items counted from 1,
            such as `samples 3: object`.
        found: What was found.
        expected: What was expected.
    """

    level: Literal["error", "warning"]
    file: str
    line: int | None
    field: str
    found: str
    expected: str


def check(
    path_or_relation: str | Path | Relation, *, n_evaluation: int = 40, shots: int = 2, layout: TableLayout = AS_IS
) -> list[Problem]:
    """List all problems of a relation file, JSON or CSV, or of a relation.

    Args:
        path_or_relation: What to check. For each translation in a file only the first error is
            listed; the translations of a `Relation` are not checked.
        n_evaluation: Number of evaluation subjects in the split.
        shots: Number of few-shot examples in the split.
        layout: How a table is read that was not made for this package; see `table_layout`.

    Returns:
        The problems, sorted by line. None has level `error` if and only if the file loads and
        `split_relations` can split its relations.

    Raises:
        RelationNeuronsError: `n_evaluation` is less than 1 or `shots` less than 0.

    Example:
        >>> facts = (Fact("FC Ayr", "Ayr"), Fact("FC Porto", "Matosinhos"))
        >>> problems = check(Relation("city", ("{} plays in",), (), facts), n_evaluation=1, shots=0)
        >>> print(format_problems(problems))
        city: warning: samples 1: object: 'Ayr' occurs in 'FC Ayr'. Expected: a subject without the object.
        Errors: 0. Warnings: 1.
    """
    for name, value, least in (("n_evaluation", n_evaluation, 1), ("shots", shots, 0)):
        if value < least:
            raise refuse(f"{name} is {number_text(value)}", expected=f"at least {least}")
    if isinstance(path_or_relation, Relation):
        file = path_or_relation.name
        relations, errors, warnings = parse_relation(_as_json(path_or_relation), {})
    else:
        file = str(path_or_relation)
        relations, errors, warnings = parse_file(file, layout)
    errors = [*errors, *_split_errors(relations, n_evaluation, shots)]
    warnings = [*warnings, *chain.from_iterable(map(lint_warnings, relations))]
    problems = [Problem("error", file, *diagnostic) for diagnostic in errors]
    problems += [Problem("warning", file, *diagnostic) for diagnostic in warnings]
    return sorted(problems, key=lambda problem: problem.line or 0)


def check_files(
    files: Sequence[str | Path], *, n_evaluation: int = 40, shots: int = 2, layout: TableLayout = AS_IS
) -> list[Problem]:
    """List all problems of relation files, and of a study of all their relations.

    Args:
        files: JSON or CSV.
        n_evaluation: As of `check`.
        shots: As of `check`.
        layout: As of `check`.

    Raises:
        RelationNeuronsError: A layout, and no table.
    """
    require_table(layout, files)
    problems = [one for file in files for one in check(file, n_evaluation=n_evaluation, shots=shots, layout=layout)]
    names = [one.name for file in files for one in parse_file(str(file), layout)[0]]
    if found := only_negatives(names):
        problems.append(Problem("warning", ", ".join(map(str, files)), None, "relations", *found))
    return problems


def format_problems(problems: Sequence[Problem]) -> str:
    """Format problems for the console, one per line, followed by their counts."""
    lines = []
    for problem in problems:
        place = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
        lines.append(f"{place}: {problem.level}: {problem.field}: {problem.found}. Expected: {problem.expected}.")
    count = Counter(problem.level for problem in problems)
    return "\n".join([*lines, f"Errors: {count['error']}. Warnings: {count['warning']}."])


def _split_errors(parsed: Sequence[ParsedRelation], n_evaluation: int, shots: int) -> Iterator[Diagnostic]:
    """Relations with too few facts to split alone or, if none, together with the others."""
    relations = []
    for relation in parsed:
        facts = tuple(Fact(subject.text, answer.text) for subject, answer in relation.facts)
        if facts:
            relations.append(Relation(relation.name, (), (), facts))
    alone = [error for relation in relations if (error := _split_error([relation], n_evaluation, shots))]
    for error in alone or filter(None, [_split_error(relations, n_evaluation, shots)]):
        yield Diagnostic(None, "samples", error, f"enough for n_evaluation={n_evaluation}, shots={shots}")


def _split_error(relations: Sequence[Relation], n_evaluation: int, shots: int) -> str:
    """Why relations cannot be split, empty if they can."""
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
