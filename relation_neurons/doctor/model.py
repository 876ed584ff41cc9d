"""Checks of a model: memory, hooks, zeroed weights, and parity with Hugging Face."""

from __future__ import annotations

import contextlib
import difflib
import gc
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import torch
from huggingface_hub import constants as hub_constants
from jaxtyping import Float, Int
from torch import Tensor

from relation_neurons.doctor.checks import REPORT, Check, DtypeName, gib, guarded
from relation_neurons.doctor.invariance import batches_check, null_run_check, some_prompts
from relation_neurons.errors import RelationNeuronsError
from relation_neurons.evaluation.recall import Condition, recall_under
from relation_neurons.interventions.interventions import Intervention, ablate
from relation_neurons.models.hooked_model import add_hook, hook_name, neuron_space
from relation_neurons.models.load_check import Reference, read_reference
from relation_neurons.models.loading import DTYPES, cast, load_model, load_with_reference
from relation_neurons.models.placement import all_weights, devices_in_words, is_offloaded
from relation_neurons.models.pretrained import EMBEDDED
from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.prompts.tokenization import encode

LOGIT_PARITY = 1e-3
"""Largest acceptable difference from Hugging Face's logits in float32; up to ten times as much, with
the same next tokens, is only a warning."""
ZEROED_TOLERANCE: Mapping[DtypeName, float] = {"float32": 1e-5, "float16": 2**-10, "bfloat16": 2**-7}
"""Largest acceptable difference of logits between ablated neurons and zeroed weights, relative to the
largest logit."""
LEAST_CHANGE = 1e-6
"""Smallest change in nats that ablating a whole MLP layer must cause."""


@dataclass
class ModelInMemory:
    """The model in memory and, if it was loaded in float32, the reference results of Hugging Face."""

    model: HookedModel | None = None
    reference: Reference | None = None


def model_checks(
    source: str,
    device: str | None,
    dtype: DtypeName | None,
    n_prompts: int,
    relations: Sequence[str | Path],
    **placement: Any,
) -> Iterator[Check]:
    """All checks of one model, which is in memory in one type at a time; `placement` is more for `load_model`."""
    on_gpu = torch.cuda.is_available() and (device or "cuda").startswith("cuda")
    usual: tuple[DtypeName, ...] = ("float32", "bfloat16", "float16") if on_gpu else ("float32", "bfloat16")
    dtypes = usual if dtype is None else (dtype,)
    memory = ModelInMemory()
    answers: dict[str, list[str]] = {}
    for current in dtypes:
        yield guarded(f"Model, {current}", _name_advice(source), load_check, source, device, current, memory, placement)
        if memory.model is None and current == dtypes[0]:
            return
        if memory.model is None:
            continue
        if current == dtypes[0]:
            yield from _first_checks(memory.model, current, relations)
        null_run = (memory.model, current, n_prompts, relations, answers)
        yield guarded(f"Null run, {current}", REPORT, null_run_check, *null_run)
        if memory.reference is not None:  # in float32; last, so that it detects any change made by the other checks
            yield guarded("Sites", REPORT, sites_check, memory.reference, memory.model)
            yield guarded("Hugging Face", REPORT, parity_check, memory.reference, memory.model)
    if "float32" not in dtypes:
        result = f"not checked, because logits are compared in float32 and --dtype is {dtype}"
        yield Check("Hugging Face", "note", result, "omit --dtype if float32 fits into memory")


def _first_checks(model: HookedModel, dtype: DtypeName, relations: Sequence[str | Path]) -> Iterator[Check]:
    """Checks that run in the first type only."""
    yield guarded("Model memory", REPORT, model_memory_check, model)
    yield guarded("Batches", REPORT, batches_check, model, dtype, relations)
    yield guarded("Hooks", REPORT, hooks_check, model, relations)
    yield guarded("Zeroed weights", REPORT, zeroed_check, model, dtype, relations)


def load_check(
    name: str,
    source: str,
    device: str | None,
    dtype: DtypeName,
    memory: ModelInMemory,
    placement: Mapping[str, Any] = MappingProxyType({}),
) -> Check:
    """Load the model, or round it to this type where that is equivalent, and check its weights."""
    started = time.monotonic()
    how = "rounded from float32" if _load(source, device, dtype, memory, placement) else "loaded"
    seconds, model = time.monotonic() - started, memory.model
    assert model is not None
    kept = all_weights(model) if is_offloaded(model) else model.named_parameters()
    broken = [part for part, weights in kept if not bool(torch.isfinite(weights).all())]
    if broken:
        result = f"NaN or infinity in {len(broken)} weights, such as {broken[0]}"
        return Check(name, "trouble", result, "download the model's files again, or use another --dtype")
    result = (
        f"{type(model).__name__} of {model.cfg.n_layers} layers, {_n_parameters(model) / 1e6:,.1f} million parameters "
        f"on {devices_in_words(model)}, all finite; {how} in {seconds:.0f} s"
    )
    return Check(name, "ok", result)


