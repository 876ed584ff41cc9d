"""The gallery of figures: images of a finished study, and the page that shows them.

python benchmarks/gallery.py runs/study
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

import relation_neurons as rn
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.finding import Finding, read_finding
from relation_neurons.experiments.score_pairs import score_pair
from relation_neurons.experiments.study import Study
from relation_neurons.export import save_figures
from relation_neurons.figure_commands import study_figures
from relation_neurons.figures import score_pair_figure
from relation_neurons.progress import bar
from relation_neurons.prompts import PromptConfig

PAGE = Path("docs/gallery.md")
WIDTH = 900
MOST_BYTES = 150_000
SCORES = "score_pair.parquet"
"""Of `score_pair`, shown too where it lies in the folder of the study."""
N_BACKGROUND = 1500


@dataclass(frozen=True)
class Shown:
    """A figure of the gallery.

    Attributes:
        experiment: Its name.
        figure: The label of the figure in `relation_neurons.drawing.FIGURES`.
        title: Above it.
        what: What is drawn.
        read: What to read off it.
        verdict: Which sentence of the experiment's verdict belongs to it, counted from 0; none without such a one.
    """

    experiment: str
    figure: str
    title: str
    what: str
    read: str
    verdict: int | None = 0


GALLERY = (
    Shown(
        "intra",
        "effects_logprob",
        "Own facts",
        "The change of each relation's own facts with its neurons silenced (blue) and with random neurons of the same "
        "layers and sites (grey: mean and range), for evaluation facts and for those that the neurons were found with.",
        "A filled mark to the left of the grey range is a drop beyond chance and beyond random neurons. A wide grey "
        "range means that one of the random sets did damage of its own.",
        1,
    ),
    Shown(
        "inter",
        "effects_logprob",
        "Between relations",
        "The change of every relation's facts (columns) with every relation's neurons silenced (rows).",
        "Red cells are losses, blue ones gains. A red row is a set of neurons that does damage everywhere, a red "
        "column a relation that suffers from everything; only cells with a star are beyond chance and random neurons.",
    ),
    Shown(
        "inter",
        "flips",
        "Answers turned by other relations' neurons",
        "For every pair how many answers were lost (left half) and how many gained (right half).",
        "Interference is where silencing helps: blue right halves without a red left half.",
        1,
    ),
    Shown(
        "sweep",
        "slider_logprob",
        "Dose by dose",
        "Own facts, other relations' facts and random neurons at one number of silenced neurons; in the page that "
        "`reproduce` writes, a slider changes it.",
        "How far the blue marks leave the grey ones, and when the orange ones follow: neurons are specific as long as "
        "only the blue ones move.",
        1,
    ),
    Shown(
        "sweep",
        "mean_dose_logprob",
        "Dose and response, all relations",
        "The mean change over relations by number of silenced neurons, with 95 % intervals over relations.",
        "The bands overlap where own, other and random neurons cannot be told apart; at the right end all breaks.",
        2,
    ),
    Shown(
        "cumulativity",
        "steps",
        "Cumulativity by step",
        "Of the answers that turn wrong from one k to the next, how many need the neurons before as well "
        "(1 is all of them); below, the counts.",
        "Bars that are nearly as high as the grey ones behind them are answers that the added neurons lose alone.",
    ),
    Shown(
        "cumulativity",
        "flows",
        "From answer to answer",
        "Every answer as a stream from the unsilenced model to the largest k: right, lost, gained, right again, wrong.",
        "Orange streams that leave the blue boxes are answers lost at that step; light blue ones came back.",
        3,
    ),
    Shown(
        "cumulativity",
        "fates",
        "Fates of answers, relation by relation",
        "The share of answers that are still right, lost, gained and right again at each k.",
        "Whether a relation falls at once or little by little, and how much of what is right was not so before.",
        None,
    ),
    Shown(
        "languages",
        "bars_accuracy",
        "Other languages",
        "The accuracy of the model as it is (bar), with the relation's neurons silenced (mark at the end of the line) "
        "and with random ones (tick), in each language.",
        "Long blue lines that pass the tick. Where there is no bar, the model does not know the facts in that "
        "language, and nothing can be lost.",
    ),
    Shown(
        "templates",
        "templates_logprob",
        "Other templates",
        "Own facts asked in one template set, with neurons found with the same or with the other.",
        "Blue and orange marks at the same place: neurons do not depend on the wording they were found with.",
        0,
    ),
    Shown(
        "concepts",
        "overlaps",
        "Relations and concepts",
        "The share of a relation's neurons that are also among the best of a concept.",
        "Framed cells are the concept of the relation's own subjects; a star is more than random sets share.",
    ),
    Shown(
        "layers",
        "layers",
        "Layers",
        "In which layers the neurons of each relation are.",
        "Dark cells left and right show that not all relations are in the middle layers.",
    ),
    Shown(
        "neuron-types",
        "types_logprob",
        "Kinds of neurons",
        "The change of own facts with the best neurons of each site silenced.",
        "Columns that resemble each other are sites that carry the same; a star is a drop beyond random neurons there.",
        1,
    ),
    Shown(
        "errors",
        "kinds",
        "What the model says instead",
        "The kinds of answers of the model as it is, with the relation's own neurons and with random ones silenced.",
        "How the blue part shrinks, and whether other names or empty phrases take its place.",
        1,
    ),
    Shown(
        "perplexity",
        "perplexity",
        "Plain language",
        "The change of the model's loss on neutral sentences with each relation's neurons silenced; grey ticks are "
        "random sets.",
        "A mark far to the right is damage to all language: the drop of such a relation says less of the relation.",
        1,
    ),
)


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
    images = {folder / _file(one): drawn[one.experiment][one.figure] for one in GALLERY}
    pair = None if scores is None else score_pair_figure(scores)
    if pair is not None:
        images[folder / "score-pair.png"] = pair
    for path in save_figures(images, width=WIDTH, scale=1):
        _check_size(path)
    findings = {name: read_finding(study, name) for name in experiments}
    run = json.loads((study / "run.json").read_text(encoding="utf-8"))
    page.write_text(_page(run, findings, pair, folder.name), encoding="utf-8")


def _check_size(path: Path) -> None:
    if (size := path.stat().st_size) > MOST_BYTES:
        raise SystemExit(f"{path} has {size} bytes, expected at most {MOST_BYTES}")


def _file(one: Shown) -> str:
    return f"{one.experiment}-{one.figure}.png".replace("_", "-")


def _page(run: Mapping[str, Any], findings: Mapping[str, Finding], pair: go.Figure | None, folder: str) -> str:
    asked = run["config"]["prompts"]
    parts = [
        "# Gallery\n\n"
        f"Figures of one study: the embedded model {run['model']['name']} with {_count(len(run['relations']))} "
        f"relations, {asked['shots']} solved examples, {asked['n_evaluation']} evaluation facts a relation and "
        f"{run['config']['n_controls']} control sets or fewer. They show what the commands draw, and what a small "
        "model does; they are not the paper's numbers. The sentence below each is a verdict of the experiment, made "
        "from the same tables. What follows from all of them: [results/properties.md](results/properties.md).\n\n"
        "`make reproduce` writes the study with all figures as pages to explore (values, intervals and controls are "
        "under the pointer), `relation-neurons figures runs/study --format svg` writes them as images, and `make "
        "gallery` writes this page. Filled marks and stars are beyond chance and beyond random neurons after Holm.\n"
    ]
    parts += [_section(one, findings[one.experiment], folder) for one in GALLERY]
    if pair is not None:
        parts.append(_score_section(pair, folder))
    return "\n".join(parts)


def _count(n: int) -> str:
    return "sixteen" if n == 16 else str(n)


def _section(one: Shown, finding: Finding, folder: str) -> str:
    verdict = "" if one.verdict is None else f"\n> {finding.verdict[one.verdict]}\n"
    return (
        f"## {one.title}\n\n![{one.title}: {one.what}]({folder}/{_file(one)})\n\n"
        f"{one.what} *Read off it:* {one.read} "
        f"Made by `relation-neurons reproduce {one.experiment}`, figure `{one.figure}`.\n{verdict}"
    )


def _score_section(figure: go.Figure, folder: str) -> str:
    pair = f"{figure.layout.xaxis.title.text} and {figure.layout.yaxis.title.text}"
    return (
        f"## Scores for two relations\n\n![{pair}]({folder}/score-pair.png)\n\nThe same neurons, scored for two "
        "relations; dotted lines are where the best of each begin. *Read off it:* neurons in the upper right are good "
        "for both; what is best for one and low for the other is specific. Made by `score_pair` of "
        "`relation_neurons.experiments.score_pairs` and by `score_pair_figure`; here by `make gallery "
        "ARGS='--scores person_father person_mother'`.\n"
    )


if __name__ == "__main__":
    main()
