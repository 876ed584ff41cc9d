"""What experiments share: a model, its prompts, its ranked neurons, and every answer it has given."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from relation_neurons.activations.cache import kept_activations
from relation_neurons.activations.collection import Activations, collect_activations
from relation_neurons.activations.shard_store import drop_shards
from relation_neurons.errors import refuse
from relation_neurons.experiments.answer_cache import Answers, Show, Wanted, quiet
from relation_neurons.experiments.config import SelectionConfig, StudyConfig
from relation_neurons.experiments.study_key import study_key
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.sites import expand_site
from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.neurons.ranking import PAPER_K, Ranking, rank_neurons, scaled_k
from relation_neurons.progress import Progress
from relation_neurons.prompts.prompts import Prompt, PromptConfig, Prompts, make_prompts, relation_names
from relation_neurons.relations.relation import Relation
from relation_neurons.relations.splits import stable_rank
from relation_neurons.statistics.effects import MEASURES
from relation_neurons.storage.fingerprint import digest
from relation_neurons.storage.run_folder import RunFolder
from relation_neurons.validation import validated

DEEPEST_K = 50_000
"""The largest k of the paper's sweep."""
FEWEST_DETECTING = 10
"""Rightly answered detection prompts that a relation needs."""
KEPT = "activations"
"""Where in a folder activations are kept while they are read."""


@validated
@dataclass(frozen=True)
class Case:
    """A state of the model and what to ask in it.

    Attributes:
        neurons: What to ablate.
        prompts: What to ask.
        labels: What to call both in tables, such as `{"ablated": "country_capital", "k": 400}`.
    """

    neurons: NeuronSet
    prompts: tuple[Prompt, ...]
    labels: Mapping[str, object]


