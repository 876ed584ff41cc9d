"""The commands that pages name exist, and every help page is printed."""

import pkgutil
import re
import subprocess
import sys
import tomllib

import pytest

from relation_neurons.cli import main, reproduce
from relation_neurons.experiments.registry import EXPERIMENTS
from relation_neurons.workers.config import WorkersConfig
from tests.docs.pages import NAMES, PAGES, ROOT, blocks


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = [target for page in PAGES for target in re.findall(r"^make (\S+)", page.read_text("utf-8"), re.MULTILINE)]
    for target in named:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    assert {"demo", "test", "docs"} <= set(named)


COMMANDS = [[], ["run"], ["relations"], ["parity"], ["compare-scores"], ["compare-methods"], ["reproduce"]]
COMMANDS += [["reproduce", name] for name in ("all", *EXPERIMENTS, "faithfulness", "carry-over")]
COMMANDS += [["notebooks"], *(["notebooks", name] for name in ("list", "run", "copy"))]
COMMANDS += [["models"], *(["models", name] for name in ("list", "fetch"))]
COMMANDS += [["runs"], *(["runs", name] for name in ("list", "show", "verify", "clean"))]
COMMANDS += [["neuron"], ["generate"], ["explore"], ["figures"], ["report"], ["scorecard"], ["doctor"]]


@pytest.fixture
def help_page(monkeypatch, capsys):
    def printed(*command):
        monkeypatch.setattr("sys.argv", ["relation-neurons", *command, "--help"])
        with pytest.raises(SystemExit) as status:
            main.main()
        assert not status.value.code
        return capsys.readouterr().out

    return printed


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_pages(command, help_page):
    page = help_page(*command)
    assert "usage: relation-neurons" in page
    if command[:1] == ["reproduce"] and len(command) > 1:
        for option in ("--model", "--relations", "--site", "--k", "--scorer", "--n-controls", "--shots", "--out"):
            assert option in page


LINES = sorted(
    {
        line.removeprefix(".venv/bin/")
        for page in PAGES
        for block in blocks(page.read_text(encoding="utf-8"), "sh")
        for line in block.splitlines()
        if "relation-neurons" in line
    }
)


@pytest.mark.parametrize("line", LINES)
def test_commands_of_the_pages_exist(line, help_page):
    program, *words = line.split()
    assert program == "relation-neurons"
    grouped = words[0] in ("data", "models", "reproduce", "notebooks", "runs")
    page = help_page(*words[: 2 if grouped else 1])
    for option in (word for word in words if word.startswith("--")):
        assert option in page, option


def test_options_that_the_pages_name_exist(help_page):
    commands = (["run"], ["reproduce", "frequency"], ["notebooks", "run"], ["figures"], ["neuron"], ["compare-methods"])
    commands += (["explore"],)
    commands += (["models", "fetch"], ["reproduce", "cumulativity"], ["reproduce", "inter"], ["scorecard"])
    pages = "".join(help_page(*command) for command in commands)
    for name in NAMES:
        if "decisions" not in name and name not in ("CHANGELOG.md", "docs/gallery.md"):
            for option in re.findall(r"`(--[a-z-]+)", (ROOT / name).read_text(encoding="utf-8")):
                assert option in pages, f"{name}: {option}"


def test_the_batch_script_calls_what_there_is(help_page):
    path = ROOT / "docs" / "slurm" / "notebooks.sbatch"
    subprocess.run(["bash", "-n", str(path)], check=True)
    script = path.read_text(encoding="utf-8")
    call = script.split("relation-neurons notebooks run")[1]
    options = re.findall(r"--[a-z-]+", call)
    assert options
    assert all(option in help_page("notebooks", "run") for option in options)
    last = int(re.findall(r"--array=0-(\d+)", script)[0])
    assert last + 1 == len(list((ROOT / "notebooks").glob("*.ipynb")))


STUBS = {
    "scontrol": "printf 'node1\\nnode2\\n'",
    "hostname": "echo 10.0.0.1 fe80::1",
    "srun": 'while [[ $1 == --* ]]; do shift; done; "$@"',
    "ray": 'printf "%s\\n" "$@" > "$WORDS"',
}
"""Stand for what a cluster has: the script's last command prints what Ray would be given."""


def test_the_script_for_many_nodes_starts_ray_and_a_command_that_there_is(tmp_path, monkeypatch):
    path = ROOT / "docs" / "slurm" / "workers.sbatch"
    subprocess.run(["bash", "-n", str(path)], check=True)
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    for name, body in STUBS.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_ID": "71234", "SLURM_JOB_NUM_NODES": "2"}
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "SLURM_CPUS_PER_TASK": "16", "WORDS": str(tmp_path / "words")}
    subprocess.run(["bash", str(path)], check=True, cwd=tmp_path, env=slurm | environment)
    words = (tmp_path / "words").read_text(encoding="utf-8").splitlines()
    of_ray, called = words[: words.index("--")], words[words.index("--") + 1 :]
    assert of_ray[:5] == ["symmetric-run", "--address", "10.0.0.1:31234", "--min-nodes", "2"]
    reached = []
    monkeypatch.setattr(reproduce, "reproduce", lambda *given, **options: reached.append((given, options)) or [])
    monkeypatch.setattr(sys, "argv", called)
    main.main()
    (given, chosen) = reached[0]
    assert len(given[0]) > 10  # experiments
    assert given[1].model == "meta-llama/Llama-2-7b-hf"
    assert chosen["workers"] == WorkersConfig(ray_address="auto", gpus_per_worker=1.0)
    scripts = pytest.importorskip("ray.scripts.scripts")
    known = {name for parameter in scripts.start.params for name in parameter.opts}
    known |= {name for parameter in scripts.cli.commands["symmetric-run"].params for name in parameter.opts}
    assert {word for word in of_ray if word.startswith("--")} <= known


def test_the_command_is_installed(monkeypatch, capsys):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    monkeypatch.setattr(sys, "argv", ["relation-neurons", "--help"])
    with pytest.raises(SystemExit) as end:
        pkgutil.resolve_name(project["scripts"]["relation-neurons"])()
    assert not end.value.code
    assert "usage: relation-neurons" in capsys.readouterr().out


def test_every_figure_and_table_of_the_paper_is_on_the_map():
    page = (ROOT / "docs" / "paper-map.md").read_text(encoding="utf-8")
    for name in EXPERIMENTS:
        assert f"`reproduce {name}" in page
    for kind, last in (("Figure", 31), ("Table", 7)):
        covered: set[int] = set()
        for numbers in re.findall(rf"{kind}s? ((?:\d+(?:, | to )?)+)", page):
            for first, end in re.findall(r"(\d+)(?: to (\d+))?", numbers):
                covered |= set(range(int(first), int(end or first) + 1))
        assert covered >= set(range(1, last + 1))
