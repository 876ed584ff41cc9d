"""The commands `runs list`, `runs show`, `runs verify` and `runs clean`: parse, call, print."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from relation_neurons.errors import RelationNeuronsError, refuse
from relation_neurons.statistics.formatting import count_text
from relation_neurons.storage.run_files import KEY, LOCK, MANIFEST, VERDICT, RunFiles, read_run_files

app = tyro.extras.SubcommandApp()
REMADE = ("answers", "rankings", "parts", "activations")
"""Folders of what was measured on the way, which the tables no longer need."""
ARCHIVED = "before-"
"""How folders begin in which results of other code are archived."""
PAGES = {"report.html", "neuron.html"}
"""What a command writes last."""


@app.command(name="list")
def list_command(folder: tyro.conf.Positional[Path] = Path("runs")) -> None:
    """List the runs in a folder and below it: when each last changed, whether it is finished, and its size.

    Args:
        folder: Where to look.
    """
    if not folder.is_dir():
        raise refuse(f"{folder} is not a folder", expected="a folder with runs in it")
    os.listdir(folder)  # raises if the folder may not be read
    found, unread = [], []
    for path in sorted(folder.rglob(KEY)):
        try:
            found.append(read_run_files(path.parent))
        except RelationNeuronsError as error:
            unread.append(str(error))
    if not found and not unread:
        raise refuse(f"There are no runs in {folder}", do="name another folder")
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("run", "model", "site", "relations", "last change", "status", "MB"):
        table.add_column(name, justify="right" if name in ("relations", "MB") else "left")
    for run in found:
        name = escape(run.path.relative_to(folder).as_posix())
        table.add_row(name, *_about(run), _changed(run), _status(run), f"{_size(run):.1f}")
    Console().print(table)
    for message in unread:
        Console().print(message, soft_wrap=True, markup=False, highlight=False)


@app.command(name="show")
def show_command(folder: tyro.conf.Positional[Path]) -> None:
    """Show the configuration of a run, its results so far, and its files.

    Args:
        folder: Of the run.
    """
    run, console = read_run_files(folder), Console(highlight=False, soft_wrap=True)
    model, site, relations = _about(run)
    console.print(f"[bold]{folder}[/]: {model}, site {site}, {relations} relations, {_size(run):.1f} MB")
    for name, value in _part(run, "config").items():
        console.print(f"  {name}: {value}", markup=False)
    for name, sentences in run.verdicts().items():
        console.print(f"[bold]{name}[/]")
        for sentence in sentences:
            console.print(f"  - {sentence}", markup=False)
    console.print(f"Tables: {', '.join(name for name in run.tables if not name.startswith(REMADE)) or 'none yet'}")


@app.command(name="verify")
def verify_command(folder: tyro.conf.Positional[Path]) -> None:
    """Compare every file of a run with the digest that was written with it; the exit status is 1 if any differs.

    Args:
        folder: Of the run.
    """
    run, console = read_run_files(folder), Console(highlight=False, soft_wrap=True)
    damage = run.damage()
    for name, what in damage.items():
        console.print(f"[bold red]{what}[/] {name}")
    if damage:
        console.print(f"{len(damage)} of {len(run.files)} files. The run's command recreates them.")
        sys.exit(1)
    console.print(f"{len(run.files)} files, all as they were written.")


@app.command(name="clean")
def clean_command(folder: tyro.conf.Positional[Path], answers: bool = False) -> None:
    """Remove what a run no longer needs: leftovers of killed processes, and what older versions found.

    Args:
        folder: Of the run; no process may be at work there.
        answers: Also remove the stored answers and rankings; a later experiment has to recompute them.
    """
    read_run_files(folder)
    leftovers = [path for path in folder.rglob(".*.*") if path.is_file() and path.name != LOCK]
    removed = [*leftovers, *folder.glob(f"{ARCHIVED}*")]
    if answers:
        removed += [path for name in REMADE if (path := folder / name).is_dir()]
    freed = sum(_bytes(path) for path in removed)
    for path in removed:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    Console().print(f"Removed {len(removed)} files and folders, {freed / 1e6:.1f} MB.")


def _about(run: RunFiles) -> tuple[str, str, str]:
    """Model, site and number of relations, as far as the key holds them."""
    name, site = _part(run, "model").get("name", "?"), _part(run, "config").get("site", "?")
    return escape(str(name)), escape(str(site)), str(len(_part(run, "relations")))


def _changed(run: RunFiles) -> str:
    """When a file of the run was last written, in local time."""
    path = run.path / (MANIFEST if (run.path / MANIFEST).is_file() else KEY)
    return datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d %H:%M")


def _status(run: RunFiles) -> str:
    """Whether a run has reached its page, which is written last, or how many experiments it has finished."""
    if run.path.name.startswith(ARCHIVED):
        return "archived"
    if PAGES & {PurePosixPath(name).name for name in run.files}:
        return "finished"
    return f"unfinished, {count_text(sum(name.endswith(VERDICT) for name in run.files), 'result')}"


def _part(run: RunFiles, name: str) -> Mapping[str, Any]:
    """A part of a run's key; empty where the key has no such part."""
    found = run.key.get(name)
    return found if isinstance(found, dict) else {}


def _size(run: RunFiles) -> float:
    return sum(min(entry["bytes"], 10**18) for entry in run.files.values()) / 1e6  # a manifest can say anything


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(file.stat().st_size for file in files)
