"""The site builds without a warning, asks the network for nothing, and documents every public name."""

import inspect
import os
import re
import subprocess
import sys

import pytest

import relation_neurons
from relation_neurons import figures
from relation_neurons.experiments.registry import BESIDE, EXPERIMENTS
from relation_neurons.scores.scorers import SCORERS
from tests.docs.pages import ROOT

API = "".join(page.read_text(encoding="utf-8") for page in sorted(ROOT.glob("docs/api/*.md")))
DOCUMENTED = set(re.findall(r"^::: (\S+)$", API, flags=re.MULTILINE))
ALL = (*EXPERIMENTS.values(), *BESIDE.values())
RUNS = [experiment.run for experiment in ALL]
CONFIGS = [experiment.config for experiment in ALL]
PUBLIC = {f"relation_neurons.{name}": getattr(relation_neurons, name) for name in relation_neurons.__all__}
PUBLIC |= {f"relation_neurons.figures.{name}": getattr(figures, name) for name in figures.__all__}
PUBLIC |= {f"{one.__module__}.{one.__name__}": one for one in (*RUNS, *CONFIGS)}
ELSEWHERE = {one.__name__ for one in map(inspect.unwrap, SCORERS.values())} & set(relation_neurons.__all__)
PUBLIC |= {f"relation_neurons.scores.scorers.{name}": score for name, score in SCORERS.items() if name not in ELSEWHERE}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_documented(name):
    assert name in DOCUMENTED, f"add `::: {name}` to a page of docs/api"
    assert inspect.getdoc(PUBLIC[name]), f"{name} has no docstring"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    built, sources = ROOT / "build" / "site", [ROOT / "mkdocs.yml"]
    sources += [
        path for folder in ("docs", "relation_neurons") for path in (ROOT / folder).rglob("*") if path.is_file()
    ]
    page = built / "cli.html"
    if page.is_file() and page.stat().st_mtime > max(path.stat().st_mtime for path in sources if path.suffix != ".pyc"):
        return built  # `make docs` has just made it
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_pages_load_nothing_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?([^\"\s>]+)", text)
        loaded += re.findall(
            r"<link\b[^>]*\brel=\"?(?:stylesheet|preload|preconnect|icon)\b[^>]*?href=\"?([^\"\s>]+)", text
        )
        assert loaded
        assert [address for address in loaded if "//" in address] == [], page
        assert not {"mermaid", "data-md-source"} & set(re.findall(r"mermaid|data-md-source", text)), page


def test_every_command_and_every_public_name_is_on_a_page(site):
    commands = (site / "cli.html").read_text(encoding="utf-8")
    for name in (*EXPERIMENTS, "all"):
        assert f'id="reproduce-{name}"' in commands
    anchors = "".join(page.read_text(encoding="utf-8") for page in site.glob("api/*.html"))
    assert all(f'id="{name}"' in anchors for name in PUBLIC)
