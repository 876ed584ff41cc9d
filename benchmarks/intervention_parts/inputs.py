"""Models, prompts and sets of neurons to measure with."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers

import relation_neurons as rn
from relation_neurons.inference.batching import MAX_ROWS
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.wrapping import HookedTransformer, bridge, hook_llama

K = 400
"""Number of ablated neurons per condition."""
SHOTS = (0, 2)


def random_set(model: Any, site: str, k: int, seed: int, name: str | None = None) -> rn.NeuronSet:
    """Random neurons of a site, at most half of all."""
    space = neuron_space(model, site)
    flat = np.random.default_rng(seed).choice(len(space), min(k, len(space) // 2), replace=False)
    sites, layers, indices = space.locate(flat)
    neurons = tuple(map(rn.Neuron, sites, layers.tolist(), indices.tolist()))
    return rn.NeuronSet(neurons, name or f"{site} {seed}")


def shipped_prompts(shots: int) -> tuple[rn.Prompt, ...]:
    """64 prompts of the shipped relations, four each; those of a relation share their few-shot examples."""
    config = rn.PromptConfig(shots=shots, templates="first", n_evaluation=4)
    return rn.make_prompts(rn.load_relations("shipped"), config).evaluation[:MAX_ROWS]


def word_prompts(n: int, n_words: int, shots: int, *, relation: str = "made up", seed: int = 0) -> list[rn.Prompt]:
    """Questions of 10 to 14 tokens, BOS included, in made-up words; groups of four share their few-shot examples."""
    generator = random.Random(f"{relation} {seed}")

    def words(count: int) -> str:
        return " ".join(f"w{generator.randrange(n_words)}" for _ in range(count))

    candidates = tuple(words(1 + number % 3) for number in range(8))
    prompts, examples = [], ""
    for number in range(n):
        if number % 4 == 0:
            examples = "".join(f"{words(6)} ? Answer: {generator.choice(candidates)}\n" for _ in range(shots))
        subject = words(generator.randint(6, 10))
        text = f"{examples}{subject} ? Answer:"
        right = generator.choice(candidates)
        prompts.append(rn.Prompt(relation, subject, right, text, len(examples), candidates=candidates))
    return prompts


def random_llama(device: str, *, small: bool) -> Any:
    """A Llama with random weights: the size of Llama-2-7B in bfloat16, or a small one in float32."""
    width, inner, layers, heads, vocabulary = (256, 688, 4, 4, 1000) if small else (4096, 11008, 32, 32, 32000)
    config = transformers.LlamaConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        vocab_size=vocabulary,
        max_position_embeddings=512,
        bos_token_id=3,
        eos_token_id=2,
        pad_token_id=1,
    )
    torch.manual_seed(0)
    with torch.device(device):
        dtype = torch.float32 if small else torch.bfloat16
        llama = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval().requires_grad_(False)
    wrap = bridge if HookedTransformer is None else hook_llama
    return wrap(llama, word_tokenizer(vocabulary), name="random llama")


def word_tokenizer(size: int) -> transformers.PreTrainedTokenizerFast:
    """A tokenizer with one token per made-up word or punctuation mark, and a BOS token."""
    special = ["<unk>", "<pad>", "<eos>", "<bos>", "?", "Answer", ":"]
    words = special + [f"w{number}" for number in range(size - len(special))]
    raw = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>")
    )
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    raw.post_processor = tokenizers.processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 3)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>", bos_token="<bos>"
    )


def n_words(model: Any) -> int:
    """Number of made-up words in the vocabulary of `random_llama`."""
    return len(model.tokenizer) - 7
