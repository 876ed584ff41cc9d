"""Saved figures, and the figures of a study made from its tables."""

import json
import re
import sys

import pandas as pd
import plotly.graph_objects as go
import pytest

from relation_neurons import RelationNeuronsError
from relation_neurons.cli.figures import figures_command, study_figures
from relation_neurons.figures.export import on_white, save_figure, save_figures
from relation_neurons.figures.style import styled
from relation_neurons.results.experiment_result import ExperimentResult, read_result


@pytest.fixture
def figure():
    return styled(go.Figure(go.Bar(x=["a", "b"], y=[1, 2])), "Two bars", height=300, legend_rows=0)


def test_a_page_works_without_a_network(figure, tmp_path):
    path = save_figure(figure, tmp_path / "new" / "bars.html")
    page = path.read_text(encoding="utf-8")
    assert "Two bars" in page
    assert "Plotly.newPlot" in page
    assert not re.findall(r"<(?:script|link)[^>]+(?:src|href)=", page)
    assert len(page) > 1_000_000  # plotly is inside


def test_saved_figures_are_dark_on_white_and_the_original_is_unchanged(figure):
    before = figure.to_json()
    printed = on_white(figure)
    assert printed.layout.paper_bgcolor == printed.layout.plot_bgcolor == "white"
    assert printed.layout.font.color == "#222222"
    assert figure.to_json() == before


def test_images_have_the_requested_size(figure, tmp_path):
    pytest.importorskip("kaleido")
    path = tmp_path / "bars.png"
    try:
        save_figures({path: figure, tmp_path / "bars.svg": figure}, width=400, scale=2)
    except RelationNeuronsError as error:
        if type(error.__cause__).__name__ != "ChromeNotFoundError":
            raise
        pytest.skip("Chrome or Chromium is not installed")
    head = path.read_bytes()[:24]
    assert head[1:4] == b"PNG"
    assert [int.from_bytes(head[start : start + 4]) for start in (16, 20)] == [800, 600]
    drawn = (tmp_path / "bars.svg").read_text(encoding="utf-8")
    assert 'width="400"' in drawn
    assert "Two bars" in drawn


def test_the_error_without_kaleido_or_a_browser_says_what_to_install(figure, tmp_path, monkeypatch):
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "kaleido", None)
        with pytest.raises(RelationNeuronsError, match=r"Kaleido.*is not installed.*pip install 'kaleido>=1\.0'"):
            save_figure(figure, tmp_path / "bars.png")
    pytest.importorskip("kaleido")
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "no-chrome"))
    with pytest.raises(RelationNeuronsError, match=r"could not be created.*install Chrome or Chromium"):
        save_figure(figure, tmp_path / "bars.png")
    assert not (tmp_path / "bars.png").exists()


def test_unknown_extensions_and_unwritable_paths_are_refused(figure, tmp_path):
    with pytest.raises(RelationNeuronsError, match=r"'bars\.pgn' has an unknown extension.*did you mean 'png'"):
        save_figure(figure, tmp_path / "bars.pgn")
    (tmp_path / "file").write_text("x")
    with pytest.raises(RelationNeuronsError, match="cannot be written"):
        save_figure(figure, tmp_path / "file" / "bars.html")


VERDICT = "## overlap\n\nDo relations share neurons?\n\n- Few: a and b 3.\n- 0 neurons are shared by three.\n"


@pytest.fixture
def study(tmp_path):
    """A study folder with one experiment, as `reproduce` writes it."""
    folder = tmp_path / "study"
    (folder / "overlap").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"config": {}}))
    (folder / "overlap" / "verdict.md").write_text(VERDICT)
    pairs = pd.DataFrame({"first": ["a"], "second": ["b"], "count": [3], "share": [0.3], "expected": [1.0]})
    pairs = pairs.assign(low=0, high=4, p_holm=0.01, verdict="above chance", count_as_negatives=1)
    pairs = pairs.assign(expected_as_negatives=1.0)
    pairs.to_parquet(folder / "overlap" / "pairs.parquet")
    pairs.to_parquet(folder / "overlap" / "kept-0123456789abcdef.parquet")
    return folder


def test_a_result_can_be_read(study):
    result = read_result(study, "overlap")
    assert isinstance(result, ExperimentResult)
    assert (result.name, result.question) == ("overlap", "Do relations share neurons?")
    assert result.verdict == ("Few: a and b 3.", "0 neurons are shared by three.")
    assert list(result.tables) == ["pairs"]  # without the table that only serves to resume
    assert result.tables["pairs"]["count"].tolist() == [3]


def test_the_figures_of_a_study_are_made_from_its_tables(study, tmp_path, capsys):
    assert list(study_figures(study)) == ["overlap"]
    figures_command(study, out=tmp_path / "drawn", formats=("html", "html"))
    written = sorted(path.relative_to(tmp_path / "drawn").as_posix() for path in (tmp_path / "drawn").rglob("*.*"))
    assert written == ["overlap/pairs.html"]
    assert "Wrote 1 figures of overlap" in capsys.readouterr().out
    figures_command(study, formats=("html",), experiments=("overlap",))
    assert (study / "figures" / "overlap" / "pairs.html").is_file()
    assert list(study_figures(study)) == ["overlap"]


def test_invalid_folders_and_experiments_are_refused(study, tmp_path):
    with pytest.raises(RelationNeuronsError, match="is not a study folder"):
        study_figures(tmp_path)
    with pytest.raises(RelationNeuronsError, match="is not a study folder"):
        read_result(tmp_path, "overlap")
    with pytest.raises(RelationNeuronsError, match=r"'overlapp' is not an experiment.*did you mean 'overlap'"):
        study_figures(study, ["overlapp"])
    with pytest.raises(RelationNeuronsError, match=r"'sweep' was not run in .*one of: overlap"):
        study_figures(study, ["sweep"])
    (study / "overlap" / "pairs.parquet").write_bytes(b"no parquet")
    with pytest.raises(RelationNeuronsError, match=r"pairs\.parquet cannot be read.*reproduce overlap again"):
        study_figures(study)


def test_tables_of_another_version_are_refused(study):
    (study / "overlap" / "pairs.parquet").unlink()
    with pytest.raises(RelationNeuronsError, match=r"tables of overlap have no 'pairs'"):
        study_figures(study)
    pd.DataFrame({"n_relations": [1]}).to_parquet(study / "overlap" / "pairs.parquet")
    with pytest.raises(RelationNeuronsError, match="which its figures need"):
        study_figures(study)
