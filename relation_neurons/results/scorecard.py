"""The scorecard of a run: each claim of the paper, what it reports, and what was measured here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from relation_neurons.errors import refuse
from relation_neurons.results.claim_estimates import Estimate, NotMeasuredError
from relation_neurons.results.claims import CLAIMS, Claim
from relation_neurons.results.run import Run, open_run
from relation_neurons.validation import validated

AS_IN_THE_PAPER, WEAKER, NOT_SHOWN = "as in the paper", "weaker", "not shown"
OTHER_WAY, NOT_MEASURED = "the other way round", "not measured"
STATUSES = (AS_IN_THE_PAPER, WEAKER, NOT_SHOWN, OTHER_WAY, NOT_MEASURED)
ABOUT = ["claim", "place", "says", "unit", "paper"]
"""Columns of a scorecard that are the same for every run."""
QUESTION = "Which claims of the paper hold here?"
HOW_TO_READ = (
    "Each claim was named beforehand, by the paper, and is tested alone at 5 %: of twenty that are false one is "
    "expected to pass. `Not shown` names the least effect that would have been shown in 80 % of studies like this."
)


@validated
def scorecard(folder: str | Path) -> pd.DataFrame:
    """Judge every claim of the paper by the experiments in a folder; no model is loaded.

    Args:
        folder: What `run` or `reproduce` wrote.

    Returns:
        A row per claim and measure: `claim`, `place` in the paper, `says`, `unit`; `paper`, the number that its text
        gives for Llama-2-7B; `estimate` with its 95 % interval `low` to `high`, over `n` `units`; `random`, the same
        under matched random neurons or by chance; `p`, of this claim alone; `least`, the least effect that is shown
        with 80 % power; `status`: `as in the paper`, `weaker` (shown, and the interval lies below the paper's number),
        `not shown`, `the other way round`, or `not measured`, with what would measure it in `note`.

    Raises:
        RelationNeuronsError: Not the folder of a run.
    """
    run = open_run(folder)
    return pd.DataFrame([_row(claim, run) for claim in CLAIMS])


def _row(claim: Claim, run: Run) -> dict[str, object]:
    about = {"claim": claim.name, "place": claim.place, "says": claim.says, "unit": claim.unit, "paper": claim.paper}
    try:
        found = claim.read(run)
    except NotMeasuredError as missing:
        nothing = dict.fromkeys(("estimate", "low", "high"), np.nan) | {"n": 0, "units": ""}
        nothing |= dict.fromkeys(("random", "p", "least"), np.nan)
        return about | nothing | {"status": NOT_MEASURED, "note": str(missing)}
    mean, low, high, n = found.interval
    numbers = {"estimate": mean, "low": low, "high": high, "n": n, "units": found.units, "random": found.random}
    status = status_of(claim, found)
    least = np.inf if found.least > claim.largest else found.least
    return about | numbers | {"p": found.p, "least": least, "status": status, "note": _note(found, status, least)}


def status_of(claim: Claim, found: Estimate) -> str:
    """What an estimate says of a claim."""
    if found.side == 0:
        return NOT_SHOWN
    if found.side < 0:
        return OTHER_WAY
    return WEAKER if abs(found.interval.high) < claim.value > abs(found.interval.low) else AS_IN_THE_PAPER


def _note(found: Estimate, status: str, least: float) -> str:
    if status != NOT_SHOWN:
        return ""
    if np.isfinite(found.margin):
        return f"shown if the interval lies within {found.margin:.2g} of zero"
    if np.isnan(least):
        return ""
    if np.isinf(least):
        return "no effect could have been shown by this design"
    tested = "" if np.isnan(found.tested) else f"without negatives in common {found.tested:.2g}, "
    return f"{tested}would have been shown from {least:.2g}"


def estimate_text(row: Mapping[Any, Any]) -> str:
    """What was measured, in one cell of a table."""
    if row["status"] == NOT_MEASURED:
        return f"{NOT_MEASURED}: {row['note']}"
    random = "" if np.isnan(row["random"]) else f", random {row['random']:+z.2f}"
    note = f"; {row['note']}" if row["note"] else ""
    interval = f"{row['estimate']:+z.2f} [{row['low']:+z.2f}, {row['high']:+z.2f}]"
    return f"{row['status']}: {interval}, n = {row['n']:,} {row['units']}{random}{note}"


def scorecards(folders: Sequence[Path]) -> dict[Path, pd.DataFrame]:
    """The scorecard of each folder.

    Raises:
        RelationNeuronsError: No folder, one twice, or one that is not a run's.
    """
    if not folders or len({folder.resolve() for folder in folders}) < len(folders):
        raise refuse(f"There are {len(folders)} folders", expected="at least one, each once")
    return {folder: scorecard(folder) for folder in folders}


def side_by_side(found: Mapping[Path, pd.DataFrame]) -> pd.DataFrame:
    """Scorecards of several folders: `claim`, `place`, `says`, `unit`, `paper`, and a column of text for each."""
    wide = next(iter(found.values()))[ABOUT].copy()
    for name, rows in zip(_names(list(found)), found.values(), strict=True):
        wide[name] = [estimate_text(row) for row in rows.to_dict("records")]
    return wide


def _names(folders: Sequence[Path]) -> list[str]:
    """A name for each folder: its own, or its whole path where two are alike."""
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def as_json(found: Mapping[Path, pd.DataFrame]) -> str:
    """The scorecards with what they are of, for machines; numbers that are not known are null.

    Folders are named where there are several; a run's own scorecard does not depend on where it lies.
    """
    parts: list[dict[str, object]] = []
    for folder, rows in found.items():
        key = open_run(folder).key
        about: dict[str, object] = {"folder": str(folder)} if len(found) > 1 else {}
        about |= {"model": key["model"], "relations": list(key["relations"]), "config": key["config"]}
        parts.append(about | {"claims": json.loads(rows.to_json(orient="records"))})
    return json.dumps({"how_to_read": HOW_TO_READ, "scorecards": parts}, indent=1, default=str) + "\n"


def as_markdown(rows: pd.DataFrame) -> str:
    """A table in Markdown."""
    lines = [list(rows.columns), ["---"] * len(rows.columns), *rows.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines) + "\n"


def summary(rows: pd.DataFrame) -> tuple[str, ...]:
    """How many claims have each status, and which are the other way round."""
    counts = rows["status"].value_counts()
    counted = ", ".join(f"{counts[status]} {status}" for status in STATUSES if status in counts)
    named = [f"{row['claim']} ({row['unit']})" for row in rows[rows["status"] == OTHER_WAY].to_dict("records")]
    opposed = f" The other way round: {', '.join(named)}." if named else ""
    return (f"Of {len(rows)} claims and measures: {counted}.{opposed}", HOW_TO_READ)
