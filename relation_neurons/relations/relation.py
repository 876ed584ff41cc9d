"""Relations and their facts, read from files and validated.

A relation file follows the JSON schema of the LRE dataset (Hernandez et al. 2024). Its optional new
fields include `source`, and `aliases`: lists of equally correct names, by object.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relation_neurons.errors import FILE_NAME, RelationNeuronsError, is_file_name, refuse, shortened
from relation_neurons.relations.json_text import read_json
from relation_neurons.statistics.formatting import count_text, name_list
from relation_neurons.statistics.notebook_html import bullets, line, table
from relation_neurons.validation import validated

UNPAIRED_SURROGATE = re.compile("[\ud800-\udfff]")  # cannot be encoded in UTF-8 or tokenised


@validated
@dataclass(frozen=True)
class Fact:
    """A pair of subject and object for which a relation holds.

    Attributes:
        subject: The subject.
        object: The object.
        aliases: Other names of the object.
        original: For a translated fact, the subject in the relation's original language.
    """

    subject: str
    object: str
    aliases: tuple[str, ...] = ()
    original: str = ""


@dataclass(frozen=True)
class Translation:
    """A relation in another language.

    Attributes:
        templates: The first template set, as in `Relation`.
        templates_zs: The second template set, as in `Relation`.
        subjects: The translated name of each subject that has one.
        objects: The translated name of each object that has one.
        aliases: Other names of objects, by translated name.
    """

    templates: tuple[str, ...]
    templates_zs: tuple[str, ...]
    subjects: Mapping[str, str]
    objects: Mapping[str, str]
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@validated
@dataclass(frozen=True)
class Relation:
    """A relation: its templates and facts.

    Attributes:
        name: A valid file name; the paper's name if it has one, such as `person_father`.
        templates: Sentences with one `{}` for the subject that end before the object (the paper's
            P_eva).
        templates_zs: The second template set (the paper's P_eva-2).
        facts: Subject-object pairs; a subject may have several objects, and a pair may repeat.
        source: The source of the facts.
        properties: The LRE schema's `properties`, such as `domain_name` and `range_name`.
        language: Language code of templates and facts.
        translations: Translations by language code.
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
        """The share of facts with the most frequent object: the accuracy of a constant answer."""
        return Counter(fact.object for fact in self.facts).most_common(1)[0][1] / len(self.facts)

    def __repr__(self) -> str:
        counts = count_text(len(self.facts), "fact"), count_text(len({fact.object for fact in self.facts}), "object")
        n_templates = count_text(len(self.templates) + len(self.templates_zs), "template")
        languages = name_list((self.language, *self.translations))
        return f"Relation({self.name!r}, {', '.join(counts)}, {n_templates}, in {languages})"

    def _repr_html_(self) -> str:
        facts = [(fact.subject, fact.object, ", ".join(fact.aliases)) for fact in self.facts]
        return line(self) + bullets(self.templates) + table(["subject", "object", "aliases"], facts, most=5)


def read_relation(path: Path) -> Relation:
    """Read and validate a relation file in JSON.

    Raises:
        RelationNeuronsError: The file cannot be read, is not JSON, or has an invalid field.
    """
    return relation_from_dict(read_json(path), str(path))


def relation_from_dict(raw: object, where: str) -> Relation:
    """Create a relation from the decoded contents of a relation file.

    Args:
        raw: The decoded JSON.
        where: The name of the file in error messages.

    Raises:
        RelationNeuronsError: The contents are invalid; the message names the field.
    """
    if not isinstance(raw, dict):
        raise refuse(f"{where}: is a {type(raw).__name__}", expected="one JSON object")
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
    """Create a translation from a decoded translation file.

    Its fields are `prompt_templates`, `prompt_templates_zs`, `subjects`, `objects` and `aliases`.

    Raises:
        RelationNeuronsError: A field is invalid.
    """
    if not isinstance(raw, dict):
        raise refuse(f"a translation is {raw!r}", expected="an object with templates, subjects and objects")
    names = {part: raw.get(part) for part in ("subjects", "objects")}
    for part, mapping in names.items():
        if not isinstance(mapping, dict) or not mapping:
            raise refuse(f"field '{part}' is {mapping!r}", expected="the translated name of each name")
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
    translations = {}
    for code, translation in raw.items():
        try:
            translations[code] = translation_from_dict(translation)
        except RelationNeuronsError as error:
            raise RelationNeuronsError(f"field 'translations', '{code}': {error}") from None
    return translations


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
    aliases = raw.get("aliases", {})
    if not isinstance(aliases, dict):
        raise refuse(f"field 'aliases' is {aliases!r}", expected="an object that maps objects to lists of other names")
    object_keys = set(map(key, objects))
    for name, others in aliases.items():
        where = f"field 'aliases', '{name}'"
        if name not in objects:
            raise refuse(f"{where}: no sample has this object", expected="the object of a sample")
        if not isinstance(others, list):
            raise refuse(f"{where} is {others!r}", expected="a list of other names")
        taken = set(object_keys)
        for alias in others:
            if key(_term(alias, f"{where}: a name")) in taken:
                raise refuse(f"{where}: {alias!r} is an object itself or occurs twice", expected="each name once")
            taken.add(key(alias))
    return {name: tuple(others) for name, others in aliases.items()}


def _name(value: object) -> str:
    """Validate a relation's name, which is also used as a file name."""
    name = _term(value, "field 'name'")
    if not is_file_name(name):
        raise refuse(f"field 'name' is {shortened(name)!r}, which cannot be the name of a file", expected=FILE_NAME)
    return name


def _term(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or value != value.strip():
        raise refuse(f"{where} is {value!r}", expected="a non-empty text without surrounding spaces")
    return _text(value, where)


def _text(value: object, where: str) -> str:
    """Validate a text: unpaired surrogates cannot be encoded or tokenised."""
    if not isinstance(value, str) or UNPAIRED_SURROGATE.search(value):
        raise refuse(f"{where} is {value!r}", expected="a text without unpaired surrogates")
    return value


def _properties(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise refuse(f"field 'properties' is {value!r}", expected="an object")
    return value


def fact_ids(facts: Sequence[Fact]) -> list[str]:
    """An identifier for each fact, unique even where facts repeat, such as `Peru = Lima` and `Peru = Lima (2)`."""
    ids: dict[str, None] = {}
    for fact in facts:
        name = identifier = f"{fact.subject} = {fact.object}"
        copy = 1
        while identifier in ids:
            copy += 1
            identifier = f"{name} ({copy})"
        ids[identifier] = None
    return list(ids)


def key(name: str) -> str:
    """Normalise a name: two spellings with the same key count as the same name."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())
