"""Rerun the notebooks by script: parameters in, executed notebooks and HTML pages out, finished ones never twice."""

from __future__ import annotations

import importlib.util
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relation_neurons.errors import nearest, refuse
from relation_neurons.storage.files import atomic
from relation_neurons.storage.fingerprint import WHOLE, code_digest, digest, versions

NEEDED = ("papermill", "nbconvert", "ipykernel")
RENDERER = "import os; os.environ['PLOTLY_RENDERER'] = 'plotly_mimetype+notebook'"
"""Run in the kernel first: figures for Jupyter, and for pages that work offline."""
QUIETLY: Mapping[str, Any] = {
    "kernel_name": "python3",
    "progress_bar": False,
    "extra_arguments": ["--IPKernelApp.log_level=CRITICAL", f"--IPKernelApp.exec_lines={RENDERER}"],
}
REMOTE_SCRIPT = re.compile(r'<script src="https?://[^"]*">\s*</script>')
REMOTE_IMAGE = re.compile(r'<img\b(?=[^>]*\bsrc="https?://)[^>]*?(?:\balt="([^"]*)"[^>]*)?>')
POLICY = (
    '<head><meta http-equiv="Content-Security-Policy" content="default-src data: blob: \'unsafe-inline\' '
    "'unsafe-eval'\">"
)
"""What keeps a page from asking any host for anything."""
SMOKE = {"relations": ["country_capital", "country_language", "person_occupation"], "site": "gate", "k": 200}
PAPER = {"relations": ["paper"], "site": "ffn", "k": None}
PARAMETERS: Mapping[str, Mapping[str, Any]] = {"smoke": SMOKE, "demo": {}, "full": PAPER}
"""What a profile sets in a notebook; `demo` is what the notebooks say themselves."""
OTHERWISE: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("04_languages", "full"): {"relations": ["shipped"]},  # which are translated
    ("05_your_own_relations", "full"): {"relations": ["shipped"]},
}


@dataclass(frozen=True)
class Outcome:
    """What became of one notebook.

    Attributes:
        name: Of the notebook.
        path: The executed notebook; its HTML page lies beside it.
        error: The error of the cell that failed, with the cell; empty if all went well.
        seconds: It took; 0 if it was finished before.
    """

    name: str
    path: Path
    error: str
    seconds: float


def notebook_paths() -> dict[str, Path]:
    """The notebooks by name, as they come with the package.

    Raises:
        RelationNeuronsError: This installation has none.
    """
    here = Path(__file__).parent.parent
    found = sorted((here / "notebooks").glob("*.ipynb")) or sorted((here.parent / "notebooks").glob("*.ipynb"))
    if not found:
        raise refuse("This installation has no notebooks", do="reinstall the package, or use a clone")
    return {path.stem: path for path in found}


