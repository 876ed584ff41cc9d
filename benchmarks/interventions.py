"""Interventions: what hooks cost, and what streaming conditions, sharing beginnings and given answers save.

All contenders of a table run in turn in one process, several times, on the same prompts. Seconds are medians; ratios
are medians of the ratios to the table's first contender within each turn. Contenders must agree on what they find.

    python benchmarks/interventions.py --out interventions.json
    python benchmarks/interventions.py --part hooks collection --repeats 5
    python benchmarks/interventions.py --part grid --device cuda
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import platform
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import tokenizers
import torch
import transformers

import relation_neurons as rn
from relation_neurons.answers import RULES
from relation_neurons.batches import MAX_ROWS, Batch, Task, stream
from relation_neurons.encoding import encode
from relation_neurons.experiments import ablation
from relation_neurons.generation import decode, greedy, judge
from relation_neurons.interventions import rows_under
from relation_neurons.models import PAD, Cache, bridge, forward, hook_llama, hook_name, neuron_space
from relation_neurons.models.wrap import HookedTransformer

K = 400
"""Neurons of a condition."""
N_CONDITIONS = 16
PROMPTS_EACH = (1, 2, 4, 16)
"""Prompts of each condition, in the grids of conditions."""
MOST_ALONE = 6
"""Prompts that are asked one at a time; the time of the others is extrapolated."""
PATIENCE = 8.0
"""Seconds after which no further turn of a grid of conditions begins."""
TOLERANCE = 1e-3
"""Largest difference between log-probabilities, in nats."""
SHOTS = (0, 2)

Row = dict[str, object]


@dataclass(frozen=True)
class Bench:
    """What all parts need: a model, 64 prompts for each number of solved examples, and how often to measure."""

    model: Any
    prompts: Mapping[int, Sequence[rn.Prompt]]
    repeats: int

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return torch.device(self.model.cfg.device)


@dataclass
class Timed:
    """One contender: seconds of each turn, the largest growth of memory in bytes, and what it returned last."""

    seconds: list[float] = field(default_factory=list)
    peak: int = 0
    result: Any = None


# ------------------------------------------------------------------------------------------------- measuring


def compare(
    bench: Bench, contenders: Mapping[str, Callable[[], Any]], patience: float = float("inf")
) -> dict[str, Timed]:
    """Run all contenders in turn, as often as wanted or until so many seconds are spent."""
    found = {name: Timed() for name in contenders}
    begun = time.perf_counter()
    for _ in range(bench.repeats):
        for name, function in contenders.items():
            one = found[name]
            one.result = None
            with growth(bench.device) as peak:
                start = time.perf_counter()
                one.result = function()
                synchronise(bench.device)
                one.seconds.append(time.perf_counter() - start)
            one.peak = max(one.peak, *peak)
        if time.perf_counter() - begun > patience:
            break
    return found


def table(found: Mapping[str, Timed], scales: Mapping[str, float] | None = None) -> list[Row]:
    """A row for each contender; `scales` are factors for those that were run on a sample."""
    scaled = {name: [s * (scales or {}).get(name, 1.0) for s in one.seconds] for name, one in found.items()}
    first = next(iter(scaled.values()))
    return [
        {
            "contender": name,
            "ratio": statistics.median(own / base for own, base in zip(seconds, first, strict=True)),
            "seconds": statistics.median(seconds),
            "peak MB": found[name].peak / 1e6,
            "turns": len(seconds),
        }
        for name, seconds in scaled.items()
    ]


@contextlib.contextmanager
def growth(device: torch.device) -> Iterator[list[int]]:
    """A list that gets the largest growth of allocated (GPU) or resident (CPU, sampled) memory in this block."""
    peak = [0]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.append(torch.cuda.max_memory_allocated(device) - before)
        return
    trim()
    process, stop = psutil.Process(), threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not stop.wait(0.01):
            peak[0] = max(peak[0], process.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()


def trim() -> None:
    """Hand freed memory back where the C library can, so that growth is not hidden by what earlier contenders left."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def synchronise(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def must_agree(expected: pd.DataFrame, found: pd.DataFrame, who: str) -> None:
    """Raise if verdicts or log-probabilities differ."""
    if list(expected["correct_prefix"]) != list(found["correct_prefix"]):
        raise RuntimeError(f"'{who}' gives other verdicts")
    difference = np.abs(expected["logprob"].to_numpy() - found["logprob"].to_numpy()).max()
    if not difference <= TOLERANCE:
        raise RuntimeError(f"'{who}' gives log-probabilities that differ by {difference:.1e}")


