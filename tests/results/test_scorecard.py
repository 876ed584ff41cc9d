"""The scorecard: every claim read from tables whose answer is known, and what each status means."""

import json

import numpy as np
import pandas as pd
import pytest

import relation_neurons as rn
from relation_neurons.cli import main
from relation_neurons.results.claim_estimates import Estimate, at_least, at_most, within
from relation_neurons.results.claims import CLAIMS, Claim
from relation_neurons.results.scorecard import STATUSES, scorecards, side_by_side, status_of
from relation_neurons.statistics.intervals import Interval
from relation_neurons.storage.run_folder import RunFolder

KEY = {
    "format": 2,
    "config": {"k": 100, "site": "ffn"},
    "relations": {"person_father": "ab", "person_mother": "cd"},
    "model": {"name": "m"},
    "code": "1",
    "device": "cpu",
}
RELATIONS = [f"r{number}" for number in range(8)]


def effect(value, *, p=0.001, random=0.0, n=25, **labels):
    """A row of `effects.compare`."""
    row = {"measure": "logprob", "n": n, "effect": value, "effect_low": value - 0.1, "effect_high": value + 0.1}
    row |= {"random": random, "difference": value - random, "p": p, "p_holm": p, "minimum_effect": 0.5}
    return labels | row | {"verdict": "falls" if p < 0.05 else "not shown"} | labels


def tables():
    """Tables in which every claim that they measure is as the paper has it."""
    wide = np.linspace(-0.02, 0.02, len(RELATIONS))
    neurons = pd.DataFrame({"name": "person_father", "rank": np.arange(1, 101)})
    thirds = [
        {"relation": r, "measure": "middle", "observed": 0.5 + x, "null_mean": 0.3}
        for r, x in zip(RELATIONS, wide, strict=True)
    ]
    pair = {"first": "person_mother", "second": "person_father", "count": 70, "expected": 1.0, "p": 1e-9}
    pair |= {"count_apart": 65, "expected_apart": 2.0, "least_apart": 8, "dispersion": 4.0}
    own = [effect(-2.0, ablated="all", facts="evaluation", measure=measure) for measure in ("logprob", "correct")]
    answers = [
        {"facts": "evaluation", "draw": draw, "relation": "r0", "unit": f"f{fact}", "d_logprob": -0.1, "d_correct": 0.0}
        for draw in (-1, 0, 1)
        for fact in range(10)
    ]
    trend = [effect(-0.8, ablated="all", random=-0.2)]
    synergy = [effect(-0.6, ablated="all", split="interleaved", measure="log_odds")]
    sharing = [effect(-0.9 + x, neurons="shared", facts=r) for r, x in zip(RELATIONS, wide, strict=True)]
    sweep = [effect(-3.0, ablated=r, k=100) for r in RELATIONS] + [effect(-6.0, ablated=r, k=1000) for r in RELATIONS]
    others = [effect(-0.1 + x, ablated=r, k=100) for r, x in zip(RELATIONS, wide, strict=True)]
    others += [effect(-5.0, ablated=r, k=1000) for r in RELATIONS]
    steps = [
        {
            "relation": "all",
            "k_small": 0,
            "k": 0,
            "total": 40,
            "affected": 12,
            "cumulativity": 0.7,
            "low": 0.5,
            "high": 0.8,
            "n": 30,
        }
    ]
    inter = [effect(-1.0, ablated="person_pro_sport", relation="person_sport_position")]
    inter += [
        effect(-0.05, p=0.6, ablated="person_sport_position", relation="person_pro_sport")
        | {"effect_low": -0.2, "effect_high": 0.1}
    ]
    inter += [effect(0.4, ablated="company_ceo", relation="company_hq")]
    inter += [
        effect(0.3 + x if x > -0.01 else -0.1, ablated=r, relation="person_mother")
        for r, x in zip(RELATIONS, wide, strict=True)
    ]
    languages = [
        effect(-1.0 + x, ablated=r, language=code, own_language="en")
        for r, x in zip(RELATIONS, wide, strict=True)
        for code in ("en", "de")
    ]
    templates = [effect(-1.5, ablated="all", detected="main", tested="zs")]
    concepts = [
        {
            "measure": "excess",
            "own": 0.2,
            "other": 0.01,
            "difference": 0.19,
            "difference_low": 0.1,
            "difference_high": 0.3,
            "p": 0.004,
            "n": 12,
        }
    ]
    perplexity = [
        {"ablated": r, "effect": 0.02 + x / 10, "random_effect": 0.001} for r, x in zip(RELATIONS, wide, strict=True)
    ]
    frequency = [{"relation": r, "relative_difference": 0.3 + x} for r, x in zip(RELATIONS, wide, strict=True)]
    types = [
        effect(value + x, ablated=r, site=site)
        for site, value in (("ffn", -3.0), ("gate", -2.8), ("all", -3.1), ("up", -0.3))
        for r, x in zip(RELATIONS, wide, strict=True)
    ]
    wrong = pd.DataFrame({"state": ["own"] * 20 + ["random"], "kind": ["the"] * 18 + ["other"] * 3})
    counts = [
        {"relation": r, "state": state, "right_before": 20, "newly_wrong": n, "share": n / 20}
        for r in RELATIONS
        for state, n in (("own", 10), ("random", 1))
    ]
    rows = {
        "layers/thirds": thirds, "overlap/pairs": [pair], "intra/pooled": own, "intra/answers": answers,
        "sweep/pooled_trend": trend, "cumulativity/pooled_synergy": synergy,
        "sharing/differences": sharing, "sweep/effects": sweep, "sweep/others": others, "cumulativity/steps": steps,
        "inter/effects": inter, "languages/effects": languages, "templates/pooled": templates,
        "concepts/summary": concepts, "perplexity/perplexity": perplexity, "frequency/frequency": frequency,
        "neuron-types/effects": types, "errors/counts": counts,
    }  # fmt: skip
    return {"neurons": neurons, "errors/newly_wrong": wrong} | {name: pd.DataFrame(part) for name, part in rows.items()}


