"""Notebooks rerun by script: what is injected is recorded, what is finished is skipped, what fails is said."""

import json
import re

import nbformat
import pytest

import relation_neurons as rn
from relation_neurons.cli import main, notebook_runner

pytest.importorskip("papermill")


@pytest.fixture
def books(tmp_path, monkeypatch):
    """Small notebooks in place of the package's."""
    folder = tmp_path / "books"
    folder.mkdir()
    sources = {
        "00_sum": ["total = 1", "total += seed", "total"],
        "01_fails": ["seed", "1 / 0", "print('never')"],
        "02_dies": ["import os; os._exit(9)"],
        "03_draws": ["import plotly.graph_objects as go", "go.Figure(go.Bar(y=[1, 2]))"],
    }
    for name, cells in sources.items():
        parameters = nbformat.v4.new_code_cell("seed = 0\nfolder = None", metadata={"tags": ["parameters"]})
        cells = [
            nbformat.v4.new_markdown_cell(f"# Title of {name}"),
            parameters,
            *map(nbformat.v4.new_code_cell, cells),
        ]
        metadata = {"language_info": {"name": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / f"{name}.ipynb")
    monkeypatch.setattr(
        notebook_runner, "notebook_paths", lambda: {path.stem: path for path in sorted(folder.glob("*.ipynb"))}
    )
    return folder


def result(path):
    return nbformat.read(path, as_version=4).cells[-1].outputs[0]["data"]["text/plain"]


def test_parameters_are_injected_and_recorded(books, tmp_path):
    (outcome,) = notebook_runner.run_notebooks(["00"], tmp_path / "out", profile="smoke", seed=41)
    assert outcome.error == ""
    assert result(outcome.path) == "42"
    recorded = nbformat.read(outcome.path, as_version=4).metadata["papermill"]["parameters"]
    assert (recorded["seed"], recorded["profile"], recorded["k"]) == (41, "smoke", 200)
    assert "42" in outcome.path.with_suffix(".html").read_text(encoding="utf-8")


def test_what_is_finished_is_skipped_and_what_has_changed_is_not(books, tmp_path):
    out = tmp_path / "out"
    assert notebook_runner.run_notebooks(["00"], out, seed=1)[0].seconds > 0
    assert notebook_runner.run_notebooks(["00"], out, seed=1)[0].seconds == 0
    again = notebook_runner.run_notebooks(["00"], out, seed=2)[0]
    assert again.seconds > 0
    assert result(again.path) == "3"
    source = books / "00_sum.ipynb"
    source.write_text(source.read_text(encoding="utf-8").replace("total = 1", "total = 5"), encoding="utf-8")
    assert result(notebook_runner.run_notebooks(["00"], out, seed=2)[0].path) == "7"


def test_a_torn_notebook_is_executed_again(books, tmp_path):
    out = tmp_path / "out"
    path = notebook_runner.run_notebooks(["00"], out, seed=1)[0].path
    path.write_text(path.read_text(encoding="utf-8")[:100], encoding="utf-8")
    assert result(notebook_runner.run_notebooks(["00"], out, seed=1)[0].path) == "2"


def test_a_failing_cell_is_named_and_the_others_run(books, tmp_path):
    out = tmp_path / "out"
    failed, died, drawn = notebook_runner.run_notebooks(["01", "02", "03"], out)
    assert failed.path == out / "01_fails.failed.ipynb"
    assert failed.error == "cell 5, which begins with `1 / 0`: ZeroDivisionError: division by zero"
    assert "ZeroDivisionError" in failed.path.with_suffix(".html").read_text(encoding="utf-8")
    assert "never" not in str(nbformat.read(failed.path, as_version=4).cells[-1].outputs)
    assert "was killed" in died.error
    assert drawn.error == ""
    source = books / "01_fails.ipynb"
    source.write_text(source.read_text(encoding="utf-8").replace("1 / 0", "1 / 1"), encoding="utf-8")
    assert notebook_runner.run_notebooks(["01"], out)[0].path == out / "01_fails.ipynb"
    assert not failed.path.exists()
    assert not failed.path.with_suffix(".html").exists()


def test_figures_are_kept_for_jupyter_and_for_pages_without_a_network(books, tmp_path):
    (outcome,) = notebook_runner.run_notebooks(["03_draws"], tmp_path / "out")
    outputs = [one for cell in nbformat.read(outcome.path, as_version=4).cells for one in cell.get("outputs", [])]
    assert any("application/vnd.plotly.v1+json" in one.get("data", {}) for one in outputs)
    page = outcome.path.with_suffix(".html").read_text(encoding="utf-8")
    assert "Plotly.newPlot" in page
    assert '<script src="http' not in page


def test_a_page_asks_no_host_for_anything(tmp_path):
    badge = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/x)"
    plain = '<img src="https://example.org/a.png">'
    cells = [nbformat.v4.new_markdown_cell(f"{badge}\n\n{plain}\n\n# Title")]
    page = tmp_path / "page.html"
    notebook_runner._write_page(nbformat.v4.new_notebook(cells=cells), "page", page)
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r"<(?:script|img|iframe|source|link)\b[^>]*\b(?:src|href)=\"https?:", text)
    assert ">Open in Colab</a>" in text
    assert text.count('<head><meta http-equiv="Content-Security-Policy" content="default-src data: blob: ') == 1


def test_the_command_has_an_exit_status_for_a_batch_job(books, tmp_path, monkeypatch, capsys):
    call = ["relation-neurons", "notebooks", "run", "--out", str(tmp_path / "out"), "--profile", "smoke"]
    monkeypatch.setattr("sys.argv", [*call, "00"])
    main.main()
    assert "00_sum: done in" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", [*call, "01", "00"])
    with pytest.raises(SystemExit) as left:
        main.main()
    assert left.value.code == 1
    said = capsys.readouterr().out
    assert "01_fails failed in cell 5" in said
    assert "00_sum: finished before, skipped" in said


@pytest.mark.parametrize("name", ["sum", "00", "00_sum", "notebooks/00_sum.ipynb"])
def test_notebooks_have_several_names(books, name):
    assert list(notebook_runner.choose([name])) == ["00_sum"]


def test_unknown_names_and_profiles_are_refused_before_anything_runs(books, tmp_path):
    with pytest.raises(rn.RelationNeuronsError, match=r"'00_some' is not a notebook.*did you mean '00_sum'"):
        notebook_runner.run_notebooks(["00", "00_some"], tmp_path / "out")
    with pytest.raises(rn.RelationNeuronsError, match="'large' is not a profile"):
        notebook_runner.run_notebooks(["00"], tmp_path / "out", profile="large")
    assert not (tmp_path / "out").exists()
    with pytest.raises(rn.RelationNeuronsError, match=r"nothere not installed.*pip install"):
        notebook_runner.require_packages(["nothere"])


def test_copies_never_overwrite(books, tmp_path, monkeypatch):
    call = ["relation-neurons", "notebooks", "copy", str(tmp_path / "mine"), "00"]
    monkeypatch.setattr("sys.argv", call)
    main.main()
    copied = tmp_path / "mine" / "00_sum.ipynb"
    assert json.loads(copied.read_text(encoding="utf-8")) == json.loads(
        (books / "00_sum.ipynb").read_text(encoding="utf-8")
    )
    with pytest.raises(SystemExit):
        main.main()


def test_the_list_has_every_title(books, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["relation-neurons", "notebooks", "list"])
    main.main()
    assert "01_fails  Title of 01_fails" in capsys.readouterr().out
