"""The relations of the LRE data set (Hernandez et al. 2024), its slips mended, and the paper's relations in it.

Two readings of its files: `load` mends all it can and gives each subject once; `paper` keeps every sample, as the paper
does, so that its counts of facts are the paper's.
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
"""The paper's relations in the order of its table, each with LRE's name for it."""

PAPER_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "person_plays_instrument": ("{} plays the instrument of",),
    "product_company": ("{} was created by which company", "{} is a product of which company"),
}
"""Templates that the paper changed; all others are LRE's `prompt_templates`."""


@dataclass(frozen=True)
class Repair:
    """One change to what a file says.

    Attributes:
        relation: LRE's name of the relation.
        place: Such as `sample 7`, counted from 1 as the file has them.
        kind: `escaped characters`, `outer spaces`, `duplicate fact` or `repeated subject`.
        before: The name or fact as the file has it.
        after: What it became.
    """

    relation: str
    place: str
    kind: str
    before: str
    after: str


def names() -> tuple[str, ...]:
    """LRE's relations under its own file names, in the order of `load`.

    Example:
        >>> len(names()), names()[-1]
        (47, 'word_last_letter')
    """
    return tuple(lre_download.paths())


def load(names: str | Iterable[str] | None = None, folder: str | Path | None = None) -> tuple[Relation, ...]:
    """Relations of the data set under LRE's file names, repaired; each subject occurs once.

    Args:
        names: Which; by default all 47.
        folder: Where they were fetched to; by default `lre_files.cache_folder()`.

    Raises:
        RelationNeuronsError: An unknown name, or a file that was not fetched or was changed since.
    """
    return tuple(_relation(name, repair(lre_download.read(name, folder), name)[0]) for name in _chosen(names))


def paper(folder: str | Path | None = None) -> tuple[Relation, ...]:
    """The paper's 12 relations in the order of its table, under its names and with its templates.

    Unlike in `load`, duplicates and repeated subjects stay, so that the numbers of facts are the paper's. Splits keep
    the facts of a subject together, so it is never both detected and evaluated.

    Args:
        folder: Where LRE was fetched to; by default `lre_files.cache_folder()`.

    Raises:
        RelationNeuronsError: A file that was not fetched or was changed since.
    """
    found = []
    for name, theirs in PAPER.items():
        raw, _ = repair(lre_download.read(theirs, folder), theirs, merge=False)
        relation = replace(_relation(theirs, raw), name=name)
        found.append(replace(relation, templates=PAPER_TEMPLATES.get(name, relation.templates)))
    return tuple(found)


def repairs(names: str | Iterable[str] | None = None, folder: str | Path | None = None) -> pd.DataFrame:
    """All that `load` changes in the files: a row per `Repair`, its fields as columns; arguments as for `load`."""
    done = [change for name in _chosen(names) for change in repair(lre_download.read(name, folder), name)[1]]
    return pd.DataFrame(done, columns=list(Repair.__dataclass_fields__))


def repair(raw: dict[str, Any], where: str, *, merge: bool = True) -> tuple[dict[str, Any], list[Repair]]:
    r"""Mend what a file of LRE says; only the samples change.

    Names lose outer spaces, and characters that were escaped twice become themselves. Merging leaves the first sample
    of each subject: a further one with the same object goes; one with another object becomes an alias of the first.

    Args:
        raw: The parsed file. One that is not in the schema comes back as it is, for validation to say so.
        where: What to call the relation in the repairs.
        merge: Whether to merge; without it every sample stays.

    Returns:
        The mended file, whose samples may have `aliases` of their own, and what was changed.

    Example:
        >>> samples = [{"subject": "Brazil", "object": "Bras\\u00edlia"}, {"subject": "Brazil", "object": "Bahia "}]
        >>> mended, done = repair({"samples": samples}, "capital")
        >>> mended["samples"]
        [{'subject': 'Brazil', 'object': 'Brasília', 'aliases': ['Bahia']}]
        >>> [change.kind for change in done]
        ['escaped characters', 'outer spaces', 'repeated subject']
    """
    samples = raw.get("samples")
    if not isinstance(samples, list) or not all(map(_is_sample, samples)):
        return raw, []
    done: list[Repair] = []
    samples = [_mend(sample, f"sample {number}", where, done) for number, sample in enumerate(samples, start=1)]
    return {**raw, "samples": _merge(samples, where, done) if merge else samples}, done


def _is_sample(sample: object) -> bool:
    return isinstance(sample, dict) and all(isinstance(sample.get(part), str) for part in ("subject", "object"))


def _mend(sample: dict[str, str], place: str, where: str, done: list[Repair]) -> dict[str, str]:
    mended = dict(sample)
    for kind, mend in (("escaped characters", _unescape), ("outer spaces", str.strip)):
        for part in ("subject", "object"):
            before, mended[part] = mended[part], mend(mended[part])
            if mended[part] != before:
                done.append(Repair(where, place, kind, before, mended[part]))
    return mended


def _unescape(text: str) -> str:
    # A run at a time, since two escapes may stand for one character.
    return re.sub(r"(?:\\u[0-9a-fA-F]{4})+", lambda found: str(json.loads(f'"{found[0]}"')), text)


def _merge(samples: list[dict[str, str]], where: str, done: list[Repair]) -> list[dict[str, Any]]:
    kept: dict[str, tuple[int, dict[str, Any]]] = {}
    for number, sample in enumerate(samples, start=1):
        at, first = kept.setdefault(key(sample["subject"]), (number, {**sample, "aliases": []}))
        if at == number:
            continue
        before = f"{sample['subject']}: {sample['object']}"
        if key(sample["object"]) in map(key, (first["object"], *first["aliases"])):
            done.append(Repair(where, f"sample {number}", "duplicate fact", before, "removed"))
        else:
            first["aliases"].append(sample["object"])
            done.append(Repair(where, f"sample {number}", "repeated subject", before, f"alias in sample {at}"))
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
