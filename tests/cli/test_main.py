"""Commands are found by name: only what the called one needs is imported."""

import inspect
import json
import os
import subprocess
import sys

import pytest
import tyro

import relation_neurons
from relation_neurons.cli import main
from tests.bad_input.cases import run_folder

HEAVY = ("torch", "transformers", "transformer_lens", "plotly", "sklearn", "numba", "scipy")
LIGHT = {
    "--version": 0,
    "--help": 0,
    "": 2,
    "runn": 2,
    "runs lst": 2,
    "runs list .": 0,
    "runs show run": 0,
    "runs verify run": 0,
    "runs clean run": 0,
    "data check good.json": 0,
    "data --help": 0,
    "data describe --help": 0,
    "models list": 0,
    "notebooks list": 0,
    "notebooks run --help": 0,
}
"""Command lines, and their exit status."""
CODE = """
import json, sys
from relation_neurons.cli.main import main
lines, found = json.loads(sys.argv[1]), {}
for line in lines:
    sys.argv = ["relation-neurons", *line.split()]
    status = 0
    try:
        main()
    except SystemExit as end:
        status = end.code
    found[line] = (status, sorted(name for name in sys.modules if "." not in name))
print("FOUND", json.dumps(found))
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """The exit status of command lines that follow each other in one process, and what is imported after each."""
    folder = tmp_path_factory.mktemp("light")
    run_folder(folder / "run")
    content = {
        "name": "colour",
        "prompt_templates": ["The colour of {} is"],
        "samples": [{"subject": f"thing {n}", "object": f"c{n % 5}"} for n in range(60)],
    }
    (folder / "good.json").write_text(json.dumps(content), encoding="utf-8")
    lines = json.dumps([*LIGHT, "relations country_capital"])
    done = subprocess.run(
        [sys.executable, "-c", CODE, lines],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(relation_neurons.__file__))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition("FOUND ")[2])


@pytest.mark.parametrize(("line", "expected"), LIGHT.items())
def test_a_light_command_imports_neither_a_model_nor_a_table(imported, line, expected):
    status, modules = imported[line]
    assert status == expected
    assert not {*HEAVY, "pandas", "pyarrow"} & set(modules)


def test_a_command_that_loads_relations_imports_no_model(imported):
    status, modules = imported["relations country_capital"]
    assert status == 0
    assert not set(HEAVY) & set(modules)


@pytest.mark.parametrize(("name", "command"), main.COMMANDS.items())
def test_the_list_of_commands_says_what_each_says_itself(name, command):
    loaded = command.load()
    if isinstance(loaded, tyro.extras.SubcommandApp):
        assert main.command_names(name)
    else:
        summary = " ".join(inspect.getdoc(loaded).partition("\n\n")[0].split())
        assert command.help == summary
        assert main.command_names(name) == ()


def test_the_version_is_the_packages(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["relation-neurons", "--version"])
    main.main()
    assert capsys.readouterr().out == f"relation-neurons {relation_neurons.__version__}\n"


@pytest.mark.parametrize(("given", "found"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_wait_without_spinning_unless_the_user_says_otherwise(monkeypatch, given, found):
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(sys, "argv", ["relation-neurons", "--version"])
    main.main()
    assert os.environ["OMP_WAIT_POLICY"] == found


def test_every_command_is_loaded_where_a_shell_asks_for_completions():
    app = main._app(["--tyro-print-completion", "bash"])
    assert main._nothing not in app._subcommands.values()
