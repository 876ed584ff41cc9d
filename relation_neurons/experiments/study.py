"""What experiments share: a model, its prompts, its ranked neurons, and every answer it has given."""

from __future__ import annotations

import copy
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from relation_neurons.activations.collection import Activations
from relation_neurons.errors import refuse
from relation_neurons.experiments.answer_cache import AnswerCache, Request, Show, quiet
from relation_neurons.experiments.case import Case, announcement
from relation_neurons.experiments.config import SelectionConfig, StudyConfig
from relation_neurons.experiments.control_blocks import control_changes, until_futile
from relation_neurons.experiments.critical_screen import CriticalScreen
from relation_neurons.experiments.detection import keep_correct
from relation_neurons.experiments.rankings import Rankings
from relation_neurons.experiments.study_key import study_key
from relation_neurons.inference.units import InProcess, Pool
from relation_neurons.models.fingerprint import weights_digest
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.neurons.ranking import PAPER_K, Ranking, scaled_k
from relation_neurons.progress import Progress, keep_quiet
from relation_neurons.prompts.prompts import Prompt, PromptConfig, Prompts, first_facts, make_prompts
from relation_neurons.relations.relation import Relation
from relation_neurons.relations.splits import stable_rank
from relation_neurons.statistics.effects import MEASURES
from relation_neurons.statistics.formatting import count_text
from relation_neurons.statistics.notebook_html import line, table
from relation_neurons.storage.fingerprint import digest
from relation_neurons.storage.run_folder import RunFolder
from relation_neurons.validation import validated


