"""Whatever is in a file or in JSON, only the package's own error comes out."""

import contextlib
import json
import random
import shutil

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
    examples,
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


@examples("neuron files")
def test_a_damaged_neuron_file_is_refused(tmp_path, seed):
    chance = random.Random(seed)
    path = save_neurons(tmp_path / "n.parquet", SETS, space=SPACE, score="average_precision")
    whole = path.read_bytes()
    path.write_bytes(mutate_bytes(whole, chance))
    with refused("neuron files", seed):
        assert load_neurons(path) == SETS


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
