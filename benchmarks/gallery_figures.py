"""The figures of the gallery, in order, with their captions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GalleryEntry:
    """A figure of the gallery.

    Attributes:
        experiment: Name of the experiment.
        figure: Label of the figure in `relation_neurons.report.figure_registry.FIGURES`.
        title: Title above the figure.
        description: What the figure shows.
        reading: How to read it.
        verdict: Index of the sentence of the experiment's verdict that belongs to it, if any.
    """

    experiment: str
    figure: str
    title: str
    description: str
    reading: str
    verdict: int | None = 0

    @property
    def file(self) -> str:
        """File name of the image."""
        return f"{self.experiment}-{self.figure}.png".replace("_", "-")


GALLERY = (
    GalleryEntry(
        "intra",
        "effects_logprob",
        "Own facts",
        "The change in log-probability of each relation's own facts with its neurons ablated (blue) and with random "
        "neurons of the same layers and sites (grey: mean and range), for evaluation facts and for detection facts.",
        "A filled mark to the left of the grey range is a drop beyond chance and beyond random neurons. A wide grey "
        "range means that at least one of the random sets is harmful itself.",
        2,
    ),
    GalleryEntry(
        "overlap",
        "pairs",
        "Shared neurons",
        "How many of their neurons two relations have in common, each left out of the other's negatives, and the "
        "relations clustered by that share.",
        "A star is more than chance after correction. Relations that join far to the right share many neurons; where "
        "all branches join at the left, none do.",
    ),
    GalleryEntry(
        "inter",
        "effects_logprob",
        "Between relations",
        "Changes in log-probability of every relation's facts (columns) with every relation's neurons ablated (rows).",
        "Red cells are losses, blue ones gains. A red row is a set of neurons that matters everywhere, a red column a "
        "relation that is sensitive to any ablation. Only cells with a star are beyond chance and random neurons.",
    ),
    GalleryEntry(
        "inter",
        "flips",
        "Answers changed by other relations' neurons",
        "For every pair, how many answers were lost (left half) and how many gained (right half).",
        "Interference is where ablating helps: a blue right half without a red left half.",
        1,
    ),
    GalleryEntry(
        "inter",
        "gains",
        "Gains",
        "The pairs in which a relation's facts gain most with another relation's neurons ablated, less what they gain "
        "under random neurons, with 95 % intervals over facts.",
        "These are the largest of many, so that intervals right of zero are to be expected; filled marks are gains "
        "after correction for all pairs.",
        2,
    ),
    GalleryEntry(
        "sweep",
        "slider_logprob",
        "Effects at one number of ablated neurons",
        "Own facts, other relations' facts and random neurons at one number of ablated neurons; in the page that "
        "`reproduce` writes, a slider changes it.",
        "Compare how far the blue marks are from the grey ones, and at what number the orange ones follow: neurons are "
        "specific as long as only the blue marks move.",
        2,
    ),
    GalleryEntry(
        "sweep",
        "mean_dose_logprob",
        "Dose and response, all relations",
        "The mean change over relations by number of ablated neurons, with 95 % intervals over relations.",
        "Bands overlap where own, other and random neurons cannot be distinguished; at the right end the model breaks.",
        3,
    ),
    GalleryEntry(
        "cumulativity",
        "steps",
        "Cumulativity by step",
        "Of the answers that turn wrong from one k to the next, the share that is lost only together with the earlier "
        "neurons (cumulativity); below, the counts.",
        "Bars that are nearly as high as the grey ones behind them are answers lost to the added neurons alone.",
        3,
    ),
    GalleryEntry(
        "cumulativity",
        "synergy",
        "Together and apart",
        "What a relation's neurons take from its facts together, beyond the sum of what disjoint parts of them take "
        "alone; grey is the same of random neurons.",
        "A mark to the left of zero and of the grey range: the neurons do more together than their parts do alone.",
        0,
    ),
    GalleryEntry(
        "cumulativity",
        "flows",
        "From answer to answer",
        "Every answer as a stream from the clean model to the largest k: right, lost, gained, regained, wrong.",
        "Orange streams that leave the blue boxes are answers lost at that step; light blue ones came back.",
        5,
    ),
    GalleryEntry(
        "cumulativity",
        "trajectories",
        "Answers by number of ablated neurons, relation by relation",
        "The share of answers that are still right, lost, gained and regained at each k.",
        "It shows whether a relation falls at once or gradually, and how many of the right answers were wrong before.",
        None,
    ),
    GalleryEntry(
        "languages",
        "bars_accuracy",
        "Other languages",
        "The accuracy of the clean model (bar), with the relation's neurons ablated (mark at the end of the line) "
        "and with random ones (tick), in each language.",
        "Effects are long blue lines that pass the tick. Where there is no bar, the model does not know the facts in "
        "that language, and nothing can be lost.",
    ),
    GalleryEntry(
        "templates",
        "templates_logprob",
        "Other templates",
        "Own facts tested with one template set, with neurons found with the same set or with the other.",
        "Where blue and orange marks are at the same place, neurons do not depend on the wording they were found with.",
        0,
    ),
    GalleryEntry(
        "concepts",
        "overlaps",
        "Relations and concepts",
        "The share of a relation's neurons that are also among the best of a concept.",
        "Framed cells are the concept of the relation's own subjects; a star is more than random sets share.",
    ),
    GalleryEntry(
        "layers",
        "layers",
        "Layers",
        "The layers that hold the neurons of each relation.",
        "Dark cells at the left and right show that not all relations are in the middle layers.",
    ),
    GalleryEntry(
        "stability",
        "stability",
        "Other facts, other words",
        "The share of a relation's neurons that two samples have in common: of facts, of negatives, of templates, and "
        "for comparison random parts of the prompts.",
        "Dots near 1 are neurons that any sample would have found; open dots are relations shuffled over the facts, "
        "ticks random neurons of the same layers.",
    ),
    GalleryEntry(
        "neuron-types",
        "types_logprob",
        "Kinds of neurons",
        "The change of own facts with the best neurons of each site ablated.",
        "Columns that resemble each other are sites with like effects; a star is a drop beyond random neurons there.",
        1,
    ),
    GalleryEntry(
        "errors",
        "kinds",
        "Wrong answers",
        "The kinds of answers of the clean model, with the relation's own neurons and with random neurons ablated.",
        "It shows how the blue part shrinks, and whether other names or empty phrases replace it.",
        1,
    ),
    GalleryEntry(
        "perplexity",
        "perplexity",
        "Plain language",
        "The change of the model's loss on neutral sentences with each relation's neurons ablated; grey ticks are "
        "random sets.",
        "A mark far to the right is damage to all language: the drop of such a relation is weaker evidence about it.",
        1,
    ),
)