def _load(
    source: str, device: str | None, dtype: DtypeName, memory: ModelInMemory, placement: Mapping[str, Any]
) -> bool:
    """Replace the model in memory by one in this type; returns whether it was rounded, not loaded."""
    model, memory.model, memory.reference = memory.model, None, None
    rounded = model is not None and cast(model, DTYPES[dtype])
    if not rounded:
        del model
        gc.collect()
        torch.cuda.empty_cache()  # does nothing without a GPU
        if dtype == "float32":
            model, memory.reference = load_with_reference(source, device=device, **placement)
        else:
            model = load_model(source, device=device, dtype=dtype, **placement)
    memory.model = model
    return rounded


def model_memory_check(name: str, model: HookedModel) -> Check:
    """Memory of the weights, and whether the activations of 1,000 prompts fit into free memory."""
    n = _n_parameters(model)
    weights = ", ".join(f"{gib(n * size)} as {dtype}" for dtype, size in (("float32", 4), ("16-bit", 2)))
    site = "ffn" if model.cfg.gated_mlp else "post"
    needed, free = 4 * 1000 * len(neuron_space(model, site)), psutil.virtual_memory().available
    result = f"weights need {weights}; '{site}' activations of 1,000 prompts need {gib(needed)}, {gib(free)} free"
    if needed < free:
        return Check(name, "ok", result)
    return Check(name, "warning", result, "use fewer --n-detection or --relations, or a narrower --site")


def hooks_check(name: str, model: HookedModel, relations: Sequence[str | Path]) -> Check:
    """Ablate each MLP site in each layer, which must change the output; and misspell a hook."""
    misspelt = hook_name(model, "post", 0).replace("hook", "hok")
    with contextlib.suppress(RelationNeuronsError):
        add_hook(model, misspelt, lambda activation: None)()
        return Check(name, "trouble", f"the misspelt hook '{misspelt}' was accepted", REPORT)
    sites = ("post", "gate", "up", "down") if model.cfg.gated_mlp else ("post", "down")
    prompt, dead, least = some_prompts(relations, 1, shots=0), [], math.inf
    for site in sites:
        ((_, width),) = neuron_space(model, site).widths
        conditions = [Condition("clean", prompt)]
        for layer in range(model.cfg.n_layers):
            neurons = NeuronSet.from_pairs(((layer, index) for index in range(width)), site=site)
            conditions.append(Condition(hook_name(model, site, layer), prompt, (Intervention(neurons),)))
        table = recall_under(model, conditions, generate=False).set_index("condition")["logprob"]
        change = (table - table["clean"]).abs().drop("clean")
        dead += [str(hook) for hook, value in change.items() if not value > LEAST_CHANGE]
        least = min(least, float(change.min()))
    if dead:
        result = f"ablating {dead[0]} changes nothing, and neither do {len(dead) - 1} other sites and layers"
        return Check(name, "trouble", result, f"check the model's weights in this layer; {REPORT}")
    result = (
        f"the hooks of {', '.join(sites)} run once in each of {model.cfg.n_layers} layers and change the answer's "
        f"log-probability by {least:.1e} nats or more; a misspelt hook is refused"
    )
    return Check(name, "ok", result)


def zeroed_check(name: str, model: HookedModel, dtype: DtypeName, relations: Sequence[str | Path]) -> Check:
    """Ablate every other `post` neuron by hooks and by zeroing its row of W_out; logits must agree."""
    quantize = getattr(model.cfg, "quantize", None)
    if quantize is not None or is_offloaded(model):
        why = f"in {quantize.removesuffix('bit')} bits" if quantize else "on the CPU or on disk"
        return Check(name, "note", f"not checked: weights {why} cannot be set to zero in place", "nothing")
    rows: list[Tensor] = [block.mlp.W_out for block in model.blocks if getattr(block.mlp, "W_out", None) is not None]
    if len(rows) < len(model.blocks):
        return Check(name, "note", "not checked: the MLPs have no single output projection", "nothing")
    ids = encode(model, some_prompts(relations, 1, shots=2))[0].ids
    tokens = torch.tensor([ids], dtype=torch.long).to(model.cfg.device)
    half = [(layer, index) for layer, weights in enumerate(rows) for index in range(0, len(weights), 2)]
    weights_before, clean = _bit_sums(model), _logits(model, tokens)
    with ablate(model, NeuronSet.from_pairs(half)):
        ablated = _logits(model, tokens)
    unchanged = torch.equal(_logits(model, tokens), clean) and _bit_sums(model) == weights_before
    with _zeroed(rows):
        zeroed = _logits(model, tokens)
    unchanged = unchanged and torch.equal(_logits(model, tokens), clean) and _bit_sums(model) == weights_before
    difference, change = _relative_difference(ablated, zeroed), _relative_difference(zeroed, clean)
    result = (
        f"{len(half):,} neurons ablated by hooks and by zeroed rows of W_out: logits differ by {difference:.1e} of "
        f"the largest logit (tolerance {ZEROED_TOLERANCE[dtype]:.0e}), and by {change:.1e} from those without "
        f"ablation; afterwards the model is {'bit-identical' if unchanged else 'NOT bit-identical'} to before"
    )
    agrees = difference <= ZEROED_TOLERANCE[dtype] < change and unchanged
    return Check(name, "ok" if agrees else "trouble", result, "" if agrees else REPORT)


