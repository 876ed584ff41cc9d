"""A plan and the bytes that it takes, from sizes alone; `memory_estimate` compares them with what is free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch

from relation_neurons.inference.batch_size import row_bytes
from relation_neurons.inference.batching import MAX_GRAPH_BYTES, MAX_ROWS, MAX_TOKENS
from relation_neurons.models.hooked_model import config_space
from relation_neurons.models.placement import Quantization
from relation_neurons.models.size import Shape

FLOAT = 4
"""Bytes of a stored activation."""
FIXED = 100 * 10**6
"""Bytes that a process takes beside all that grows: the tokenizer, compiled code, prompts."""
PER_WORD = 1700
"""Bytes of each word of a GGUF file's vocabulary while the file is loaded: with Gemma's 262,144 words, 450 MB."""
POOLING = 10
"""Bytes of each neuron in a row of a batch: its pooled activation, and the look whether that is finite."""
PER_SCORE = 17
"""Bytes for each relation and neuron: a float64 score, float32 ones, and comparisons."""
SHARD_BYTES = 256 * 2**20
"""What is read together where activations are kept in shards."""
QUANTISED: Mapping[Quantization, float] = {"8bit": 1.0, "4bit": 0.5625}
"""Bytes of a weight in few bits; 4-bit ones have a float32 scale for each 64."""
PER_ANSWER, PAGES = 500, 30 * 10**6
"""Bytes on disk of an answer, in parts and in the whole table; of reports and figures."""


@dataclass(frozen=True)
class Plan:
    """What memory depends on.

    Attributes:
        shape: The model, none where its size is not known.
        loaded: Whether its weights are in memory already.
        counts: Detection prompts of each relation.
        per_fact: Prompts that one fact makes.
        n_tokens: Of the longest prompt.
        site: What is read.
        batch_size: Rows at a time; none is as many as fit.
        device: Where the model runs.
        dtype: Of its weights.
        n_answers: Number of answers.
        shards: Whether activations are kept on disk.
        attributed: Whether attributions are read beside activations.
        spread: Where weights go that no GPU has room for, `memory` or `disk`, for a model with a device map.
        quantize: In which bits the weights are, if in few.
    """

    shape: Shape | None
    loaded: bool
    counts: tuple[int, ...]
    per_fact: int
    n_tokens: int
    site: str
    batch_size: int | None
    device: str
    dtype: torch.dtype
    n_answers: int
    shards: bool
    attributed: bool = False
    spread: Literal["memory", "disk"] | None = None
    quantize: Quantization | None = None

    def with_detection(self, n: int) -> Plan:
        """With at most this number of detection facts per relation."""
        return replace(self, counts=tuple(min(count, n * self.per_fact) for count in self.counts))

    @property
    def estimate(self) -> MemoryEstimate:
        """What it takes."""
        if self.shape is None:
            return MemoryEstimate(0, 0, 0, 0, 0, 0, self.n_answers * PER_ANSWER + PAGES, self.device != "cpu")
        item, shape = self.dtype.itemsize, replace(self.shape, stored_dtype=self.dtype)
        n_neurons = len(config_space(shape, self.site))
        tables = shape.n_layers * shape.n_ctx * shape.d_head * 8
        weights = 0 if self.loaded else self._weights(shape, item) + tables
        unpacked = shape.d_vocab * (8 * shape.d_model + PER_WORD) if shape.packed else 0
        straight = self.spread is not None or self.quantize is not None
        loading = 0 if self.loaded else (0 if straight else (shape.n_copies - 1) * weights) + unpacked
        activations = sum(self.counts) * n_neurons * FLOAT * (2 if self.attributed else 1)
        shard = min(activations, SHARD_BYTES) if self.shards else 0
        ranking = PER_SCORE * len(self.counts) * n_neurons
        row = row_bytes(shape, self.n_tokens, 3, dtype=self.dtype, gradients=self.attributed) + n_neurons * POOLING
        most = MAX_ROWS if self.device == "cpu" else max(1, MAX_TOKENS // max(1, self.n_tokens))
        if self.attributed and self.device == "cpu":
            most = min(most, max(1, MAX_GRAPH_BYTES // row))
        disk = self.n_answers * PER_ANSWER + PAGES + (activations if self.shards else 0)
        rows = min(self.batch_size or most, max(1, sum(self.counts)))
        beside = max(shard, ranking)
        on_gpu = self.device != "cpu"
        if self.spread == "disk" and not on_gpu:  # how many of them are on disk is not known
            weights = 0
        return MemoryEstimate(weights, loading, activations, beside, row, rows, disk, on_gpu, straight and on_gpu)

    def _weights(self, shape: Shape, item: int) -> int:
        """Bytes of the weights, of which the embedding and the unembedding keep their type."""
        if self.quantize is None:
            return shape.n_parameters * item
        kept = min(shape.n_parameters, 2 * shape.d_vocab * shape.d_model)
        return kept * item + int((shape.n_parameters - kept) * QUANTISED[self.quantize])


@dataclass(frozen=True)
class MemoryEstimate:
    """What a plan takes, in bytes.

    Attributes:
        weights: Of the model, as it runs.
        loading: Beside them, while they are loaded.
        activations: Of all detection prompts.
        beside: What reading them and ranking by them takes as well.
        row: One row of a batch.
        rows: Rows of a batch, at most.
        disk: What is written.
        on_gpu: Whether the model runs on a GPU.
        straight: Whether its weights are read from their files straight into the GPU.
    """

    weights: int
    loading: int
    activations: int
    beside: int
    row: int
    rows: int
    disk: int
    on_gpu: bool
    straight: bool = False

    def ram(self, rows: int | None = None) -> int:
        """The most memory in use at any time, with this number of rows in a batch, whose memory is freed late."""
        batch = 0 if self.on_gpu else self.row * (self.rows if rows is None else rows)
        running = self.activations + self.beside + batch + (0 if self.on_gpu else self.weights)
        return FIXED + max((0 if self.straight else self.weights) + self.loading, running)

    def gpu(self, rows: int | None = None) -> int:
        """The most memory of a GPU that is taken at any time, with this number of rows in a batch."""
        return self.weights + self.row * (self.rows if rows is None else rows) if self.on_gpu else 0
