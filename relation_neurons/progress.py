"""Progress of long computations: a callback that takes the number of finished items, bars, and lines in log files."""

from __future__ import annotations

import contextlib
import html
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

Progress = Callable[[int], None]
LINE_SECONDS = 30
"""Least time between two lines where output is not a terminal."""


def silent(done: int) -> None:
    """Show nothing."""


def tell(line: str) -> None:
    """Print a line for the user to standard error, so that standard output stays clean."""
    Console(stderr=True, highlight=False).print(line, soft_wrap=True)


def keep_quiet(line: str) -> None:
    """Print nothing."""


@contextlib.contextmanager
def bar(
    label: str, total: int, console: Console | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Progress]:
    """Show a progress bar on the console or in a notebook while the block runs.

    Where output is not a terminal, such as a log file, a line is printed every `LINE_SECONDS` and at
    the end. Who waits for others may call with 0 items, so that a line tells of that.

    Args:
        label: Text beside the bar.
        total: Number of items.
        console: Console to print on; by default standard error, so that standard output stays clean.
        clock: Seconds, for the lines.
    """
    if console is None and Console().is_jupyter:
        with _notebook_bar(label, total) as progress:
            yield progress
        return
    console = console or Console(stderr=True)
    if not console.is_terminal:
        with _lines(label, total, console, clock) as progress:
            yield progress
        return
    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=console) as shown:
        task = shown.add_task(label, total=total)
        yield lambda done: shown.advance(task, done)


class _RateColumn(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else _rate(speed))


@contextlib.contextmanager
def _lines(label: str, total: int, console: Console, clock: Callable[[], float]) -> Iterator[Progress]:
    """Lines with the rate since the previous line, as resumed items are finished at once; the last with the mean."""
    done, done_before = 0, 0
    started = line_at = clock()

    def line(text: str) -> None:
        console.print(f"{label}: {done}/{total}, {text}", markup=False, highlight=False, soft_wrap=True)

    def advance(more: int) -> None:
        nonlocal done, done_before, line_at
        done += more
        seconds = clock() - line_at
        if seconds < LINE_SECONDS:
            return
        rate = (done - done_before) / seconds
        line(f"{_rate(rate)}, {_duration((total - done) / rate)} left" if rate else f"none in {_duration(seconds)}")
        done_before, line_at = done, line_at + seconds

    try:
        yield advance
    finally:
        seconds = clock() - started
        line(f"{_rate(done / seconds)}, {_duration(seconds)} in total" if seconds else "0:00:00 in total")


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.2g}/s"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


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
