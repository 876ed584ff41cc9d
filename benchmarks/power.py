"""What each experiment's tests can show, by simulation: false positives, least effects, and curves of the power.

Every experiment is a family of groups; each group has an effect per fact of its own set of neurons and
of its control sets; see `relation_neurons.statistics.simulation`. The designs are those of the profiles
and those that `--design auto` chooses. Run from the root of the repository: `python -m benchmarks.power`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import tyro
from plotly.subplots import make_subplots

from relation_neurons.experiments.design_choice import Family, choose
from relation_neurons.experiments.profiles import Profile
from relation_neurons.experiments.registry import options, study_config
from relation_neurons.figures.export import save_figure
from relation_neurons.statistics.hypothesis_tests import POWER
from relation_neurons.statistics.power import Design
from relation_neurons.statistics.simulation import SETS, Spread, least_effect, power, shown

NOMINAL = Spread(1.0, 1.0, 0.2)
"""Standard deviations in nats where none are measured."""
PROPERTIES = {
    "own drop": "intra",
    "pair": "inter",
    "slope over k": "sweep (slope)",
    "synergy of halves": "cumulativity (halves)",
}
EFFECTS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0)
COLOURS = {"demo": "#999999", "full": "#0072b2", "auto": "#d55e00"}


@dataclass(frozen=True)
class Config:
    """Simulate the families of tests of every experiment and profile."""

    relations: tuple[int, ...] = (12, 16)
    """Numbers of relations."""
    families: int = 1000
    """Simulated families for the false positive rate."""
    effect: float = 1.0
    """Effect of the chosen designs, in nats."""
    only: tuple[str, ...] = ("designs", "curves")
    """What is simulated."""
    spreads: Path = Path("docs/results/design.json")
    """Standard deviations for the curves."""
    picture: Path = Path("docs/gallery/power-curves.png")
    """Where the curves are drawn."""
    out: Path = Path("docs/results/power.json")
    """File for the results."""


def designs(n_relations: int, profile: Profile) -> dict[str, Design]:
    """The size of each experiment's family of tests."""
    study, r = study_config(profile), n_relations
    n_facts = study.prompts.n_evaluation
    inter, neurons, slices = (
        options("inter", profile),
        options("neuron-types", profile),
        options("cumulativity", profile),
    )
    return {
        "intra": Design(r, n_facts, study.n_controls),
        "inter": Design(r * (r - 1), inter.n_tested or n_facts, inter.n_cross_controls),
        "sweep (slope)": Design(r, n_facts, options("sweep", profile).n_sweep_controls),
        "cumulativity (halves)": Design(r, n_facts, slices.n_slice_controls),
        "cumulativity (slices)": Design(r * slices.n_slices, n_facts, slices.n_slice_controls),
        "neuron-types": Design(r * 7, n_facts, neurons.n_type_controls),
        "languages": Design(r * 6, n_facts, options("languages", profile).n_language_controls),
        "templates": Design(r * 4, n_facts, options("templates", profile).n_template_controls or study.n_controls),
        "perplexity": Design(
            r, options("perplexity", profile).n_sentences, options("perplexity", profile).n_sentence_controls
        ),
        "neuron": Design(r, n_facts, study.n_controls),
    }


def simulate(design: Design, tails: str, families: int) -> dict[str, float | None]:
    """False positives of any group of a family, and the smallest effect with 80 % power; none below 10 nats."""
    wrong = shown(design, NOMINAL, 0.0, tails=tails, n_families=families).any(axis=1).mean()
    least = least_effect(design, NOMINAL, tails=tails) if design.can_show else float("inf")
    return {"family_wise": float(wrong), "effect": round(least, 2) if least < 10 else None}


