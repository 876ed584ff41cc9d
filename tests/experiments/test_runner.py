"""Experiments by name on the planted model, as a user would run them."""

import dataclasses
import json
import re

import pandas as pd
import pytest

import relation_neurons as rn
from relation_neurons.cli import main
from relation_neurons.experiments import answer_jobs, registry, runner
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.cumulativity import CumulativityConfig
from relation_neurons.experiments.inter_relation import InterConfig
from relation_neurons.experiments.intra_relation import IntraConfig
from relation_neurons.experiments.k_sweep import SweepConfig
from relation_neurons.report.figure_registry import FIGURES
from tests.planted import planted_config

KS = (1, 3, 6)
OPTIONS = {
    "intra": IntraConfig(n_detection_tested=0),
    "inter": InterConfig(n_cross_controls=2),
    "sweep": SweepConfig(ks=KS, scale=False, n_sweep_controls=20, n_other=1),
    "cumulativity": CumulativityConfig(ks=KS, scale=False, n_slices=2, n_slice_controls=2),
}


@pytest.fixture(scope="module")
def config(planted_folder):
    return planted_config(StudyConfig, 8, planted_folder, n_controls=20)


@pytest.fixture(scope="module")
def counts(planted, tmp_path_factory):
    path = tmp_path_factory.mktemp("counts") / "counts.csv"
    rows = [
        (relation.name, fact.subject, fact.object, number)
        for relation in planted.relations
        for number, fact in enumerate(relation.facts)
    ]
    pd.DataFrame(rows, columns=["relation", "subject", "object", "n_both"]).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def everything(config, counts, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "all"
    options = runner.all_options("demo", counts=counts) | OPTIONS
    return runner.reproduce(list(options), config, out, options=options), out


def test_all_experiments_write_tables_figures_and_verdicts(everything):
    results, out = everything
    assert [result.name for result in results] == [*registry.EXPERIMENTS, "properties"]
    for result in results:
        folder = out / result.name
        assert result.verdict
        assert all(sentence in (folder / "verdict.md").read_text(encoding="utf-8") for sentence in result.verdict)
        for label, table in result.tables.items():
            kept = pd.read_parquet(folder / f"{label}.parquet")
            assert len(kept) == len(table)
            if len(table):
                pd.testing.assert_frame_equal(kept, table.reset_index(drop=True))
        for label, (_, tables) in FIGURES.get(result.name, {}).items():
            if all(len(result.tables[table]) for table in tables):
                page = (folder / f"{label}.html").read_text(encoding="utf-8")
                assert 'src="../plotly.min.js"' in page
    assert (out / "plotly.min.js").stat().st_size > 1e6
    assert json.loads((out / "sweep" / "options.json").read_text(encoding="utf-8"))["ks"] == list(KS)
    page = (out / "verdicts.md").read_text(encoding="utf-8")
    assert page.index("## properties") < page.index("## layers")
    assert "6 neurons each at site post" in page


def test_the_planted_relations_are_found_by_every_experiment_that_could(everything):
    results = {result.name: result for result in everything[0]}
    own = results["intra"].tables["effects"].query("measure == 'logprob'")
    assert set(own["verdict"]) == {"falls"}
    assert set(results["sweep"].tables["trend"].query("measure == 'logprob'")["verdict"]) == {"falls"}
    assert "cannot be shown in any of 6" in " ".join(results["properties"].verdict)  # two control sets for pairs
    assert "In 6 of 6 no effect can be shown with 8 facts and 2 control sets" in results["inter"].verdict[0]
    assert "estimates without verdicts" in results["inter"].verdict[0]
    lost = results["intra"].tables["answers"].query("draw == -1 and clean_correct == 1 and correct == 0")
    wrong = results["errors"].tables["newly_wrong"]
    assert len(wrong[wrong["state"] == "own"]) == len(lost)
    facts = results["frequency"].tables["facts"]
    assert (~facts["resilient"]).sum() == lost["fact"].nunique() if lost["fact"].is_unique else len(facts) > 0


def test_a_second_call_asks_nothing_and_writes_the_same(everything, config, monkeypatch, tmp_path):
    results, out = everything
    before = {path: path.read_bytes() for path in out.rglob("*.parquet")}
    monkeypatch.setattr(answer_jobs, "recall_under", lambda *a, **k: pytest.fail("asked again"))
    again = runner.reproduce(["sweep", "inter"], config, out, options=OPTIONS)
    for result in again[:2]:
        first = next(one for one in results if one.name == result.name)
        assert result.verdict == first.verdict
    for name in ("sweep", "inter", "answers"):
        for path in (out / name).glob("*.parquet"):
            assert path.read_bytes() == before[path]


def test_one_experiment_alone_equals_the_same_among_all(everything, config, tmp_path):
    alone = runner.reproduce(["inter"], config, tmp_path / "alone", options=OPTIONS)[0]
    among = next(result for result in everything[0] if result.name == "inter")
    pd.testing.assert_frame_equal(alone.table, among.table, atol=1e-5)
    assert not (tmp_path / "alone" / "verdicts.md").exists()


def test_names_and_folders_that_do_not_fit_are_refused(everything, config, tmp_path):
    with pytest.raises(rn.RelationNeuronsError, match="did you mean 'cumulativity'"):
        runner.reproduce(["cumulativty"], config, tmp_path / "none")
    with pytest.raises(rn.RelationNeuronsError, match="holds another run"):
        runner.reproduce(["intra"], dataclasses.replace(config, seed=1), everything[1])
    with pytest.raises(rn.RelationNeuronsError, match="give --counts TABLE or --corpus FOLDER"):
        runner.reproduce(["frequency"], config, tmp_path / "frequency")


def test_the_paper_is_the_default():
    config = StudyConfig()
    assert (config.site, config.k, config.n_controls, config.validation) == ("ffn", None, 50, "prefix")
    assert (config.prompts.shots, config.prompts.templates, config.prompts.n_evaluation) == (0, "all", 50)
    assert SweepConfig().ks == (10, 50, 200, 500, 1000, 3000, 10_000, 20_000, 50_000)
    assert IntraConfig().n_detection_tested is None
    assert set(runner.all_options("full")) == set(registry.EXPERIMENTS) - {"frequency"}


@pytest.mark.parametrize(
    "command", [["reproduce", "intra", "--n-detection-tested", "2"], ["compare-methods", "--ks", "3"]]
)
def test_the_command_line_prints_the_verdict(config, planted_folder, tmp_path, capsys, monkeypatch, command):
    arguments = [*command, "--model", config.model, "--relations", str(planted_folder), "--k", "6", "--site", "post"]
    arguments += ["--n-controls", "2", "--validation", "none", "--n-evaluation", "6", "--out", str(tmp_path / "cli")]
    monkeypatch.setattr("sys.argv", ["relation-neurons", *arguments])
    main.main()
    printed = re.sub(r"\s+", " ", capsys.readouterr().out)
    name = "intra" if "intra" in command else "methods"
    for sentence in (tmp_path / "cli" / name / "verdict.md").read_text(encoding="utf-8").splitlines():
        assert re.sub(r"\s+", " ", sentence.removeprefix("- ").removeprefix("## ")) in printed
    assert f"Open {tmp_path / 'cli' / 'report.html'}" in printed.replace("\n", "")