def written(folder, parts):
    run = RunFolder(folder, KEY)
    for name, rows in parts.items():
        run.write_table(name, rows)
    return run.path


@pytest.fixture
def card(tmp_path):
    return rn.scorecard(written(tmp_path / "run", tables())).set_index(["claim", "unit"])


NATS = {
    "own facts": (-2.0, "as in the paper"),
    "random neurons": (-0.1, "as in the paper"),
    "k sweep, own": (-0.8, "as in the paper"),
    "k sweep, others": (-0.1, "as in the paper"),
    "person_pro_sport -> person_sport_position": (-1.0, "as in the paper"),
    "person_sport_position -> person_pro_sport": (-0.05, "as in the paper"),
    "company_ceo -> company_hq": (0.4, "as in the paper"),
    "languages": (-1.0, "as in the paper"),
    "templates": (-1.5, "as in the paper"),
}
OTHERS = {
    "layers": (0.2, "as in the paper"),
    "person_father and person_mother": (0.7, "as in the paper"),
    "cumulativity": (0.7, "as in the paper"),
    "synergy": (-0.6, "as in the paper"),
    "shared neurons": (-0.9, "as in the paper"),
    "concepts": (0.19, "as in the paper"),
    "perplexity": (0.02, "as in the paper"),
    "frequency": (0.3, "as in the paper"),
    "gate neurons": (2.8 / 3, "as in the paper"),
    "all neurons": (3.1 / 3, "as in the paper"),
    "up neurons": (0.1, "as in the paper"),
    "kinds of errors": (0.9, "as in the paper"),
    "newly wrong": (0.5, "as in the paper"),
}


