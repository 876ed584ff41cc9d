"""Progress of long computations: a callback that takes the number of finished items, and bars."""

from __future__ import annotations

import contextlib
import html
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

Progress = Callable[[int], None]


def silent(done: int) -> None:
    """Show nothing."""


def tell(line: str) -> None:
    """Print a line for the user to standard error, so that standard output stays clean."""
    Console(stderr=True, highlight=False).print(line, soft_wrap=True)


def keep_quiet(line: str) -> None:
    """Print nothing."""


@contextlib.contextmanager
def bar(label: str, total: int, console: Console | None = None) -> Iterator[Progress]:
    """Show a progress bar on the console or in a notebook while the block runs.

    Args:
        label: Text beside the bar.
        total: Number of items.
        console: Console to print on; by default standard error, so that standard output stays clean.
    """
    if console is None and Console().is_jupyter:
        with _notebook_bar(label, total) as progress:
            yield progress
        return
    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=console or Console(stderr=True)) as shown:
        task = shown.add_task(label, total=total)
        yield lambda done: shown.advance(task, done)


@contextlib.contextmanager
def _notebook_bar(label: str, total: int) -> Iterator[Progress]:
    """A bar below the cell, removed at the end so that executed notebooks do not store it."""
    from IPython.display import HTML, display

    done, shown_at = 0, time.monotonic()
    shown = display(HTML(""), display_id=True)

    def advance(more: int) -> None:
        nonlocal done, shown_at
        done += more
        if time.monotonic() - shown_at > 0.5:
            shown_at = time.monotonic()
            shape = f'<progress value="{done}" max="{total}"></progress>'
            shown.update(HTML(f"{html.escape(label)} {shape} {done}/{total}"))

    try:
        yield advance
    finally:
        shown.update(HTML(""))
