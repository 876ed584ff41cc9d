"""Relations and their facts: load, validate, split.

A relation file follows the JSON schema of the LRE data set (Hernandez et al. 2024), with two optional fields added:
`source`, and `aliases`, which maps objects to lists of other names that are as right.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from relation_neurons.errors import RelationNeuronsError, nearest, refuse


@dataclass(frozen=True)
class Fact:
    """One triple without its relation: `subject` stands to `object`, which may have aliases, as the relation says."""

    subject: str
    object: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Relation:
    """A relation with the templates that express it and the facts known of it.

    Attributes:
        name: The paper's name where it has one, such as `person_father`.
        templates: Sentences with one `{}` for the subject, ending where the object would stand (the paper's P_eva).
        templates_zs: The second template set (the paper's P_eva-2).
        facts: Subject-object pairs; no subject occurs twice in the shipped files.
        source: Where the facts come from.
        properties: The LRE schema's `properties`, such as `domain_name` and `range_name`.
    """

    name: str
    templates: tuple[str, ...]
    templates_zs: tuple[str, ...]
    facts: tuple[Fact, ...]
    source: str = ""
    properties: Mapping[str, object] = field(default_factory=dict, hash=False)

    @property
    def objects(self) -> tuple[str, ...]:
        """The distinct objects, sorted."""
        return tuple(sorted({fact.object for fact in self.facts}))

    @property
    def majority_share(self) -> float:
        """Share of the facts whose object is the most frequent one: what a constant answer would score."""
        return Counter(fact.object for fact in self.facts).most_common(1)[0][1] / len(self.facts)


@dataclass(frozen=True)
class Split:
    """The facts of one relation by role; no subject has two roles, in whatever relation it occurs."""

    detection: tuple[Fact, ...]
    evaluation: tuple[Fact, ...]
    shots: tuple[Fact, ...]


def shipped_names() -> tuple[str, ...]:
    """Names of the relations that come with the package, sorted."""
    return tuple(sorted(path.stem for path in _shipped_folder().glob("*.json")))


def load_relations(*sources: str | Path) -> tuple[Relation, ...]:
    """Load relations by name, file or folder.

    Args:
        sources: Each is `"shipped"` (all that come with the package), the name of a shipped relation, a JSON file in
            the LRE schema, or a folder of such files. None given means `"shipped"`.

    Returns:
        The relations, in the order asked for.

    Raises:
        RelationNeuronsError: An unknown name, an unreadable or malformed file, or the same relation twice.

    Example:
        >>> [relation.name for relation in load_relations("country_capital", "person_father")]
        ['country_capital', 'person_father']
    """
    paths = [path for source in sources or ("shipped",) for path in _paths(source)]
    relations = tuple(read_relation(path) for path in paths)
    twice = [name for name, n in Counter(relation.name for relation in relations).items() if n > 1]
    if twice:
        raise refuse(f"Relation '{twice[0]}' was asked for twice", expected="each relation once")
    return relations


def read_relation(path: Path) -> Relation:
    """Read and validate one relation file.

    Raises:
        RelationNeuronsError: Not readable, not JSON, not the schema, or facts that cannot be used; names the place.
    """
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise refuse(f"{path}: cannot be read ({error.strerror})", do="check the path and its permissions") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise refuse(f"{path}: is not JSON in UTF-8 ({error})", expected="a relation file in the LRE schema") from error
    if not isinstance(raw, dict):
        raise refuse(f"{path}: holds a {type(raw).__name__}", expected="one JSON object")
    try:
        return Relation(
            name=_term(raw.get("name"), "field 'name'"),
            templates=_templates(raw, "prompt_templates"),
            templates_zs=_templates(raw, "prompt_templates_zs", required=False),
            facts=_facts(raw),
            source=str(raw.get("source", "")),
            properties=dict(raw.get("properties") or {}),
        )
    except RelationNeuronsError as error:
        raise RelationNeuronsError(f"{path}: {error}") from None


def split_relations(
    relations: Sequence[Relation], *, n_evaluation: int = 40, n_shots: int = 2, seed: int = 0
) -> dict[str, Split]:
    """Divide every relation's facts into detection, evaluation and few-shot examples.

    Subjects are ordered by a hash of the seed and their name. Each relation takes its first `n_evaluation` subjects to
    evaluate, its last `n_shots` as examples with distinct objects, and detects with the rest. A subject that any
    relation evaluates is left out of every relation's detection and examples, so nothing is learned about it anywhere.
    The order depends on nothing but seed and subject: adding a relation does not reshuffle the others.

    Args:
        relations: The relations to split together.
        n_evaluation: Evaluation subjects per relation (the paper holds out 50 triples).
        n_shots: Facts set aside as solved examples.
        seed: Chooses the order.

    Returns:
        A split per relation name. Facts whose subject repeats stay together.

    Raises:
        RelationNeuronsError: A relation has too few facts for the split asked for.
    """
    ordered = {relation.name: _by_subject(relation, seed) for relation in relations}
    held_out = {subject for groups in ordered.values() for subject in list(groups)[:n_evaluation]}
    splits = {}
    for relation in relations:
        groups = ordered[relation.name]
        evaluation = [fact for subject in list(groups)[:n_evaluation] for fact in groups[subject]]
        rest = [fact for subject, facts in groups.items() if subject not in held_out for fact in facts]
        shots = _distinct_objects(rest[::-1], n_shots)
        shot_subjects = {_key(fact.subject) for fact in shots}
        detection = [fact for fact in rest if _key(fact.subject) not in shot_subjects]
        if len(groups) < n_evaluation or len(shots) < n_shots or not detection:
            raise refuse(
                f"Relation '{relation.name}' has {len(groups)} subjects, of which {len(rest)} facts are left beside "
                f"the evaluation of all relations: too few for {n_evaluation} to evaluate, {n_shots} examples "
                "with distinct objects and at least one to detect with",
                do="lower n_evaluation or shots, or add facts",
            )
        splits[relation.name] = Split(tuple(detection), tuple(evaluation), tuple(shots))
    return splits


def stable_rank(seed: int, *texts: str) -> bytes:
    """A sort key that shuffles texts by seed, the same on every machine and for every version of every library."""
    return hashlib.sha256("\x1f".join((str(seed), *texts)).encode()).digest()


def _shipped_folder() -> Path:
    """The relation files: inside an installed package, beside it in a checkout."""
    installed = Path(str(resources.files("relation_neurons"))) / "data" / "relations"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "data" / "relations"


def _paths(source: str | Path) -> list[Path]:
    shipped = shipped_names()
    if source == "shipped":
        return [_shipped_folder() / f"{name}.json" for name in shipped]
    if source in shipped:
        return [_shipped_folder() / f"{source}.json"]
    path = Path(source)
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        if not files:
            raise refuse(f"Folder {path} holds no .json file", expected="relation files in the LRE schema")
        return files
    if path.is_file():
        return [path]
    raise refuse(
        f"'{source}' is neither a shipped relation nor a file or folder",
        expected=nearest(str(source), (*shipped, "shipped")),
    )


def _templates(raw: Mapping[str, object], key: str, required: bool = True) -> tuple[str, ...]:
    value = raw.get(key, [])
    if not isinstance(value, list) or (required and not value):
        raise refuse(f"field '{key}' is {value!r}", expected="a list with at least one template")
    for template in value:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise refuse(f"field '{key}' has {template!r}", expected="a text with exactly one {} for the subject")
    return tuple(value)


def _facts(raw: Mapping[str, object]) -> tuple[Fact, ...]:
    samples = raw.get("samples")
    if not isinstance(samples, list) or not samples:
        raise refuse("field 'samples' is missing or empty", expected="a list of {subject, object}")
    pairs = []
    for number, sample in enumerate(samples, start=1):
        if not isinstance(sample, dict):
            raise refuse(f"sample {number} is {sample!r}", expected="an object with 'subject' and 'object'")
        pairs.append([_term(sample.get(key), f"sample {number}: '{key}'") for key in ("subject", "object")])
    aliases = _aliases(raw, {name for _, name in pairs})
    return tuple(Fact(subject, name, aliases.get(name, ())) for subject, name in pairs)


def _aliases(raw: Mapping[str, object], objects: set[str]) -> dict[str, tuple[str, ...]]:
    listed = raw.get("aliases", {})
    if not isinstance(listed, dict):
        raise refuse(f"field 'aliases' is {listed!r}", expected="a list of other names for each object that has some")
    for name, others in listed.items():
        where = f"field 'aliases', '{name}'"
        if name not in objects:
            raise refuse(f"{where}: no sample has this object", expected="the object of a sample")
        if not isinstance(others, list):
            raise refuse(f"{where} is {others!r}", expected="a list of other names")
        taken = set(map(_key, objects))
        for alias in others:
            if _key(_term(alias, f"{where}: a name")) in taken:
                raise refuse(f"{where}: {alias!r} is an object itself or stands twice", expected="each name once")
            taken.add(_key(alias))
    return {name: tuple(others) for name, others in listed.items()}


def _term(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or value != value.strip():
        raise refuse(f"{where} is {value!r}", expected="a text without outer spaces, not empty")
    return value


def _key(name: str) -> str:
    """What makes two spellings the same name."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _by_subject(relation: Relation, seed: int) -> dict[str, list[Fact]]:
    groups: dict[str, list[Fact]] = {}
    for fact in relation.facts:
        groups.setdefault(_key(fact.subject), []).append(fact)
    return {subject: groups[subject] for subject in sorted(groups, key=lambda subject: stable_rank(seed, subject))}


def _distinct_objects(facts: Sequence[Fact], n: int) -> list[Fact]:
    chosen: dict[str, Fact] = {}
    for fact in facts:
        chosen.setdefault(fact.object, fact)
    return list(chosen.values())[:n]
