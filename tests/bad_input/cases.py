"""What the tests of bad input share: how inputs are spoilt, chosen and refused.

Inputs are generated from seeds. By default those are tested that hold a kind of file, command, argument or defect that
none before them held; with `--full`, all.
"""

import contextlib
import copy
import io
import json
import math
import os
import random
import sys

import pandas as pd

import relation_neurons as rn
from relation_neurons.cli import main
from relation_neurons.models.sites import NeuronSpace
from relation_neurons.storage.run_folder import RunFolder

FIRST = int(os.environ.get("BAD_INPUT_SEED", 0))
"""The first seed: others look for more."""
COUNTS = {"relation files": 500, "neuron files": 150, "run folders": 150, "interventions": 400, "command lines": 250}
COUNTS |= {"functions": 1500}
ODD = (
    "",
    " ",
    "\0",
    "\n",
    "../x",
    "..\\x",
    "/etc/passwd",
    "\ud800",
    "\u202e",
    "é\u0301",
    "💥" * 40,
    "{}",
    "[/red]",
    "%s",
)
ODD = (*ODD, "x" * 5000, "nan", "-1", "null")


class Chance(random.Random):
    """A generator that remembers which kinds of things it has chosen."""

    def __init__(self, seed):
        super().__init__(seed)
        self.kinds = set()

    def kind(self, of, options):
        """One of the options, each of which is a kind of its own."""
        number = self.randrange(len(options))
        self.kinds.add((of, number))
        return options[number]


def cases(part, make, full):
    """The inputs of a part: all, or each that holds a new kind."""
    seen = set()
    for seed in range(FIRST, FIRST + COUNTS[part]):
        chance = Chance(seed)
        case = make(chance)
        if full or not chance.kinds <= seen:
            seen |= chance.kinds
            yield case


@contextlib.contextmanager
def refused(what):
    """Only the package's error may leave the block; the message says what was found and can be printed."""
    try:
        yield
    except rn.RelationNeuronsError as error:
        said = str(error).encode("utf-8")
    except Exception as error:
        raise AssertionError(f"{type(error).__name__} ({str(error)[:300]}) for {words_of(what)}") from error
    else:
        return
    assert 0 < len(said) < 20_000, words_of(what)
    assert b"Traceback" not in said


def words_of(what):
    try:
        return repr(what)[:3000]
    except ValueError:  # a number too long to be written
        return f"{what[0]} with a long number"


def bad_value(chance):
    """Something that JSON can hold and that is seldom what is wanted."""
    nested = {"a": [{"b": [None]}]}
    for _ in range(chance.choice([1, 50])):
        nested = [nested]
    numbers = [0, -1, 1.5, 10**30, -(10**400), 1e308, math.nan, math.inf, True, False]
    return chance.kind("value", [None, [], {}, nested, [[]], {"": ""}, [1, "a"], *numbers, *ODD])


def mutate_tree(content, chance):
    """Remove, replace, repeat or nest something inside parsed JSON."""
    content = copy.deepcopy(content)
    for _ in range(chance.randint(1, 3)):
        place = content
        while isinstance(place, dict | list) and place:
            at = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
            chance.kinds.add(("key", at if isinstance(place, dict) else None))
            if not isinstance(place[at], dict | list) or not place[at] or chance.random() < 0.4:
                break
            place = place[at]
        if not isinstance(place, dict | list) or not place:
            return bad_value(chance)
        how = chance.kind("tree", ["remove", "replace", "replace", "nest", "add", "repeat"])
        if how == "remove":
            del place[at]
        elif how == "replace":
            place[at] = bad_value(chance)
        elif how == "nest":
            place[at] = chance.choice([[place[at]], {"x": place[at]}])
        elif how == "add" and isinstance(place, dict):
            place[chance.choice(ODD)] = bad_value(chance)
        elif isinstance(place, list):
            place.append(place[at])
    return content


def mutate_bytes(data, chance, file="bytes"):
    """Cut, flip, repeat, or put something in."""
    data = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        how = chance.kind(file, ["cut", "flip", "drop", "repeat", "insert"])
        if how == "cut":
            del data[at:]
        elif how == "flip" and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif how == "drop":
            del data[at : at + chance.choice([1, 5, 100])]
        elif how == "repeat":
            data[at:at] = data[at : at + chance.choice([1, 10, 1000])]
        else:
            found = [b"\0", b"\xff\xfe", b'"', b"{", b"]", b",", b"\n", b"\x80", b"", b"9" * 5000]
            data[at:at] = chance.kind("inserted", found)
    return bytes(data)


def mutated_json(content, chance, file="bytes"):
    if chance.random() < 0.7:
        text = json.dumps(mutate_tree(content, chance), ensure_ascii=chance.random() < 0.5)
        return text.encode("utf-8", "surrogatepass")
    return mutate_bytes(json.dumps(content).encode(), chance, file)


SPACE = NeuronSpace("m", 4, (("post", 8),))
SETS = {"r": rn.NeuronSet.from_pairs([(0, 1), (3, 7)], name="r"), "t": rn.NeuronSet.from_pairs([(1, 1)], name="t")}


def run_folder(path):
    """A run folder with a table, neurons and a verdict."""
    key = {
        "config": {"site": "post", "k": 2},
        "relations": {"r": "0"},
        "model": {"name": "m"},
        "code": "0",
        "versions": {},
    }
    folder = RunFolder(path, key)
    folder.write_table("neurons", pd.concat([one.to_frame() for one in SETS.values()]))
    folder.write_table("intra/effects", pd.DataFrame({"relation": ["r"], "effect": [0.5]}))
    folder.write_text("intra/verdict.md", "## intra\n\nWhat?\n\n- That.\n")
    return path


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name != ".lock"}


def carry_out(words):
    """Run a command in this process: its exit status, and what it said."""
    said, before = io.StringIO(), sys.argv
    sys.argv = ["relation-neurons", *words]
    status = 0
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            main.main()
    except SystemExit as end:
        status = end.code or 0
    except Exception as error:
        raise AssertionError(f"{type(error).__name__} ({str(error)[:300]}) from {words!r}"[:3000]) from error
    finally:
        sys.argv = before
    assert "Traceback" not in said.getvalue(), words
    return status, said.getvalue()
