"""The package imports what is used, and its wheel, installed alone into an empty folder, carries the relations."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import relation_neurons

ROOT = Path(__file__).parent.parent


@pytest.mark.install
def test_an_installed_package_finds_its_relations(tmp_path):
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(wheel, check=True, capture_output=True)
    (built,) = tmp_path.glob("*.whl")
    target = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(built)],
        check=True,
        capture_output=True,
    )
    code = (
        "import relation_neurons as rn; from importlib import resources; "
        "import relation_neurons.report.study; "
        "from relation_neurons.cli.notebook_runner import notebook_paths; "
        "assert '00_quickstart' in notebook_paths(); "
        "files = ('report.html', 'section.html', 'page.css', 'page.js', 'neuron.html'); "
        "assert all((resources.files('relation_neurons.report') / 'templates' / one).is_file() for one in files); "
        "print(rn.__file__, len(rn.load_relations()))"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=elsewhere, env={"PYTHONPATH": str(target)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    file, count = done.stdout.split()
    assert Path(file).is_relative_to(target)
    assert count == "16"


HEAVY = {"torch", "transformers", "transformer_lens", "plotly", "sklearn", "numba", "scipy", "pandas", "numpy"}


def test_the_imports_that_type_checkers_read_are_those_that_happen():
    tree = ast.parse(Path(relation_neurons.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = {node.module: tuple(alias.name for alias in node.names) for node in block.body}
    assert {f"relation_neurons.{module}": names for module, names in relation_neurons._MODULES.items()} == imports
    assert sorted(relation_neurons._HOME) == relation_neurons.__all__


def test_a_name_is_imported_when_it_is_first_used():
    code = f"""
import sys
import relation_neurons as rn
assert not {HEAVY} & sys.modules.keys(), {HEAVY} & sys.modules.keys()
assert {{*rn.__all__, "__version__"}} <= set(dir(rn))
rn.Relation, rn.make_prompts, rn.errors.refuse
assert not {HEAVY - {"numpy"}} & sys.modules.keys(), {HEAVY - {"numpy"}} & sys.modules.keys()
assert rn.relations.relation.Relation is rn.Relation and "Relation" in vars(rn)
from relation_neurons import Neuron
from relation_neurons.models.sites import Neuron as same
assert Neuron is same
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_name_that_does_not_exist_is_refused_as_by_any_module():
    with pytest.raises(AttributeError, match="module 'relation_neurons' has no attribute 'Neurons'") as refusal:
        _ = relation_neurons.Neurons
    assert (refusal.value.name, refusal.value.obj) == ("Neurons", relation_neurons)  # for "Did you mean"
    with pytest.raises(ImportError):
        exec("from relation_neurons import Neurons")
    assert not hasattr(relation_neurons, "__wrapped__")
