"""The README's blocks run, its commands exist, and every help page is printed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from relation_neurons.cli import main
from relation_neurons.experiments.registry import EXPERIMENTS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.model
def test_the_python_blocks_run(embedded, tmp_path, monkeypatch, capsys):
    import relation_neurons as rn

    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert blocks
    monkeypatch.setattr(rn, "load_model", lambda *_, **__: embedded)  # the same model, loaded once for all tests
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    own, random = namespace["own"], namespace["random"]
    assert len(own) == len(random) == len(namespace["clean"]) > 0
    assert (own["logprob"] != random["logprob"]).any()
    printed = capsys.readouterr().out
    assert re.search(r"own -?\d+\.\d+, random -?\d+\.\d+", printed)


def test_the_commands_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    assert {"demo", "test"} <= set(re.findall(r"^make (\w+)", README, flags=re.MULTILINE))


ENTRY = "from relation_neurons.cli.main import main; main()"
COMMANDS = [[], ["run"], ["relations"], ["parity"], ["compare-scores"], ["compare-methods"], ["reproduce"]]
COMMANDS += [["reproduce", name] for name in ("all", *EXPERIMENTS)]
COMMANDS += [["notebooks"], *(["notebooks", name] for name in ("list", "run", "copy"))]
COMMANDS += [["runs"], *(["runs", name] for name in ("list", "show", "verify", "clean"))]
COMMANDS += [["neuron"], ["figures"], ["report"], ["doctor"]]


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


def test_options_that_the_readme_names_exist(help_page):
    pages = help_page("run") + help_page("notebooks", "run") + help_page("figures") + help_page("neuron")
    for option in re.findall(r"`(--[a-z-]+)", README):
        assert option in pages, option


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


def test_the_command_is_installed():
    done = subprocess.run([sys.executable, "-c", ENTRY, "--help"], capture_output=True, text=True, check=True)
    assert "usage: relation-neurons" in done.stdout


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


def test_links_inside_the_repository_lead_somewhere():
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), ROOT / "data" / "README.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