@validated
class Study:
    """A model and its relations; answers, activations and rankings are computed once and shared by all experiments.

    Attributes:
        model: A model from `load_model`.
        relations: At least two; the others are the negatives of each.
        config: Everything that determines the results.
        k: Neurons per relation.
        critical: Neurons whose ablation alone breaks the model, which targets and controls leave out.
        rankings: What is read of detection prompts, and the neurons that are chosen by it.
        answers: All answers so far.
        pool: Who runs the model: this process, or workers.
        folder: Where answers and rankings are stored, by `keep_in`, so that a stopped experiment can be resumed; None
            keeps them in memory.
        n_tested: Facts of each relation that are tested; None tests all evaluation facts.
        stops: Where control sets are drawn in blocks until no effect can be shown any more, a sentence for each family
            that stopped; None draws all at once.
    """

    def __init__(
        self,
        model: HookedModel,
        relations: Sequence[Relation],
        config: StudyConfig | None = None,
        *,
        show: Show = quiet,
        read: str | None = None,
        say: Callable[[str], None] = keep_quiet,
        pool: Pool | None = None,
    ) -> None:
        """Make the prompts; the model is not run yet.

        Args:
            model: A model from `load_model`.
            relations: At least two.
            config: What to measure; its `model`, `relations`, `device` and `dtype` are not read here.
            show: Makes a progress bar of a label and a total.
            read: Sites to read together, such as `all`, where several sites will be ranked.
            say: Called with a line on the design of each family of tests before it is measured.
            pool: Who runs the model, see `workers`; by default this process, with the model given.

        Raises:
            RelationNeuronsError: Fewer than two relations, k larger than the model, prompts that cannot be made, or
                workers that loaded another model.
        """
        require_two(relations)
        self.model, self.relations, self.config = model, tuple(relations), config or StudyConfig()
        self.folder: RunFolder | None = None
        self._show, self.say = show, say
        self.n_tested: int | None = None
        self.stops: list[str] | None = None
        self._piloting = False
        self._prompts: dict[PromptConfig, Prompts] = {}
        self.pool: Pool = pool or InProcess(model)
        _require_same_model(model, self.pool)
        self.answers = AnswerCache(model, batch_size=self.config.batch_size, show=show, pool=self.pool)
        self.critical = CriticalScreen(self.config, self.pool, self.answers, self.table)
        self.rankings = Rankings(model, self.config, self.pool, self.critical, self.table, show=show, read=read)
        space = neuron_space(model, self.config.site)
        self.k = scaled_k(PAPER_K, space) if self.config.k is None else self.config.k
        if self.k > len(space):
            raise refuse(f"k is {self.k}", expected=f"1 to {len(space)}, the number of neurons at '{self.config.site}'")
        self.prompts()

    @functools.cached_property
    def key(self) -> dict[str, Any]:
        """Everything that answers and rankings depend on, as a run folder stores it."""
        return study_key(self.config, self.relations, self.model, self.prompts(), self.pool.identity)

    def keep_in(self, path: str | Path) -> RunFolder:
        """Store results in a run folder from now on, and reuse those that the same study left there.

        Raises:
            RelationNeuronsError: Prompts that the model cannot read, or a folder that belongs to another study or
                cannot be written.
        """
        self.folder = self.answers.folder = RunFolder(Path(path), self.key)
        self.rankings.keep_in(self.folder.path)
        return self.folder

    def __repr__(self) -> str:
        name, folder = neuron_space(self.model, self.config.site).model, "" if self.folder is None else self.folder.path
        relations = count_text(len(self.relations), "relation")
        kept = f", kept in '{folder}'" if folder else ""
        return f"Study({name!r}, {relations}, k {self.k:,} at {self.config.site}{kept})"

    def _repr_html_(self) -> str:
        prompts = self.prompts()
        detection, evaluation = (
            Counter(one.relation for one in part) for part in (prompts.detection, prompts.evaluation)
        )
        rows = [(one.name, len(one.facts), detection[one.name], evaluation[one.name]) for one in self.relations]
        columns = ["relation", "facts", "detection prompts", "evaluation prompts"]
        return line(self) + table(columns, rows, most=20)

    def subset(self, relations: Sequence[Relation]) -> Study:
        """The study of some of its relations, which shares its answers and its folder."""
        part = Study(self.model, relations, self.config, show=self.show, say=self.say, pool=self.pool)
        part.answers, part.folder = self.answers, self.folder
        part.critical = part.rankings.critical = self.critical
        if self.folder is not None:
            part.rankings.keep_in(self.folder.path)
        part.n_tested, part.stops, part._piloting = self.n_tested, self.stops, self._piloting
        return part

    def sized(self, n_facts: int, n_controls: int) -> Study:
        """The same study, its answers shared, with fewer facts tested and control sets drawn until they are futile."""
        part = copy.copy(self)
        part.config = replace(self.config, n_controls=n_controls)
        part.n_tested, part.stops = n_facts, []
        return part

    def pilot(self, n_facts: int, n_controls: int) -> Study:
        """The same study, tested on detection facts instead, so that evaluation facts stay unseen."""
        part = self.sized(n_facts, n_controls)
        part.stops, part._piloting, part.say = None, True, keep_quiet
        return part

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the relations, in order."""
        return tuple(relation.name for relation in self.relations)

    @property
    def n_neurons(self) -> int:
        """How many neurons of its site can be ranked: all but critical ones, unless these are kept."""
        site = self.config.site
        return len(neuron_space(self.model, site)) - len(self.critical.excluded(site))

    @property
    def selection(self) -> SelectionConfig:
        """How neurons are chosen as configured; `dataclasses.replace` gives another way."""
        return self.config.selection

    def prompts(self, config: PromptConfig | None = None) -> Prompts:
        """Detection and evaluation prompts, made as configured or in another way."""
        config = config or self.config.prompts
        if config not in self._prompts:
            self._prompts[config] = make_prompts(self.relations, config)
        return self._prompts[config]

    def evaluation(self, relation: str | None = None, config: PromptConfig | None = None) -> tuple[Prompt, ...]:
        """Evaluation prompts of one relation or of all, of the facts that are tested."""
        made = self.prompts(config)
        prompts = first_facts(made.detection if self._piloting else made.evaluation, self.n_tested)
        return prompts if relation is None else tuple(prompt for prompt in prompts if prompt.relation == relation)

    def detection(self, selection: SelectionConfig | None = None) -> tuple[Prompt, ...]:
        """Detection prompts; with a `validation` rule only those answered correctly (paper, section 3)."""
        selection = selection or self.selection
        prompts, rule = self.prompts(selection.prompts).detection, selection.validation
        if rule == "none":
            return prompts
        return keep_correct(prompts, self.clean(prompts, generate=rule != "prefix"), rule)

    def activations(self, detection: tuple[Prompt, ...], site: str | None = None) -> Activations:
        """Activations of detection prompts; the prompts that were read last are not read again."""
        return self.rankings.activations(detection, site or self.config.site)

    def attributions(self, detection: tuple[Prompt, ...], site: str | None = None) -> Activations:
        """Contributions to the answers to detection prompts, as of `attribute`; see `activations`."""
        return self.rankings.attributions(detection, site or self.config.site)

    def read_by(
        self, scorer: str, detection: tuple[Prompt, ...], site: str | None = None
    ) -> tuple[Activations, Activations | None]:
        """What a scorer reads of detection prompts: their activations, and attributions if it needs them."""
        return self.rankings.read_by(scorer, detection, site or self.config.site)

    def scaled(self, k: int) -> int:
        """The paper's k on this model: as large a share of its neurons as of Llama-2-7B's; see `scaled_k`."""
        return scaled_k(k, neuron_space(self.model, self.config.site))

    def ranking(self, selection: SelectionConfig | None = None, depth: int = 0) -> Ranking:
        """Every relation's best neurons, at least `depth`, chosen as configured or in another way."""
        return self.rankings.of(selection or self.selection, self.detection, depth=max(depth, self.k))

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
        disjoint: bool = True,
    ) -> list[NeuronSet]:
        """Random sets matched to a target, which has a random stream of its own; see `random_controls`."""
        n, match = self.config.n_controls if n is None else n, match or self.config.match
        stream = stable_rank(self.config.seed, target.name, str(target.neurons[0]), str(len(target)))
        seed = int.from_bytes(stream[:6], "big")
        return self.ranking(selection).controls(target, n=n, seed=seed, match=match, disjoint=disjoint)

    def clean(self, prompts: Sequence[Prompt], *, generate: bool = False) -> pd.DataFrame:
        """Answers of the model without any ablation, a row per prompt."""
        return self._answers([(None, tuple(prompts))], generate)

    def changes(
        self, cases: Sequence[Case], *, generate: bool = False, measures: Sequence[str] = MEASURES
    ) -> pd.DataFrame:
        """The answers of every case beside the clean model's answers to the same prompts.

        Args:
            cases: What is written, and prompts; all have the same labels.
            generate: Generate whole answers, which the rules other than `prefix` need.
            measures: Numeric columns whose change is wanted.

        Returns:
            A row per case and prompt, in order: the labels; `relation`, `subject`, `object`, `template`, `language`,
            `fact`; the other columns of `recall_under`; `correct`, by the configured rule; and for each of the
            measures `clean_<measure>` and `d_<measure>`, the change (nats, or -1, 0, 1).
        """
        labels = pd.DataFrame([dict(case.labels) for case in cases for _ in case.prompts])
        table = self._answers([(case.intervention, case.prompts) for case in cases], generate)
        clean = self._answers([(None, case.prompts) for case in cases], generate)
        for name in measures:
            table[f"clean_{name}"] = clean[name].to_numpy(dtype=float)
            table[name] = table[name].astype(float)
            table[f"d_{name}"] = table[name] - table[f"clean_{name}"]
        return pd.concat([labels, table], axis=1)

    def with_controls(
        self,
        cases: Sequence[Case],
        *,
        n: int | None = None,
        by_relation: bool = False,
        stop: bool = False,
        pooled: bool = False,
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The changes of every case, and those of its matched random controls.

        Args:
            cases: A family of tests.
            n: Control sets of each; by default as configured.
            by_relation: Whether the facts of each relation are tested apart.
            stop: Whether the cases are tested by their labels just as they are, so that a study that draws controls in
                blocks may stop; the controls then have a column `planned`.
            pooled: Whether the sets are tested together as well, as by `effects.pooled`.

        Returns:
            The two tables of `changes`; that of the controls has a label `draw` more.
        """
        n = self.config.n_controls if n is None else n
        self.announce(cases, n, by_relation=by_relation, pooled=pooled)
        own = self.changes(cases)
        drawn = [self.controls(case.neurons, n=n, match=case.match, selection=case.selection) for case in cases]
        if not any(drawn):
            return own, own.iloc[:0].assign(draw=0)
        if not stop or self.stops is None:
            return own, control_changes(self.changes, cases, drawn)
        table, said = until_futile(self.changes, cases, drawn, own, by_relation=by_relation, seed=self.config.seed)
        if said:
            self.stops.append(said)
            self.say(said)
        return own, table

    def announce(
        self, cases: Sequence[Case], n_controls: int, *, by_relation: bool = False, pooled: bool = False
    ) -> None:
        """Say what a family of tests can show with its facts and control sets, before it is measured."""
        if cases:
            self.say(announcement(cases, n_controls, by_relation=by_relation, pooled=pooled))

    def table(self, name: str, make: Callable[[], pd.DataFrame], *determined_by: object) -> pd.DataFrame:
        """A table that takes long to make: read from the folder if it was made from the same things before."""
        return make() if self.folder is None else self.folder.table(f"{name}-{digest(*determined_by)[:16]}", make)

    def show(self, label: str, total: int) -> AbstractContextManager[Progress]:
        """A progress bar."""
        return self._show(label, total)

    def _answers(self, requests: Sequence[Request], generate: bool) -> pd.DataFrame:
        table = self.answers.get(requests, generate=generate or self.config.rule != "prefix")
        return table.assign(correct=table[f"correct_{self.config.rule}"])


def require_two(relations: Sequence[Relation]) -> None:
    """Refuse a single relation, which has no negatives."""
    if len(relations) < 2:
        raise refuse(f"There is {len(relations)} relation", expected="at least two: the others are the negatives")


def _require_same_model(model: HookedModel, pool: Pool) -> None:
    """Refuse a model that only this process has, for workers load theirs by its name."""
    if not isinstance(pool, InProcess) and pool.identity.weights.partition(" in ")[0] != weights_digest(model):
        raise refuse(
            f"Workers have loaded another model than this '{model.cfg.model_name}', which is in memory only",
            do="save it in a folder and name that as the study's model, or leave out workers",
        )
