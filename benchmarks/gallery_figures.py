"""The figures of the gallery, in order, and what is said of each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shown:
    """A figure of the gallery.

    Attributes:
        experiment: Its name.
        figure: The label of the figure in `relation_neurons.report.figure_registry.FIGURES`.
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

    @property
    def file(self) -> str:
        """The name of its image."""
        return f"{self.experiment}-{self.figure}.png".replace("_", "-")


GALLERY = (
    Shown(
        "intra",
        "effects_logprob",
        "Own facts",
        "The change of each relation's own facts with its neurons ablated (blue) and with random neurons of the same "
        "layers and sites (grey: mean and range), for evaluation facts and for those that the neurons were found with.",
        "A filled mark to the left of the grey range is a drop beyond chance and beyond random neurons. A wide grey "
        "range means that one of the random sets did damage of its own.",
        1,
    ),
    Shown(
        "inter",
        "effects_logprob",
        "Between relations",
        "The change of every relation's facts (columns) with every relation's neurons ablated (rows).",
        "Red cells are losses, blue ones gains. A red row is a set of neurons that does damage everywhere, a red "
        "column a relation that suffers from everything; only cells with a star are beyond chance and random neurons.",
    ),
    Shown(
        "inter",
        "flips",
        "Answers turned by other relations' neurons",
        "For every pair how many answers were lost (left half) and how many gained (right half).",
        "Interference is where ablating helps: blue right halves without a red left half.",
        1,
    ),
    Shown(
        "sweep",
        "slider_logprob",
        "Dose by dose",
        "Own facts, other relations' facts and random neurons at one number of ablated neurons; in the page that "
        "`reproduce` writes, a slider changes it.",
        "How far the blue marks leave the grey ones, and when the orange ones follow: neurons are specific as long as "
        "only the blue ones move.",
        1,
    ),
    Shown(
        "sweep",
        "mean_dose_logprob",
        "Dose and response, all relations",
        "The mean change over relations by number of ablated neurons, with 95 % intervals over relations.",
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
        "The accuracy of the model as it is (bar), with the relation's neurons ablated (mark at the end of the line) "
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
        "The change of own facts with the best neurons of each site ablated.",
        "Columns that resemble each other are sites that carry the same; a star is a drop beyond random neurons there.",
        1,
    ),
    Shown(
        "errors",
        "kinds",
        "What the model says instead",
        "The kinds of answers of the model as it is, with the relation's own neurons and with random ones ablated.",
        "How the blue part shrinks, and whether other names or empty phrases take its place.",
        1,
    ),
    Shown(
        "perplexity",
        "perplexity",
        "Plain language",
        "The change of the model's loss on neutral sentences with each relation's neurons ablated; grey ticks are "
        "random sets.",
        "A mark far to the right is damage to all language: the drop of such a relation says less of the relation.",
        1,
    ),
)
