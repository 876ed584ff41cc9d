"""Checks of a model: what it takes, its hooks, zeroed weights, and parity with Hugging Face."""

from __future__ import annotations

import contextlib
import difflib
import gc
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from relation_neurons.models.loading import DTYPES, Reference, cast, load_model, load_with_reference
from relation_neurons.models.pretrained import EMBEDDED
from relation_neurons.models.types import HookedModel
from relation_neurons.neurons.neuron_set import NeuronSet
from relation_neurons.prompts.tokenization import encode

LOGIT_PARITY = 1e-3
"""Largest difference from Hugging Face's logits in float32; up to ten times as much, with the same answers, is a
warning."""
ZEROED_TOLERANCE: Mapping[DtypeName, float] = {"float32": 1e-5, "float16": 2**-10, "bfloat16": 2**-7}
"""Largest difference of logits, relative to the largest logit, between ablated neurons and zeroed weights."""
LEAST_CHANGE = 1e-6
"""Nats that ablating a whole layer's MLP changes at least."""


@dataclass
class Held:
    """The one model in memory and, if it was loaded in float32, what Hugging Face's implementation makes of it."""

    model: HookedModel | None = None
    reference: Reference | None = None


def model_checks(
    source: str, device: str | None, dtype: DtypeName | None, n_prompts: int, relations: Sequence[str | Path]
) -> Iterator[Check]:
    """All about one model, which is in memory in one type at a time."""
    on_gpu = torch.cuda.is_available() and (device or "cuda").startswith("cuda")
    usual: tuple[DtypeName, ...] = ("float32", "bfloat16", "float16") if on_gpu else ("float32", "bfloat16")
    dtypes = usual if dtype is None else (dtype,)
    held = Held()
    said: dict[str, list[str]] = {}
    for one in dtypes:
        yield guarded(f"Model, {one}", _meant(source), load_check, source, device, one, held)
        if held.model is None and one == dtypes[0]:
            return
        if held.model is None:
            continue
        if one == dtypes[0]:
            yield from _first_checks(held.model, one, relations)
        yield guarded(f"Null run, {one}", REPORT, null_run_check, held.model, one, n_prompts, relations, said)
        if held.reference is not None:  # in float32; last, after all that was done to the model
            yield guarded("Hugging Face", REPORT, parity_check, held.reference, held.model)
    if "float32" not in dtypes:
        found = f"logits are compared in float32, but --dtype is {dtype}"
        yield Check("Hugging Face", "note", found, "leave --dtype out if float32 fits into memory")


def _first_checks(model: HookedModel, dtype: DtypeName, relations: Sequence[str | Path]) -> Iterator[Check]:
    yield guarded("Room", REPORT, room_check, model)
    yield guarded("Batches", REPORT, batches_check, model, dtype, relations)
    yield guarded("Hooks", REPORT, hooks_check, model, relations)
    yield guarded("Zeroed weights", REPORT, zeroed_check, model, dtype, relations)


def load_check(name: str, source: str, device: str | None, dtype: DtypeName, held: Held) -> Check:
    """Load the model, or round it to this type where that is the same, and look at its weights."""
    started = time.monotonic()
    how = "rounded from float32" if _hold(source, device, dtype, held) else "loaded"
    seconds, model = time.monotonic() - started, held.model
    assert model is not None
    broken = [part for part, weights in model.named_parameters() if not bool(torch.isfinite(weights).all())]
    if broken:
        found = f"NaN or infinity in {len(broken)} weights, such as {broken[0]}"
        return Check(name, "trouble", found, "get the model's files anew, or use another --dtype")
    found = (
        f"{type(model).__name__} of {model.cfg.n_layers} layers, {_n_parameters(model) / 1e6:,.1f} million parameters "
        f"on {model.cfg.device}, all finite; {how} in {seconds:.0f} s"
    )
    return Check(name, "ok", found)


def _hold(source: str, device: str | None, dtype: DtypeName, held: Held) -> bool:
    """Hold the model in this type, in place of the one before; says whether that was rounded rather than loaded."""
    model, held.model, held.reference = held.model, None, None
    rounded = model is not None and cast(model, DTYPES[dtype])
    if not rounded:
        del model
        gc.collect()
        torch.cuda.empty_cache()  # does nothing without a GPU
        if dtype == "float32":
            model, held.reference = load_with_reference(source, device=device)
        else:
            model = load_model(source, device=device, dtype=dtype)
    held.model = model
    return rounded


def room_check(name: str, model: HookedModel) -> Check:
    """What the weights take, and whether the activations of 1,000 prompts fit."""
    n = _n_parameters(model)
    weights = ", ".join(f"{gib(n * size)} as {dtype}" for dtype, size in (("float32", 4), ("16-bit", 2)))
    site = "ffn" if model.cfg.gated_mlp else "post"
    needed, free = 4 * 1000 * len(neuron_space(model, site)), psutil.virtual_memory().available
    found = f"weights take {weights}; '{site}' activations of 1,000 prompts {gib(needed)}, {gib(free)} are free"
    if needed < free:
        return Check(name, "ok", found)
    return Check(name, "warning", found, "use fewer --n-detection or --relations, or a narrower --site")


