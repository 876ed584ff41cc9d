"""The LRE dataset (Hernandez et al. 2024) with errors corrected, and the paper's subset of it.

`load` makes all corrections and merges repeated subjects. `paper` keeps every sample, as the paper
does, so that the numbers of facts match the paper's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from relation_neurons.relations import lre_download
from relation_neurons.relations.relation import Relation, key, relation_from_dict

PAPER: Mapping[str, str] = {
    "company_ceo": "company_ceo",
    "company_hq": "company_hq",
    "landmark_continent": "landmark_on_continent",
    "landmark_country": "landmark_in_country",
    "person_father": "person_father",
    "person_mother": "person_mother",
    "person_occupation": "person_occupation",
    "person_plays_instrument": "person_plays_instrument",
    "person_pro_sport": "person_plays_pro_sport",
    "person_sport_position": "person_plays_position_in_sport",
    "product_company": "product_by_company",
    "star_constellation": "star_constellation",
}
"""The paper's relations in the order of its table, each with its name in LRE."""

PAPER_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "person_plays_instrument": ("{} plays the instrument of",),
    "product_company": ("{} was created by which company", "{} is a product of which company"),
}
"""Templates that the paper changed; the others are LRE's `prompt_templates`."""


@dataclass(frozen=True)
class Repair:
    """One correction to a file of the dataset.

    Attributes:
        relation: The relation's name in LRE.
        place: The sample, counted from 1 in file order, such as `sample 7`.
        kind: `escaped characters`, `outer spaces`, `duplicate fact` or `repeated subject`.
        before: The name or fact in the file.
        after: The corrected name, or how the fact was merged.
    """

    relation: str
    place: str
    kind: str
    before: str
    after: str


def names() -> tuple[str, ...]:
    """The names of LRE's relations (its file names), in the order of `load`.

    Example:
        >>> len(names()), names()[-1]
        (47, 'word_last_letter')
    """
    return tuple(lre_download.paths())


def load(names: str | Iterable[str] | None = None, folder: str | Path | None = None) -> tuple[Relation, ...]:
    """Load relations under LRE's names, with errors corrected; each subject occurs once.

    Args:
        names: The names of the relations; by default all 47.
        folder: The download folder; by default `lre_download.cache_folder()`.

    Raises:
        RelationNeuronsError: A name is unknown, or a file was not downloaded or has been modified.
    """
    return tuple(_relation(name, repair(lre_download.read(name, folder), name)[0]) for name in _chosen(names))


def paper(folder: str | Path | None = None) -> tuple[Relation, ...]:
    """Load the paper's 12 relations in the order of its table, with its names and templates.

    Unlike in `load`, duplicate facts and repeated subjects are kept, so that the numbers of facts
    match the paper's. Splits keep all facts of a subject together, so no subject is used for both
    detection and evaluation.

    Args:
        folder: The download folder; by default `lre_download.cache_folder()`.

    Raises:
        RelationNeuronsError: A file was not downloaded or has been modified.
    """
    relations = []
    for name, lre_name in PAPER.items():
        raw, _ = repair(lre_download.read(lre_name, folder), lre_name, merge=False)
        relation = replace(_relation(lre_name, raw), name=name)
        relations.append(replace(relation, templates=PAPER_TEMPLATES.get(name, relation.templates)))
    return tuple(relations)


def repairs(names: str | Iterable[str] | None = None, folder: str | Path | None = None) -> pd.DataFrame:
    """The corrections that `load` makes: a row per `Repair`; arguments as for `load`."""
    corrections = [change for name in _chosen(names) for change in repair(lre_download.read(name, folder), name)[1]]
    return pd.DataFrame(corrections, columns=list(Repair.__dataclass_fields__))


def repair(raw: dict[str, Any], where: str, *, merge: bool = True) -> tuple[dict[str, Any], list[Repair]]:
    r"""Correct errors in the samples of an LRE file.

    Leading and trailing spaces of names are removed, and doubly escaped characters are unescaped.
    Merging keeps the first sample of each subject: a later sample with the same object is removed;
    the object of a later sample with another object becomes an alias of the first.

    Args:
        raw: The decoded file. A file that does not follow the schema is returned unchanged; loading
            reports its errors.
        where: The relation's name in the corrections.
        merge: Whether to merge the samples of a subject; if false, every sample is kept.

    Returns:
        The corrected file, whose samples may have `aliases` of their own, and the corrections.

    Example:
        >>> samples = [{"subject": "Brazil", "object": "Bras\\u00edlia"}, {"subject": "Brazil", "object": "Bahia "}]
        >>> corrected, corrections = repair({"samples": samples}, "capital")
        >>> corrected["samples"]
        [{'subject': 'Brazil', 'object': 'Brasília', 'aliases': ['Bahia']}]
        >>> [correction.kind for correction in corrections]
        ['escaped characters', 'outer spaces', 'repeated subject']
    """
    samples = raw.get("samples")
    if not isinstance(samples, list) or not all(map(_is_sample, samples)):
        return raw, []
    log: list[Repair] = []
    samples = [_correct(sample, f"sample {number}", where, log) for number, sample in enumerate(samples, start=1)]
    return {**raw, "samples": _merge(samples, where, log) if merge else samples}, log


def _is_sample(sample: object) -> bool:
    return isinstance(sample, dict) and all(isinstance(sample.get(part), str) for part in ("subject", "object"))


def _correct(sample: dict[str, str], place: str, where: str, log: list[Repair]) -> dict[str, str]:
    corrected = dict(sample)
    for kind, correct in (("escaped characters", _unescape), ("outer spaces", str.strip)):
        for part in ("subject", "object"):
            before, corrected[part] = corrected[part], correct(corrected[part])
            if corrected[part] != before:
                log.append(Repair(where, place, kind, before, corrected[part]))
    return corrected


def _unescape(text: str) -> str:
    # Adjacent escapes are decoded together, since two can encode one character (a surrogate pair).
    return re.sub(r"(?:\\u[0-9a-fA-F]{4})+", lambda match: str(json.loads(f'"{match[0]}"')), text)


def _merge(samples: list[dict[str, str]], where: str, log: list[Repair]) -> list[dict[str, Any]]:
    kept: dict[str, tuple[int, dict[str, Any]]] = {}
    for number, sample in enumerate(samples, start=1):
        first_number, first = kept.setdefault(key(sample["subject"]), (number, {**sample, "aliases": []}))
        if first_number == number:
            continue
        before = f"{sample['subject']}: {sample['object']}"
        if key(sample["object"]) in map(key, (first["object"], *first["aliases"])):
            log.append(Repair(where, f"sample {number}", "duplicate fact", before, "removed"))
        else:
            first["aliases"].append(sample["object"])
            after = f"alias in sample {first_number}"
            log.append(Repair(where, f"sample {number}", "repeated subject", before, after))
    return [sample for _, sample in kept.values()]


def _relation(name: str, raw: dict[str, Any]) -> Relation:
    path, commit = lre_download.paths()[name], lre_download.registry().commit
    source = f"LRE (Hernandez et al. 2024), {path} at commit {commit} of evandez/relations"
    relation = relation_from_dict({**raw, "name": name, "source": source}, f"LRE's {name}")
    pairs = zip(relation.facts, raw["samples"], strict=True)
    return replace(
        relation, facts=tuple(replace(fact, aliases=tuple(sample.get("aliases", ()))) for fact, sample in pairs)
    )


def _chosen(names: str | Iterable[str] | None) -> tuple[str, ...]:
    if names is None:
        return tuple(lre_download.paths())
    return (names,) if isinstance(names, str) else tuple(names)
