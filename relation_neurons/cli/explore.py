"""The command `explore RUN`: a local web page on a finished run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import tyro

from relation_neurons.errors import refuse
from relation_neurons.progress import tell


def explore_command(
    run: tyro.conf.Positional[Path], port: int = 8055, device: str | None = None, browser: bool = True
) -> None:
    """Explore a finished run in the browser: its neurons, their cards, and what ablating a basket of them changes.

    The page is served on this machine alone (127.0.0.1) and loads nothing from elsewhere.

    Args:
        run: The folder of `run` or `reproduce`; cards that it does not have are made first and stored there.
        port: Where to listen; 0 takes any port that is free.
        device: cpu, cuda, ...; by default the GPU if there is one.
        browser: Open the page in a browser.
    """
    if importlib.util.find_spec("dash") is None:
        raise refuse("The explorer needs the package dash", do="pip install 'relation-neurons[explore]'")
    from relation_neurons.explorer.finished_run import finished_run
    from relation_neurons.explorer.run_data import open_run_data
    from relation_neurons.explorer.server import reserve, serve

    finished_run(run)  # before the port is taken, and before anything is loaded
    with reserve(port) as reserved:
        serve(open_run_data(run, device=device), reserved, browser=browser, say=tell)