def notebook_title(path: Path) -> str:
    """The first heading of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    lines = (line for cell in cells if cell["cell_type"] == "markdown" for line in "".join(cell["source"]).splitlines())
    return next((line.removeprefix("# ") for line in lines if line.startswith("# ")), path.stem)


def choose(names: Sequence[str]) -> dict[str, Path]:
    """Notebooks by name, by number (`01`) or by file; all of them if none is named.

    Raises:
        RelationNeuronsError: There is none of that name.
    """
    known = notebook_paths()
    chosen = {}
    for name in names or known:
        stem = Path(name).name.removesuffix(".ipynb")
        matching = [one for one in known if stem in (one, one.split("_")[0], one.partition("_")[2])]
        if not matching:
            raise refuse(f"'{name}' is not a notebook", expected=nearest(stem, known))
        chosen[matching[0]] = known[matching[0]]
    return chosen


def parameters_of(name: str, profile: str, **given: Any) -> dict[str, Any]:
    """What is injected into a notebook: the profile's values, then those given; None leaves the former.

    Raises:
        RelationNeuronsError: An unknown profile.
    """
    from relation_neurons.experiments.registry import study_config

    study_config(profile)
    chosen = {"profile": profile, **PARAMETERS[profile], **OTHERWISE.get((name, profile), {})}
    return chosen | {key: value for key, value in given.items() if value is not None}


def run_notebooks(
    names: Sequence[str],
    out: Path,
    *,
    profile: str = "demo",
    say: Callable[[Outcome], None] = lambda outcome: None,
    **given: Any,
) -> list[Outcome]:
    """Execute notebooks one after the other; one that fails does not keep the others from running.

    Args:
        names: Of notebooks; none given means all.
        out: Where to write, for each notebook, the executed notebook and an HTML page; `answers/` keeps what models
            answered, so that a stopped notebook can be resumed.
        profile: The size of the studies: `smoke`, `demo` or `full`.
        say: Called with each outcome as soon as it is known.
        given: Parameters of the notebooks that are to be others than the profile's, such as `model` and `seed`.

    Raises:
        RelationNeuronsError: A name or profile that is unknown, or packages that are not installed.
    """
    require_packages()
    chosen = {
        name: (path, parameters_of(name, profile, folder=str((out / "answers").resolve()), **given))
        for name, path in choose(names).items()
    }
    out.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for name, (path, parameters) in chosen.items():
        outcomes.append(_run(name, path, parameters, out))
        say(outcomes[-1])
    return outcomes


def require_packages(needed: Iterable[str] = NEEDED) -> None:
    """Refuse to begin where packages are missing."""
    missing = [package for package in needed if importlib.util.find_spec(package) is None]
    if missing:
        raise refuse(f"{', '.join(missing)} not installed", do="pip install 'relation-neurons[notebooks]'")


def _run(name: str, source: Path, parameters: dict[str, Any], out: Path) -> Outcome:
    import nbformat

    key = digest(source.read_bytes(), sorted(parameters.items()), code_digest(WHOLE), sorted(versions().items()))
    finished, failed = out / f"{name}.ipynb", out / f"{name}.failed.ipynb"
    if finished.is_file() and finished.with_suffix(".html").is_file() and _key(finished) == key:
        return Outcome(name, finished, "", 0.0)
    started, running = time.monotonic(), out / f".{name}.running.ipynb"
    try:
        error = _execute(source, running, parameters)
        target = failed if error else finished
        for old in (failed, failed.with_suffix(".html")):
            old.unlink(missing_ok=True)
        notebook = nbformat.read(running, as_version=4)
        notebook.metadata["relation_neurons"] = {"key": key}
        nbformat.write(notebook, running)
        _write_page(notebook, name, target.with_suffix(".html"))
        running.replace(target)
    finally:
        running.unlink(missing_ok=True)
    return Outcome(name, target, error, time.monotonic() - started)


def _execute(source: Path, target: Path, parameters: dict[str, Any]) -> str:
    """Run a notebook; what went wrong is returned in words."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    try:
        papermill.execute_notebook(source, target, parameters, cwd=str(Path.cwd()), **QUIETLY)
    except papermill.PapermillExecutionError as error:
        first = error.source.strip().splitlines()[0]
        return f"cell {error.cell_index + 1}, which begins with `{first}`: {error.ename}: {error.evalue}"
    except DeadKernelError:
        return "the process that ran it was killed, probably for lack of memory: choose a smaller batch_size or profile"
    return ""


def _key(path: Path) -> str:
    """What a finished notebook was made from; empty for files that are none of ours."""
    import nbformat

    try:
        return str(nbformat.read(path, as_version=4).metadata.get("relation_neurons", {}).get("key", ""))
    except (OSError, ValueError):
        return ""


def _write_page(notebook: Any, name: str, path: Path) -> None:
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(mathjax_url="", require_js_url="", embed_images=True)
    page, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": name}})
    page = REMOTE_SCRIPT.sub("", page)  # plotly asks for MathJax, which no figure needs
    page = REMOTE_IMAGE.sub(lambda image: image[1] or "", page)  # badges become their text
    page = page.replace("<head>", POLICY, 1)
    with atomic(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