# --------------------------------------------------------------------------------------- models and prompts


def random_set(model: Any, site: str, k: int, seed: int, name: str | None = None) -> rn.NeuronSet:
    """Neurons drawn at random from a site; half of them all at most."""
    space = neuron_space(model, site)
    flat = np.random.default_rng(seed).choice(len(space), min(k, len(space) // 2), replace=False)
    sites, layers, indices = space.locate(flat)
    neurons = tuple(map(rn.Neuron, sites, layers.tolist(), indices.tolist()))
    return rn.NeuronSet(neurons, name or f"{site} {seed}")


def shipped_prompts(shots: int) -> tuple[rn.Prompt, ...]:
    """64 prompts from the shipped relations, four each; those of one relation share their solved examples."""
    config = rn.PromptConfig(shots=shots, templates="first", n_evaluation=4)
    return rn.make_prompts(rn.load_relations("shipped"), config).evaluation[:MAX_ROWS]


def word_prompts(n: int, n_words: int, shots: int, *, relation: str = "made up", seed: int = 0) -> list[rn.Prompt]:
    """Questions of 10 to 14 tokens, BOS included, in made-up words; every four share their solved examples."""
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
    """A Llama of the shape of Llama-2-7B in bfloat16, or a small one in float32, with random weights."""
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
    """One token per made-up word or run of punctuation, with BOS in front."""
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
    """How many made-up words the tokenizer of `random_llama` knows."""
    return len(model.tokenizer) - 7


# ------------------------------------------------------------------------------------------------ conditions


def conditions(bench: Bench) -> list[Row]:
    """One stream of conditions against a loop over conditions and against one prompt at a time."""
    rows = []
    for shots in SHOTS:
        for generate in (False, True):
            for each in PROMPTS_EACH:
                grid = make_grid(bench, shots, each)
                about = {"shots": shots, "generate": generate, "conditions": len(grid), "prompts each": each}
                rows += [about | row for row in measure_grid(bench, grid, generate)]
    return rows


def make_grid(bench: Bench, shots: int, each: int) -> list[rn.Condition]:
    """The clean model and random sets, each asked the same; on a CPU cut to as many as fill one batch."""
    n = N_CONDITIONS if bench.device.type == "cuda" else min(N_CONDITIONS, MAX_ROWS // each)
    prompts = tuple(bench.prompts[shots][:each])
    sets = [random_set(bench.model, "gate", K, seed) for seed in range(1, n)]
    return [rn.Condition("clean", prompts), *(rn.Condition(one.name, prompts, (rn.Intervention(one),)) for one in sets)]


def measure_grid(bench: Bench, grid: Sequence[rn.Condition], generate: bool) -> list[Row]:
    """Rows of one grid, its contenders checked against each other."""
    asks = [(condition, prompt) for condition in grid for prompt in condition.prompts]
    chosen = np.unique(np.linspace(0, len(asks) - 1, min(MOST_ALONE, len(asks))).round().astype(int))
    alone = [rn.Condition(asks[i][0].name, (asks[i][1],), asks[i][0].interventions) for i in chosen]
    sampled = f"one prompt at a time (on {len(alone)})"
    found = compare(
        bench,
        {
            "one stream": partial(rn.recall_under, bench.model, grid, generate=generate),
            "loop over conditions": partial(loop, bench.model, grid, generate),
            sampled: partial(loop, bench.model, alone, generate),
        },
        PATIENCE,
    )
    expected = found["one stream"].result
    must_agree(expected, found["loop over conditions"].result, "loop over conditions")
    must_agree(expected.iloc[chosen], found[sampled].result, sampled)
    return table(found, {sampled: len(asks) / len(alone)})


def loop(model: Any, grid: Iterable[rn.Condition], generate: bool) -> pd.DataFrame:
    """One condition after the other, each by `ablate` and `recall`."""
    tables = []
    for one in grid:
        with rn.ablate(model, one.interventions[0].neurons) if one.interventions else contextlib.nullcontext():
            tables.append(rn.recall(model, one.prompts, condition=one.name, generate=generate))
    return pd.concat(tables, ignore_index=True)


# --------------------------------------------------------------------------------------------------- verdict


def verdict(bench: Bench) -> list[Row]:
    """The verdict from given answers against two greedy tokens, with and without shared beginnings.

    Given answers yield log-probabilities as well, which after two tokens take another pass.
    """
    rows = []
    silenced = random_set(bench.model, "gate", K, 1)
    for shots in SHOTS:
        for prompts in (bench.prompts[shots][:4], bench.prompts[shots]):
            common = (bench.model, silenced, prompts)
            contenders = {
                "given answers": partial(given_answers, *common),
                "two tokens": partial(two_tokens, *common),
                "two tokens, then log-probabilities": partial(two_tokens, *common, score=True),
            }
            if shots:
                contenders["two tokens, nothing shared"] = partial(two_tokens, *common, share=False)
            contenders["two tokens, model.generate"] = partial(plain_generation, *common)
            found = compare(bench, contenders)
            for name, one in found.items():
                if one.result != found["given answers"].result:
                    raise RuntimeError(f"'{name}' gives other verdicts")
            rows += [{"shots": shots, "prompts": len(prompts)} | row for row in table(found)]
    return rows


def given_answers(model: Any, silenced: rn.NeuronSet, prompts: Sequence[rn.Prompt]) -> list[bool]:
    """What `recall` finds without generating; it gives log-probabilities and ranks as well."""
    with rn.ablate(model, silenced):
        return list(rn.recall(model, prompts, generate=False, batch_size=len(prompts))["correct_prefix"])


def two_tokens(
    model: Any, silenced: rn.NeuronSet, prompts: Sequence[rn.Prompt], *, share: bool = True, score: bool = False
) -> list[bool]:
    """A pass over the prompts that unembeds their ends only, one step more, and the same rule."""
    said: dict[int, str] = {}

    def answer(batch: Batch, cache: Cache) -> None:
        first = forward(model, *batch.read(), cache, keep=1).all()[:, 0].argmax(dim=1).tolist()
        texts = decode(model, greedy(model, first, cache, [2] * len(batch.rows)))
        said.update(zip(batch.rows, texts, strict=True))

    def log_probabilities(batch: Batch, cache: Cache) -> None:
        judge(model, batch, cache, [task.encoded.object_ids for task in batch.tasks], aligned=True)

    tasks = [Task(one) for one in encode(model, prompts)]
    with rn.ablate(model, silenced):
        for work in (answer, log_probabilities)[: 1 + score]:
            stream(model, tasks, work, share=share, batch_size=len(prompts))
    return [RULES["prefix"](said[row], prompt.object) for row, prompt in enumerate(prompts)]


def plain_generation(model: Any, silenced: rn.NeuronSet, prompts: Sequence[rn.Prompt]) -> list[bool]:
    """What TransformerLens offers: one left-padded batch of texts, two tokens."""
    texts, options = [prompt.text for prompt in prompts], {"do_sample": False, "verbose": False}
    with rn.ablate(model, silenced):
        said = model.generate(texts, max_new_tokens=2, stop_at_eos=False, return_type="tokens", **options)
    answers = decode(model, said[:, -2:].tolist())
    return [RULES["prefix"](answer, prompt.object) for answer, prompt in zip(answers, prompts, strict=True)]


# ----------------------------------------------------------------------------------------------------- hooks


def hooks(bench: Bench) -> list[Row]:
    """Forward passes over the same batch without hooks and under one or many conditions."""
    tasks = [Task(one) for one in encode(bench.model, bench.prompts[0][: MAX_ROWS // 2])]
    contenders: dict[str, Callable[[], Any]] = {"no hooks": partial(read, bench.model, tasks)}
    sizes: dict[str, Row] = {"no hooks": {"site": "", "k": 0, "conditions": 0}}
    for site in ("post", "gate", "ffn"):
        for k in (K, 3000):
            for n in (1, N_CONDITIONS):
                sets = [random_set(bench.model, site, k, seed) for seed in range(n)]
                name = f"{site}, k = {len(sets[0])}, {n} condition{'s' * (n > 1)}"
                contenders[name] = partial(read_under, bench.model, tasks, sets)
                sizes[name] = {"site": site, "k": len(sets[0]), "conditions": n}
    found = compare(bench, contenders)
    rows = []
    for row, one in zip(table(found), found.values(), strict=True):
        rows.append({**sizes[str(row["contender"])], **row, "prompts": len(tasks), "entering ms": one.result * 1e3})
    return rows


def read(model: Any, tasks: Sequence[Task], *, keep: int = 1, **options: Any) -> float:
    """Plain passes over prompts, each batch's ends unembedded."""

    def work(batch: Batch, cache: Cache) -> None:
        forward(model, *batch.read(), cache, keep=keep).all()

    stream(model, tasks, work, n_logits=keep, **options)
    return 0.0


def read_under(model: Any, tasks: Sequence[Task], sets: Sequence[rn.NeuronSet]) -> float:
    """The same with the rows dealt out over conditions; returns the seconds that entering them took."""
    dealt = [Task(task.encoded, number % len(sets)) for number, task in enumerate(tasks)]
    start = time.perf_counter()
    with rows_under(model, [[rn.Intervention(one)] for one in sets]) as writer:
        entering = time.perf_counter() - start
        read(model, dealt, writer=writer)
    return entering


# ------------------------------------------------------------------------------------------------ collection


def collection(bench: Bench) -> list[Row]:
    """Pooling inside the hooks against plain passes and against caches of all activations."""
    rows = []
    for shots in SHOTS:
        prompts = bench.prompts[shots][: MAX_ROWS // (1 + shots)]
        tasks = [Task(one) for one in encode(bench.model, prompts)]
        pooled = {
            f"collect_activations, {site}": partial(collected_bytes, bench.model, prompts, site)
            for site in ("post", "gate", "ffn")
        }
        found = compare(
            bench,
            {
                "plain pass": partial(read, bench.model, tasks, keep=0),
                **pooled,
                "run_with_cache": partial(cached_bytes, bench.model, tasks),
                "run_with_cache, only post": partial(cached_bytes, bench.model, tasks, only="post"),
            },
        )
        whole = found["run_with_cache"].result
        for row, one in zip(table(found), found.values(), strict=True):
            kept = {"kept MB": one.result / 1e6, "of the cache": one.result / whole}
            rows.append({"shots": shots, "prompts": len(prompts), **row, **kept})
    return rows


def collected_bytes(model: Any, prompts: Sequence[rn.Prompt], site: str) -> int:
    """Bytes of pooled activations."""
    return rn.collect_activations(model, prompts, site=site).values.nbytes


def cached_bytes(model: Any, tasks: Sequence[Task], only: str | None = None) -> int:
    """Bytes of TransformerLens's cache of all activations, or of one site's, while all of it is held."""
    caches = []
    names = None if only is None else {hook_name(only, layer) for layer in range(model.cfg.n_layers)}

    def work(batch: Batch, cache: Cache) -> None:
        tokens, kinds = batch.read()
        mask = (kinds != PAD).long()
        chosen = None if names is None else names.__contains__
        caches.append(model.run_with_cache(tokens, attention_mask=mask, return_type=None, names_filter=chosen)[1])

    stream(model, tasks, work, share=False)
    storages = [tensor.untyped_storage() for cache in caches for tensor in cache.values()]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


# ------------------------------------------------------------------------------------------------------ grid


def paper_grid(device: str, *, small: bool) -> list[Row]:
    """The paper's whole grid: 12 relations' neurons and 10 random sets each, on 850 prompts, given answers."""
    model = random_llama(device, small=small)
    n_relations, n_prompts, n_controls, k = (3, 24, 2, 200) if small else (12, 850, 10, 3000)
    names = [f"relation {number}" for number in range(n_relations)]
    prompts = []
    for number, name in enumerate(names):
        count = n_prompts * (number + 1) // n_relations - n_prompts * number // n_relations
        prompts += word_prompts(count, n_words(model), 0, relation=name)
    targets = {name: random_set(model, "ffn", k, number, name) for number, name in enumerate(names)}
    controls = {
        name: [
            random_set(model, "ffn", k, 1000 + n_controls * number + one, f"{name} random {one}")
            for one in range(n_controls)
        ]
        for number, name in enumerate(names)
    }
    asked = ablation.conditions(prompts, targets, controls)
    rn.recall(model, prompts[:8], generate=False)  # warm up
    timed = compare(Bench(model, {}, 1), {"grid": partial(ablation.measure, model, asked, generate=False)})["grid"]
    return [grid_row(model, asked, timed)]


def grid_row(model: Any, asked: Sequence[rn.Condition], timed: Timed) -> Row:
    """Speed, and the share of the device's matrix rate that goes into the products that real tokens need.

    Padding and the products inside attention do not count.
    """
    encoded = [one for condition in asked for one in encode(model, condition.prompts)]
    given = sum(max(1, len(one.object_ids) - 1) for one in encoded)
    tokens = sum(len(one.ids) for one in encoded) + given
    cfg = model.cfg
    in_layers = cfg.n_layers * cfg.d_model * (4 * cfg.n_heads * cfg.d_head + 3 * cfg.d_mlp)
    operations = 2 * (in_layers * tokens + cfg.d_model * cfg.d_vocab * (given + len(encoded)))
    seconds = statistics.median(timed.seconds)
    peak = matrix_rate(cfg.device, cfg.dtype)
    return {
        "conditions": len(asked),
        "prompts": len(encoded),
        "tokens": tokens,
        "seconds": seconds,
        "prompts / s": len(encoded) / seconds,
        "tokens / s": tokens / seconds,
        "TFLOP/s": operations / seconds / 1e12,
        "matrix product TFLOP/s": peak / 1e12,
        "share": operations / seconds / peak,
        "peak MB": timed.peak / 1e6,
    }


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Operations per second of one large matrix product, the best of ten."""
    place = torch.device(device)
    n = 8192 if place.type == "cuda" else 1024
    a, b = (torch.randn(n, n, device=place, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(10):
        synchronise(place)
        start = time.perf_counter()
        a @ b
        synchronise(place)
        seconds.append(time.perf_counter() - start)
    return 2 * n**3 / min(seconds)


# ------------------------------------------------------------------------------------------------------ main

PARTS: dict[str, Callable[[Bench], list[Row]]] = {
    "conditions": conditions,
    "verdict": verdict,
    "hooks": hooks,
    "collection": collection,
}
"""All but `grid`, which brings its own model."""


def make_bench(options: argparse.Namespace) -> Bench:
    """The model in float32, and prompts that fit it."""
    if options.small:
        model = random_llama(options.device, small=True)
        prompts = {shots: word_prompts(MAX_ROWS, n_words(model), shots) for shots in SHOTS}
    else:
        model = rn.load_model(options.model, device=options.device, dtype=torch.float32)
        prompts = {shots: shipped_prompts(shots) for shots in SHOTS}
    with rn.ablate(model, random_set(model, "gate", K, 0)):
        rn.recall(model, prompts[SHOTS[-1]][:4])  # warm up
    return Bench(model, prompts, options.repeats)


def show(title: str, rows: Sequence[Row]) -> None:
    """Print a table in Markdown."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(rows[0]) + " |")
    print("| " + " | ".join("---" for _ in rows[0]) + " |")
    for row in rows:
        cells = [f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row.values()]
        print("| " + " | ".join(cells) + " |", flush=True)


def machine(device: str) -> str:
    """The name of the device that computes."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {torch.get_num_threads()} CPU thread(s)"


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--part", nargs="+", choices=["all", *PARTS, "grid"], default=["all"], help="all but grid")
    parser.add_argument("--small", action="store_true", help="a small random model and made-up prompts instead")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    wanted = list(PARTS) if "all" in options.part else [name for name in PARTS if name in options.part]
    where = machine(options.device)
    results: dict[str, list[Row]] = {}
    bench = make_bench(options) if wanted else None
    for name in wanted:
        results[name] = PARTS[name](bench)
        show(f"{name}: {bench.model.cfg.model_name}, {where}", results[name])
    bench = None
    if "grid" in options.part:
        results["grid"] = paper_grid(options.device, small=options.small)
        show(f"grid: random Llama{'' if options.small else ' of the shape of Llama-2-7B'}, {where}", results["grid"])
    if options.out:
        versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
        record = {"model": options.model, "small": options.small, "machine": where, "versions": versions}
        options.out.write_text(json.dumps(record | {"parts": results}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