@pytest.mark.parametrize(("claim", "expected"), NATS.items(), ids=str)
def test_claims_in_nats(card, claim, expected):
    row = card.loc[(claim, "nats")]
    assert (round(row["estimate"], 6), row["status"]) == (pytest.approx(expected[0], abs=1e-6), expected[1])


@pytest.mark.parametrize(("claim", "expected"), OTHERS.items(), ids=str)
def test_other_claims(card, claim, expected):
    (row,) = card.loc[[claim]].to_dict("records")
    assert (row["estimate"], row["status"]) == (pytest.approx(expected[0], abs=1e-6), expected[1])
    assert row["low"] <= row["estimate"] <= row["high"]


def test_every_claim_is_measured_or_says_what_is_missing(card, tmp_path):
    missing = card[card["status"] == "not measured"]
    assert missing["note"].str.contains(" has no rows of ").all()
    assert missing.loc[("person_father -> person_mother", "nats"), "note"] == (
        "inter has no rows of ablated person_father, relation person_mother, measure logprob"
    )
    nothing = rn.scorecard(written(tmp_path / "empty", {"neurons": tables()["neurons"]}))
    assert set(nothing["status"]) == {"not measured"}
    assert nothing["note"].str.startswith("reproduce ").all()


@pytest.mark.parametrize(("change", "status"), [(-0.3, "not shown"), (0.0, "not shown"), (2.0, "the other way round")])
def test_an_effect_that_is_not_shown_names_the_least_that_would_be(tmp_path, change, status):
    parts = tables()
    p = 0.5 if status == "not shown" else 0.001
    parts["intra/pooled"] = pd.DataFrame([effect(change, p=p, ablated="all", facts="evaluation")])
    row = rn.scorecard(written(tmp_path / "run", parts)).query("claim == 'own facts' and unit == 'nats'").iloc[0]
    assert row["status"] == status
    assert (row["note"] == "would have been shown from 0.5") == (status == "not shown")


def test_an_overlap_that_is_not_shown_names_what_was_tested(tmp_path):
    pairs = tables()["overlap/pairs"].assign(count=11, count_apart=7, p=0.06)
    card = rn.scorecard(written(tmp_path / "run", tables() | {"overlap/pairs": pairs})).set_index("claim")
    row = card.loc["person_father and person_mother"]
    assert row["status"] == "not shown"
    assert row["note"] == "without negatives in common 0.07, would have been shown from 0.08"


@pytest.mark.parametrize("changed", [{"drop": True}, {"drop": False}])
def test_an_overlap_whose_least_count_is_unknown_says_so(tmp_path, changed):
    pairs = tables()["overlap/pairs"].assign(p=0.06)
    pairs = pairs.drop(columns="least_apart") if changed["drop"] else pairs.assign(least_apart=np.nan)
    card = rn.scorecard(written(tmp_path / "run", tables() | {"overlap/pairs": pairs})).set_index("claim")
    row = card.loc["person_father and person_mother"]
    if changed["drop"]:
        assert (row["status"], row["note"]) == ("not measured", "reproduce overlap: its table is of an older version")
    else:
        assert row["status"] == "not shown"
        assert row["least"] == np.inf


def test_less_than_the_paper_is_weaker():
    claim = Claim("c", "", "", "", lambda run: None, value=0.68)
    for mean, status in ((0.3, "weaker"), (0.65, "as in the paper"), (0.9, "as in the paper")):
        assert status_of(claim, Estimate(Interval(mean, mean - 0.05, mean + 0.05, 9), "neurons", 1)) == status
    assert status_of(claim, Estimate(Interval(0.3, 0.2, 0.4, 9), "neurons", 0)) == "not shown"
    assert status_of(claim, Estimate(Interval(-0.3, -0.4, -0.2, 9), "neurons", -1)) == "the other way round"


