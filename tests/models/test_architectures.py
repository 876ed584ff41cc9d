"""Every architecture against Transformers alone: one prompt at a time, whole sequences, no cache, no padding."""

import copy
import dataclasses
import json
import re
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import relation_neurons as rn
from relation_neurons.activations.collection import collect_activations
from relation_neurons.models.hooked_model import neuron_space
from relation_neurons.models.logit_attribution import output_row
from relation_neurons.models.sites import SITES
from relation_neurons.prompts.tokenization import encode
from tests.helpers import word_prompts
from tests.models.architectures import ARCHITECTURES, tokenizer

LINE = metadata.version("transformer-lens")[0]
LAYERS = re.compile(r"\.(?:layers|h)\.(\d+)$")
PICKED = (1, 7, 30)
COLUMN = {"3": 1, "4": 2}
COMPOSITE = {"ffn": ("gate", "up", "down"), "attn": ("q", "k", "v", "o")}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def loaded(request, tmp_path_factory):
    """An architecture, a model of Transformers, and what `load_model` makes of its folder, or its error."""
    architecture = ARCHITECTURES[request.param]
    theirs, folder = architecture.model(), tmp_path_factory.mktemp(request.param) / "model"
    theirs.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    content = json.loads((folder / "config.json").read_text())
    content.pop("architectures")  # a GGUF file says none either
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.MonkeyPatch.context() as patch:  # Qwen 2 takes every tokenizer for its own
        patch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *args, **kwargs: tokenizer())
        try:
            return architecture, theirs, rn.load_model(folder, device="cpu")
        except rn.RelationNeuronsError as error:
            return architecture, theirs, error


@pytest.fixture
def both(loaded):
    """The architecture and the two models, where it is supported."""
    if isinstance(loaded[2], Exception):
        pytest.skip("refused")
    return loaded


def layers_of(model):
    return [module for name, module in model.named_modules() if LAYERS.search(name)]


def plain_recall(model, one, n):
    """Greedy tokens after a prompt, and the log-probability of its object."""
    said = []
    for _ in range(n):
        said.append(int(model(torch.tensor([[*one.ids, *said]])).logits[0, -1].argmax()))
    rows = model(torch.tensor([[*one.ids, *one.object_ids]])).logits[0].log_softmax(-1)
    return said, sum(float(rows[len(one.ids) - 1 + place, token]) for place, token in enumerate(one.object_ids))


def test_it_is_loaded_or_refused_in_one_sentence(loaded):
    architecture, theirs, ours = loaded
    expected = (architecture.refused or {}).get(LINE)
    assert (expected is None) == (not isinstance(ours, Exception)), ours
    if expected is not None:
        assert expected in str(ours)
        assert len(str(ours)) < 400
        return
    tokens = torch.randint(5, 60, (3, 40))
    with torch.inference_mode():
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits, atol=1e-4, rtol=1e-4)


def values_of(model, sites, ids, start):
    """Each site's mean over the query's tokens, layer by layer, from hooks on Transformers' modules."""
    values, hooks = {site: [] for site in sites}, []
    for site, place in sites.items():

        def note(module, read, gave, to=values[site], place=place):
            to.append((read[0] if place.read else place.part(gave)).clone().flatten(0, -2))

        hooks += [layer.get_submodule(place.module).register_forward_hook(note) for layer in layers_of(model)]
    model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return {site: torch.cat([part[start:].mean(0) for part in found]) for site, found in values.items()}


