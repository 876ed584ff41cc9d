"""Whatever is in a file or in JSON, only the package's own error comes out."""

import contextlib
import json
import shutil
from functools import partial

import pandas as pd
import pytest

import relation_neurons as rn
from relation_neurons.neurons.files import load_neurons, save_neurons
from relation_neurons.relations.lint import check
from relation_neurons.storage.files import file_digest
from tests.bad_input.cases import (
    SETS,
    SPACE,
    carry_out,
    cases,
    files,
    mutate_bytes,
    mutated_json,
    refused,
    run_folder,
)

pytestmark = pytest.mark.usefixtures("offline")


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


def relation_file(chance):
    if chance.kind("format", ["json", "csv"]) == "json":
        return "r.json", mutated_json(RELATION, chance, "json")
    return "r.csv", mutate_bytes(TABLE.encode(), chance, "csv")


def test_a_damaged_relation_file_is_refused_and_checked_alike(tmp_path, full):
    for name, content in cases("relation files", relation_file, full):
        path = tmp_path / name
        path.write_bytes(content)
        loaded = False
        with refused(content):
            relations = rn.load_relations(path)
            loaded = True
            rn.make_prompts(relations, rn.PromptConfig(shots=1, n_evaluation=1))
        with refused(content):
            problems = check(path, n_evaluation=1, shots=1)
            assert loaded or any(problem.level == "error" for problem in problems)


def test_a_damaged_neuron_file_is_refused(tmp_path, full):
    path = save_neurons(tmp_path / "n.parquet", SETS, space=SPACE, score="average_precision")
    for content in cases("neuron files", partial(mutate_bytes, path.read_bytes()), full):
        path.write_bytes(content)
        with refused(content):
            assert load_neurons(path) == SETS


FILES = ["run.json", "manifest.json", "neurons.parquet", "intra/effects.parquet", "intra/verdict.md"]
COMMANDS = [["runs", "show"], ["runs", "verify"], ["runs", "list"], ["report"], ["figures", "--format", "html"]]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    return run_folder(tmp_path_factory.mktemp("whole") / "run")


def other_table():
    frame = pd.DataFrame({"name": [1, None], "site": ["post", 3.5 and "x"], "layer": [-1, 2]})
    return frame.to_parquet()


def damage(whole, chance):
    """One of the files of a run, what it becomes, whether the manifest vouches for that, and who looks at it."""
    name = chance.kind("file", FILES)
    data = (whole / name).read_bytes()
    if name.endswith("parquet") and chance.random() < 0.3:
        chance.kinds.add((name, "another table"))
        content = other_table()
    elif name.endswith("json"):
        content = mutated_json(json.loads(data), chance, name)
    else:
        content = mutate_bytes(data, chance, name)
    vouched = not name.endswith("json") and chance.random() < 0.7
    chance.kinds.add((name, vouched))
    return name, content, vouched, chance.kind("command", COMMANDS)


def test_a_damaged_run_folder_is_refused(tmp_path, whole_run, full):
    for number, (name, content, vouched, command) in enumerate(cases("run folders", partial(damage, whole_run), full)):
        folder = tmp_path / f"run{number}"
        shutil.copytree(whole_run, folder)
        (folder / name).write_bytes(content)
        if vouched:
            manifest = json.loads((folder / "manifest.json").read_text())
            manifest[name]["sha256"] = file_digest(folder / name)
            (folder / "manifest.json").write_text(json.dumps(manifest))
        with refused((name, content)):
            run = rn.open_run(folder)
            for look in (run.neurons, run.verdicts, run.damage, lambda run=run: [run.table(one) for one in run.tables]):
                with contextlib.suppress(rn.RelationNeuronsError):
                    look()
        before = files(folder)
        status, said = carry_out([*command, str(folder)])
        assert status in (0, 1, 2), said
        assert status != 2 or files(folder) == before
        shutil.rmtree(folder)


GIVEN = [rn.Zero(), rn.Constant(2.5), rn.Scale(-1)]
REFERRED = {"kind": "quantile", "reference": "x", "n": 3, "p": 0.5, "numbers": [0.5, 1.5]}


def intervention(chance):
    whole = json.loads(rn.Intervention(SETS["r"], chance.kind("given", GIVEN), "last").to_json())
    value = chance.kind("referred", [None, None, REFERRED, {**REFERRED, "kind": "resample", "seed": 1}])
    return mutated_json(whole | ({"value": value} if value else {}), chance).decode("utf-8", "replace")


def test_damaged_json_of_an_intervention_is_refused(full):
    for text in cases("interventions", intervention, full):
        with refused(text):
            found = rn.Intervention.from_json(text)
            json.loads(found.to_json())
