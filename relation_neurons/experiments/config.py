"""The configuration of a study."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import tyro

from relation_neurons.errors import require_at_least
from relation_neurons.models.loading import named_device
from relation_neurons.models.placement import require_placement
from relation_neurons.models.sites import SiteName, named_site
from relation_neurons.prompts.prompts import PromptConfig
from relation_neurons.relations.table_layout import table_layout
from relation_neurons.scores.scoring import require_scorer
from relation_neurons.storage.fingerprint import UNLESS_DEFAULT
from relation_neurons.validation import validated


@validated
@dataclass(frozen=True)
class SelectionConfig:
    """How a relation's neurons are chosen (paper, section 3); the key of a ranking.

    Attributes:
        site: Where neurons are.
        scorer: What they are ranked by.
        negatives: How the negatives are drawn.
        validation: The rule by which detection prompts have to be answered correctly, or `none`.
        prompts: How facts become detection prompts.
    """

    site: str
    scorer: str
    negatives: str
    validation: str
    prompts: PromptConfig


@validated
@dataclass(frozen=True)
class StudyConfig:
    """The model, the relations and the measurements of a study; the defaults are the paper's."""

    model: str = "smollm2-135m"
    """`smollm2-135m`, `gemma3-270m`, a Hugging Face id such as meta-llama/Llama-2-7b-hf, a folder, or a .gguf file."""
    relations: tuple[str, ...] = ("shipped",)
    """Names of shipped relations, `shipped` (all), `paper` or `lre` (once fetched), JSON or CSV files, folders."""
    template: tyro.conf.UseAppendAction[tuple[str, ...]] = field(default=(), metadata=UNLESS_DEFAULT)
    """A text with one {} for the subject, for tables without a column `template`; may be repeated."""
    columns: tuple[str, ...] = field(default=(), metadata=UNLESS_DEFAULT)
    """What tables call their columns, as subject=Element object=Symbol."""
    site: SiteName = "ffn"
    """Where neurons are: ffn is gate, up and down together, as in the paper. A hook's name stands for its site."""
    k: int | None = None
    """Neurons per relation; by default 3,000 of Llama-2-7B's neurons at the site, and the same share of a smaller
    model's."""
    scorer: str = "average_precision"
    """What neurons are ranked by: average_precision, auroc, standardised_mean_difference, point_biserial,
    activation_probability_entropy or contrast_score of activations; attribution or attribution_t of what neurons
    contribute to the answers; average_precision_x_attribution or average_precision_x_attribution_t, products of
    both."""
    n_controls: int = 50
    """Matched random control sets per relation, tested on its own facts (the paper: 10 seeds). A verdict needs at
    least 20."""
    match: Literal["none", "layer", "activation"] = "layer"
    """Controls have as many neurons in each layer and site; `activation`: and of like mean activation; `none`: as many
    neurons anywhere, as in the paper."""
    negatives: Literal["balanced", "pooled"] = "balanced"
    """Draw the negatives evenly from the other relations, or, as in the paper, from all of their prompts alike."""
    prompts: PromptConfig = field(default_factory=lambda: PromptConfig(shots=0, templates="all", n_evaluation=50))
    """How facts become prompts."""
    validation: Literal["none", "prefix", "string"] = "prefix"
    """Detect only with prompts that the model answers rightly by this rule; a small model may need `none`."""
    rule: Literal["prefix", "exact", "string", "alias"] = "prefix"
    """When an answer is right. The paper's prefix rule reads two tokens; the others read whole answers, which takes
    longer."""
    include_bos: bool = False
    """Pool the BOS token too, where the tokenizer sets one."""
    keep_critical: bool = False
    """Allow critical neurons, whose ablation alone breaks the model's language, in targets and control sets."""
    seed: int = 0
    """Chooses negatives, controls and resamples; split_seed chooses facts."""
    batch_size: int | None = None
    """Prompts at a time; by default what memory holds."""
    device: str | None = None
    """cpu, cuda, ...; by default the GPU if there is one."""
    score_device: str | None = field(default=None, metadata=UNLESS_DEFAULT)
    """Where activations are scored: by default on the model's GPU, where they stay while they fit in half of its free
    memory; larger ones are moved through it. cpu keeps and scores them in the main memory."""
    device_map: Literal["auto"] | None = None
    """auto spreads a model that is larger than one GPU over all, then over memory and disk; not with --device."""
    quantize: Literal["8bit", "4bit"] | None = None
    """Weights in 8 or 4 bits, on a GPU, with the package bitsandbytes."""
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    """Type of the weights; by default float32 on the CPU and the checkpoint's own on a GPU."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "site", named_site(self.site))
        require_at_least(self, k=1, n_controls=2, batch_size=1, seed=0)
        named_device(self.device)
        named_device(self.score_device)
        require_placement(self.device, self.device_map, self.quantize)
        require_scorer(self.scorer)
        table_layout(self.template, self.columns)

    @property
    def selection(self) -> SelectionConfig:
        """How neurons are chosen unless an experiment chooses them otherwise."""
        return SelectionConfig(self.site, self.scorer, self.negatives, self.validation, self.prompts)
