"""Whatever comes in from outside, only the package's own error comes out: generated files, commands and arguments."""

import contextlib
import copy
import io
import json
import math
import os
import random
import shutil
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import huggingface_hub
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import relation_neurons as rn
from relation_neurons import cli
from relation_neurons.check import check
from relation_neurons.neuron_files import load_neurons, save_neurons
from relation_neurons.runs import RunFolder, file_digest
from relation_neurons.sites import NeuronSpace
from tests.helpers import word_prompts

RANDOM = bool(os.environ.get("BAD_INPUT_RANDOM"))  # new examples in every process, to look for more
SEEDS = st.integers(0, 2**48)
COUNT: Counter[str] = Counter()
PARTS = {"relation files": 500, "neuron files": 150, "run folders": 150, "interventions": 400, "command lines": 200}
PARTS |= {"functions": 1000}
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


def examples(part):
    """Run a test on as many generated seeds as its part has, the same in every run."""
    chosen = settings(
        max_examples=PARTS[part] * int(os.environ.get("BAD_INPUT_RANDOM", 1)),
        derandomize=not RANDOM,
        database=None,
        deadline=timedelta(seconds=20),
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: chosen(given(seed=SEEDS)(test))


@contextlib.contextmanager
def refused(part, what):
    """Only the package's error may leave the block; the message says what was found and can be printed."""
    COUNT[part] += 1
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
    return chance.choice([None, [], {}, nested, [[]], {"": ""}, [1, "a"], *numbers, *ODD])


def mutate_tree(content, chance):
    """Remove, replace, repeat or nest something inside parsed JSON."""
    content = copy.deepcopy(content)
    for _ in range(chance.randint(1, 3)):
        place = content
        while isinstance(place, dict | list) and place:
            at = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
            if not isinstance(place[at], dict | list) or not place[at] or chance.random() < 0.4:
                break
            place = place[at]
        if not isinstance(place, dict | list) or not place:
            return bad_value(chance)
        how = chance.choice(["remove", "replace", "replace", "nest", "add", "repeat"])
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


def mutate_bytes(data, chance):
    """Cut, flip, repeat, or put something in."""
    data = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        how = chance.choice(["cut", "flip", "drop", "repeat", "insert"])
        if how == "cut":
            del data[at:]
        elif how == "flip" and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif how == "drop":
            del data[at : at + chance.choice([1, 5, 100])]
        elif how == "repeat":
            data[at:at] = data[at : at + chance.choice([1, 10, 1000])]
        else:
            data[at:at] = chance.choice(
                [b"\0", b"\xff\xfe", b'"', b"{", b"]", b",", b"\n", b"\x80", os.urandom(0), b"9" * 5000]
            )
    return bytes(data)


def mutated_json(content, chance):
    if chance.random() < 0.7:
        return json.dumps(mutate_tree(content, chance), ensure_ascii=chance.random() < 0.5).encode(
            "utf-8", "surrogatepass"
        )
    return mutate_bytes(json.dumps(content).encode(), chance)


RELATION = {
    "name": "r",
    "prompt_templates": ["The number of {} is", "{} counts"],
    "prompt_templates_zs": ["{}:"],
    "samples": [{"subject": f"s{number}", "object": f"o{number % 3}"} for number in range(8)],
    "aliases": {"o1": ["one", "eins"]},
    "properties": {"domain_name": "things"},
    "translations": {
        "de": {
            "prompt_templates": ["{} ist"],
            "subjects": {"s1": "t1"},
            "objects": {"o1": "p1"},
            "aliases": {"p1": ["q"]},
        }
    },
}
TABLE = "subject,object,template,template_zs,aliases,relation\n" + "".join(
    f"s{number},o{number % 3},{'{} is' if number < 2 else ''},,{'one|eins' if number % 3 == 1 else ''},r\n"
    for number in range(8)
)


@examples("relation files")
def test_a_damaged_relation_file_is_refused_and_checked_alike(tmp_path, seed):
    chance = random.Random(seed)
    path = tmp_path / chance.choice(["r.json", "r.csv"])
    path.write_bytes(mutated_json(RELATION, chance) if path.suffix == ".json" else mutate_bytes(TABLE.encode(), chance))
    loaded = False
    with refused("relation files", path.read_bytes()):
        relations = rn.load_relations(path)
        loaded = True
        rn.make_prompts(relations, rn.PromptConfig(shots=1, n_evaluation=1))
    with refused("relation files", path.read_bytes()):
        problems = check(path, n_evaluation=1, shots=1)
        assert loaded or any(problem.level == "error" for problem in problems)


SPACE = NeuronSpace("m", 4, (("post", 8),))
SETS = {"r": rn.NeuronSet.from_pairs([(0, 1), (3, 7)], name="r"), "t": rn.NeuronSet.from_pairs([(1, 1)], name="t")}


@examples("neuron files")
def test_a_damaged_neuron_file_is_refused(tmp_path, seed):
    chance = random.Random(seed)
    path = save_neurons(tmp_path / "n.parquet", SETS, space=SPACE, score="average_precision")
    whole = path.read_bytes()
    path.write_bytes(mutate_bytes(whole, chance))
    with refused("neuron files", seed):
        assert load_neurons(path) == SETS


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


def damage(folder, chance):
    """Mutate one of the files of a run; sometimes its manifest vouches for what it became."""
    path = folder / chance.choice(
        ["run.json", "manifest.json", "neurons.parquet", "intra/effects.parquet", "intra/verdict.md"]
    )
    data = path.read_bytes()
    content = mutated_json(json.loads(data), chance) if path.suffix == ".json" else mutate_bytes(data, chance)
    if path.suffix == ".parquet" and chance.random() < 0.3:
        pd.DataFrame({"name": [1, None], "site": ["post", 3.5 and "x"], "layer": [-1, 2]}).to_parquet(path)
        content = path.read_bytes()
    path.write_bytes(content)
    if path.suffix != ".json" and chance.random() < 0.7:
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest[path.relative_to(folder).as_posix()]["sha256"] = file_digest(path)
        (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Nothing is looked for on the network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    return run_folder(tmp_path_factory.mktemp("whole") / "run")


@examples("run folders")
def test_a_damaged_run_folder_is_refused(tmp_path, whole_run, seed):
    chance = random.Random(seed)
    folder = tmp_path / f"run{seed}"
    shutil.copytree(whole_run, folder)
    damage(folder, chance)
    with refused("run folders", seed):
        run = rn.open_run(folder)
        for look in (run.neurons, run.verdicts, run.damage, lambda: [run.table(name) for name in run.tables]):
            with contextlib.suppress(rn.RelationNeuronsError):
                look()
    before = files(folder)
    command = chance.choice(
        [["runs", "show"], ["runs", "verify"], ["runs", "list"], ["report"], ["figures", "--format", "html"]]
    )
    status, said = carry_out([*command, str(folder)])
    assert status in (0, 1, 2), said
    assert status != 2 or files(folder) == before
    shutil.rmtree(folder)


GIVEN = [rn.Zero(), rn.Constant(2.5), rn.Scale(-1)]
REFERRED = {"kind": "quantile", "reference": "x", "n": 3, "p": 0.5, "numbers": [0.5, 1.5]}


@examples("interventions")
def test_damaged_json_of_an_intervention_is_refused(seed):
    chance = random.Random(seed)
    whole = json.loads(rn.Intervention(SETS["r"], chance.choice(GIVEN), "last").to_json())
    if chance.random() < 0.5:
        whole["value"] = chance.choice([REFERRED, {**REFERRED, "kind": "resample", "seed": 1}])
    text = mutated_json(whole, chance).decode("utf-8", "replace")
    with refused("interventions", text):
        found = rn.Intervention.from_json(text)
        json.loads(found.to_json())


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name != ".lock"}


def carry_out(words):
    """Run a command in this process: its exit status, and what it said."""
    said, before = io.StringIO(), sys.argv
    sys.argv = ["relation-neurons", *words]
    status = 0
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            cli.main()
    except SystemExit as end:
        status = end.code or 0
    except Exception as error:
        raise AssertionError(f"{type(error).__name__} ({str(error)[:300]}) from {words!r}"[:3000]) from error
    finally:
        sys.argv = before
    assert "Traceback" not in said.getvalue(), words
    return status, said.getvalue()


ASKED = {
    "--model": ["./nowhere", "/nowhere/x.gguf", "FOLDER", "BROKEN", "x" * 5000],
    "--device": ["nowhere", "", "cuda:x"],
}
CONFIG = ASKED | {
    "--relations": ["nowhere", "FOLDER", "BROKEN", "[/red]"],
    "--site": ["pst", ""],
    "--k": ["0", "-3", "1.5"],
}
CONFIG |= {"--seed": ["x", "1e3"], "--batch-size": ["0", "-1"], "--shots": ["-1", "x"], "--n-evaluation": ["0", "x"]}
CONFIG |= {"--templates": ["al"], "--language": [""], "--dtype": ["float8"], "--nowhere": ["1"], "--out": ["BROKEN"]}
STUDY = CONFIG | {"--scorer": ["aurok"], "--match": ["layers"], "--rule": ["suffix"], "--n-controls": ["1", "x"]}
LOOK = {"--nowhere": ["1"], "": ["nowhere", "FOLDER", "BROKEN", "/nowhere/\x01", "x" * 5000, "/dev/null"]}
COMMANDS = {
    ("run",): CONFIG,
    ("compare-scores",): {name: bad for name, bad in CONFIG.items() if name not in ("--out", "--dtype")},
    ("compare-methods",): STUDY,
    ("parity",): {"--model": ASKED["--model"], "--nowhere": ["1"]},
    ("relations",): LOOK,
    ("report",): LOOK,
    ("figures",): LOOK | {"--format": ["gif"], "--experiments": ["intraa"], "--width": ["x"]},
    ("neuron",): {"": ["L1", "gaet:L1.N2", "LX.N1", "-1"]},
    ("neuron", "L0.N0"): STUDY | {"--n-resamples": ["1", "x"]},
    ("data", "check"): LOOK | {"--n-evaluation": ["0"], "--shots": ["-1"]},
    ("data", "describe"): LOOK | {"--model": ASKED["--model"], "--validate": ["x"]},
    ("data", "translate"): LOOK | {"--lang": ["../x", "", "/x"]},
    ("data", "fetch"): {"": ["lree"], "--source": ["FOLDER", "BROKEN", "./nowhere"], "--nowhere": ["1"]},
    ("notebooks", "run"): {
        "": ["99"],
        "--profile": ["demoo"],
        "--k": ["0"],
        "--relations": ["nowhere"],
        "--model": ["./x"],
    },
    ("notebooks", "copy"): {"": ["BROKEN"]},
    ("notebooks", "copy", "copies"): {"": ["99"], "--nowhere": ["1"]},
    ("runs", "list"): LOOK,
    ("runs", "show"): LOOK,
    ("runs", "verify"): LOOK,
    ("runs", "clean"): LOOK,
    ("doctor",): {"--dtype": ["float8"], "--n-prompts": ["x"], "--nowhere": ["1"]},
    ("reproduce", "all"): STUDY
    | {"--profile": ["ful"], "--counts": ["./nowhere", "FOLDER"], "--corpus": ["./nowhere"]},
    ("reproduce",): {"": ["intraa", "FOLDER"], "--nowhere": [""]},
    ("reproduce", "frequency"): STUDY | {"--counts": ["./nowhere", "FOLDER", "BROKEN"]},
    ("",): {"": ["runn", "data", "--nowhere", ""]},
} | {("reproduce", name): STUDY for name in ("intra", "inter", "layers", "cumulativity", "sweep", "languages")}
SAFE = {("run",), ("compare-scores",), ("compare-methods",), ("neuron", "L0.N0")} | {
    one for one in COMMANDS if one[0] == "reproduce"
}
MAY_SUCCEED = {("relations",), ("runs", "list"), ("data", "check"), ("data", "describe"), ("data", "fetch")}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder to work in, with an empty folder and a file that is nothing."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "empty").mkdir()
    (folder / "broken.json").write_bytes(b"\x80{")
    return folder


@examples("command lines")
def test_a_bad_command_is_refused_in_words_and_leaves_nothing(place, monkeypatch, seed):
    chance = random.Random(seed)
    monkeypatch.chdir(place)
    monkeypatch.setenv("RELATION_NEURONS_DATA", str(place / "cache"))
    command = chance.choice(list(COMMANDS))
    options = COMMANDS[command]
    words = [word for word in command if word]
    for name in chance.sample(list(options), min(len(options), chance.randint(1, 3))):
        value = chance.choice(options[name])
        value = {"FOLDER": str(place / "empty"), "BROKEN": str(place / "broken.json")}.get(value, value)
        words += [name, value] if name else [value]
    if command in SAFE and "--model" not in words:  # whatever else is right, no model is loaded
        words += ["--model", "./nowhere"]
    before = files(place)
    COUNT["command lines"] += 1
    status, said = carry_out(words)
    assert status == 2 or (status in (0, 1) and command in MAY_SUCCEED), (words, status, said)
    assert status == 0 or command in MAY_SUCCEED or said.strip(), words
    assert files(place) == before, words


def functions(planted):
    """Public functions and classes, each with arguments that are right."""
    model, relations, neurons = planted.model, list(planted.relations), planted.neurons["lives"]
    prompts = list(rn.make_prompts(relations, rn.PromptConfig(shots=0, n_evaluation=4, n_detection=2)).detection)
    space = NeuronSpace("planted", 2, (("post", 128),))
    frame = pd.DataFrame({"subject": ["a", "b"], "object": ["x", "y"]})
    scores, labels = np.arange(12.0).reshape(4, 3), np.array([True, False, True, False])
    activations = rn.collect_activations(model, prompts)
    condition = rn.Condition("c", tuple(prompts[:2]))
    nowhere = "/nowhere/at/all"

    def ablated(**given):
        with rn.ablate(**given):
            return rn.recall(model, prompts[:1], generate=False)

    def intervened(model, one, two):
        with rn.intervene(model, one, two):
            return rn.recall(planted.model, prompts[:1], generate=False)

    one = rn.Intervention(neurons)
    return {
        "average_precision": (rn.average_precision, {"scores": scores, "labels": labels, "weights": labels | True}),
        "collect_activations": (
            rn.collect_activations,
            {"model": model, "prompts": prompts[:2], "site": "post", "batch_size": 2, "dtype": torch.float32},
        ),
        "concept_prompts": (
            rn.concept_prompts,
            {"relations": rn.load_relations("country_capital", "person_father"), "n": 2, "stems": ["{} x"], "seed": 0},
        ),
        "contrast": (rn.contrast, {"prompts": prompts, "ratio": 2, "balanced": True, "seed": 0}),
        "describe": (
            rn.describe,
            {"relations": relations, "config": rn.PromptConfig(shots=0, n_evaluation=4), "validate": None},
        ),
        "load_model": (rn.load_model, {"source": nowhere, "device": "cpu", "dtype": "float32"}),
        "load_relations": (lambda source: rn.load_relations(source), {"source": "country_capital"}),
        "make_prompts": (rn.make_prompts, {"relations": relations, "config": rn.PromptConfig(shots=0, n_evaluation=4)}),
        "neutral_sentences": (rn.neutral_sentences, {"relation": "country_capital"}),
        "open_run": (rn.open_run, {"path": nowhere}),
        "open_study": (
            rn.open_study,
            {"model": nowhere, "relations": relations, "profile": "smoke", "k": 3, "site": "post"},
        ),
        "perplexity": (
            rn.perplexity,
            {"model": model, "texts": ["s1 lives in", "s2 eats"], "conditions": {"c": [one]}, "batch_size": 1},
        ),
        "random_controls": (
            rn.random_controls,
            {"target": neurons, "space": space, "n": 2, "seed": 0, "exclude": [], "activity": np.zeros(256)},
        ),
        "recall": (
            rn.recall,
            {
                "model": model,
                "prompts": prompts[:2],
                "condition": "c",
                "generate": False,
                "max_new_tokens": 2,
                "batch_size": 2,
            },
        ),
        "recall_under": (
            rn.recall_under,
            {"model": model, "conditions": [condition], "generate": True, "max_new_tokens": 2, "batch_size": 2},
        ),
        "relation_from_frame": (
            rn.relation_from_frame,
            {"frame": frame, "name": "r", "templates": ["{} is"], "templates_zs": []},
        ),
        "run_experiment": (rn.run_experiment, {"study": None, "name": "intra", "profile": "smoke"}),
        "save_neurons": (
            rn.save_neurons,
            {"path": "n.parquet", "sets": {"r": neurons}, "space": space, "score": "s", "made_from": {"a": 1}},
        ),
        "load_neurons": (rn.load_neurons, {"path": nowhere, "model": model, "allow_other_weights": False}),
        "top_k": (rn.top_k, {"scores": np.zeros((1, 256)), "k": 3, "space": space, "names": ["a"]}),
        "ablate": (ablated, {"model": model, "neurons": neurons, "value": rn.Zero(), "positions": "all", "bos": True}),
        "intervene": (intervened, {"model": model, "one": one, "two": one}),
        "Activations": (rn.Activations, {"values": activations.values, "prompts": tuple(prompts), "space": space}),
        "Case": (rn.Case, {"neurons": neurons, "prompts": tuple(prompts), "labels": {"a": 1}}),
        "Condition": (rn.Condition, {"name": "c", "prompts": tuple(prompts), "interventions": (one,)}),
        "Constant": (rn.Constant, {"number": 1.0}),
        "Fact": (rn.Fact, {"subject": "a", "object": "b", "aliases": ("c",)}),
        "Intervention": (rn.Intervention, {"neurons": neurons, "value": rn.Zero(), "positions": "all", "bos": True}),
        "Intervention.from_json": (rn.Intervention.from_json, {"text": one.to_json()}),
        "Mean": (rn.Mean.over, {"activations": activations, "relation": "lives"}),
        "Mean ": (rn.Mean, {"reference": rn.Mean.over(activations).reference}),
        "Neuron": (rn.Neuron, {"site": "post", "layer": 0, "index": 1}),
        "Neuron.parse": (rn.Neuron.parse, {"text": "L1.N2", "site": "post"}),
        "NeuronSet": (rn.NeuronSet, {"neurons": neurons.neurons, "name": "n", "scores": None}),
        "NeuronSet.from_pairs": (rn.NeuronSet.from_pairs, {"pairs": [(0, 1)], "site": "post", "name": "n"}),
        "NeuronSet.from_frame": (rn.NeuronSet.from_frame, {"frame": neurons.to_frame()}),
        "NeuronSet.part": (neurons.part, {"start": 0, "stop": 2}),
        "NeuronSet.layer_counts": (neurons.layer_counts, {"n_layers": 2}),
        "Prompt": (
            rn.Prompt,
            {"relation": "r", "subject": "s", "object": "o", "text": "t", "query_start": 0, "bos": None},
        ),
        "PromptConfig": (
            rn.PromptConfig,
            {"shots": 0, "template_set": "main", "templates": "all", "n_evaluation": 3, "split_seed": 0, "answer": ":"},
        ),
        "Prompts": (rn.Prompts, {"detection": tuple(prompts), "evaluation": (), "config": rn.PromptConfig()}),
        "Quantile": (rn.Quantile.over, {"activations": activations, "p": 0.5, "relation": None}),
        "Relation": (
            rn.Relation,
            {"name": "r", "templates": ("{}",), "templates_zs": (), "facts": (rn.Fact("a", "b"),)},
        ),
        "Resample": (rn.Resample.over, {"activations": activations, "seed": 0, "relation": None}),
        "Run": (rn.Run, {"path": Path(nowhere), "key": {}, "files": {}}),
        "Scale": (rn.Scale, {"alpha": 2}),
        "Study": (
            rn.Study,
            {
                "model": model,
                "relations": relations,
                "config": rn.StudyConfig(site="post", prompts=rn.PromptConfig(shots=0, n_evaluation=4)),
                "read": None,
            },
        ),
        "StudyConfig": (
            rn.StudyConfig,
            {
                "model": "m",
                "relations": ("r",),
                "k": 3,
                "site": "post",
                "scorer": "auroc",
                "n_controls": 2,
                "seed": 0,
                "batch_size": 1,
            },
        ),
        "Value": (rn.Value, {}),
        "Zero": (rn.Zero, {}),
        "RelationNeuronsError": (rn.RelationNeuronsError, {"message": "m"}),
    }


def wrong_values(chance):
    arrays = [
        np.zeros(0),
        np.zeros((0, 3)),
        np.zeros((2, 3, 4)),
        np.full((4, 3), np.nan),
        np.full((4, 3), np.inf),
        np.array(["a"]),
    ]
    arrays += [
        np.zeros((5, 3)),
        torch.zeros(0),
        torch.full((1, 256), math.nan),
        torch.zeros(4, 3, dtype=torch.int64),
        np.float32(2),
    ]
    arrays += [
        np.zeros((4, 1), bool),
        np.ones((3, 2), bool),
        np.arange(4),
        np.zeros(4, complex),
        np.int64(3),
        torch.tensor(1),
    ]
    numbers = [0, -1, 3, 10**12, -(10**30), 10**5000, 0.5, 1e308, math.nan, -math.inf, True, None, 1j]
    others = [
        [],
        (),
        {},
        set(),
        object(),
        lambda: 0,
        int,
        b"x",
        [None],
        [1, 2],
        ["a", 3],
        ("a",),
        {"a": 1},
        {1: [2]},
        iter([1]),
    ]
    others += [
        pd.DataFrame(),
        pd.DataFrame({"subject": [1]}),
        Path("."),
        Path("nowhere"),
        [[]],
        [[1, 2, 3]],
        [(-1, 2)],
        [(1.5, 2)],
    ]
    others += [
        rn.Zero(),
        rn.PromptConfig(),
        word_prompts(1, examples=False),
        [rn.Fact("a", "b")],
        range(3),
        io.StringIO("x"),
    ]
    return chance.choice([arrays, numbers, others, [one for one in ODD if one != "null"]])


@pytest.fixture(scope="module")
def public(planted):
    return functions(planted)


def test_every_public_name_is_tried(public):
    assert {name.strip().partition(".")[0] for name in public} == set(rn.__all__)


@examples("functions")
def test_wrong_arguments_are_refused(public, tmp_path_factory, monkeypatch, seed):
    chance = random.Random(seed)
    monkeypatch.chdir(tmp_path_factory.getbasetemp())
    name = chance.choice(list(public))
    function, right = public[name]
    arguments = dict(right)
    for _ in range(chance.choice([1, 1, 2])):
        if right and name != "RelationNeuronsError":
            arguments[chance.choice(list(right))] = chance.choice(wrong_values(chance))
    how = chance.random()
    if name in ("Neuron", "RelationNeuronsError", "load_relations", "ablate", "intervene"):
        pass  # Python itself counts their arguments
    elif how < 0.05:
        arguments["nowhere"] = 1
    elif how < 0.1 and arguments and name != "open_study":  # whose model would be the embedded one
        del arguments[chance.choice(list(arguments))]
    with refused("functions", (name, {k: v for k, v in arguments.items() if v is not right.get(k)})):
        function(**arguments)


def test_there_were_two_thousand_bad_inputs():
    if set(COUNT) != set(PARTS):
        pytest.skip("only a part of this file was run")
    assert sum(COUNT.values()) >= 2000, COUNT