def hooks_check(name: str, model: HookedModel, relations: Sequence[str | Path]) -> Check:
    """Ablate each MLP site in each layer, which must fire and change the output; and misspell a hook."""
    misspelt = hook_name("post", 0).replace("post", "pots")
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
            conditions.append(Condition(hook_name(site, layer), prompt, (Intervention(neurons),)))
        table = recall_under(model, conditions, generate=False).set_index("condition")["logprob"]
        change = (table - table["clean"]).abs().drop("clean")
        dead += [str(place) for place, value in change.items() if not value > LEAST_CHANGE]
        least = min(least, float(change.min()))
    if dead:
        found = f"ablating {dead[0]} changes nothing, nor do {len(dead) - 1} other places"
        return Check(name, "trouble", found, f"check the model's weights there; {REPORT}")
    found = (
        f"{', '.join(sites)} fire once in each of {model.cfg.n_layers} layers and change the answer's log-probability"
    )
    return Check(name, "ok", f"{found} by {least:.1e} nats or more; a misspelt hook is refused")


def zeroed_check(name: str, model: HookedModel, dtype: DtypeName, relations: Sequence[str | Path]) -> Check:
    """Ablate every other `post` neuron by hooks, and by zeroing what reads it; both must give the same logits."""
    rows: list[Tensor] = [block.mlp.W_out for block in model.blocks if getattr(block.mlp, "W_out", None) is not None]
    if len(rows) < len(model.blocks):
        return Check(name, "note", "not asked: the MLPs have no single output projection", "nothing")
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
    difference, change = _relative(ablated, zeroed), _relative(zeroed, clean)
    found = (
        f"{len(half):,} neurons ablated by hooks and by zeroed rows of W_out: logits differ by {difference:.1e} of "
        f"the largest (tolerance {ZEROED_TOLERANCE[dtype]:.0e}), from the clean ones by {change:.1e}; afterwards the "
        f"model is {'bit-equal to' if unchanged else 'NOT bit-equal to'} before"
    )
    right = difference <= ZEROED_TOLERANCE[dtype] < change and unchanged
    return Check(name, "ok" if right else "trouble", found, "" if right else REPORT)


def parity_check(name: str, reference: Reference, model: HookedModel) -> Check:
    """The model's logits against Hugging Face's own."""
    result = reference.parity(model)
    found = (
        f"logits differ by at most {result.max_logit_difference:.1e} in float32 over {result.n_tokens} tokens "
        f"(tolerance {LOGIT_PARITY:g}), same next token at {result.argmax_agreement:.1%}"
    )
    if result.max_logit_difference <= LOGIT_PARITY:
        return Check(name, "ok", found)
    near = result.max_logit_difference <= 10 * LOGIT_PARITY and result.argmax_agreement == 1
    return Check(name, "warning" if near else "trouble", found, REPORT)


def _meant(source: str) -> str:
    """The known model, in the cache or beside the path, whose name is most like the one that was given."""
    cached = Path(hub_constants.HF_HUB_CACHE).glob("models--*")
    known = [*EMBEDDED, *(path.name.removeprefix("models--").replace("--", "/") for path in cached)]
    with contextlib.suppress(OSError, RuntimeError):
        beside = Path(source).expanduser().parent.iterdir()
        known += [str(path) for path in beside if path.suffix == ".gguf" or (path / "config.json").is_file()]
    close = difflib.get_close_matches(source, [one for one in known if one != source], n=1, cutoff=0.8)
    return (
        f"did you mean '{close[0]}'?"
        if close
        else "check the name and what the error says, or try --dtype bfloat16, or smollm2-135m"
    )


def _n_parameters(model: HookedModel) -> int:
    """Numbers in the weights, those that several parameters share once."""
    storages = {weights.untyped_storage().data_ptr(): weights for weights in model.parameters()}
    return sum(weights.untyped_storage().nbytes() // weights.element_size() for weights in storages.values())


def _logits(model: HookedModel, tokens: Int[Tensor, "row pos"]) -> Float[Tensor, "row pos vocab"]:
    with torch.inference_mode():
        return model(tokens).float()


def _relative(some: Tensor, others: Tensor) -> float:
    return float((some - others).abs().max() / others.abs().max())


def _bit_sums(model: HookedModel) -> list[int]:
    """A sum over the bits of each weight, which any change of one number changes."""
    kinds = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return [int(w.detach().view(kinds[w.element_size()]).sum(dtype=torch.int64)) for w in model.parameters()]


@contextlib.contextmanager
def _zeroed(rows: Sequence[Tensor]) -> Iterator[None]:
    """Zero every other row of these weights while the block runs."""
    kept = [weights[::2].clone() for weights in rows]
    try:
        for weights in rows:
            weights[::2] = 0
        yield
    finally:
        for weights, before in zip(rows, kept, strict=True):
            weights[::2] = before
