"""Every method against plain steps on the Transformers model, or against what ablations really do."""

import copy

import pytest
import torch

import relation_neurons as rn
from relation_neurons.attribution import paths, single_ablations
from relation_neurons.attribution.targets import make_targets
from relation_neurons.inference import batching
from relation_neurons.models.hooked_model import hook_name, hooked
from relation_neurons.models.relevance_rules import RelevanceRules
from relation_neurons.models.wrapping import HookedTransformer, hook_llama
from relation_neurons.progress import silent
from tests.attribution.plain import PARTS, plain_gradient, plain_path, plain_relevance, plain_target, tokens_of
from tests.fixtures import WRAPPERS
from tests.helpers import full_only, word_prompts

PROMPTS = [*word_prompts(3, examples=True), *word_prompts(3, examples=False, seed=1)]
N_LAYERS = 3


def near(found, expected, tolerance=1e-5):
    """Equal within a share of the largest value, which sums over tokens round by."""
    torch.testing.assert_close(found, expected, atol=tolerance * max(1.0, float(expected.abs().max())), rtol=tolerance)


@pytest.fixture
def llama(tiny_llama):
    return tiny_llama[0]


@pytest.mark.parametrize("site", PARTS)
def test_gradients_equal_those_of_one_prompt_and_one_layer_at_a_time(tiny, llama, site):
    found = rn.attribute(tiny, PROMPTS, site=site, batch_size=4)
    for row, prompt in enumerate(PROMPTS):
        parts = [plain_gradient(tiny, llama, prompt, site, layer, "logprob") for layer in range(N_LAYERS)]
        near(found.values[row], torch.cat(parts), 3e-5)  # each is 1e-5 away from what 64 bits give


@pytest.mark.parametrize("target", ["first_token", "margin"])
def test_other_targets_equal_plain_ones(tiny, llama, target):
    found = rn.attribute(tiny, PROMPTS, site="post", target=target)
    expected = [
        torch.cat([plain_gradient(tiny, llama, prompt, "post", layer, target) for layer in range(N_LAYERS)])
        for prompt in PROMPTS
    ]
    near(found.values, torch.stack(expected))
    assert (found.method, found.target, found.prompts) == ("gradient", target, tuple(PROMPTS))


def test_sites_read_together_are_those_read_alone(tiny):
    together = rn.attribute(tiny, PROMPTS, site="all")
    for site in ("gate", "up", "down", "q", "k", "v", "o"):
        near(together.at(site).values, rn.attribute(tiny, PROMPTS, site=site).values)


@pytest.mark.parametrize(("method", "n"), [("gradient", 6), ("relp", 6), ("integrated_gradients", 2)])
@pytest.mark.filterwarnings("ignore:Integrated gradients")
def test_a_prompt_does_not_depend_on_its_batch(tiny, method, n, monkeypatch):
    monkeypatch.setattr(paths, "DIVISIONS", 1)
    prompts, options = PROMPTS[-n:], {"method": method, "steps": 3}
    alone = torch.cat([rn.attribute(tiny, [prompt], **options).values for prompt in prompts])
    near(rn.attribute(tiny, prompts, **options).values, alone)
    if n > 2:
        near(rn.attribute(tiny, prompts, batch_size=4, **options).values, alone)


@pytest.fixture
def smooth(wrap, tiny_llama):
    """The tiny Llama with smaller weights, whose paths are less steep, so that few passes are needed."""
    return wrap(halved(tiny_llama[0]), copy.deepcopy(tiny_llama[1]))


def halved(llama):
    llama = copy.deepcopy(llama)
    with torch.no_grad():
        for name, weight in llama.named_parameters():
            if "norm" not in name:
                weight *= 0.5
    return llama


@pytest.mark.parametrize("site", ["post", "k", *full_only("gate", "up", "down", "q", "v", "o")])
def test_integrated_gradients_sum_to_what_the_layer_without_them_loses(smooth, site):
    prompts = PROMPTS[2:4]
    found = rn.attribute(smooth, prompts, site=site, method="integrated_gradients")
    clean = torch.tensor(rn.recall(smooth, prompts, generate=False)["logprob"].to_numpy())
    width = len(found.space) // N_LAYERS
    for layer in range(N_LAYERS):
        neurons = rn.NeuronSet.from_pairs([(layer, index) for index in range(width)], site=site)
        with rn.ablate(smooth, neurons):
            ablated = torch.tensor(rn.recall(smooth, prompts, generate=False)["logprob"].to_numpy())
        total = found.values[:, layer * width : (layer + 1) * width].double().sum(dim=1)
        torch.testing.assert_close(total, clean - ablated, rtol=0.01, atol=0.001)


