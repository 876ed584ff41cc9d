"""The README's blocks run, its commands exist, and every help page is printed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("command", [[], ["run"], ["relations"], ["parity"], ["compare-scores"]])
def test_help_pages(command):
    done = subprocess.run(
        [sys.executable, "-c", "from relation_neurons.cli import main; main()", *command, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "usage: relation-neurons" in done.stdout
    if command == ["run"]:
        for option in re.findall(r"`(--[a-z-]+)", README):
            assert option in done.stdout, option


def test_links_inside_the_repository_lead_somewhere():
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), ROOT / "data" / "README.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