@validated
class Study:
    """A model and its relations; answers, activations and rankings are computed once and shared by all experiments.

    Attributes:
        model: A model from `load_model`.
        relations: At least two; the others are the negatives of each.
        config: What is asked.
        k: Neurons per relation.
        answers: All that was asked so far.
        folder: Where answers and rankings are kept, by `keep_in`, so that a stopped experiment goes on; none keeps
            them in memory.
    """

    def __init__(
        self,
        model: HookedModel,
        relations: Sequence[Relation],
        config: StudyConfig | None = None,
        *,
        show: Show = quiet,
        read: str | None = None,
    ) -> None:
        """Make the prompts; nothing is asked yet.

        Args:
            model: A model from `load_model`.
            relations: At least two.
            config: What is asked; its `model`, `relations`, `device` and `dtype` are not read here.
            show: Makes a progress bar of a label and a total.
            read: Sites to read together, such as `all`, where several sites will be ranked.

        Raises:
            RelationNeuronsError: Fewer than two relations, k larger than the model, or prompts that cannot be made.
        """
        require_two(relations)
        self.model, self.relations, self.config = model, tuple(relations), config or StudyConfig()
        self.folder: RunFolder | None = None
        self._show, self._read = show, read
        self._prompts: dict[PromptConfig, Prompts] = {}
        self._rankings: dict[SelectionConfig, Ranking] = {}
        self._last_read: tuple[tuple[Prompt, ...], Activations] | None = None
        self.answers = Answers(model, batch_size=self.config.batch_size, show=show)
        space = neuron_space(model, self.config.site)
        self.k = scaled_k(PAPER_K, space) if self.config.k is None else self.config.k
        if self.k > len(space):
            raise refuse(f"k is {self.k}", expected=f"1 to {len(space)}, the number of neurons at '{self.config.site}'")
        self.prompts()

    @functools.cached_property
    def key(self) -> dict[str, Any]:
        """All that answers and rankings depend on, as a run folder keeps it."""
        return study_key(self.config, self.relations, self.model, self.prompts())

    def keep_in(self, path: str | Path) -> RunFolder:
        """Keep what is found from now on in a run folder, and take what the same study found there before.

        Raises:
            RelationNeuronsError: Prompts that the model cannot read, or a folder that belongs to another study or
                cannot be written.
        """
        self.folder = self.answers.folder = RunFolder(Path(path), self.key)
        return self.folder

    @property
    def reads_several(self) -> bool:
        """Whether several sites are read together, so that what was read is needed after the first ranking."""
        return self._read is not None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the relations, in order."""
        return tuple(relation.name for relation in self.relations)

    @property
    def selection(self) -> SelectionConfig:
        """How neurons are chosen as configured; `dataclasses.replace` makes another way of it."""
        return self.config.selection

    def prompts(self, config: PromptConfig | None = None) -> Prompts:
        """Detection and evaluation prompts, made as configured or in another way."""
        config = config or self.config.prompts
        if config not in self._prompts:
            self._prompts[config] = make_prompts(self.relations, config)
        return self._prompts[config]

    def evaluation(self, relation: str | None = None, config: PromptConfig | None = None) -> tuple[Prompt, ...]:
        """Evaluation prompts of one relation or of all."""
        prompts = self.prompts(config).evaluation
        return prompts if relation is None else tuple(one for one in prompts if one.relation == relation)

    def detection(self, selection: SelectionConfig | None = None) -> tuple[Prompt, ...]:
        """Detection prompts, only those that the model answers rightly if `validation` says so (paper, section 3)."""
        selection = selection or self.selection
        prompts, rule = self.prompts(selection.prompts).detection, selection.validation
        if rule == "none":
            return prompts
        answers = self.clean(prompts, generate=rule != "prefix")
        return keep_right(prompts, answers, rule, at_least=FEWEST_DETECTING)

    def scaled(self, k: int) -> int:
        """A k of the paper's on this model: as large a share as of Llama-2-7B; see `scaled_k`."""
        return scaled_k(k, neuron_space(self.model, self.config.site))

    def activations(self, detection: tuple[Prompt, ...], site: str | None = None) -> Activations:
        """Activations of detection prompts; what was read last is not read again."""
        site = site or self.config.site
        if self._last_read is None or self._last_read[0] != detection or not self._covers(site):
            wider = self._read if self._read and set(expand_site(site)) <= set(expand_site(self._read)) else site
            read: Callable[..., Activations] = collect_activations
            if self.folder is not None:
                if self._last_read is not None:
                    self.drop_activations()
                read = functools.partial(kept_activations, folder=self.folder.path / KEPT)
            self._last_read = None  # so that memory never holds both
            with self._show("reading activations", len(detection)) as progress:
                found = read(
                    self.model,
                    detection,
                    site=wider,
                    include_bos=self.config.include_bos,
                    batch_size=self.config.batch_size,
                    progress=progress,
                )
            self._last_read = detection, found
        return self._last_read[1].at(site)

    def drop_activations(self) -> None:
        """Remove the activations that are kept in the folder while they are read, which rankings no longer need."""
        if self.folder is not None:
            drop_shards(self.folder.path / KEPT)

    def _covers(self, site: str) -> bool:
        assert self._last_read is not None
        return set(expand_site(site)) <= {one for one, _ in self._last_read[1].space.widths}

    def ranking(self, selection: SelectionConfig | None = None) -> Ranking:
        """Every relation's best neurons, chosen as configured or in another way."""
        selection = selection or self.selection
        if selection not in self._rankings:
            space = neuron_space(self.model, selection.site)
            detection, depth = self.detection(selection), max(self.k, scaled_k(DEEPEST_K, space))

            def rank() -> Ranking:
                return rank_neurons(
                    self.activations(detection, selection.site),
                    depth=depth,
                    scorer=selection.scorer,
                    balanced=selection.negatives == "balanced",
                    seed=self.config.seed,
                )

            key = digest(selection, detection, depth, self.config.seed)
            self._rankings[selection] = _kept_ranking(self, rank, space, key)
        return self._rankings[selection]

    def target(self, relation: str, k: int | None = None, selection: SelectionConfig | None = None) -> NeuronSet:
        """A relation's k best neurons."""
        return self.ranking(selection).top(relation, self.k if k is None else k)

    def controls(
        self,
        target: NeuronSet,
        *,
        n: int | None = None,
        match: str | None = None,
        selection: SelectionConfig | None = None,
    ) -> list[NeuronSet]:
        """Random sets matched to a target of that ranking, drawn anew for each target, so that all are independent."""
        n, match = self.config.n_controls if n is None else n, match or self.config.match
        drawn = stable_rank(self.config.seed, target.name, str(target.neurons[0]), str(len(target)))
        seed = int.from_bytes(drawn[:6], "big")
        return self.ranking(selection).controls(target, n=n, seed=seed, match=match)

    def clean(self, prompts: Sequence[Prompt], *, generate: bool = False) -> pd.DataFrame:
        """What the model answers as it is, a row per prompt."""
        return self._ask([(None, tuple(prompts))], generate)

    def changes(
        self, cases: Sequence[Case], *, generate: bool = False, measures: Sequence[str] = MEASURES
    ) -> pd.DataFrame:
        """What ablating changes: the answers of every case beside the clean model's to the same prompts.

        Args:
            cases: What to ablate and ask; all have the same labels.
            generate: Let the model answer, for what it says and for the rules that read whole answers.
            measures: Columns of numbers whose change is wanted.

        Returns:
            A row per case and prompt, in order: the labels; `relation`, `subject`, `object`, `template`, `language`,
            `fact`; what else `recall_under` says of the answer; `correct`, by the configured rule; and for each of
            the measures `clean_<measure>` and `d_<measure>`, the change (nats, or -1, 0, 1).
        """
        labels = pd.DataFrame([dict(case.labels) for case in cases for _ in case.prompts])
        table = self._ask([(case.neurons, case.prompts) for case in cases], generate)
        clean = self._ask([(None, case.prompts) for case in cases], generate)
        for name in measures:
            table[f"clean_{name}"] = clean[name].to_numpy(dtype=float)
            table[name] = table[name].astype(float)
            table[f"d_{name}"] = table[name] - table[f"clean_{name}"]
        return pd.concat([labels, table], axis=1)

    def _ask(self, wanted: Sequence[Wanted], generate: bool) -> pd.DataFrame:
        table = self.answers.ask(wanted, generate=generate or self.config.rule != "prefix")
        return table.assign(correct=table[f"correct_{self.config.rule}"])

    def table(self, name: str, make: Callable[[], pd.DataFrame], *determined_by: object) -> pd.DataFrame:
        """A table that takes long to make: from the folder if it was made there before from the same things."""
        return make() if self.folder is None else self.folder.table(f"{name}-{digest(*determined_by)[:16]}", make)

    def show(self, label: str, total: int) -> AbstractContextManager[Progress]:
        """A progress bar."""
        return self._show(label, total)


