"""Models with layers on several devices or on disk give what the whole model gives."""

import weakref
from importlib import metadata
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

import relation_neurons as rn
from relation_neurons.activations.collection import collect_activations, token_activations
from relation_neurons.doctor.model import ModelInMemory, load_check, zeroed_check
from relation_neurons.evaluation.critical_neurons import largest_writes
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.single_neuron import token_table
from relation_neurons.inference.memory_estimate import estimate, require_memory
from relation_neurons.models import loading, placement
from relation_neurons.models.fingerprint import weights_digest
from relation_neurons.models.logit_attribution import direct_logits, output_norms, output_row
from relation_neurons.models.sites import Neuron
from tests.helpers import full_only, word_prompts
from tests.models.architectures import ARCHITECTURES, tokenizer

TEXTS = ["w1 w2 w3 w4 w5", "w6 w7 w8"]
ON_DISK = {"model.layers.0": "disk", "model.layers.1": "cpu", "model.layers.2": "disk", "model.norm": "disk"}
ON_DISK |= {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu"}
HEADS = {"llama": "disk", "gemma3": "cpu"}
"""Where the unembedding is; Gemma's shares its numbers with the embedding."""
NEURONS = [(0, 3), (1, 5), (2, 7)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for name in (*HEADS, "gpt-neox", "gpt-j"):
        made[name] = tmp_path_factory.mktemp(name) / "model"
        ARCHITECTURES[name].model().save_pretrained(made[name])
        tokenizer().save_pretrained(made[name])
    return made


@pytest.fixture(scope="module", params=HEADS)
def whole_and_spread(request, folders):
    folder = folders[request.param]
    spread = rn.load_model(folder, device_map={**ON_DISK, "lm_head": HEADS[request.param]})
    return rn.load_model(folder, device="cpu"), spread


def measured(model):
    """What everything that runs a model finds, by what it is."""
    prompts = word_prompts(2, examples=False, seed=1)
    if model.cfg.window is None:  # else longer prompts are read one by one, which takes long
        prompts += word_prompts(2, examples=True)
    neurons = [rn.NeuronSet.from_pairs(NEURONS, site=site) for site in ("post", "down", "v")]
    conditions = {str(number): [rn.Intervention(one)] for number, one in enumerate(neurons)}
    conditions["last"] = [rn.Intervention(neurons[0], rn.Constant(0.5), positions="last")]
    found = {site: collect_activations(model, prompts, site=site).values for site in ("post", "all")}
    found["tokens"] = torch.cat(token_activations(model, prompts, Neuron("gate", 2, 4)))
    recall = [
        rn.recall_under(
            model,
            [rn.Condition(name, tuple(prompts), tuple(writes)) for name, writes in {"clean": [], **conditions}.items()],
            generate=generate,
        )
        for generate in (True, False)
    ]
    found["logprob"] = torch.tensor([table["logprob"].tolist() for table in recall])
    found["answers"] = recall[0]["generated"].tolist()
    found["prefix"] = [table["correct_prefix"].tolist() for table in recall]
    found["nll"] = torch.tensor(rn.perplexity(model, TEXTS, conditions)["nll"].to_numpy())
    found["writes"] = torch.from_numpy(largest_writes(model, "post", TEXTS))
    return found


def require_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        if isinstance(values, torch.Tensor):
            torch.testing.assert_close(found[name], values, atol=1e-4, rtol=1e-4, msg=name)
        else:
            assert found[name] == values, name


def test_layers_on_disk_give_what_the_whole_model_gives(whole_and_spread):
    whole, spread = whole_and_spread
    inner = spread.original_model
    assert all(one.is_meta for name, one in inner.named_parameters() if ".layers.0." in name)
    assert not any(one.is_meta for name, one in inner.named_parameters() if ".layers.1." in name)
    assert spread.cfg.places == ("disk", "cpu")
    assert torch.device(spread.cfg.device) == torch.device("cpu")
    require_equal(measured(spread), measured(whole))
    assert any(one.is_meta for one in inner.parameters())  # they are sent away again


def test_weights_on_disk_are_brought_in_where_they_are_read(whole_and_spread):
    whole, spread = whole_and_spread
    row, expected = (output_row(model, Neuron("post", 2, 4)) for model in (spread, whole))
    norms, whole_norms = (output_norms(model, "gate", 0) for model in (spread, whole))
    if expected is not None:  # Gemma's MLPs are normed again
        torch.testing.assert_close(row, expected)
        torch.testing.assert_close(norms, whole_norms)
    direction = torch.arange(32.0)
    torch.testing.assert_close(direct_logits(spread, direction), direct_logits(whole, direction), atol=1e-4, rtol=1e-4)
    spread.cfg.weights_digest = None
    with torch.inference_mode():
        digest = weights_digest(spread)
    assert digest == weights_digest(spread)


def test_the_digest_is_of_the_numbers_on_disk(folders, tmp_path):
    device_map = {**ON_DISK, "lm_head": "cpu"}
    first = weights_digest(rn.load_model(folders["llama"], device_map=device_map))
    changed = ARCHITECTURES["llama"].model()
    changed.model.layers[0].mlp.up_proj.weight[0, 0] += 1
    changed.save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    assert weights_digest(rn.load_model(tmp_path / "model", device_map=device_map)) != first


def test_auto_on_the_cpu_is_the_whole_model(folders):
    auto, whole = rn.load_model(folders["llama"], device_map="auto"), rn.load_model(folders["llama"], device="cpu")
    assert hasattr(auto, "original_model")  # a bridge, also for a plain Llama
    prompts = word_prompts(3, examples=False)
    torch.testing.assert_close(
        collect_activations(auto, prompts).values, collect_activations(whole, prompts).values, atol=1e-4, rtol=1e-4
    )


def test_norms_that_a_bridge_computes_take_their_weights_from_disk(folders):
    device_map = dict.fromkeys(("transformer.h.0", "transformer.ln_f"), "disk")
    device_map |= {f"transformer.{part}": "cpu" for part in ("wte", "drop", "h.1", "h.2")}
    prompts = word_prompts(3, examples=False)
    spread, whole = (
        rn.load_model(folders["gpt-j"], **place)
        for place in ({"device_map": {**device_map, "lm_head": "cpu"}}, {"device": "cpu"})
    )
    for site in ("down", "attn"):
        found, expected = (collect_activations(model, prompts, site=site).values for model in (spread, whole))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_split_projections_on_disk_are_right_or_refused(folders):
    device_map = {"gpt_neox.embed_in": "cpu", "gpt_neox.layers.0": "disk", "gpt_neox.layers.1": "cpu"}
    device_map |= {f"gpt_neox.{part}": "cpu" for part in ("layers.2", "final_layer_norm", "rotary_emb")}
    device_map["lm_head"] = "cpu"
    if metadata.version("transformer-lens").startswith("3."):
        with pytest.raises(rn.RelationNeuronsError, match="splits weights of model"):
            rn.load_model(folders["gpt-neox"], device_map=device_map)
        return
    prompts = word_prompts(3, examples=False)
    spread, whole = (
        collect_activations(rn.load_model(folders["gpt-neox"], **place), prompts, site="attn").values
        for place in ({"device_map": device_map}, {"device": "cpu"})
    )
    torch.testing.assert_close(spread, whole, atol=1e-4, rtol=1e-4)


def test_tied_weights_on_two_devices_are_refused(folders):
    with pytest.raises(rn.RelationNeuronsError, match="share their numbers, on disk and cpu"):
        rn.load_model(folders["gemma3"], device_map={**ON_DISK, "lm_head": "disk"})


def test_the_spare_folder_goes_with_the_model(tmp_path, monkeypatch):
    monkeypatch.setattr(placement.tempfile, "tempdir", str(tmp_path))
    with placement.spare_folder({"device_map": {"": "disk"}}) as (arguments, leave):
        folder, model = Path(arguments["offload_folder"]), torch.nn.Linear(1, 1)
        leave(model)
    assert folder.is_dir()
    gone = weakref.ref(model)
    del model
    assert gone() is None
    assert not folder.exists()
    with placement.spare_folder({"device_map": "auto"}) as (arguments, leave):
        folder = Path(arguments["offload_folder"])
    assert not folder.exists()  # nothing was loaded


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"device": "cpu", "device_map": "auto"}, "device and device_map were both given"),
        ({"device_map": {}}, "device_map is empty"),
        ({"device_map": {"": "gpu7"}}, "device_map puts '' on 'gpu7'"),
        ({"device_map": {"": "cuda:0"}}, "device_map puts '' on a GPU, but none is visible"),
        ({"quantize": "4bit"}, "Weights in 4 bits need a GPU, and none is visible"),
        ({"quantize": "8bit", "device": "cpu"}, "Weights in 8 bits need a GPU"),
    ],
)
def test_what_cannot_be_placed_is_refused(folders, arguments, said, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(rn.RelationNeuronsError, match=said) as error:
        rn.load_model(folders["llama"], **arguments)
    assert str(error.value).count("\n") == 0


def test_quantised_weights_without_bitsandbytes_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(placement.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(rn.RelationNeuronsError, match="the package bitsandbytes, which is not installed"):
        rn.load_model("smollm2-135m", quantize="4bit")


def test_transformers_is_told_how_to_quantise():
    for quantize, bits in (("8bit", "load_in_8bit"), ("4bit", "load_in_4bit")):
        arguments = placement.loading_arguments(torch.device("cuda:1"), torch.float16, None, quantize)
        assert arguments["device_map"] == {"": torch.device("cuda:1")}
        assert getattr(arguments["quantization_config"], bits)
    assert arguments["quantization_config"].bnb_4bit_compute_dtype == torch.float16
    assert placement.loading_arguments(torch.device("cpu"), None, None, None) == {}


def test_weights_in_few_bits_are_not_read(folders):
    model = rn.load_model(folders["llama"], device_map="auto")
    model.cfg.weights_digest = "abc"
    loading._note_bits(model, "4bit")
    assert weights_digest(model) == "abc in 4bit"
    with pytest.raises(rn.RelationNeuronsError, match="are in 4 bits"):
        output_row(model, Neuron("post", 0, 1))
    assert output_norms(model, "post", 0) is None
    assert token_table(model, Neuron("gate", 0, 1), 3).empty
    assert len(token_table(model, Neuron("down", 0, 1), 3)) == 6
    assert largest_writes(model, "gate", TEXTS).shape == (2, 3 * 48)
    assert zeroed_check("Zeroed weights", model, "float32", ()).state == "note"


def test_doctor_reads_weights_on_disk(folders):
    memory, device_map = ModelInMemory(), {**ON_DISK, "lm_head": "disk"}
    check = load_check("Model", str(folders["llama"]), None, "float32", memory, {"device_map": device_map})
    assert check.state == "ok", check.result
    assert "parameters on disk, cpu, all finite" in check.result
    assert "not checked: weights on the CPU or on disk" in zeroed_check("Zeroed", memory.model, "float32", ()).result
    assert not loading.cast(memory.model, torch.bfloat16)


def test_a_study_takes_a_device_map_or_a_device():
    assert StudyConfig(device_map="auto").device_map == "auto"
    with pytest.raises(rn.RelationNeuronsError, match="both given"):
        StudyConfig(device_map="auto", device="cpu")


def test_all_gpus_count_with_a_device_map(folders, monkeypatch):
    from relation_neurons.inference import memory_estimate

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    free = {"cpu": 10**10, "cuda": 2 * 10**5}
    monkeypatch.setattr(memory_estimate, "memory_of", lambda device: (free[torch.device(device).type], 10**11))
    prompts = word_prompts(4, examples=False)
    one = estimate(folders["llama"], prompts, dtype="float32")
    both = estimate(folders["llama"], prompts, dtype="float32", device_map="auto")
    assert (one.gpu, both.gpu) == (200_000, 400_000)
    free["cuda"] = one.plan.estimate.gpu(1) - 1000
    with pytest.raises(rn.RelationNeuronsError, match="too little GPU memory"):
        require_memory(estimate(folders["llama"], prompts, dtype="float32"))
    require_memory(estimate(folders["llama"], prompts, dtype="float32", device_map="auto"), print)
    free |= {"cuda": 0, "cpu": both.plan.estimate.ram(1) + 1000}
    assert estimate(folders["llama"], prompts, dtype="float32", device_map="auto").lacks() == ["memory"]
    on_disk = estimate(folders["llama"], prompts, dtype="float32", device_map={"": "disk"})
    assert on_disk.lacks() == []
    small = estimate(folders["llama"], prompts, dtype="float32", quantize="4bit")
    assert small.plan.estimate.weights < one.plan.estimate.weights


CPU, FIRST, OTHER = torch.device("cpu"), torch.device("cpu", 1), torch.device("cpu", 2)
INDEXING = {"__getitem__", "__setitem__"}


def place_of(value):
    return getattr(value, "pretended", CPU)


def device_in(value):
    """A device that is named, if this is one."""
    if isinstance(value, str) and value.split(":")[0] == "cpu":
        return torch.device(value)
    return value if isinstance(value, torch.device) else None


class TwoDevices(TorchFunctionMode):
    """Pretends that tensors are on two GPUs, and refuses to compute with those of several devices as PyTorch does."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(function, "__name__", "")
        if function == torch.Tensor.device.__get__:
            return place_of(args[0])
        values = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
        asked = [place for one in (*args, *kwargs.values()) if (place := device_in(one)) is not None]
        if name in ("to", "cpu", "copy_"):
            like = [place_of(one) for one in values[1:]]
            place = {"cpu": CPU, "copy_": place_of(values[0])}.get(name) or (asked or like or [place_of(values[0])])[0]
        elif name in INDEXING and len(values) > 1:
            index = [one for one in tree_flatten(args[1])[0] if isinstance(one, torch.Tensor)]
            place = place_of(args[0])
            moved = [one for one in args[2:] if isinstance(one, torch.Tensor) and one.dim() and index]
            self.require(place, [one for one in index if place_of(one) != CPU] + moved, name)
        elif asked:
            place = asked[0]
        else:
            place = next((place_of(one) for one in values if one.dim()), place_of(values[0]) if values else CPU)
            self.require(place, [one for one in values if one.dim()], name)
        plain = tree_map(lambda one: CPU if device_in(one) else one, (args, kwargs))
        result = function(*plain[0], **plain[1])
        if name in ("to", "cpu", "as_tensor") and any(result is one for one in values):
            result = result.view_as(result)
        for one in tree_flatten(result)[0]:
            if isinstance(one, torch.Tensor) and not any(one is other for other in values):
                one.pretended = place
        return result

    @staticmethod
    def require(place, values, name):
        if any(place_of(one) != place for one in values):
            raise RuntimeError(f"{name}: tensors on {place} and {[place_of(one) for one in values]}")


def put_on_two(model):
    """Put all behind the first layer on the second GPU, moving what parts are given as accelerate does."""
    inner, model.cfg.device = model.original_model, str(FIRST)

    def move(place):
        def before(module, args, kwargs):
            there = {name: value for name, value in kwargs.items() if name != "past_key_values"}
            moved = tree_map(lambda one: one.to(place) if isinstance(one, torch.Tensor) else one, (args, there))
            return moved[0], {**kwargs, **moved[1]}

        return before

    tied = inner.lm_head.weight is inner.model.embed_tokens.weight
    first = {inner.model.embed_tokens, inner.model.layers[0], *([inner.lm_head] if tied else [])}
    rest = [module for name, module in inner.model.named_children() if "rotary" in name]
    for part in [*first, *inner.model.layers[1:], inner.model.norm, inner.lm_head, *rest]:
        place = FIRST if part in first or part in rest else OTHER
        for weights in (*part.parameters(), *part.buffers()):
            weights.pretended = place
        part.register_forward_pre_hook(move(place), with_kwargs=True)


@pytest.mark.parametrize("name", ["llama", *full_only("gemma3")])
def test_no_values_of_two_devices_meet(name, tmp_path):
    ARCHITECTURES[name].model().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    model = rn.load_model(tmp_path, device_map="auto")
    expected = measured(model)
    put_on_two(model)
    with TwoDevices():
        with pytest.raises(RuntimeError, match="tensors on"):
            torch.ones(2, device="cpu:1") + torch.ones(2, device=OTHER)
        found = measured(model)
    require_equal(found, expected)
