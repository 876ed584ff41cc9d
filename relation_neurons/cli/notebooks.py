"""The commands `notebooks list`, `notebooks run` and `notebooks copy`: parse, call, print."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from relation_neurons.cli.notebook_runner import Outcome, choose, notebook_title, run_notebooks
from relation_neurons.errors import refuse
from relation_neurons.experiments.profiles import Profile
from relation_neurons.models.sites import SiteName
from relation_neurons.workers.config import NO_WORKERS, WorkersConfig, put_in_environment

app = tyro.extras.SubcommandApp()


@app.command(name="list")
def list_command() -> None:
    """List the notebooks and the question of each."""
    for name, path in choose(()).items():
        Console().print(f"[bold]{name}[/]  {notebook_title(path)}", soft_wrap=True, highlight=False)


@app.command(name="run")
def run_command(
    names: tyro.conf.Positional[tuple[str, ...]] = (),
    model: str | None = None,
    profile: Profile = "demo",
    relations: tuple[str, ...] = (),
    site: SiteName | None = None,
    k: int | None = None,
    seed: int | None = None,
    workers: Annotated[WorkersConfig, tyro.conf.arg(name="")] = NO_WORKERS,
    out: Path = Path("runs/notebooks"),
) -> None:
    """Execute notebooks and write each as a notebook and as an HTML page.

    Those that are finished are skipped when the same command is given again. The exit status is 1 if any failed; the
    others run all the same.

    Args:
        names: Notebooks, such as 01_cumulativity or 01; by default all.
        model: As for `run`; by default the embedded model.
        profile: The size of the studies: `smoke` takes about a minute, `demo` minutes on a CPU, `full` is the paper's.
        relations: As for `run`; by default the profile's.
        site: Where neurons are; by default the profile's.
        k: Neurons per relation; by default the profile's.
        seed: Chooses negatives, controls and resamples.
        workers: Processes that share the work of each notebook.
        out: Where to write.
    """
    if k is not None and k < 1:
        raise refuse(f"k is {k}", expected="at least 1")
    from relation_neurons.models.pretrained import resolve
    from relation_neurons.relations.loading import load_relations

    load_relations(*relations)  # what cannot be used is refused before a notebook is begun
    if model is not None:
        resolve(model)
    given = {"model": model, "relations": list(relations) or None, "site": site, "k": k, "seed": seed}
    put_in_environment(workers)
    console = Console()
    outcomes = run_notebooks(names, out, profile=profile, say=lambda one: _print(console, one), **given)
    if any(outcome.error for outcome in outcomes):
        sys.exit(1)


@app.command(name="copy")
def copy_command(folder: tyro.conf.Positional[Path], names: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Copy notebooks into a folder, to open and change them there; none is overwritten.

    Args:
        folder: Where to.
        names: Notebooks; by default all.
    """
    chosen = choose(names)
    if there := [path.name for path in chosen.values() if (folder / path.name).exists()]:
        raise refuse(f"{folder / there[0]} exists", do="choose another folder, or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    for path in chosen.values():
        shutil.copyfile(path, folder / path.name)
        Console().print(folder / path.name, soft_wrap=True)


def _print(console: Console, outcome: Outcome) -> None:
    if outcome.error:
        console.print(f"[bold red]{outcome.name} failed[/] in ", end="")
        console.print(outcome.error, markup=False, highlight=False, soft_wrap=True)
        console.print(f"  see {outcome.path}", soft_wrap=True)
        return
    took = f"done in {outcome.seconds:.0f} s" if outcome.seconds else "finished before, skipped"
    console.print(f"{outcome.name}: {took}, {outcome.path.with_suffix('.html')}", soft_wrap=True, highlight=False)