def test_integrated_gradients_equal_the_mean_over_many_points(smooth, tiny_llama):
    llama, prompt = halved(tiny_llama[0]), PROMPTS[3]
    found = rn.attribute(smooth, [prompt], method="integrated_gradients").values.view(N_LAYERS, -1)
    for layer in (0, 2):
        near(found[layer], plain_path(smooth, llama, prompt, layer), 5e-3)


def test_a_path_that_is_too_steep_is_told(tiny, monkeypatch):
    monkeypatch.setattr(paths, "DIVISIONS", 1)
    with pytest.warns(UserWarning, match="miss up to .* % of what is lost without it"):
        rn.attribute(tiny, PROMPTS[2:4], site="k", method="integrated_gradients", steps=2)


@pytest.mark.filterwarnings("ignore:Integrated gradients")
def test_rounding_to_16_bits_does_not_have_paths_divided_to_the_last(planted, monkeypatch):
    counts, sums = [], paths._Path._sums
    monkeypatch.setattr(paths._Path, "_sums", lambda path, parts: counts.append(len(parts)) or sums(path, parts))
    prompts = rn.make_prompts(planted.relations, rn.PromptConfig(shots=2, n_evaluation=2)).evaluation[:2]
    found, numbers = [], []
    for dtype in (torch.float32, torch.bfloat16):
        wrap = WRAPPERS.get("hooked", WRAPPERS["bridge"])
        model = wrap(copy.deepcopy(planted.llama).to(dtype), planted.tokenizer, name="planted")
        found.append(rn.attribute(model, prompts, method="integrated_gradients", steps=4).values)
        numbers.append(sum(counts))
        counts.clear()
    assert numbers[1] <= 2 * numbers[0]
    assert (found[1] - found[0]).abs().max() < 0.05 * found[0].abs().max()