def parity_check(name: str, reference: Reference, model: HookedModel) -> Check:
    """Compare the model's logits with those of Hugging Face's implementation."""
    parity = reference.parity(model)
    result = (
        f"logits differ by at most {parity.max_logit_difference:.1e} in float32 over {parity.n_tokens} tokens "
        f"(tolerance {LOGIT_PARITY:g}); the same next token is predicted at {parity.argmax_agreement:.1%} of them"
    )
    if parity.max_logit_difference <= LOGIT_PARITY:
        return Check(name, "ok", result)
    is_close = parity.max_logit_difference <= 10 * LOGIT_PARITY and parity.argmax_agreement == 1
    return Check(name, "warning" if is_close else "trouble", result, REPORT)


def sites_check(name: str, reference: Reference, model: HookedModel) -> Check:
    """Compare the values at every site, in every layer, with those of the projections of Transformers' model."""
    _, differences = read_reference(model, reference)
    (site, layer), largest = max(differences.items(), key=lambda item: (math.isnan(item[1]), item[1]))
    result = (
        f"the values at {', '.join(dict.fromkeys(site for site, _ in differences))} in {model.cfg.n_layers} layers "
        f"differ from those of Transformers' projections by at most {largest:.1e} of the largest value (at {site} in "
        f"layer {layer}; tolerance {LOGIT_PARITY:g})"
    )
    agrees = largest <= LOGIT_PARITY
    return Check(name, "ok" if agrees else "trouble", result, "" if agrees else REPORT)


def _name_advice(source: str) -> str:
    """Suggest the known model, cached or beside the path, whose name is most similar to `source`."""
    cached = Path(hub_constants.HF_HUB_CACHE).glob("models--*")
    known = [*EMBEDDED, *(path.name.removeprefix("models--").replace("--", "/") for path in cached)]
    with contextlib.suppress(OSError, RuntimeError):
        siblings = Path(source).expanduser().parent.iterdir()
        known += [str(path) for path in siblings if path.suffix == ".gguf" or (path / "config.json").is_file()]
    close = difflib.get_close_matches(source, [name for name in known if name != source], n=1, cutoff=0.8)
    return (
        f"did you mean '{close[0]}'?"
        if close
        else "check the name and the error message, or try --dtype bfloat16 or the model smollm2-135m"
    )


def _n_parameters(model: HookedModel) -> int:
    """Number of parameters; weights shared by several parameters count once, and of 4 bits two to a byte."""
    storages = {id(one) if one.is_meta else one.untyped_storage().data_ptr(): one for one in model.parameters()}
    return sum(
        one.untyped_storage().nbytes() // one.element_size() * (2 if type(one).__name__ == "Params4bit" else 1)
        for one in storages.values()
    )


def _logits(model: HookedModel, tokens: Int[Tensor, "row pos"]) -> Float[Tensor, "row pos vocab"]:
    with torch.inference_mode():
        return model(tokens).float()


def _relative_difference(logits: Tensor, reference: Tensor) -> float:
    return float((logits - reference).abs().max() / reference.abs().max())


def _bit_sums(model: HookedModel) -> list[int]:
    """Sum of each weight's bits as integers, which changes if a single number changes."""
    kinds = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return [int(w.detach().view(kinds[w.element_size()]).sum(dtype=torch.int64)) for w in model.parameters()]


@contextlib.contextmanager
def _zeroed(rows: Sequence[Tensor]) -> Iterator[None]:
    """Zero every other row of these weights while the block runs."""
    originals = [weights[::2].clone() for weights in rows]
    try:
        for weights in rows:
            weights[::2] = 0
        yield
    finally:
        for weights, original in zip(rows, originals, strict=True):
            weights[::2] = original
