"""The gallery: figures of a finished study as images, and a page with all of them.

python benchmarks/gallery.py runs/study
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from gallery_figures import GALLERY, GalleryEntry

import relation_neurons as rn
from relation_neurons.cli.figures import study_figures
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.score_correlation import score_pair
from relation_neurons.experiments.study import Study
from relation_neurons.figures import score_pair_figure
from relation_neurons.figures.export import save_figures
from relation_neurons.progress import bar
from relation_neurons.prompts.prompts import PromptConfig
from relation_neurons.results.experiment_result import ExperimentResult, read_result

PAGE = Path("docs/gallery.md")
WIDTH = 900
MOST_BYTES = 150_000
SCORES = "score_pair.parquet"
"""Optional table of `score_pair` in the study folder."""
N_BACKGROUND = 1500


def main() -> None:
    """Parse, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="study folder, as written by `make reproduce`")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page; images go into the folder of the same name")
    parser.add_argument("--scores", nargs=2, metavar="RELATION", help="score neurons for two relations (takes minutes)")
    options = parser.parse_args()
    scores = None
    if options.scores:
        scores = compute_scores(options.study, *options.scores)
    elif (options.study / SCORES).is_file():
        scores = pd.read_parquet(options.study / SCORES)
    write_gallery(options.study, options.out, scores)


def compute_scores(study: Path, first: str, second: str) -> pd.DataFrame:
    """The scores of the study's neurons for two of its relations, from the same prompts and negatives."""
    fields = json.loads((study / "run.json").read_text(encoding="utf-8"))["config"]
    prompts = PromptConfig(**fields.pop("prompts"))
    config = StudyConfig(**fields | {"relations": tuple(fields["relations"]), "prompts": prompts})
    loaded = Study(rn.load_model(config.model), rn.load_relations(*config.relations), config, show=bar)
    activations = loaded.activations(loaded.detection())
    balanced = config.negatives == "balanced"
    return score_pair(
        activations, first, second, k=loaded.k, n_background=N_BACKGROUND, balanced=balanced, seed=config.seed
    )


def write_gallery(study: Path, page: Path, scores: pd.DataFrame | None = None) -> None:
    """Write the images and the page; experiments that the folder does not hold are left out.

    Args:
        study: Study folder, as written by `reproduce`.
        page: The page; images go into the folder of the same name beside it.
        scores: Optional table of `score_pair`.
    """
    entries = [entry for entry in GALLERY if (study / entry.experiment / "verdict.md").is_file()]
    experiments = tuple(dict.fromkeys(entry.experiment for entry in entries))
    figures = study_figures(study, experiments)
    folder = page.with_suffix("")
    images = {folder / entry.file: figures[entry.experiment][entry.figure] for entry in entries}
    pair = None if scores is None else score_pair_figure(scores)
    if pair is not None:
        images[folder / "score-pair.png"] = pair
    for path in save_figures(images, width=WIDTH, scale=1):
        _check_size(path)
    results = {name: read_result(study, name) for name in experiments}
    run = json.loads((study / "run.json").read_text(encoding="utf-8"))
    page.write_text(_page(entries, run, results, pair, folder.name), encoding="utf-8")


def _check_size(path: Path) -> None:
    if (size := path.stat().st_size) > MOST_BYTES:
        raise SystemExit(f"{path} has {size} bytes, expected at most {MOST_BYTES}")


def _page(
    entries: Sequence[GalleryEntry],
    run: Mapping[str, Any],
    results: Mapping[str, ExperimentResult],
    pair: go.Figure | None,
    folder: str,
) -> str:
    prompts = run["config"]["prompts"]
    parts = [
        "# Gallery\n",
        _filled(
            f"Figures of one study: the embedded model {run['model']['name']} with {_count(len(run['relations']))} "
            f"relations, {prompts['shots']} few-shot examples, {prompts['n_evaluation']} evaluation facts per "
            f"relation and at most {run['config']['n_controls']} control sets. They show what the commands draw and "
            "what a small model does; they are not the paper's numbers. The quotation below a figure is a verdict of "
            "its experiment, computed from the same tables. [The three properties](results/properties.md) draws the "
            "conclusions."
        ),
        _filled(
            "`make reproduce` writes the study with all figures as interactive pages (values, intervals and controls "
            "appear under the pointer), `relation-neurons figures runs/study --format svg` writes them as images, and "
            "`make gallery` writes this page. Filled marks and stars are effects beyond chance and beyond random "
            "neurons after Holm's correction."
        ),
    ]
    parts += [_section(entry, results[entry.experiment], folder) for entry in entries]
    if pair is not None:
        parts.append(_score_section(pair, folder))
    return "\n".join(parts)


def _count(n: int) -> str:
    return "sixteen" if n == 16 else str(n)


def _section(entry: GalleryEntry, result: ExperimentResult, folder: str) -> str:
    source = f"Made by `relation-neurons reproduce {entry.experiment}`, figure `{entry.figure}`."
    parts = [f"## {entry.title}\n", f"![{entry.title}]({folder}/{entry.file})\n"]
    parts.append(_filled(f"{entry.description} {entry.reading} {source}"))
    if entry.verdict is not None:
        parts.append(_filled(result.verdict[entry.verdict], "> "))
    return "\n".join(parts)


def _score_section(figure: go.Figure, folder: str) -> str:
    pair = f"{figure.layout.xaxis.title.text} and {figure.layout.yaxis.title.text}"
    text = (
        f"The same neurons, scored for two relations ({pair}). "
        "Dotted lines show where the best of each begin. Neurons in the "
        "upper right are specific to both; those that are among the best of one and score low for the other are "
        "specific to one. Made by `score_pair` of `relation_neurons.experiments.score_correlation` and by "
        "`score_pair_figure`; here by `make gallery ARGS='--scores person_father person_mother'`."
    )
    return f"## Scores for two relations\n\n![Scores]({folder}/score-pair.png)\n\n{_filled(text)}"


def _filled(text: str, indent: str = "") -> str:
    """Wrap a paragraph into lines of at most 100 characters."""
    lines = textwrap.fill(text, 100, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return f"{lines}\n"


if __name__ == "__main__":
    main()