def test_sites_are_the_projections_of_transformers(both):
    architecture, theirs, ours = both
    prompts = [*word_prompts(3, examples=True), *word_prompts(2, examples=False, seed=1)]
    expected = [values_of(theirs, architecture.sites, one.ids, one.query_start) for one in encode(ours, prompts)]
    whole = [name for name, parts in COMPOSITE.items() if set(parts) <= set(architecture.sites)]
    alone = set(architecture.sites) - {part for name in whole for part in COMPOSITE[name]}
    for site in (*whole, *alone):
        found = collect_activations(ours, prompts, site=site, batch_size=3)
        for one in COMPOSITE.get(site, (site,)):
            for row, values in enumerate(expected):
                torch.testing.assert_close(found.at(one).values[row], values[one], atol=1e-4, rtol=1e-4, msg=one)
    for site in {"post", "gate", "up", "down", "q", "k", "v", "o"} - set(architecture.sites):
        with pytest.raises(rn.RelationNeuronsError, match="no site"):
            neuron_space(ours, site)


@pytest.mark.parametrize("examples", [False, True])
def test_recall_equals_plain_loops(both, examples):
    _, theirs, ours = both
    prompts = word_prompts(5, examples=examples)
    table, forced = rn.recall(ours, prompts, batch_size=3), rn.recall(ours, prompts, generate=False, batch_size=3)
    for row, other, prompt, one in zip(
        table.to_dict("records"), forced.to_dict("records"), prompts, encode(ours, prompts), strict=True
    ):
        said, logprob = plain_recall(theirs, one, max(2, len(prompt.object.split()) + 1))
        said = said[: said.index(2)] if 2 in said else said
        assert row["generated"] == ours.tokenizer.decode(said, skip_special_tokens=True)
        assert row["logprob"] == pytest.approx(logprob, abs=2e-4)
        assert other["logprob"] == pytest.approx(logprob, abs=2e-4)
        assert other["correct_prefix"] == row["correct_prefix"]


@pytest.mark.parametrize("loaded", ["gemma3"], indirect=True)
@pytest.mark.parametrize("n_shots", [0, 2, 8])
def test_prompts_that_outgrow_a_window_are_the_same_in_a_batch_and_alone(both, n_shots, monkeypatch):
    ours = both[2]
    shown = "".join(f"w{20 + shot} w{30 + shot} ? Answer: w{40 + shot}\n" for shot in range(n_shots))
    prompts = [
        dataclasses.replace(prompt, text=shown + prompt.text, query_start=len(shown))
        for prompt in word_prompts(3, examples=False)
    ]
    assert max(len(one.ids) for one in encode(ours, prompts)) > ours.cfg.window or n_shots == 0
    monkeypatch.setattr(
        ours.cfg, "counts_columns", False
    )  # as of a real model, whose window is longer than the text at load
    neurons = rn.NeuronSet.from_pairs([(0, 1), (2, 30)])
    conditions = [
        rn.Condition("clean", tuple(prompts)),
        rn.Condition("off", tuple(prompts), (rn.Intervention(neurons),)),
    ]
    table, alone = rn.recall_under(ours, conditions), rn.recall_under(ours, conditions, batch_size=1)
    assert table.drop(columns="logprob").equals(alone.drop(columns="logprob"))
    np.testing.assert_allclose(table["logprob"], alone["logprob"], atol=1e-4)
    values = collect_activations(ours, prompts).values
    torch.testing.assert_close(values, collect_activations(ours, prompts, batch_size=1).values, atol=1e-4, rtol=1e-4)


def test_perplexity_equals_plain_loops(both):
    _, theirs, ours = both
    texts = [" ".join(f"w{(5 * text + 3 * place) % 60}" for place in range(4 + 9 * text)) for text in range(3)]
    table = rn.perplexity(ours, texts, batch_size=2)
    for nll, text in zip(table["nll"], texts, strict=True):
        ids = torch.tensor([tokenizer()(text).input_ids])
        rows = theirs(ids).logits[0, :-1].log_softmax(-1)
        assert nll == pytest.approx(-float(rows.gather(1, ids[0, 1:, None]).sum()), abs=1e-3)