def require_two(relations: Sequence[Relation]) -> None:
    """Refuse a single relation, which has no negatives."""
    if len(relations) < 2:
        raise refuse(f"{len(relations)} relation was asked for", expected="at least two: the others are negatives")


def keep_right(prompts: Sequence[Prompt], answers: pd.DataFrame, rule: str, *, at_least: int) -> tuple[Prompt, ...]:
    """The detection prompts that the model answers rightly (the paper's validation, section 3).

    Args:
        prompts: Detection prompts.
        answers: Their clean recall table, in the same order.
        rule: `prefix` or `string`.
        at_least: Fewest prompts a relation needs.

    Raises:
        RelationNeuronsError: A relation keeps too few.
    """
    kept = tuple(prompt for prompt, right in zip(prompts, answers[f"correct_{rule}"], strict=True) if right)
    short = {}
    for name in relation_names(prompts):
        n_kept = sum(prompt.relation == name for prompt in kept)
        if n_kept < at_least:
            short[name] = n_kept
    if short:
        raise refuse(
            "The model answers too few detection prompts: " + ", ".join(f"{name} {n}" for name, n in short.items()),
            expected=f"at least {at_least} right by the rule '{rule}' for each relation",
            do="leave these relations out, or run with validation 'none'",
        )
    return kept


def _kept_ranking(study: Study, rank: Callable[[], Ranking], space: Any, key: str) -> Ranking:
    """A ranking as three tables of the study, computed if one of them is missing."""
    made: list[Ranking] = []

    def once() -> Ranking:
        if not made:
            made.append(rank())
        return made[0]

    best = study.table("rankings/best", lambda: pd.concat([one.to_frame() for one in once().best.values()]), key)
    activity = study.table("rankings/activity", lambda: pd.DataFrame({"activity": once().activity}), key)
    counts = study.table("rankings/counts", lambda: once().counts, key)
    if made and not study.reads_several:
        study.drop_activations()
    sets = {str(name): NeuronSet.from_frame(rows) for name, rows in best.groupby("name", sort=False)}
    return Ranking(sets, space, activity["activity"].to_numpy(), counts)