def test_integrated_gradients_follow_true_ablations_of_planted_neurons(planted):
    prompts = rn.make_prompts(planted.relations, rn.PromptConfig(shots=0, n_evaluation=2)).evaluation
    neurons = planted.neurons["lives"]
    exact = rn.attribute(planted.model, prompts, method="exact", neurons=neurons)
    columns = exact.space.flatten(list(neurons))
    path = rn.attribute(planted.model, prompts, method="integrated_gradients")
    both = torch.stack([path.values[:, columns].flatten(), exact.values[:, columns].flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.9


@pytest.mark.parametrize("site", ["post", "gate", "down", "o"])
@pytest.mark.parametrize("target", ["logprob", "margin"])
def test_exact_equals_a_model_with_weights_of_zero(tiny, llama, site, target):
    neurons = [rn.Neuron(site, 0, 3), rn.Neuron(site, 2, 17)]
    found = rn.attribute(tiny, PROMPTS, site=site, method="exact", neurons=neurons, target=target)
    for neuron in neurons:
        column = int(found.space.flatten([neuron])[0])
        cut = copy.deepcopy(llama)
        weight = cut.model.layers[neuron.layer].get_submodule(PARTS[site][0]).weight.data
        (weight.T if site == "post" else weight)[neuron.index] = 0
        expected = [plain_target(tiny, llama, one, target) - plain_target(tiny, cut, one, target) for one in PROMPTS]
        near(found.values[:, column], torch.tensor(expected))
    assert int(found.values.isnan().sum()) == len(PROMPTS) * (len(found.space) - 2)


@pytest.fixture
def hooked_llama(tiny_llama):
    """The tiny Llama as a model that can begin in the middle."""
    if HookedTransformer is None:
        pytest.skip("TransformerLens 4 has only the bridge")
    return hook_llama(copy.deepcopy(tiny_llama[0]), copy.deepcopy(tiny_llama[1]))


@pytest.mark.parametrize("site", ["post", "gate", "up"])
@pytest.mark.parametrize("target", ["logprob", "margin"])
def test_ablations_in_the_residual_stream_equal_whole_passes(hooked_llama, site, target, monkeypatch):
    """Prompts of several lengths, some with examples in common, in batches that mix them."""
    monkeypatch.setattr(single_ablations, "MAX_PROMPTS", 6)
    prompts = [*word_prompts(7, examples=True), *word_prompts(3, examples=False, seed=1)]
    neurons = [rn.Neuron(site, layer, index) for layer, index in [(2, 17), (0, 3), (1, 40), (0, 31)]]
    targets = make_targets(hooked_llama, prompts, target)
    expected = single_ablations.by_whole_passes(hooked_llama, neurons, targets, None, silent)
    ran = []
    for block in hooked_llama.blocks:
        monkeypatch.setattr(block, "apply_mlp", noted(block.apply_mlp, ran))
    told = []
    options = {"batch_size": 5, "progress": told.append}
    found = single_ablations.by_ablation(hooked_llama, neurons, targets, **options)
    near(found, expected)
    assert sum(told) == len(prompts) * (1 + len(neurons))
    ran.clear()
    last = single_ablations.by_ablation(hooked_llama, neurons[:1], targets, batch_size=20)
    near(last, expected[:, :1])
    assert len(ran) == 2 * N_LAYERS  # the clean passes over six and four prompts, and no layer behind the last


def noted(function, calls):
    def call(*arguments):
        calls.append(function)
        return function(*arguments)

    return call


@pytest.mark.parametrize("layer", [0, 2])
def test_ablations_go_by_whole_passes_where_anything_is_hooked(tiny, layer):
    """Half of the activations is taken away behind the neuron, or in its own layer, where the ablation comes first."""
    neuron, targets = rn.Neuron("post", 0, 3), make_targets(tiny, PROMPTS, "logprob")
    with hooked(tiny, [(hook_name(tiny, "post", layer), lambda value: value / 2)]):
        found = rn.attribute(tiny, PROMPTS, method="exact", neurons=[neuron]).values[:, 3]
        expected = single_ablations.by_whole_passes(tiny, [neuron], targets, None, silent)[:, 0]
    near(found, expected)
    without = rn.attribute(tiny, PROMPTS, method="exact", neurons=[neuron]).values[:, 3]
    assert float((found - without).abs().max()) > 0.01


def test_relevance_equals_rules_in_plain_steps(tiny, llama):
    sites = ("gate", "up", "down")
    found = {site: rn.attribute(tiny, PROMPTS, site=site, method="relp").values for site in (*sites, "post", "v", "o")}
    found["ffn"] = rn.attribute(tiny, PROMPTS, site="ffn", method="relp").values
    for row, prompt in enumerate(PROMPTS):
        logits, expected = plain_relevance(tiny, llama, prompt)
        with torch.no_grad():  # the plain model is the model
            near(logits, llama(tokens_of(tiny, prompt)).logits[0])
        for site, values in found.items():
            parts = sites if site == "ffn" else (site,)
            plain = torch.cat([expected[part, layer] for part in parts for layer in range(N_LAYERS)])
            near(values[row], plain)


def test_relevance_leaves_no_hook_and_the_model_as_it_was(tiny):
    before = rn.recall(tiny, PROMPTS, generate=False)["logprob"].tolist()
    rn.attribute(tiny, PROMPTS, method="relp")
    assert rn.recall(tiny, PROMPTS, generate=False)["logprob"].tolist() == before
    assert not any(point.fwd_hooks for point in tiny.hook_dict.values())
    assert not any(weight.requires_grad or weight.grad is not None for weight in tiny.parameters())


def test_gradients_are_there_where_the_caller_has_none(tiny):
    expected = rn.attribute(tiny, PROMPTS).values
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            near(rn.attribute(tiny, PROMPTS).values, expected)


def test_contributions_in_an_ablated_model(tiny, llama):
    neurons = rn.NeuronSet.from_pairs([(1, 5), (1, 6)])
    cut = copy.deepcopy(llama)
    cut.model.layers[1].mlp.down_proj.weight.data[:, [5, 6]] = 0
    with rn.ablate(tiny, neurons):
        found = rn.attribute(tiny, PROMPTS)
    assert not found.values[:, found.space.flatten(list(neurons))].any()
    near(found.values[0, :48], plain_gradient(tiny, cut, PROMPTS[0], "post", 0, "logprob"))


def test_no_graph_below_the_first_neurons(tiny, monkeypatch):
    """What the first layer's neurons are computed from needs no gradient."""
    seen = []
    tiny.hook_dict["blocks.0.mlp.hook_pre"].add_hook(lambda value, hook: seen.append(value.requires_grad))
    tiny.hook_dict["blocks.1.mlp.hook_pre"].add_hook(lambda value, hook: seen.append(value.requires_grad))
    rn.attribute(tiny, PROMPTS[:1], site="post")
    tiny.reset_hooks()
    assert seen == [False, True] * 2  # the examples, and the rest


@pytest.mark.filterwarnings("ignore:Memory ran out")
def test_batches_shrink_where_memory_runs_out(tiny, monkeypatch):
    expected, told, rows = rn.attribute(tiny, PROMPTS).values, [], []
    read, backward = batching.Batch.read, torch.Tensor.backward

    def noted(batch, *arguments, **options):
        rows.append(len(batch.rows))
        return read(batch, *arguments, **options)

    def scarce(total):
        backward(total)
        if rows[-1] > 2:
            raise torch.OutOfMemoryError

    monkeypatch.setattr(batching.Batch, "read", noted)
    monkeypatch.setattr(torch.Tensor, "backward", scarce)
    found = rn.attribute(tiny, PROMPTS, batch_size=6, progress=told.append)
    near(found.values, expected)
    assert told == [2, 2, 2]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "exact"}, "was given no neurons"),
        ({"method": "exact", "neurons": []}, "There are no neurons"),
        ({"neurons": [rn.Neuron("post", 0, 0)]}, "was given some neurons"),
        ({"method": "exact", "neurons": [rn.Neuron("post", 9, 0)]}, "no neuron"),
        ({"method": "relp", "site": "attn"}, "site 'q' contributes nothing"),
        ({"method": "integrated_gradients", "steps": 0}, "steps is 0"),
        ({"site": "posts"}, "not a site"),
    ],
)
def test_what_cannot_be_attributed_is_refused(tiny, options, says):
    with pytest.raises(rn.RelationNeuronsError, match=says):
        rn.attribute(tiny, PROMPTS, **options)