def test_ablation_equals_zeroed_weights(both):
    architecture, theirs, ours = both
    prompts = word_prompts(2, examples=True)
    encoded = encode(ours, prompts)
    clean = [plain_recall(theirs, one, 0)[1] for one in encoded]
    conditions, expected = [], []
    for site, place in architecture.sites.items():
        width = neuron_space(ours, site).widths[0][1]
        indices = [index for index in PICKED if index < width]
        neurons = rn.NeuronSet.from_pairs([(layer, index) for layer in (0, 2) for index in indices], site=site)
        conditions.append(rn.Condition(site, tuple(prompts), (rn.Intervention(neurons),)))
        zeroed = copy.deepcopy(theirs)
        for layer in (0, 2):
            module = layers_of(zeroed)[layer].get_submodule(place.module)
            weight = module.weight.T if type(module).__name__ == "Conv1D" else module.weight  # [out, in]
            outputs = place.part(torch.arange(len(weight)))[indices]
            if place.read:
                weight[:, indices] = 0
            else:
                weight[outputs] = 0
            if module.bias is not None and not place.read:
                module.bias[outputs] = 0
        expected += [plain_recall(zeroed, one, 0)[1] for one in encoded]
    found = rn.recall_under(ours, conditions, generate=False)["logprob"].tolist()
    assert found == pytest.approx(expected, abs=2e-4)
    changes = [abs(value - clean[row % len(clean)]) for row, value in enumerate(expected)]
    assert min(map(max, zip(changes[::2], changes[1::2], strict=True))) > 1e-4


def test_an_output_row_is_what_a_unit_of_activation_adds_to_the_stream(both):
    architecture, theirs, ours = both
    tokens, step = torch.tensor([[9, 20, 31, 42]]), 0.5
    for site in ("post", "down"):
        if site not in architecture.sites:
            continue
        place, streams = architecture.sites[site], []
        layer = layers_of(theirs)[1]
        module = layer.get_submodule(place.module)

        def add(values):
            values = values.clone()
            values[..., 7] += step
            return values

        def at_input(_, read):
            return (add(read[0]),)

        def at_output(_, read, gave):
            return add(gave)

        watch = layer.register_forward_hook(lambda _, read, gave, to=streams: to.append(first(gave).clone()))
        theirs(tokens)
        hook = module.register_forward_pre_hook(at_input) if place.read else module.register_forward_hook(at_output)
        theirs(tokens)
        hook.remove()
        watch.remove()
        change = ((streams[1] - streams[0]) / step).flatten(0, -2)
        row = output_row(ours, rn.Neuron(site, 1, 7))
        if (change - change[0]).abs().max() > 1e-4:  # not the same at each token, so there is no such row
            assert row is None
        else:
            torch.testing.assert_close(change[0], row, atol=1e-4, rtol=1e-4)


def first(values):
    return values[0] if isinstance(values, tuple) else values


def test_logits_that_are_not_finite_are_refused_naming_the_weights(tmp_path):
    model = ARCHITECTURES["llama"].model()
    model.model.layers[1].mlp.up_proj.weight[3, 4] = float("nan")
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(rn.RelationNeuronsError, match=r"NaN or infinite.*1 of its weights.*layers\.1\.mlp\.up_proj"):
        rn.load_model(tmp_path, device="cpu")


def test_the_table_in_the_docs_says_what_is_found(request, loaded):
    """Each row of docs/results/architectures.md, in the column of the installed line of TransformerLens."""
    name = request.node.callspec.params["loaded"]
    architecture, _, ours = loaded
    page = (Path(__file__).parents[2] / "docs/results/architectures.md").read_text(encoding="utf-8")
    cells = next(
        [cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if f"| {name} |" in line
    )
    if isinstance(ours, Exception):
        assert cells[COLUMN[LINE]] == f"refused: {architecture.refused[LINE]}"
        return
    assert cells[COLUMN[LINE]] == type(ours).__name__
    assert cells[3] == ", ".join(site for site in SITES if site in architecture.sites)
    assert cells[4] == (
        "unpadded" if ours.cfg.counts_columns else f"window {ours.cfg.window}" if ours.cfg.window else ""
    )