def table(config: Config) -> list[dict[str, Any]]:
    """A row per number of relations, profile and experiment."""
    rows = []
    for n_relations in config.relations:
        for profile in ("demo", "full"):
            for name, design in designs(n_relations, profile).items():
                row = {"relations": n_relations, "profile": profile, "experiment": name, **design._asdict()}
                row |= {"smallest_p": float(f"{design.smallest_p:.2g}")}
                for tails in SETS:
                    found = simulate(design, tails, config.families)
                    row |= {f"{key}, {tails}": value for key, value in found.items()}
                rows.append(row)
                print(row, flush=True)
    return rows


def spreads(path: Path) -> dict[str, Spread]:
    """The pilot's standard deviations on the embedded model by experiment, as `benchmarks.design` wrote them."""
    rows = json.loads(path.read_text(encoding="utf-8")).get("smollm2-135m", []) if path.is_file() else []
    return {row["experiment"]: Spread(*(row[f"{part}_pilot"] for part in Spread._fields)) for row in rows}


def curves(config: Config) -> list[dict[str, Any]]:
    """The power of the designs of the profiles, and of the chosen one, over effects, for every property."""
    rows, measured, n_relations = [], spreads(config.spreads), config.relations[0]
    for label, name in PROPERTIES.items():
        spread = measured.get(name.split()[0], NOMINAL)
        sized = {profile: designs(n_relations, profile)[name] for profile in ("demo", "full")}
        family = Family(name, sized["full"].n_tests, spread, lambda n: n, lambda n, m: n * (1 + m))
        choice = choose([family], config.effect, sized["full"].n_facts, most_controls=100)
        sized["auto"] = family.size(choice.n_facts, choice.n_controls)
        for profile, design in sized.items():
            for effect in EFFECTS:
                found = power(design, spread, effect)
                rows.append(
                    {"property": label, "design": profile, **design._asdict(), **spread._asdict()}
                    | {"effect": effect, "power": found}
                )
            print(label, profile, design, flush=True)
    return rows


def figure(rows: list[dict[str, Any]]) -> go.Figure:
    """A panel for each property, a line for each design."""
    drawn = make_subplots(rows=1, cols=len(PROPERTIES), subplot_titles=list(PROPERTIES), shared_yaxes=True)
    for column, label in enumerate(PROPERTIES, 1):
        of_property = [row for row in rows if row["property"] == label]
        for profile, colour in COLOURS.items():
            line = [row for row in of_property if row["design"] == profile]
            drawn.add_scatter(
                x=[row["effect"] for row in line],
                y=[row["power"] for row in line],
                name=profile,
                line={"color": colour},
                mode="lines+markers",
                showlegend=column == 1,
                row=1,
                col=column,
            )
            size = f"{line[0]['n_tests']} tests, {line[0]['n_facts']} facts, {line[0]['n_controls']} sets"
            drawn.add_annotation(
                x=0.02,
                y=-0.28 - 0.07 * list(COLOURS).index(profile),
                xref=f"x{column if column > 1 else ''} domain",
                yref="paper",
                text=f"{profile}: {size}",
                font={"color": colour, "size": 11},
                showarrow=False,
                xanchor="left",
            )
        drawn.add_hline(y=POWER, line={"dash": "dot", "color": "#999999"}, row=1, col=column)
    drawn.update_xaxes(type="log", title="effect (nats)", tickvals=[0.1, 0.2, 0.5, 1, 2])
    drawn.update_yaxes(range=[0, 1.02])
    drawn.update_yaxes(title="power", col=1)
    drawn.update_layout(template="plotly_white", width=1150, height=430, margin={"b": 150, "t": 40, "r": 20})
    return drawn


def main(config: Config) -> None:
    """Simulate what is asked for, and write it beside what was simulated before."""
    found = json.loads(config.out.read_text(encoding="utf-8")) if config.out.is_file() else {}
    found = found if isinstance(found, dict) else {"designs": found}
    if "designs" in config.only:
        found["designs"] = table(config)
    if "curves" in config.only:
        found["curves"] = curves(config)
        save_figure(figure(found["curves"]), config.picture, width=1150)
    config.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(pd.DataFrame(found[config.only[-1]]).to_string())


if __name__ == "__main__":
    main(tyro.cli(Config))
