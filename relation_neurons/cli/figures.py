"""The command `figures`: draw the figures of a study again from its tables, without its model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import plotly.graph_objects as go
import tyro
from rich.console import Console

from relation_neurons.errors import nearest, refuse
from relation_neurons.figures.export import save_figures
from relation_neurons.report.figure_registry import FIGURES, draw
from relation_neurons.results.experiment_result import carried_out, read_result

Format = Literal["html", "png", "svg", "pdf"]


def figures_command(
    folder: tyro.conf.Positional[Path],
    out: Path | None = None,
    formats: Annotated[tuple[Format, ...], tyro.conf.arg(name="format")] = ("png",),
    experiments: tuple[str, ...] = (),
    width: int = 1000,
) -> None:
    """Draw the figures of a study again from its tables, as images or pages; no model is loaded.

    Images need Kaleido and a Chrome or Chromium; pages (html) need neither.

    Args:
        folder: Of the study, as `reproduce` wrote it.
        out: Where to put them, a folder for each experiment; by default `figures` in the folder of the study.
        formats: One or more of html, png, svg and pdf.
        experiments: Names of experiments; by default all that have been carried out there.
        width: Of images, in pixels; a png has twice as many, so that it is sharp.
    """
    out = out or folder / "figures"
    drawn = study_figures(folder, experiments)
    files = {
        out / name / f"{label}.{ending}": figure
        for name, figures in drawn.items()
        for label, figure in figures.items()
        for ending in dict.fromkeys(formats)
    }
    save_figures(files, width=width)
    Console().print(f"Wrote {len(files)} figures of {', '.join(drawn)} to {out}", soft_wrap=True)


def study_figures(folder: Path, experiments: Sequence[str] = ()) -> dict[str, dict[str, go.Figure]]:
    """The figures of a study by experiment and label, drawn from its tables.

    Args:
        folder: Of the study, as `reproduce` wrote it.
        experiments: Names of experiments; by default all there that have figures.

    Raises:
        RelationNeuronsError: A folder that is not that of a study, an unknown experiment or one that was not run, or
            tables of another version of this package.
    """
    for name in experiments:
        if name not in FIGURES:
            raise refuse(f"'{name}' is not an experiment with figures", expected=nearest(name, FIGURES))
    if not (folder / "run.json").is_file():
        raise refuse(f"{folder} is not a study folder", expected="a folder that `reproduce` wrote", do="name its --out")
    there = experiments or [name for name in FIGURES if name in carried_out(folder)]
    if not there:
        raise refuse(f"No experiment was carried out in {folder}", do="reproduce one")
    return {name: _drawn(folder, name) for name in dict.fromkeys(there)}


def _drawn(folder: Path, name: str) -> dict[str, go.Figure]:
    try:
        return draw(name, read_result(folder, name))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise refuse(
            f"The tables of {name} in {folder} are not what this version writes ({type(error).__name__}: {error})",
            do=f"reproduce {name} again with this version",
        ) from error