def test_claims_of_hardly_any_change_need_an_interval_within_the_margin():
    assert within(Interval(0.0, -0.1, 0.1, 9), 0.2, "facts").side == 1
    assert within(Interval(0.0, -0.3, 0.1, 9), 0.2, "facts").side == 0
    assert within(Interval(-0.5, -0.7, -0.3, 9), 0.2, "facts").side == -1
    assert [at_least(Interval(m, m - 0.1, m + 0.1, 9), 0.5, "x").side for m in (0.7, 0.5, 0.3)] == [1, 0, -1]
    assert [at_most(Interval(m, m - 0.1, m + 0.1, 9), 0.5, "x").side for m in (0.7, 0.5, 0.3)] == [-1, 0, 1]


def test_several_folders_side_by_side_and_for_machines(tmp_path, monkeypatch, capsys):
    folders = [written(tmp_path / "one", tables()), written(tmp_path / "two", {"neurons": tables()["neurons"]})]
    wide = side_by_side(scorecards(folders))
    assert list(wide.columns[-2:]) == ["one", "two"]
    own = wide[(wide["claim"] == "own facts") & (wide["unit"] == "nats")].iloc[0]
    assert own["one"] == "as in the paper: -2.00 [-2.10, -1.90], n = 25 facts, random +0.00"
    assert own["two"] == "not measured: reproduce intra"
    out = tmp_path / "card.json"
    monkeypatch.setattr("sys.argv", ["relation-neurons", "scorecard", *map(str, folders), "--out", str(out)])
    main.main()
    page = capsys.readouterr().out
    assert f"Of {len(CLAIMS)} claims and measures: " in page
    found = json.loads(out.read_text(encoding="utf-8"))["scorecards"]
    assert [len(one["claims"]) for one in found] == [len(CLAIMS)] * 2
    assert {row["status"] for one in found for row in one["claims"]} <= set(STATUSES)
    assert found[0]["claims"][2]["estimate"] is None
    with pytest.raises(rn.RelationNeuronsError, match="each once"):
        scorecards([folders[0], folders[0]])


def test_markdown_and_other_endings(tmp_path, monkeypatch, capsys):
    folder = written(tmp_path / "one", tables())
    monkeypatch.setattr("sys.argv", ["relation-neurons", "scorecard", str(folder), "--out", str(tmp_path / "card.md")])
    main.main()
    lines = (tmp_path / "card.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2 + len(CLAIMS)
    assert len({line.count("|") for line in lines}) == 1
    monkeypatch.setattr("sys.argv", ["relation-neurons", "scorecard", str(folder), "--out", str(tmp_path / "card.txt")])
    with pytest.raises(SystemExit):
        main.main()
    assert "ends in .json or .md" in capsys.readouterr().err


@pytest.mark.parametrize(("measure", "unit", "least"), [("correct", "accuracy", np.inf), ("logprob", "nats", 1.2)])
def test_no_accuracy_could_have_fallen_by_more_than_one(tmp_path, measure, unit, least):
    rows = [{**effect(-0.1, p=0.5, ablated="all", facts="evaluation", measure=measure), "minimum_effect": 1.2}]
    card = rn.scorecard(written(tmp_path / "run", tables() | {"intra/pooled": pd.DataFrame(rows)}))
    row = card.query(f"claim == 'own facts' and unit == '{unit}'").iloc[0]
    assert (row["status"], row["least"]) == ("not shown", least)


def test_no_share_larger_than_one_could_have_been_shown(tmp_path):
    parts = tables()
    counts = parts["errors/counts"]
    few = counts[counts["relation"].isin(RELATIONS[:2])].copy()
    few.loc[few["state"] == "own", "share"] = [1.0, 0.0]
    card = rn.scorecard(written(tmp_path / "run", parts | {"errors/counts": few})).set_index("claim")
    row = card.loc["newly wrong"]
    assert (row["status"], row["least"]) == ("not shown", np.inf)
    assert row["note"] == "no effect could have been shown by this design"
