"""The command `report`: rebuilds the page of a run from its tables alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from relation_neurons.errors import refuse
from relation_neurons.report.neuron_cards import CARDS_PAGE, cards_page
from relation_neurons.report.study import experiments_in, write_study_report
from relation_neurons.results.neuron_cards import read_cards
from relation_neurons.storage.run_files import KEY, read_key
from relation_neurons.storage.run_folder import RunFolder

PAGE = "report.html"
OTHERS = (KeyError, IndexError, TypeError, ValueError, AttributeError)
"""What tables of other versions, or of nobody, make whatever reads them raise."""


def report_command(folder: tyro.conf.Positional[Path]) -> None:
    """Rebuild report.html of a run from its tables alone; no model is loaded.

    Args:
        folder: What `run` or `reproduce` wrote.
    """
    Console().print(f"Open {rebuild(folder)}", soft_wrap=True)


def rebuild(folder: Path) -> Path:
    """Write the page of a folder.

    Raises:
        RelationNeuronsError: Not the folder of a run or a study, or one without results.
    """
    run = read_run(folder)
    try:
        if not experiments_in(folder):
            raise refuse(f"{folder} has no results yet", do="let the run end (the same command resumes it)")
        cards = read_cards(folder)
        if cards is not None:  # the report links to it
            RunFolder(folder, run).write_text(CARDS_PAGE, cards_page(cards, run))
        page = write_study_report(folder, run, cards)
    except OTHERS as error:
        raise refuse(
            f"The files in {folder} are not what this version writes ({type(error).__name__}: {error})",
            do="give the run's command again, with this version",
        ) from error
    return RunFolder(folder, run).write_text(PAGE, page)


def read_run(folder: Path) -> dict[str, Any]:
    """What determined a run or a study.

    Raises:
        RelationNeuronsError: There is no such folder, or it does not belong to a run.
    """
    expected = "a folder that `run` or `reproduce` wrote"
    if not folder.is_dir():
        raise refuse(f"There is no folder {folder}", expected=expected)
    run = read_key(folder)
    if not {"config", "relations"} <= run.keys():
        raise refuse(f"{folder / KEY} describes no run", expected=expected)
    return run