def test_prompts_without_an_answer_or_a_rival_are_refused(tiny):
    prompt = PROMPTS[0]
    with pytest.raises(rn.RelationNeuronsError, match="no prompts"):
        rn.attribute(tiny, [])
    with pytest.raises(rn.RelationNeuronsError, match="has no object"):
        rn.attribute(tiny, [rn.Prompt("r", "s", "", prompt.text)])
    with pytest.raises(rn.RelationNeuronsError, match="begins with another token"):
        rn.attribute(tiny, [rn.Prompt("r", "s", "w1", prompt.text, candidates=("w1", "w1 w2"))], target="margin")


def test_rules_that_do_not_act_are_an_error(tiny, monkeypatch):
    constant = RelevanceRules._constant

    def idle(rules, name, value):
        return value if name == "blocks.1.attn.hook_pattern" else constant(rules, name, value)

    monkeypatch.setattr(RelevanceRules, "_constant", idle)
    with pytest.raises(rn.RelationNeuronsError, match=r"does not use .* at blocks\.1\.attn"):
        rn.attribute(tiny, PROMPTS, method="relp")


@pytest.mark.parametrize(
    ("field", "value", "says"), [("act_fn", "solu_ln", "solu_ln"), ("act_fn", "relu", "otherwise")]
)
def test_models_without_rules_are_refused(tiny, monkeypatch, field, value, says):
    monkeypatch.setattr(tiny.cfg, field, value)
    with pytest.raises(rn.RelationNeuronsError, match=says):
        rn.attribute(tiny, PROMPTS, method="relp")


def test_weights_that_are_not_finite_are_refused(tiny, monkeypatch):
    with torch.no_grad():
        tiny.blocks[1].mlp.W_in[0, 0] = float("nan")
    with pytest.raises(rn.RelationNeuronsError, match="not finite"):
        rn.attribute(tiny, PROMPTS)
