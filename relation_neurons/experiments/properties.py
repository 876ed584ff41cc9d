"""The paper's three properties, each as a claim that corrected tests support or do not (sections 5 and 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from relation_neurons.results.experiment_result import ExperimentResult
from relation_neurons.results.sharing_verdicts import served_by_shared
from relation_neurons.statistics.effects import CANNOT_BE_SHOWN, FALLS, LEVEL, RISES
from relation_neurons.statistics.formatting import interval_text, name_list

QUESTION = "Are relation neurons cumulative, versatile and interfering in this model?"
COLUMNS = ["property", "evidence", "what", "effect", "effect_low", "effect_high", "n", "p_holm", "shown", "testable"]
Rows = list[dict[str, object]]


def properties(findings: Mapping[str, ExperimentResult]) -> ExperimentResult:
    """Gather what other experiments showed of the three properties.

    - *Cumulative* is a relation whose facts lose log-probability with every tenfold of k, more than under nested
      random sets, and that rests on many neurons together: its lost facts are not all lost to the neurons added last,
      or its neurons do more together than the sum of disjoint parts of them. The row `all` says so of all relations
      pooled.
    - *Versatile* is a pair of relations that share more neurons than chance, and which both lose more log-probability
      under these than under as many that only the other relation has. Beside it stand other languages and the other
      template set.
    - *Interfering* is a pair of which one relation gains log-probability, or accuracy, beyond chance and random
      neurons, when the other's neurons are ablated; `gains of single facts` tests that direction only, fact by fact
      beyond random sets.

    Args:
        findings: By name; used are `sweep` with `cumulativity`, `sharing`, `inter`, `languages` and `templates`, as far
            as they are there.

    Returns:
        A table with a row per relation or pair and evidence: the effect that is tested with its interval and n, its
        corrected p, whether it is `shown`, by all conditions named above, and whether it is `testable` with these
        facts and control sets.
    """
    rows: Rows = []
    if {"sweep", "cumulativity"} <= findings.keys():
        rows += _cumulative(findings["sweep"].tables, findings["cumulativity"].tables)
    if "sharing" in findings:
        rows += _versatile(findings["sharing"].tables["differences"])
    if "languages" in findings:
        table = findings["languages"].tables["by_language"]
        rows += _pooled(table, "another language", "language", FALLS)
    if "templates" in findings:
        rows += _across_templates(findings["templates"].tables["effects"])
    if "inter" in findings:
        rows += _interfering(findings["inter"].tables["effects"])
        rows += _gaining(findings["inter"].tables["gains"])
    table = pd.DataFrame(rows, columns=COLUMNS)
    sentences = [_sentence(table[table["property"] == name], name) for name in table["property"].unique()]
    if "sharing" in findings and findings["sharing"].tables["differences"].empty:
        sentences += [f"Versatility, shared neurons: shown in 0 of 0. {said}" for said in findings["sharing"].verdict]
    return ExperimentResult("properties", QUESTION, {"properties": table}, tuple(sentences) or ("Nothing was tested.",))


def _tested(row: Mapping[str, object], name: str, evidence: str, what: str, shown: bool) -> dict[str, object]:
    kept = {column: row[column] for column in ("effect", "effect_low", "effect_high", "n", "p_holm")}
    return {
        "property": name,
        "evidence": evidence,
        "what": what,
        **kept,
        "shown": shown,
        "testable": row["verdict"] != CANNOT_BE_SHOWN,
    }


def _records(table: pd.DataFrame, measure: str) -> Sequence[dict[str, object]]:
    found = table[table["measure"] == measure] if len(table) else table
    return [{str(name): value for name, value in row.items()} for row in found.to_dict("records")]


def _cumulative(sweep: Mapping[str, pd.DataFrame], cumulativity: Mapping[str, pd.DataFrame]) -> Rows:
    """Each relation, and all pooled: the slope over k, if it is steeper than random, and what it rests on."""
    steps, rows = cumulativity["steps"], []
    jointly = set(steps.loc[(steps["k"] == 0) & (steps["low"] > 0), "relation"])  # `all` among them
    for name in ("synergy", "pooled_synergy"):
        jointly |= {str(row["ablated"]) for row in _records(cumulativity[name], "logprob") if row["verdict"] == FALLS}
    for name in ("trend", "pooled_trend"):
        for row in _records(sweep[name], "logprob"):
            shown = row["verdict"] == FALLS and str(row["ablated"]) in jointly
            evidence = "slope over k" if name == "trend" else "slope over k, pooled"
            rows.append(_tested(row, "cumulativity", evidence, str(row["ablated"]), shown))
    return rows


def _versatile(differences: pd.DataFrame) -> Rows:
    both = served_by_shared(differences)
    return [
        _tested(row, "versatility", "shared neurons", str(row["facts"]), f"{row['first']} and {row['second']}" in both)
        for row in _records(differences, "logprob")
        if row["neurons"] == "shared"
    ]


def _pooled(table: pd.DataFrame, evidence: str, column: str, verdict: str) -> Rows:
    return [
        _tested(row, "versatility", evidence, str(row[column]), row["verdict"] == verdict)
        for row in _records(table, "logprob")
    ]


def _across_templates(effects: pd.DataFrame) -> Rows:
    """Neurons detected with one set of templates, tested with the other."""
    if effects.empty:
        return []
    crossed = effects[effects["detected"] != effects["tested"]]
    return [
        _tested(
            row,
            "versatility",
            "other templates",
            f"{row['ablated']}, {row['detected']} to {row['tested']}",
            row["verdict"] == FALLS,
        )
        for row in _records(crossed, "logprob")
    ]


def _interfering(effects: pd.DataFrame) -> Rows:
    return [
        _tested(
            row,
            "interference",
            f"gain in {'accuracy' if measure == 'correct' else 'log-probability'}",
            f"{row['ablated']} -> {row['relation']}",
            row["verdict"] == RISES,
        )
        for measure in ("logprob", "correct")
        for row in _records(effects, measure)
    ]


def _gaining(gains: pd.DataFrame) -> Rows:
    """Gains of single facts beyond random sets, tested in that direction only, with max-T in place of Holm."""
    named = gains.drop(columns="effect").rename(
        columns={"gain": "effect", "gain_low": "effect_low", "gain_high": "effect_high", "p_family": "p_holm"}
    )
    evidence = "gains of single facts"
    return [
        _tested(row, "interference", evidence, f"{row['ablated']} -> {row['relation']}", row["verdict"] == RISES)
        for row in _records(named.assign(measure="logprob"), "logprob")
    ]


def _sentence(table: pd.DataFrame, name: str) -> str:
    parts = []
    for evidence, rows in table.groupby("evidence", sort=False):
        shown = rows[rows["shown"]].sort_values("effect", ascending=name != "interference")
        found = [f"{row['what']} {interval_text(row)}" for row in shown.to_dict("records")]
        testable = int(rows["testable"].sum())
        beyond = f"; {len(rows) - testable} more cannot be shown" if 0 < testable < len(rows) else ""
        counted = f"shown in {len(shown)} of {testable} ({name_list(found, most=5)}){beyond}"
        parts.append(f"{evidence}: {counted if testable else f'cannot be shown in any of {len(rows)}'}")
    return f"{name.capitalize()}, Holm-corrected at {LEVEL:.0%}. {'; '.join(parts)}."
