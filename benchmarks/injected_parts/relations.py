"""Relations that no model knows: invented subjects, each with one of ten ordinary words."""

from __future__ import annotations

import itertools

import numpy as np

import relation_neurons as rn

STARTS = "Bra Cor Dal Fen Gri Hol Jor Kel Mar Nor Pel Quo Ral Sto Tam Vel"
ENDS = "bek dun gar hett lin mond nash pol ric sor tav wick"
"""Two syllables make the name of a subject."""
INVENTED: dict[str, tuple[tuple[str, ...], str]] = {
    "ship_cargo": (
        ("The ship {} carries", "{} is a ship laden with", "The cargo of {} is"),
        "salt wool tea coal rice silk copper timber sugar oil",
    ),
    "village_fair": (
        ("The fair of {} is in", "{} is a village with a fair in", "{} has its fair in"),
        "January February March April June July August September October November",
    ),
    "wizard_animal": (
        ("The wizard {} keeps a", "{} is a wizard with a", "{} turns into a"),
        "fox wolf cat bear horse dog rabbit snake lion mouse",
    ),
    "inn_door": (
        ("The inn {} is painted", "{} is an inn with a door in", "The door of {} is"),
        "red blue green yellow white black brown grey purple orange",
    ),
}
"""Templates and objects of each relation."""
N_FACTS = 24


def invented_relations(n_facts: int = N_FACTS, seed: int = 0) -> tuple[rn.Relation, ...]:
    """The invented relations; objects are as equally frequent as may be, and no subject is in two relations."""
    generator = np.random.default_rng(seed)
    names = ["".join(parts) for parts in itertools.product(STARTS.split(), ENDS.split())]
    subjects = iter(generator.permutation(names).tolist())
    relations = []
    for name, (templates, words) in INVENTED.items():
        objects = generator.permutation(np.resize(words.split(), n_facts)).tolist()
        facts = tuple(rn.Fact(next(subjects), one) for one in objects)
        relations.append(rn.Relation(name, templates, (), facts, source="invented for this benchmark"))
    return tuple(relations)
