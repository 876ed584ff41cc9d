"""The benchmark of interventions runs on a small random model and rejects contenders that disagree."""

import importlib
import json
import math
import sys
from pathlib import Path

import pandas as pd
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark():
    """Imports a module of the benchmark as `python benchmarks/interventions.py` does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield importlib.import_module


@pytest.fixture(scope="module")
def measuring(benchmark):
    return benchmark("intervention_parts.measuring")


@pytest.mark.full
def test_every_part_runs_on_a_small_model(benchmark, tmp_path, monkeypatch, capsys):
    out = tmp_path / "results.json"
    arguments = ["--small", "--device", "cpu", "--repeats", "1", "--part", "all", "grid", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["interventions.py", *arguments])
    monkeypatch.setattr(benchmark("intervention_parts.conditions"), "PROMPTS_EACH", (1, 4))
    benchmark("interventions").main()
    record = json.loads(out.read_text(encoding="utf-8"))
    printed = capsys.readouterr().out
    assert list(record["parts"]) == ["conditions", "verdict", "hooks", "collection", "grid"]
    assert len(record["parts"]["conditions"]) == 2 * 2 * 2 * 3
    for name, rows in record["parts"].items():
        assert f"### {name}: " in printed
        assert all(math.isfinite(row["seconds"]) and row["seconds"] > 0 for row in rows)
    collected = {row["contender"]: row for row in record["parts"]["collection"] if row["shots"] == 0}
    assert collected["plain pass"]["ratio"] == 1
    assert collected["collect_activations, post"]["kept MB"] < collected["run_with_cache, only post"]["kept MB"]
    assert collected["run_with_cache, only post"]["of the cache"] < 1 == collected["run_with_cache"]["of the cache"]
    (grid,) = record["parts"]["grid"]
    assert grid["conditions"] == 1 + 3 + 3 * 2
    assert grid["prompts"] == 24 * (1 + 3) + 24 * 2


def test_contenders_that_disagree_raise_an_error(measuring):
    expected = pd.DataFrame({"correct_prefix": [True, False], "logprob": [-1.0, -2.0]})
    measuring.must_agree(expected, expected.assign(logprob=[-1.0005, -2.0]), "close")
    with pytest.raises(RuntimeError, match="'answers' gives different answers"):
        measuring.must_agree(expected, expected.assign(correct_prefix=[True, True]), "answers")
    with pytest.raises(RuntimeError, match="differ by 1"):
        measuring.must_agree(expected, expected.assign(logprob=[-1.0, -2.01]), "numbers")
    with pytest.raises(RuntimeError, match="differ by nan"):
        measuring.must_agree(expected, expected.assign(logprob=[-1.0, math.nan]), "numbers")


def test_ratios_are_medians_over_turns(measuring):
    timings = {"first": measuring.Timed([1.0, 2.0, 4.0]), "sampled": measuring.Timed([3.0, 2.0, 4.0])}
    first, sampled = measuring.table(timings, {"sampled": 2.0})
    assert (first["ratio"], first["seconds"], first["turns"]) == (1, 2, 3)
    assert (sampled["ratio"], sampled["seconds"]) == (2, 6)
