"""A tiny Llama whose weights are written, not trained, so that known neurons carry each relation.

Every token has its own direction of the residual stream. Attention is uniform, so each position sees the mean of the
tokens before it. A subject's neuron raises that subject's object in every relation; a relation's neurons raise all
objects of the relation; the right object is the only one that both raise. Filler neurons read subjects at random and
write next to nothing.
"""

import copy
from dataclasses import dataclass, replace

import tokenizers
import torch
import transformers

from relation_neurons import Fact, Neuron, NeuronSet, PromptConfig, Relation, StudyConfig
from relation_neurons.models.wrapping import HookedTransformer, bridge, hook_llama

N_SUBJECTS = 40
N_OBJECTS = 4
N_LAYERS = 2
D_MODEL = 96
D_MLP = 128
RELATIONS = ("lives", "eats", "plays")
GROUP = 3  # relation neurons per relation and layer


@dataclass(frozen=True)
class Planted:
    """The model, its relations, and the neurons that carry each."""

    model: object
    llama: transformers.LlamaForCausalLM
    tokenizer: transformers.PreTrainedTokenizerFast
    relations: tuple[Relation, ...]
    neurons: dict[str, NeuronSet]


def word_tokenizer(words: list[str], bos: bool = False) -> transformers.PreTrainedTokenizerFast:
    """One token per word or run of punctuation."""
    special = ["<unk>", "<pad>", "<eos>", "<bos>"]
    vocabulary = {word: number for number, word in enumerate(special + words)}
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    if bos:
        raw.post_processor = tokenizers.processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 3)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>", bos_token="<bos>"
    )


def plant(seed: int = 0, by_object: tuple[str, ...] = ()) -> Planted:
    """Write the weights.

    Args:
        seed: Chooses facts, places and fillers.
        by_object: Relations whose neurons are their objects' own: one neuron for each object and layer, which fires on
            the relation's facts with this object only, and raises it alone.
    """
    generator = torch.Generator().manual_seed(seed)
    subjects = [f"s{number}" for number in range(N_SUBJECTS)]
    objects = {relation: [f"{relation}{number}" for number in range(N_OBJECTS)] for relation in RELATIONS}
    words = [*subjects, *RELATIONS, "in", "?", "Answer", ":", *(word for group in objects.values() for word in group)]
    tokenizer = word_tokenizer(words)
    answers = {
        relation: torch.randint(N_OBJECTS, (N_SUBJECTS,), generator=generator).tolist() for relation in RELATIONS
    }
    relations = tuple(
        Relation(
            relation,
            templates=(f"{{}} {relation} in",),
            templates_zs=(f"{{}} in {relation}",),
            facts=tuple(Fact(subjects[i], objects[relation][answers[relation][i]]) for i in range(N_SUBJECTS)),
        )
        for relation in RELATIONS
    )
    llama = _blank_llama(len(tokenizer))
    direction = {word: tokenizer.convert_tokens_to_ids(word) for word in words}
    with torch.no_grad():
        neurons = _write_mlps(llama, direction, subjects, objects, answers, generator, by_object)
        for word in (word for group in objects.values() for word in group):
            llama.lm_head.weight[direction[word], direction[word]] = 2.0
    named = {relation: NeuronSet.from_pairs(pairs, name=relation) for relation, pairs in neurons.items()}
    wrap = bridge if HookedTransformer is None else hook_llama
    model = wrap(copy.deepcopy(llama), tokenizer, name="planted")
    return Planted(model, llama, tokenizer, relations, named)


def plant_critical(planted: Planted, relation: str) -> tuple[Planted, Neuron]:
    """The same model with a filler of the second layer that it cannot do without.

    A filler of the first layer writes, at every token, what would put one word before all others; the critical neuron
    takes it away again. It also reads the relation, more than anything else.
    """
    llama = copy.deepcopy(planted.llama)
    carriers = {(neuron.layer, neuron.index) for neurons in planted.neurons.values() for neuron in neurons}
    with torch.no_grad():
        for layer, (written, layer_of) in enumerate(zip((0.01, -0.05), llama.model.layers, strict=True)):
            mlp = layer_of.mlp
            weakest = mlp.down_proj.weight.norm(dim=0).argsort().tolist()
            index = next(index for index in weakest if (layer, index) not in carriers)
            mlp.gate_proj.weight[index] = mlp.up_proj.weight[index] = 0.0
            mlp.gate_proj.weight[index, : len(planted.tokenizer)] = 1.0
            mlp.up_proj.weight[index, : len(planted.tokenizer)] = 0.2
            mlp.down_proj.weight[:, index] = 0.0
            mlp.down_proj.weight[-1, index] = written
        mlp.up_proj.weight[index, planted.tokenizer.convert_tokens_to_ids(relation)] = 0.4
        llama.lm_head.weight[planted.tokenizer.convert_tokens_to_ids("Answer"), -1] = 60.0
    wrap = bridge if HookedTransformer is None else hook_llama
    model = wrap(copy.deepcopy(llama), planted.tokenizer, name="critical")
    return replace(planted, model=model, llama=llama), Neuron("post", 1, index)


