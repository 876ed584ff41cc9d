"""The benchmark of interventions runs, on a small random model, and refuses contenders that disagree."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import pandas as pd
import pytest

FILE = Path(__file__).parent.parent / "benchmarks" / "interventions.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_of_interventions", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_every_part_runs_on_a_small_model(benchmark, tmp_path, monkeypatch, capsys):
    out = tmp_path / "found.json"
    arguments = ["--small", "--device", "cpu", "--repeats", "1", "--part", "all", "grid", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["interventions.py", *arguments])
    monkeypatch.setattr(benchmark, "PROMPTS_EACH", (1, 4))
    benchmark.main()
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


def test_contenders_that_disagree_are_refused(benchmark):
    expected = pd.DataFrame({"correct_prefix": [True, False], "logprob": [-1.0, -2.0]})
    benchmark.must_agree(expected, expected.assign(logprob=[-1.0005, -2.0]), "close")
    with pytest.raises(RuntimeError, match="'verdicts' gives other verdicts"):
        benchmark.must_agree(expected, expected.assign(correct_prefix=[True, True]), "verdicts")
    with pytest.raises(RuntimeError, match="differ by 1"):
        benchmark.must_agree(expected, expected.assign(logprob=[-1.0, -2.01]), "numbers")
    with pytest.raises(RuntimeError, match="differ by nan"):
        benchmark.must_agree(expected, expected.assign(logprob=[-1.0, math.nan]), "numbers")


def test_ratios_are_medians_of_each_turns_ratios(benchmark):
    found = {"first": benchmark.Timed([1.0, 2.0, 4.0]), "sampled": benchmark.Timed([3.0, 2.0, 4.0])}
    first, sampled = benchmark.table(found, {"sampled": 2.0})
    assert (first["ratio"], first["seconds"], first["turns"]) == (1, 2, 3)
    assert (sampled["ratio"], sampled["seconds"]) == (2, 6)
