"""Progress of long work: a callback that takes the number of items finished, and its rich bar."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

Progress = Callable[[int], None]


def silent(done: int) -> None:
    """Show nothing."""


@contextlib.contextmanager
def bar(label: str, total: int, console: Console | None = None) -> Iterator[Progress]:
    """Show a bar on the console while the block runs.

    Args:
        label: What is being done.
        total: How many items there are.
        console: Where to; standard error by default, so that standard output stays clean.
    """
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
