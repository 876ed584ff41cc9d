"""A model of Llama-2-7B's exact size, with random bfloat16 weights: memory and seconds of loading, finding, ablating.

python -m benchmarks.llama_2_7b --out docs/results/llama_2_7b.json

The folder (13.5 GB of sharded safetensors) is made once. This package and Transformers alone each load it in a process
of their own; the peak is the largest resident memory, mapped files included. Nothing is learned about relations.
"""

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

import relation_neurons as rn
from relation_neurons.models.pretrained import load_pretrained, resolve
from relation_neurons.storage.fingerprint import versions

LLAMA_2_7B = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SHARD = 5 * 10**9
RELATIONS = ("country_capital", "country_language")


def make_folder(folder: Path, layers: int) -> None:
    """Write the model, shard by shard, and a tokenizer of 32,000 pieces learned from the shipped relations."""
    folder.mkdir(parents=True)
    config = transformers.LlamaConfig(**{**LLAMA_2_7B, "num_hidden_layers": layers}, dtype="bfloat16")
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    with torch.device("meta"):
        shapes = {name: w.shape for name, w in transformers.LlamaForCausalLM(config).state_dict().items()}
    shard, shards, where = {}, 0, {}
    drawn = torch.randn(2**24 + 3, generator=torch.Generator().manual_seed(0)).mul_(0.02).bfloat16()
    for number, (name, shape) in enumerate(shapes.items()):  # repeated with an odd period: no two rows are alike
        made = drawn.roll(number).repeat(shape.numel() // len(drawn) + 1)[: shape.numel()].view(shape)
        shard[name] = torch.ones_like(made) if "norm" in name else made
        if sum(2 * one.numel() for one in shard.values()) > SHARD or number == len(shapes) - 1:
            shards += 1
            save_file(shard, folder / f"model-{shards}.safetensors", metadata={"format": "pt"})
            where |= dict.fromkeys(shard, f"model-{shards}.safetensors")
            shard = {}
    total = sum(2 * shape.numel() for shape in shapes.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    _tokenizer().save_pretrained(folder)


def _tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Byte-level pieces; there are fewer texts than would fill 32,000."""
    import tokenizers

    raw = tokenizers.Tokenizer(tokenizers.models.BPE())
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=32000,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    raw.train_from_iterator([fact.subject for one in rn.load_relations("shipped") for fact in one.facts], trainer)
    raw.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def _timed(done: dict[str, float], name: str, work: Callable[[], object]) -> object:
    started = time.perf_counter()
    found = work()
    done[name] = round(time.perf_counter() - started, 1)
    done[f"{name}: peak GB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2)
    return found


def ours(folder: str, n_prompts: int) -> dict[str, object]:
    """Load, find, ablate and recall with this package."""
    done: dict[str, object] = {}
    model = _timed(done, "load", lambda: rn.load_model(folder, device="cpu", dtype="bfloat16"))
    done["type"] = type(model).__name__
    prompts = rn.make_prompts(
        rn.load_relations(*RELATIONS), rn.PromptConfig(shots=0, n_detection=n_prompts, n_evaluation=n_prompts)
    )
    collected = _timed(done, "activations", lambda: rn.collect_activations(model, prompts.detection, site="ffn"))
    labels, mask = rn.contrast(prompts.detection)
    scores = _timed(done, "average precision", lambda: rn.average_precision(collected.values, labels, mask))
    ties = rn.by_effect_size(collected.values, labels, mask)
    neurons = rn.top_k(scores, 3000, collected.space, prompts.relations, ties)[RELATIONS[0]]
    evaluation = prompts.evaluation[:n_prompts]
    conditions = [
        rn.Condition("clean", evaluation),
        rn.Condition("ablated", evaluation, (rn.Intervention(neurons),)),
    ]
    table = _timed(done, "recall, clean and ablated", lambda: rn.recall_under(model, conditions, generate=False))
    done["mean logprob"] = {
        name: round(float(rows["logprob"].mean()), 3) for name, rows in table.groupby("condition", sort=False)
    }
    return done


def theirs(folder: str, n_prompts: int) -> dict[str, object]:
    """Load with Transformers alone, and read one text."""
    done: dict[str, object] = {}
    model, tokenizer = _timed(
        done, "load", lambda: load_pretrained(resolve(folder), device=torch.device("cpu"), dtype=torch.bfloat16)
    )
    ids = tokenizer("The capital city of France is?", return_tensors="pt").input_ids
    with torch.inference_mode():
        _timed(done, "one text", lambda: model(ids))
    return done


def main() -> None:
    """Make the folder if need be, and measure both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/llama-2-7b-size"))
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if not options.folder.is_dir():
        make_folder(options.folder, options.layers)
    weights = sum(path.stat().st_size for path in options.folder.glob("*.safetensors")) / 1e9
    found: dict[str, object] = {"weights GB": round(weights, 2), "threads": torch.get_num_threads()}
    for work in (theirs, ours):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[work.__name__] = pool.apply(work, (str(options.folder), options.prompts))
        print(work.__name__, json.dumps(found[work.__name__]), flush=True)
    found["versions"] = versions()
    if options.out:
        options.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
