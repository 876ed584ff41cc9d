"""Tiny Llamas whose weights are written so that the paper's three properties of relation neurons hold, or none does.

Every word of a prompt has its own direction of the residual stream, and attention is uniform, so each position sees the
mean of the words up to it. The first attention turns a subject into evidence for its object. A relation's neurons read
the relation's word and raise all objects of the relation. The colon raises one answer, `unknown`, so high that it takes
both to exceed it. Facts differ in how far they do: about one in ten is never right, and one in ten needs the subject
alone. The text ends after every answer. All other neurons read at random and write a little at random.
Strengths are stated in logits at the end of a zero-shot prompt.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers

from relation_neurons import Fact, NeuronSet, Relation
from relation_neurons.models.wrapping import HookedTransformer, bridge, hook_llama
from tests.planted import word_tokenizer

RELATIONS = ("speaks", "writes", "lives", "plays", "eats", "wears", "drives", "sings")
VERSATILE = ("speaks", "writes")
"""They share neurons."""
INTERFERING = ("lives", "plays")
"""The neurons of the first lower the objects of the second."""
N_FACTS = 40
N_OBJECTS = 5
GROUP = 16
"""Neurons of a relation."""
N_SHARED = 8
"""Those of them that the versatile relations have in common."""
N_LAYERS = 3
D_MODEL = 384
D_MLP = 384

DEFAULT = "unknown"
COMMON = ("in", "?", "Answer", ":")
"""Words of all prompts."""
UNKNOWN = 10.0
"""Logit of the default answer."""
EVIDENCE = 4.0
"""What all neurons of a relation add to each of its objects."""
INTERFERENCE = 2.2
"""What the interfering neurons take from each object of the relation that they disturb."""
MARGINS = (-0.3, 4.5)
"""How far the right answer lies above the default one, least and most; the facts are spread evenly between."""
MARGINS_OF_NOTHING = (-2.0, 4.0)
FAINT = 0.6
"""How strongly interfering neurons read the word of the relation that they disturb; activations go by the square."""
LEAK = 0.1
"""How strongly planted neurons read subjects, in random directions."""
NOISE = 0.02
NOISE_OF_NOTHING = 0.1
"""What other neurons write to each answer, at the activation of a planted neuron; one standard deviation."""

Place = tuple[int, int]
_WORDS = 6  # of a zero-shot prompt
_SHARE = math.sqrt(D_MODEL) / _WORDS  # what attention adds to a position for each word
_NORM = math.hypot(*[_SHARE] * (_WORDS - 1), 1 + _SHARE)
_LEVEL = math.sqrt(D_MODEL) * _SHARE / _NORM  # of each word but the last, normalised, at the end of the prompt
_ACTIVE = 2 * _LEVEL * _LEVEL  # a planted neuron's activation there
_UNEMBED = 10.0  # large, so that what is written hardly changes the norm
_ANSWERED = D_MODEL - 1  # the direction that says that the last word is an answer


@dataclass(frozen=True)
class PlantedProperties:
    """A model, its relations, and what is planted in it.

    Attributes:
        model: Hooked.
        relations: Facts and templates; no subject stands in two relations.
        neurons: All neurons that are selective of each relation, at site `post`; those of one relation alone first.
        carriers: Those of them that do anything: all, or one for each relation where nothing is cumulative.
        shared: The neurons that two relations have in common.
        interfering: For a relation whose neurons are ablated and the one that this helps, the neurons that do it.
    """

    model: Any
    relations: tuple[Relation, ...]
    neurons: dict[str, NeuronSet] = field(default_factory=dict)
    carriers: dict[str, NeuronSet] = field(default_factory=dict)
    shared: dict[tuple[str, str], NeuronSet] = field(default_factory=dict)
    interfering: dict[tuple[str, str], NeuronSet] = field(default_factory=dict)


def plant_properties(seed: int = 0, *, cumulative: bool = True) -> PlantedProperties:
    """Plant versatility, interference and, if wanted, cumulativity.

    Two relations share half of their neurons, which raise the objects of both. The neurons of a third fire faintly on
    the prompts of a fourth and lower its objects there. The other relations are left to themselves.

    Args:
        seed: Chooses facts, margins, the neurons' places and all noise.
        cumulative: Whether all neurons of a relation carry it in equal parts. Else one of them carries it alone, for
            the versatile relations the same shared one, and the others fire as selectively and write noise only.
    """
    generator = torch.Generator().manual_seed(seed)
    ranges = {relation: [f"{relation}{number}" for number in range(N_OBJECTS)] for relation in RELATIONS}
    relations = tuple(
        _relation(relation, relation, subjects, _shuffled(ranges[relation] * (N_FACTS // N_OBJECTS), generator))
        for relation, subjects in zip(RELATIONS, _deal_subjects(generator), strict=True)
    )
    sketch = _Sketch(RELATIONS, list(itertools.chain(*ranges.values())), generator)
    sketch.know(relations, UNKNOWN - EVIDENCE, MARGINS)
    sketch.fill(NOISE, common=0.3)
    groups: dict[tuple[str, ...], list[Place]] = {VERSATILE: sketch.take(N_SHARED)}
    groups |= {(name,): sketch.take(GROUP - N_SHARED * (name in VERSATILE)) for name in RELATIONS}
    carriers = _carriers(groups, cumulative, generator)
    for names, places in groups.items():
        reads, writes = _role(names, ranges, GROUP if cumulative else 1)
        for place in places:
            sketch.read(place, reads)
            if place in carriers[names[0]]:
                sketch.write(place, writes)
    first, second = VERSATILE
    return PlantedProperties(
        sketch.model("properties" if cumulative else "not cumulative"),
        relations,
        neurons={name: _named(groups[name,] + groups[VERSATILE] * (name in VERSATILE), name) for name in RELATIONS},
        carriers={name: _named(places, name) for name, places in carriers.items()},
        shared={VERSATILE: _named(groups[VERSATILE], f"{first} and {second}")},
        interfering={INTERFERING: _named(groups[INTERFERING[:1]], INTERFERING[0])},
    )


def plant_nothing(seed: int = 0, *, common: float = 0.0) -> PlantedProperties:
    """Make a model like the others whose relations are labels only: facts of one kind, dealt out at random.

    All relations have the same template and the same objects. The model knows some facts and not others, by its
    attention alone. All neurons read and write at random, so that ablating any moves probabilities a little.

    Args:
        seed: Chooses facts, margins and all neurons.
        common: How strongly neurons read the words that all prompts have, as a share of how they read subjects. At 0
            what ablating a set of neurons does is independent from fact to fact and 0 in the mean. Above, a set moves
            all facts a little alike, whatever their relation, as sets of neurons of real models do; then only another
            set shows how much of a change is chance.
    """
    generator = torch.Generator().manual_seed(seed)
    pool = [f"object{number}" for number in range(N_OBJECTS + 1)]
    relations = tuple(
        _relation(
            relation, "is", subjects, [pool[i] for i in torch.randint(len(pool), (N_FACTS,), generator=generator)]
        )
        for relation, subjects in zip(RELATIONS, _deal_subjects(generator), strict=True)
    )
    sketch = _Sketch(["is"], pool, generator)
    sketch.know(relations, UNKNOWN, MARGINS_OF_NOTHING)
    sketch.fill(NOISE_OF_NOTHING, common=common)
    return PlantedProperties(sketch.model("nothing"), relations)


def _role(
    names: Sequence[str], ranges: Mapping[str, Sequence[str]], n_carriers: int
) -> tuple[dict[str, float], dict[str, float]]:
    """What the neurons of some relations read, and what each of those that carry them writes."""
    reads = dict.fromkeys(names, 1.0)
    writes = {word: EVIDENCE / n_carriers for name in names for word in ranges[name]}
    if tuple(names) == INTERFERING[:1]:
        disturbed = INTERFERING[1]
        reads[disturbed] = FAINT
        writes |= dict.fromkeys(ranges[disturbed], -INTERFERENCE / FAINT**2 / n_carriers)
    return reads, writes


def _carriers(
    groups: Mapping[tuple[str, ...], list[Place]], cumulative: bool, generator: torch.Generator
) -> dict[str, list[Place]]:
    """The neurons that carry each relation: all that read it, or one."""
    one = {names: [_shuffled(places, generator)[0]] for names, places in groups.items()}
    if cumulative:
        return {name: groups[name,] + groups[VERSATILE] * (name in VERSATILE) for name in RELATIONS}
    return {name: one[VERSATILE if name in VERSATILE else (name,)] for name in RELATIONS}


def _deal_subjects(generator: torch.Generator) -> list[list[str]]:
    dealt = _shuffled([f"s{number}" for number in range(len(RELATIONS) * N_FACTS)], generator)
    return [dealt[start : start + N_FACTS] for start in range(0, len(dealt), N_FACTS)]


def _relation(name: str, word: str, subjects: Sequence[str], objects: Sequence[str]) -> Relation:
    """A relation expressed by one word, behind the subject or, in the second template set, before it."""
    facts = tuple(map(Fact, subjects, objects))
    return Relation(name, templates=(f"{{}} {word} in",), templates_zs=(f"in {word} {{}}",), facts=facts)


def _shuffled(items: Sequence[Any], generator: torch.Generator) -> list[Any]:
    return [items[i] for i in torch.randperm(len(items), generator=generator).tolist()]


def _named(places: Sequence[Place], name: str) -> NeuronSet:
    return NeuronSet.from_pairs(places, name=name)


class _Sketch:
    """A Llama being written."""

    def __init__(self, words: Sequence[str], answers: Sequence[str], generator: torch.Generator) -> None:
        self.generator = generator
        self.subjects = [f"s{number}" for number in range(len(RELATIONS) * N_FACTS)]
        self.answers = [*answers, DEFAULT]
        self.tokenizer = word_tokenizer([*self.subjects, *words, *COMMON, *self.answers])
        self.llama = _blank_llama(len(self.tokenizer))
        self.free = _shuffled(list(itertools.product(range(N_LAYERS), range(D_MLP))), generator)
        self._say_unknown()

    def ids(self, words: Iterable[str]) -> list[int]:
        """Directions of the residual stream are numbered as words are."""
        return self.tokenizer.convert_tokens_to_ids(list(words))

    def _say_unknown(self) -> None:
        """Prompts end in a colon, which raises the default answer; after an answer the text ends."""
        head, answers, (default, colon) = self.llama.lm_head.weight, self.ids(self.answers), self.ids([DEFAULT, ":"])
        embedding = self.llama.model.embed_tokens.weight
        embedding[answers] = 0
        embedding[answers, _ANSWERED] = 1
        head[answers, answers] = _UNEMBED
        head[default, colon] = UNKNOWN / (math.sqrt(D_MODEL) * (1 + _SHARE) / _NORM)
        head[self.tokenizer.eos_token_id, _ANSWERED] = 10 * _UNEMBED

    def know(self, relations: Sequence[Relation], least: float, margins: tuple[float, float]) -> None:
        """Let each subject raise its object by `least` and a margin of its own."""
        mixed = self.llama.model.layers[0].self_attn.o_proj.weight
        for relation in relations:
            spread = torch.linspace(*margins, len(relation.facts)).tolist()
            for fact, margin in zip(relation.facts, _shuffled(spread, self.generator), strict=True):
                subject, answer = self.ids([fact.subject, fact.object])
                mixed[answer, subject] = (least + margin) / (_LEVEL * _UNEMBED)

    def fill(self, noise: float, common: float) -> None:
        """Let every neuron read subjects and the words of all prompts, and write answers, at random."""
        columns = self.ids([*self.subjects, *COMMON])
        strength = torch.tensor([1.0] * len(self.subjects) + [common] * len(COMMON))
        for layer in self.llama.model.layers:
            for matrix in (layer.mlp.gate_proj, layer.mlp.up_proj):
                matrix.weight[:, columns] = strength * torch.randn(D_MLP, len(columns), generator=self.generator)
            written = noise * torch.randn(len(self.answers), D_MLP, generator=self.generator)
            layer.mlp.down_proj.weight[self.ids(self.answers)] = _to_residual(written)

    def take(self, n: int) -> list[Place]:
        """Some neurons that nothing else has taken, in order."""
        taken, self.free = self.free[:n], self.free[n:]
        return sorted(taken)

    def read(self, place: Place, words: Mapping[str, float]) -> None:
        """Let a neuron read some words, subjects only faintly, and nothing else."""
        layer, index = place
        mlp = self.llama.model.layers[layer].mlp
        subjects = self.ids(self.subjects)
        for matrix, factor in ((mlp.gate_proj, 2.0), (mlp.up_proj, 1.0)):
            matrix.weight[index] = 0
            matrix.weight[index, subjects] = LEAK * torch.randn(len(subjects), generator=self.generator)
            matrix.weight[index, self.ids(words)] = factor * torch.tensor(list(words.values()))

    def write(self, place: Place, answers: Mapping[str, float]) -> None:
        """Let a neuron, beside its noise, raise some answers by so many logits where it fires."""
        layer, index = place
        matrix = self.llama.model.layers[layer].mlp.down_proj
        matrix.weight[self.ids(answers), index] += _to_residual(torch.tensor(list(answers.values())))

    def model(self, name: str) -> Any:
        """The finished model, hooked."""
        return (bridge if HookedTransformer is None else hook_llama)(self.llama, self.tokenizer, name=name)


def _to_residual(logits: torch.Tensor) -> torch.Tensor:
    """What to write for each unit of activation to raise an answer by so many logits."""
    return logits / _ACTIVE * _NORM / (math.sqrt(D_MODEL) * _UNEMBED)


def _blank_llama(n_words: int) -> transformers.LlamaForCausalLM:
    """A model in which each word has its direction and attention averages them; all else is 0."""
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
    first.v_proj.weight[_ANSWERED] = 0
    first.o_proj.weight.copy_(torch.eye(D_MODEL))
    return llama
