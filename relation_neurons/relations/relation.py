"""Relations and their facts, read from files and validated.

A relation file follows the JSON schema of the LRE data set (Hernandez et al. 2024), with two optional fields added:
`source`, and `aliases`, which maps objects to lists of other names that are as right.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from relation_neurons.errors import FILE_NAME, RelationNeuronsError, is_file_name, refuse, shortened

HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # of a surrogate pair, which no file and no tokenizer takes


@dataclass(frozen=True)
class Fact:
    """One triple without its relation: `subject` stands to `object`, which may have aliases, as the relation says.

    Where the fact is a translation, `original` is the subject in the relation's own language.
    """

    subject: str
    object: str
    aliases: tuple[str, ...] = ()
    original: str = ""


@dataclass(frozen=True)
class Translation:
    """A relation in another language.

    Attributes:
        templates: As in `Relation`.
        templates_zs: As in `Relation`.
        subjects: The name of each subject, as far as it is known.
        objects: The name of each object, as far as it is known.
        aliases: Other names of objects, by their name in this language.
    """

    templates: tuple[str, ...]
    templates_zs: tuple[str, ...]
    subjects: Mapping[str, str]
    objects: Mapping[str, str]
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Relation:
    """A relation with the templates that express it and the facts known of it.

    Attributes:
        name: The paper's name where it has one, such as `person_father`; one that a file can have.
        templates: Sentences with one `{}` for the subject, ending where the object would stand (the paper's P_eva).
        templates_zs: The second template set (the paper's P_eva-2).
        facts: Subject-object pairs; no subject occurs twice in the shipped files.
        source: Where the facts come from.
        properties: The LRE schema's `properties`, such as `domain_name` and `range_name`.
        language: What templates and facts are in.
        translations: The relation in other languages.
    """

    name: str
    templates: tuple[str, ...]
    templates_zs: tuple[str, ...]
    facts: tuple[Fact, ...]
    source: str = ""
    properties: Mapping[str, object] = field(default_factory=dict, hash=False)
    language: str = "en"
    translations: Mapping[str, Translation] = field(default_factory=dict, hash=False)

    @property
    def objects(self) -> tuple[str, ...]:
        """The distinct objects, sorted."""
        return tuple(sorted({fact.object for fact in self.facts}))

    @property
    def majority_share(self) -> float:
        """Share of the facts whose object is the most frequent one: what a constant answer would score."""
        return Counter(fact.object for fact in self.facts).most_common(1)[0][1] / len(self.facts)


def read_relation(path: Path) -> Relation:
    """Read and validate one relation file.

    Raises:
        RelationNeuronsError: Not readable, not JSON, not the schema, or facts that cannot be used; names the place.
    """
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise refuse(f"{path}: cannot be read ({error.strerror})", do="check the path and its permissions") from error
    except (ValueError, RecursionError) as error:
        raise refuse(f"{path}: is not JSON in UTF-8 ({error})", expected="a relation file in the LRE schema") from error
    return relation_from_dict(raw, str(path))


def relation_from_dict(raw: object, where: str) -> Relation:
    """Validate what a relation file holds.

    Args:
        raw: The parsed file.
        where: What to call it in errors.

    Raises:
        RelationNeuronsError: Not the schema, or facts that cannot be used; names the place.
    """
    if not isinstance(raw, dict):
        raise refuse(f"{where}: holds a {type(raw).__name__}", expected="one JSON object")
    try:
        return Relation(
            name=_name(raw.get("name")),
            templates=_templates(raw, "prompt_templates"),
            templates_zs=_templates(raw, "prompt_templates_zs", required=False),
            facts=_facts(raw),
            source=_text(raw.get("source", ""), "field 'source'"),
            properties=_properties(raw.get("properties") or {}),
            language=_term(raw.get("language", "en"), "field 'language'"),
            translations=_translations(raw.get("translations", {})),
        )
    except RelationNeuronsError as error:
        raise RelationNeuronsError(f"{where}: {error}") from None
    except RecursionError:
        raise refuse(f"{where}: is nested too deeply", expected="the LRE schema") from None


def translation_from_dict(raw: object) -> Translation:
    """Validate a translation: `prompt_templates`, `prompt_templates_zs`, `subjects`, `objects`, `aliases`.

    Raises:
        RelationNeuronsError: A field that cannot be used.
    """
    if not isinstance(raw, dict):
        raise refuse(f"a translation is {raw!r}", expected="an object with templates, subjects and objects")
    names = {part: raw.get(part) for part in ("subjects", "objects")}
    for part, mapping in names.items():
        if not isinstance(mapping, dict) or not mapping:
            raise refuse(f"field '{part}' is {mapping!r}", expected="the name in this language for each name")
        for name, translated in mapping.items():
            _term(translated, f"field '{part}', '{name}'")
    return Translation(
        _templates(raw, "prompt_templates"),
        _templates(raw, "prompt_templates_zs", required=False),
        dict(raw["subjects"]),
        dict(raw["objects"]),
        _aliases(raw, set(raw["objects"].values())),
    )


def _translations(raw: object) -> dict[str, Translation]:
    if not isinstance(raw, dict):
        raise refuse(f"field 'translations' is {raw!r}", expected="a translation for each language code")
    found = {}
    for code, translation in raw.items():
        try:
            found[code] = translation_from_dict(translation)
        except RelationNeuronsError as error:
            raise RelationNeuronsError(f"field 'translations', '{code}': {error}") from None
    return found


def _templates(raw: Mapping[str, object], key: str, required: bool = True) -> tuple[str, ...]:
    value = raw.get(key, [])
    if not isinstance(value, list) or (required and not value):
        raise refuse(f"field '{key}' is {value!r}", expected="a list with at least one template")
    for template in value:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise refuse(f"field '{key}' has {template!r}", expected="a text with exactly one {} for the subject")
        _text(template, f"field '{key}'")
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
    own = set(map(key, objects))
    for name, others in listed.items():
        where = f"field 'aliases', '{name}'"
        if name not in objects:
            raise refuse(f"{where}: no sample has this object", expected="the object of a sample")
        if not isinstance(others, list):
            raise refuse(f"{where} is {others!r}", expected="a list of other names")
        taken = set(own)
        for alias in others:
            if key(_term(alias, f"{where}: a name")) in taken:
                raise refuse(f"{where}: {alias!r} is an object itself or stands twice", expected="each name once")
            taken.add(key(alias))
    return {name: tuple(others) for name, others in listed.items()}


def _name(value: object) -> str:
    """A relation's name, which becomes that of files."""
    name = _term(value, "field 'name'")
    if not is_file_name(name):
        raise refuse(f"field 'name' is {shortened(name)!r}, which cannot be the name of a file", expected=FILE_NAME)
    return name


def _term(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or value != value.strip():
        raise refuse(f"{where} is {value!r}", expected="a text without outer spaces, not empty")
    return _text(value, where)


def _text(value: object, where: str) -> str:
    """A text of whole characters: half of a surrogate pair can be written nowhere and tokenised by nothing."""
    if not isinstance(value, str) or HALF_CHARACTER.search(value):
        raise refuse(f"{where} is {value!r}", expected="a text of whole characters")
    return value


def _properties(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise refuse(f"field 'properties' is {value!r}", expected="an object")
    return value


def key(name: str) -> str:
    """What makes two spellings the same name."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())