def planted_config(kind, n_evaluation: int, folder=None, **changes):
    """A configuration of a study for the planted model, as files where a folder holds it."""
    asked = {"k": 6, "site": "post", "n_controls": 2, "device": "cpu"}
    asked["prompts"] = PromptConfig(shots=0, n_evaluation=n_evaluation)
    if kind is StudyConfig:
        asked |= {"validation": "none", "rule": "string"}
    if folder is not None:
        asked |= {"model": str(folder / "model"), "relations": (str(folder),)}
    return kind(**asked | changes)


def _blank_llama(n_words: int) -> transformers.LlamaForCausalLM:
    config = transformers.LlamaConfig(
        vocab_size=n_words,
        hidden_size=D_MODEL,
        intermediate_size=D_MLP,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=128,
        tie_word_embeddings=False,
        bos_token_id=3,
        eos_token_id=2,
        pad_token_id=1,
    )
    llama = transformers.LlamaForCausalLM(config).eval().requires_grad_(False)
    for name, weight in llama.named_parameters():
        if "norm" not in name:
            weight.zero_()
    llama.model.embed_tokens.weight[:, :n_words] = torch.eye(n_words)
    first = llama.model.layers[0].self_attn  # queries and keys are 0: attention is the mean
    first.v_proj.weight.copy_(torch.eye(D_MODEL))
    first.o_proj.weight.copy_(torch.eye(D_MODEL))
    return llama


def _write_mlps(llama, direction, subjects, objects, answers, generator, by_object) -> dict[str, list[tuple[int, int]]]:
    """Fill every MLP neuron; returns (layer, index) of each relation's."""
    planted: dict[str, list[tuple[int, int]]] = {relation: [] for relation in RELATIONS}
    for layer in range(N_LAYERS):
        mlp = llama.model.layers[layer].mlp
        places = iter(torch.randperm(D_MLP, generator=generator).tolist())
        for relation in by_object:
            for number, word in enumerate(objects[relation]):
                index = next(places)
                planted[relation].append((layer, index))
                mlp.gate_proj.weight[index, direction[relation]] = 2.0
                having = [
                    direction[one] for one, answer in zip(subjects, answers[relation], strict=True) if answer == number
                ]
                mlp.up_proj.weight[index, having] = 1.0
                mlp.down_proj.weight[direction[word], index] = 0.05 * GROUP
        for relation in (one for one in RELATIONS if one not in by_object):
            for index in (next(places) for _ in range(GROUP)):
                planted[relation].append((layer, index))
                _read(mlp, index, direction[relation])
                for word in objects[relation]:
                    mlp.down_proj.weight[direction[word], index] = 0.05
        for number, subject in enumerate(subjects):
            index = next(places)
            _read(mlp, index, direction[subject])
            for relation in RELATIONS:
                word = objects[relation][answers[relation][number]]
                jitter = 1 + 0.2 * torch.rand((), generator=generator)
                mlp.down_proj.weight[direction[word], index] = 0.15 * jitter
        columns = [direction[subject] for subject in subjects]
        for index in places:  # fillers
            mlp.gate_proj.weight[index, columns] = torch.randn(len(columns), generator=generator)
            mlp.up_proj.weight[index, columns] = torch.randn(len(columns), generator=generator)
            mlp.down_proj.weight[:, index] = 0.001 * torch.randn(D_MODEL, generator=generator)
    return planted


def _read(mlp, index: int, column: int) -> None:
    mlp.gate_proj.weight[index, column] = 2.0
    mlp.up_proj.weight[index, column] = 1.0
