"""Put a study's verdicts on a page of the documentation, below what was written by hand.

    python benchmarks/verdict_page.py runs/gemma3 docs/results/gemma3-270m.md

Everything from the heading "Scorecard" on is replaced: the claims of the paper, then what each experiment says.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import relation_neurons as rn
from relation_neurons.report.study import experiments_in
from relation_neurons.results.experiment_result import read_result
from relation_neurons.results.scorecard import NOT_MEASURED, estimate_text

HEADING = "## Verdicts\n"
WIDTH = 100


def verdicts(folder: Path) -> str:
    """The sentences of every experiment in a folder, in lines of the documentation's width."""
    parts = []
    for name in experiments_in(folder):
        found = read_result(folder, name)
        sentences = "\n".join(_wrapped(f"- {sentence}", True) for sentence in found.verdict)
        parts.append(f"### {name}\n\n{_wrapped(found.question, False)}\n\n{sentences}")
    return "\n\n".join(parts) + "\n"


def _wrapped(line: str, item: bool) -> str:
    return textwrap.fill(line, WIDTH, subsequent_indent="  " * item, break_long_words=False, break_on_hyphens=False)


def card(folder: Path) -> str:
    """The scorecard as a Markdown table, but for claims that were not measured, which are listed below it."""
    rows = rn.scorecard(folder)
    measured, missing = rows[rows["status"] != NOT_MEASURED], rows[rows["status"] == NOT_MEASURED]
    lines = ["| claim | in | paper | here |", "|---|---|---|---|"]
    for row in measured.to_dict("records"):
        lines.append(f"| {row['says']} | {row['unit']} | {row['paper']} | {estimate_text(row)} |")
    names = ", ".join(dict.fromkeys(f"{row['claim']} ({row['note']})" for row in missing.to_dict("records")))
    return "\n".join(lines) + (f"\n\n{_wrapped(f'Not measured: {names}.', False)}" if names else "") + "\n"


def main() -> None:
    """Replace the generated part of a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("page", type=Path)
    options = parser.parse_args()
    by_hand, _, _ = options.page.read_text(encoding="utf-8").partition("## Scorecard\n")
    generated = f"## Scorecard\n\n{card(options.folder)}\n{HEADING}\n{verdicts(options.folder)}"
    options.page.write_text(by_hand + generated, encoding="utf-8")


if __name__ == "__main__":
    main()
