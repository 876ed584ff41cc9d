"""Detection prompts: which of them count, and what is read of them, once for all rankings that need it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from relation_neurons.activations.cache import kept_activations
from relation_neurons.activations.collection import Activations, collect_activations
from relation_neurons.activations.shard_store import drop_shards
from relation_neurons.attribution.attribute import attribute
from relation_neurons.attribution.cache import kept_attributions
from relation_neurons.errors import refuse
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.inference.batch_size import devices_of, memory_of
from relation_neurons.inference.units import Pool
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.loading import named_device
from relation_neurons.models.sites import expand_site
from relation_neurons.models.types import HookedModel
from relation_neurons.progress import Progress
from relation_neurons.prompts.prompts import Prompt, relation_names

MIN_CORRECT = 10
"""Correctly answered detection prompts that a relation needs where they are validated."""
SHARDS = "activations"
"""Folder of what is read, within that of the study, until it is ranked."""


class DetectionActivations:
    """The activations of the detection prompts that were read last.

    Attributes:
        label: What a progress bar says.
        read_sites: Sites that are read together, such as `all`, where several will be ranked; None reads each alone.
        folder: The folder of the study; None keeps activations in memory only.
        pool: Who reads what is kept in a folder; None is this process.
    """

    label = "reading activations"

    def __init__(
        self,
        model: HookedModel,
        config: StudyConfig,
        show: Callable[[str, int], AbstractContextManager[Progress]],
        read_sites: str | None = None,
        pool: Pool | None = None,
    ) -> None:
        """Nothing is read yet."""
        self.pool = pool
        self._model, self._config, self._show = model, config, show
        self.read_sites = read_sites
        self.folder: Path | None = None
        self._last: tuple[tuple[Prompt, ...], Activations] | None = None

    def at(self, prompts: tuple[Prompt, ...], site: str) -> Activations:
        """The activations of some prompts at a site; the same prompts are not read again."""
        if self._last is None or self._last[0] != prompts or not self._covers(site):
            if self.folder is not None and self._last is not None:
                self.drop_shards()
            self._last = None  # so that memory never holds both
            with self._show(self.label, len(prompts)) as progress:
                options = {"batch_size": self._config.batch_size, "progress": progress}
                self._last = prompts, self._read(prompts, site=self._wider(site), **options)
        return self._last[1].at(site)

    def _read(self, prompts: tuple[Prompt, ...], site: str, **options: Any) -> Activations:
        """Read activations and put them where they are scored, if they fit there."""
        place, score_on = self._places(len(prompts), site)
        options |= {"site": site, "include_bos": self._config.include_bos}
        if self.folder is None:
            found = collect_activations(self._model, prompts, keep_on=place, **options)
        else:
            options |= {"folder": self.folder / SHARDS, "pool": self.pool}
            found = kept_activations(self._model, prompts, **options).to(place)
        return replace(found, score_on=score_on)

    def _places(self, n_prompts: int, site: str) -> tuple[torch.device, torch.device]:
        """Where values are kept, and where they are scored: both on a GPU if they fit in half of its free memory."""
        model_on = devices_of(self._model)[0]
        wanted = self._config.score_device
        score_on = named_device(wanted or (str(model_on) if model_on.type == "cuda" else "cpu"))
        if score_on.type == "cpu":
            return score_on, score_on
        n_bytes = n_prompts * len(neuron_space(self._model, site)) * torch.float32.itemsize
        return score_on if n_bytes <= memory_of(score_on)[0] // 2 else torch.device("cpu"), score_on

    def drop_shards(self) -> None:
        """Remove the shards, which rankings no longer need."""
        if self.folder is not None:
            drop_shards(self.folder / SHARDS)

    def _wider(self, site: str) -> str:
        read = self.read_sites
        return read if read and set(expand_site(site)) <= set(expand_site(read)) else site

    def _covers(self, site: str) -> bool:
        assert self._last is not None
        return set(expand_site(site)) <= {name for name, _ in self._last[1].space.widths}


class DetectionAttributions(DetectionActivations):
    """The contributions of neurons to the answers to the detection prompts that were read last."""

    label = "attributing answers"

    def _read(self, prompts: tuple[Prompt, ...], site: str, **options: Any) -> Activations:
        read: Callable[..., Activations] = attribute
        if self.folder is not None:
            read = functools.partial(kept_attributions, folder=self.folder / SHARDS, pool=self.pool)
        return read(self._model, prompts, site=site, **options).to(self._places(len(prompts), site)[0])


def keep_correct(
    prompts: Sequence[Prompt], answers: pd.DataFrame, rule: str, *, at_least: int = MIN_CORRECT
) -> tuple[Prompt, ...]:
    """The detection prompts that the model answers correctly (the paper's validation, section 3).

    Args:
        prompts: Detection prompts.
        answers: Their clean recall table, in the same order.
        rule: `prefix` or `string`.
        at_least: Fewest prompts that a relation needs.

    Raises:
        RelationNeuronsError: A relation keeps too few.
    """
    kept = tuple(prompt for prompt, correct in zip(prompts, answers[f"correct_{rule}"], strict=True) if correct)
    counts = {name: sum(prompt.relation == name for prompt in kept) for name in relation_names(prompts)}
    short = [f"{name} {n}" for name, n in counts.items() if n < at_least]
    if short:
        raise refuse(
            f"The model answers too few detection prompts correctly: {', '.join(short)}",
            expected=f"at least {at_least} correct by the rule '{rule}' for each relation",
            do="leave these relations out, or run with validation 'none'",
        )
    return kept
