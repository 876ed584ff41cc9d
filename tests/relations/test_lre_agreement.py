"""The shipped facts against the LRE data set, where a copy is at hand (LRE_FOLDER names its folder `data/factual`)."""

import json
import os
from pathlib import Path

import pytest

import relation_neurons as rn
from relation_neurons.evaluation.answers import string_rule
from relation_neurons.relations.loading import data_folder
from relation_neurons.relations.lre import PAPER
from relation_neurons.relations.relation import key

SAME_RELATION = PAPER | {
    "country_capital": "country_capital_city",
    "country_currency": "country_currency",
    "country_language": "country_language",
}
FOLDER = Path(os.environ.get("LRE_FOLDER", ""))


def compare(name: str) -> tuple[int, list[tuple[str, str, str]]]:
    """Shared subjects, and those where neither object begins with the other."""
    (relation,) = rn.load_relations(name)
    theirs: dict[str, set[str]] = {}
    for sample in json.loads((FOLDER / f"{SAME_RELATION[name]}.json").read_text(encoding="utf-8"))["samples"]:
        theirs.setdefault(key(sample["subject"]), set()).add(
            sample["object"].encode().decode("unicode_escape") if "\\u" in sample["object"] else sample["object"]
        )
    shared = [fact for fact in relation.facts if key(fact.subject) in theirs]
    differing = []
    for fact in shared:
        others = theirs[key(fact.subject)]
        if not any(string_rule(fact.object, other) or string_rule(other, fact.object) for other in others):
            differing.append((fact.subject, fact.object, ", ".join(sorted(others))))
    return len(shared), differing


@pytest.mark.skipif(not os.environ.get("LRE_FOLDER"), reason="LRE_FOLDER does not name a copy of the LRE data")
@pytest.mark.parametrize("name", sorted(SAME_RELATION))
def test_disagreements_with_lre_are_all_listed(name):
    n_shared, differing = compare(name)
    text = (data_folder() / "README.md").read_text(encoding="utf-8")
    section = text.split(f"### {name}\n")[1].split("\n### ")[0]
    assert f"LRE: {n_shared - len(differing)} of {n_shared} shared subjects agree" in section
    for subject, _, _ in differing:
        assert f"- {subject}:" in section
