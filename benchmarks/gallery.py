"""The gallery of figures: images of a finished study, and the page that shows them.

python benchmarks/gallery.py runs/study
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from gallery_figures import GALLERY, Shown

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
"""Of `score_pair`, shown too where it lies in the folder of the study."""
N_BACKGROUND = 1500


def main() -> None:
    """Parse, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="what `make reproduce` wrote")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page; images come into the folder named like it")
    parser.add_argument(
        "--scores", nargs=2, metavar="RELATION", help="load the model and score neurons for two relations, in minutes"
    )
    options = parser.parse_args()
    scores = None
    if options.scores:
        scores = scored(options.study, *options.scores)
    elif (options.study / SCORES).is_file():
        scores = pd.read_parquet(options.study / SCORES)
    write_gallery(options.study, options.out, scores)


def scored(study: Path, first: str, second: str) -> pd.DataFrame:
    """The scores of the study's neurons for two of its relations, from the same prompts and negatives."""
    asked = json.loads((study / "run.json").read_text(encoding="utf-8"))["config"]
    prompts = PromptConfig(**asked.pop("prompts"))
    config = StudyConfig(**asked | {"relations": tuple(asked["relations"]), "prompts": prompts})
    made = Study(rn.load_model(config.model), rn.load_relations(*config.relations), config, show=bar)
    activations = made.activations(made.detection())
    balanced = config.negatives == "balanced"
    return score_pair(
        activations, first, second, k=made.k, n_background=N_BACKGROUND, balanced=balanced, seed=config.seed
    )


def write_gallery(study: Path, page: Path, scores: pd.DataFrame | None = None) -> None:
    """Write the images and the page.

    Args:
        study: A folder that `reproduce` wrote.
        page: The page; images come into the folder beside it that is named like it.
        scores: From `score_pair`, shown too if given.
    """
    experiments = tuple(dict.fromkeys(one.experiment for one in GALLERY))
    drawn = study_figures(study, experiments)
    folder = page.with_suffix("")
    images = {folder / one.file: drawn[one.experiment][one.figure] for one in GALLERY}
    pair = None if scores is None else score_pair_figure(scores)
    if pair is not None:
        images[folder / "score-pair.png"] = pair
    for path in save_figures(images, width=WIDTH, scale=1):
        _check_size(path)
    findings = {name: read_result(study, name) for name in experiments}
    run = json.loads((study / "run.json").read_text(encoding="utf-8"))
    page.write_text(_page(run, findings, pair, folder.name), encoding="utf-8")


def _check_size(path: Path) -> None:
    if (size := path.stat().st_size) > MOST_BYTES:
        raise SystemExit(f"{path} has {size} bytes, expected at most {MOST_BYTES}")


def _page(run: Mapping[str, Any], findings: Mapping[str, ExperimentResult], pair: go.Figure | None, folder: str) -> str:
    asked = run["config"]["prompts"]
    parts = [
        "# Gallery\n",
        _filled(
            f"Figures of one study: the embedded model {run['model']['name']} with {_count(len(run['relations']))} "
            f"relations, {asked['shots']} few-shot examples, {asked['n_evaluation']} evaluation facts per relation and "
            f"at most {run['config']['n_controls']} control sets. They show what the commands draw and what a small "
            "model does; they are not the paper's numbers. The quotation below a figure is a verdict of its "
            "experiment, computed from the same tables. [The three properties](results/properties.md) draws the "
            "conclusions."
        ),
        _filled(
            "`make reproduce` writes the study with all figures as interactive pages (values, intervals and controls "
            "appear under the pointer), `relation-neurons figures runs/study --format svg` writes them as images, and "
            "`make gallery` writes this page. Filled marks and stars are effects beyond chance and beyond random "
            "neurons after Holm's correction."
        ),
    ]
    parts += [_section(one, findings[one.experiment], folder) for one in GALLERY]
    if pair is not None:
        parts.append(_score_section(pair, folder))
    return "\n".join(parts)


def _count(n: int) -> str:
    return "sixteen" if n == 16 else str(n)


def _section(one: Shown, finding: ExperimentResult, folder: str) -> str:
    made = f"Made by `relation-neurons reproduce {one.experiment}`, figure `{one.figure}`."
    parts = [f"## {one.title}\n", f"![{one.title}]({folder}/{one.file})\n", _filled(f"{one.what} {one.read} {made}")]
    if one.verdict is not None:
        parts.append(_filled(finding.verdict[one.verdict], "> "))
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
    """A paragraph in lines of at most 100 letters."""
    lines = textwrap.fill(text, 100, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return f"{lines}\n"


if __name__ == "__main__":
    main()
