"""The page of a run: summary, figures, neurons, answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from relation_neurons.errors import refuse
from relation_neurons.experiments.ablation import effect_matrix, effects, verdict
from relation_neurons.figures import effect_matrix_figure, effects_figure, layers_figure, overlap_figure
from relation_neurons.report.page import Section, Table, neurons_section, write_page
from relation_neurons.statistics.intervals import Interval
from relation_neurons.storage.files import read_parquet

ANSWERS_SHOWN = 5
TABLES = ("recall", "neurons", "counts", "summary", "space")
WHERE = "Where the neurons sit"
SIDES = {"below": "below 0", "across": "holds 0", "above": "above 0"}
INTERVALS = (
    "Brackets are 95 % intervals over facts. Own and other ablate the relation's neurons and ask its own or the other "
    "relations' facts; random ablates its controls. Own minus random is paired by fact."
)


@dataclass(frozen=True)
class Results:
    """Everything that a run found.

    Attributes:
        recall: A row per prompt and condition, from `experiments.ablation.measure`.
        neurons: A row per relation and neuron, from `NeuronSet.to_frame`.
        counts: A row per relation: detection prompts and the cut, from `Selection.counts`.
        summary: A row per relation and measure, from `experiments.ablation.summarise`.
        n_layers: Layers of the model.
        n_neurons: Neurons of the model at the site.
    """

    recall: pd.DataFrame
    neurons: pd.DataFrame
    counts: pd.DataFrame
    summary: pd.DataFrame
    n_layers: int
    n_neurons: int


def read_results(folder: Path) -> Results:
    """The tables that a finished run left in its folder.

    Raises:
        RelationNeuronsError: A table is missing or cannot be read.
    """
    tables = {}
    for name in TABLES:
        path = folder / f"{name}.parquet"
        if not path.exists():
            do = "let the run end (the same command goes on from here), or carry it out anew in another folder"
            raise refuse(f"{folder} has no {path.name}", expected="the folder of a finished run", do=do)
        tables[name] = read_parquet(
            path, "check its permissions; one that is damaged is made anew by the run's command"
        )
    space = tables.pop("space").iloc[0]
    return Results(**tables, n_layers=int(space["n_layers"]), n_neurons=int(space["n_neurons"]))


def figures_of(results: Results) -> dict[str, go.Figure]:
    """The figures of a run by name."""
    changes = effects(results.recall)
    return {
        "effects": effects_figure(results.summary, changes),
        "accuracy": effects_figure(results.summary, changes, "correct_string"),
        "matrix": effect_matrix_figure(effect_matrix(results.recall)),
        "layers": layers_figure(results.neurons, results.n_layers),
        "overlap": overlap_figure(results.neurons),
    }


def verdict_sentence(summary: pd.DataFrame, measure: str = "logprob") -> str:
    """In words, for how many relations own minus random lies below, across and above zero."""
    sides = verdict(summary, measure)
    total = sum(map(len, sides.values()))

    def listed(side: str) -> str:
        return f" ({', '.join(sides[side])})" if sides[side] else ""

    what = "log-probability of the right object" if measure == "logprob" else "accuracy"
    return (
        f"The {what} falls more than under matched random neurons, its 95 % interval below zero, in "
        f"{len(sides['below'])} of {total} relations{listed('below')}; the interval crosses zero in "
        f"{len(sides['across'])}{listed('across')} and lies above it in {len(sides['above'])}{listed('above')}."
    )


def summary_rows(summary: pd.DataFrame, measure: str) -> list[dict[str, str]]:
    """The summary of one measure as text, `mean [low, high]`, a dictionary per relation."""
    rows = []
    for row in summary[summary["measure"] == measure].to_dict("records"):
        found = {
            part: Interval(*(row[f"{part}_{field}"] for field in Interval._fields))
            for part in ("clean", "own", "other", "random", "own_minus_random")
        }
        clean = found["clean"]
        shown = {part: str(interval) if interval.n else "" for part, interval in found.items()}
        shown["clean"] = f"{clean.mean:.2f} [{clean.low:.2f}, {clean.high:.2f}]"
        rows.append(
            {"relation": str(row["relation"]), "n": str(clean.n), **shown, "side": found["own_minus_random"].side}
        )
    return rows


def write_report(results: Results, run: Mapping[str, Any]) -> str:
    """The page.

    Args:
        results: What the run found.
        run: What determined it (configuration, versions), shown at the end.

    Returns:
        HTML that works offline, some megabytes.
    """
    config, relations = run["config"], list(results.counts["relation"])
    about = {
        "model": str(config["model"]),
        "relations": f"{len(relations)}: {', '.join(relations)}",
        "site": str(config["site"]),
        "neurons per relation": f"{config['k']:,} of {results.n_neurons:,}",
        "facts per relation": " to ".join(str(n) for n in sorted({*_facts(results.summary).agg(["min", "max"])})),
        "random control sets": f"{config['n_controls']} per relation, matched by layer and site",
        "seed": str(config["seed"]),
    }
    return write_page(f"Relation neurons of {config['model']}", about, _sections(results), run)


def _facts(summary: pd.DataFrame) -> pd.Series:
    return summary.loc[summary["measure"] == "logprob", "clean_n"].astype(int)


def _sections(results: Results) -> list[Section]:
    drawn, summary = figures_of(results), results.summary
    changed = "Do a relation's own facts suffer when its neurons are ablated, more than under matched random neurons?"
    return [
        Section(
            "Log-probability of the right object",
            changed,
            [verdict_sentence(summary)],
            {"effects": drawn["effects"]},
            [_summary_table(summary, "logprob", "changes in nats")],
        ),
        Section(
            "Accuracy",
            verdict=[verdict_sentence(summary, "correct_string")],
            figures={"accuracy": drawn["accuracy"]},
            tables=[
                _summary_table(summary, "correct_string", "by the string rule (the answer begins with the object)"),
                _summary_table(summary, "correct_prefix", "by the paper's rule (two greedy tokens)", shown=False),
            ],
        ),
        Section("Every relation's facts", figures={"matrix": drawn["matrix"]}),
        Section(WHERE, figures={"layers": drawn["layers"], "overlap": drawn["overlap"]}, pairs="overlap"),
        _neurons(results),
        Section("Answers that suffered most", tables=[Table("answers", _changed_answers(results.recall), shown=True)]),
    ]


def _summary_table(summary: pd.DataFrame, measure: str, name: str, *, shown: bool = True) -> Table:
    """A row per relation; each part with its interval."""
    rows = summary[summary["measure"] == measure]
    table = rows[["relation"]].assign(facts=rows["clean_n"].astype(int))
    for part in ("clean", "own", "other", "random", "own_minus_random"):
        table[[part, f"{part}_low", f"{part}_high"]] = rows[[f"{part}_mean", f"{part}_low", f"{part}_high"]]
    sides = {name: SIDES[side] for side, names in verdict(summary, measure).items() for name in names}
    return Table(name, table.assign(difference=rows["relation"].map(sides)), INTERVALS, shown)


def _neurons(results: Results) -> Section:
    section = neurons_section(results.neurons, pairs_in=WHERE)
    note = (
        "Average precision (AP) of a neuron's mean activation over the query, positives against negatives of other "
        "relations. Equal AP is broken by layer, then index. In a random sample AP equals scikit-learn's to "
        f"{results.counts['ap_check'].iloc[0]:.0e}. A relation with few templates is partly told apart by their words: "
        "high AP alone proves nothing."
    )
    counts = Table("the cut of each relation", results.counts.drop(columns="ap_check"))
    return Section(section.name, section.question, tables=[*section.tables, counts], notes=[note])


def _changed_answers(recall: pd.DataFrame) -> pd.DataFrame:
    """For each relation the facts whose probability fell most, with the answers before and after."""
    changes = effects(recall)
    own = changes[changes["kind"] == "own"].sort_values("d_logprob", kind="stable")
    clean = recall[recall["kind"] == "clean"].set_index(["relation", "subject", "template"])["generated"]
    worst = pd.concat([own[own["relation"] == name].head(ANSWERS_SHOWN) for name in recall["relation"].unique()])
    before = [clean.loc[key] for key in worst[["relation", "subject", "template"]].itertuples(index=False, name=None)]
    shown = worst[["relation", "subject", "object"]].assign(before=before, after=worst["generated"])
    return shown.assign(change=worst["d_logprob"])
