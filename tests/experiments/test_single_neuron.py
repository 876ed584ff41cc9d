"""One neuron up close against scikit-learn, full caches, plain matrix products and ablating by hand."""

import copy
import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
import tyro
from sklearn.metrics import average_precision_score

import relation_neurons as rn
from relation_neurons.activations.collection import token_activations
from relation_neurons.cli.neuron import neuron_command
from relation_neurons.experiments.config import StudyConfig
from relation_neurons.experiments.single_neuron import (
    SingleNeuronConfig,
    contribution_table,
    single_neuron,
    token_table,
    token_text,
)
from relation_neurons.experiments.single_neuron_scores import (
    pooled_values,
    query_pieces,
    resampled_average_precision,
    score_table,
)
from relation_neurons.experiments.study import Study
from relation_neurons.models.hooked_model import hook_name
from relation_neurons.models.logit_attribution import direct_logits, output_row
from relation_neurons.models.wrapping import bridge
from relation_neurons.prompts.tokenization import encode
from relation_neurons.results import neuron_verdicts
from tests.helpers import word_prompts
from tests.planted import planted_config

CONFIG = planted_config(StudyConfig, 8, n_controls=3)
OPTIONS = SingleNeuronConfig(n_resamples=200, n_shuffles=199, n_prompts_shown=3, n_tokens_shown=6)
NEURONS = [
    *(rn.Neuron("post", 1, 47), rn.Neuron("gate", 0, 3), rn.Neuron("up", 2, 5), rn.Neuron("down", 1, 31)),
    *(rn.Neuron("q", 2, 30), rn.Neuron("k", 0, 15), rn.Neuron("v", 1, 2), rn.Neuron("o", 2, 7)),
]


@pytest.fixture(scope="module")
def study(planted):
    return Study(planted.model, planted.relations, CONFIG)


@pytest.fixture(scope="module")
def eats(planted):
    return planted.neurons["eats"].neurons[0]


@pytest.fixture(scope="module")
def result(study, eats):
    return single_neuron(study, eats, OPTIONS)


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
@pytest.mark.parametrize("include_bos", [True, False])
def test_tokens_are_those_of_a_full_cache_and_their_mean_is_pooled(tiny, neuron, include_bos):
    prompts = word_prompts(9, examples=True)
    found = token_activations(tiny, prompts, neuron, include_bos=include_bos, batch_size=4)
    pooled = rn.collect_activations(tiny, prompts, site=neuron.site, include_bos=include_bos)
    column = int(pooled.space.flatten([neuron])[0])
    for prompt, values, mean in zip(prompts, found, pooled.values[:, column], strict=True):
        (one,) = encode(tiny, [prompt])
        _, cache = tiny.run_with_cache(torch.tensor([one.ids]))
        positions = [0] * include_bos + list(range(one.query_start, len(one.ids)))
        expected = cache[hook_name(tiny, neuron.site, neuron.layer)][0].flatten(1)[positions, neuron.index]
        torch.testing.assert_close(values, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(values.mean(), mean, atol=1e-5, rtol=1e-5)


def test_batched_equals_single_and_nothing_stays_hooked(tiny):
    prompts, told = word_prompts(8, examples=True), []
    together = token_activations(tiny, prompts, NEURONS[0], progress=told.append)
    alone = [token_activations(tiny, [prompt], NEURONS[0])[0] for prompt in prompts]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    assert sum(told) == 8
    assert not any(point.fwd_hooks for point in tiny.hook_dict.values())


def test_neurons_that_are_not_there_are_refused(tiny):
    with pytest.raises(rn.RelationNeuronsError, match=r"no neuron post:L3.N0.*layer in 0-2"):
        token_activations(tiny, word_prompts(2, examples=False), rn.Neuron("post", 3, 0))
    with pytest.raises(rn.RelationNeuronsError, match=r"no neuron k:L0.N16.*k 0-15"):
        output_row(tiny, rn.Neuron("k", 0, 16))
    with pytest.raises(rn.RelationNeuronsError, match="no prompts"):
        token_activations(tiny, [], NEURONS[0])


@pytest.mark.parametrize("text", ["L12.N345", "gate:L0.N7", "o:L3.N0"])
def test_what_str_writes_is_read_back(text):
    assert str(rn.Neuron.parse(text)) == text
    assert rn.Neuron.parse(" L12.N345 ", "up") == rn.Neuron("up", 12, 345)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("12.345", "'12.345' is not a neuron. Expected: layer and index such as L12.N345"),
        ("L-1.N2", "is not a neuron"),
        ("L1.N2.5", "is not a neuron"),
        ("gates:L1.N2", "did you mean 'gate'"),
        ("ffn:L1.N2", "stands for gate, up, down"),
        (":L1.N2", "'' is not the site of one neuron"),
    ],
)
def test_other_texts_are_refused(text, says):
    with pytest.raises(rn.RelationNeuronsError, match=says):
        rn.Neuron.parse(text)


def test_average_precision_is_scikit_learns_on_the_prompts_that_ranking_takes(study, planted, result):
    prompts, scores = study.detection(), result.tables["scores"].set_index("relation")
    labels, weights = rn.contrast(prompts, seed=0)
    values = result.tables["values"]["value"].to_numpy()
    for number, name in enumerate(study.names):
        part = weights[:, number]
        expected = average_precision_score(labels[part, number], values[part])
        row = scores.loc[name]
        assert row["ap"] == pytest.approx(expected, abs=1e-6)
        assert row["chance"] == labels[part, number].mean()
        assert (row["n_positive"], row["n_negative"]) == (labels[part, number].sum(), (~labels[part, number]).sum())
        assert row["mean_positive"] == pytest.approx(values[labels[:, number]].mean(), rel=1e-5)
    pooled = rn.collect_activations(planted.model, prompts)
    column = pooled.values[:, pooled.space.flatten([planted.neurons["eats"].neurons[0]])[0]]
    np.testing.assert_allclose(values, column, rtol=1e-5)


@pytest.mark.parametrize("name", ["lives", "eats", "plays"])
def test_a_planted_neuron_has_the_highest_average_precision_for_its_relation_only(study, planted, name):
    scores = single_neuron(study, planted.neurons[name].neurons[-1], OPTIONS).table.set_index("relation")
    assert scores.loc[name, "ap"] == 1.0
    assert scores.loc[name, ["ap_low", "ap_high"]].tolist() == [1.0, 1.0]
    assert scores.loc[name, "p"] == 1 / 200
    assert scores.loc[name, "p_holm"] == pytest.approx(3 / 200)
    assert scores["verdict"].to_dict() == {
        other: "above chance" if other == name else "not shown" for other in scores.index
    }
    assert scores.loc[name, "null_mean"] == pytest.approx(1 / 3, abs=0.05)


def test_resampling_is_weighting_in_scikit_learn():
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 6, 40).astype(float)  # with ties
    labels, counts = generator.random((7, 40)) < 0.3, generator.integers(0, 4, (7, 40))
    found = resampled_average_precision(scores, labels, counts)
    expected = [average_precision_score(a, scores, sample_weight=b) for a, b in zip(labels, counts, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def made_up(n, seed=0):
    """Prompts of two relations with values that tell them apart a little."""
    generator = np.random.default_rng(seed)
    prompts = [rn.Prompt(name, f"{name}{i}", "o", f"{name}{i} ?") for name in "ab" for i in range(n)]
    values = [torch.tensor([generator.normal(0.6 * (one.relation == "a"))]).float() for one in prompts]
    return prompts, values


def test_facts_are_the_units_however_often_they_are_asked():
    prompts, values = made_up(20)
    once = score_table(prompts, pooled_values(prompts, values))
    again = [dataclasses.replace(one, text=f"Again: {one.text}", template=1) for one in prompts]
    twice = score_table([*prompts, *again], pooled_values([*prompts, *again], [*values, *values]))
    same = ["ap", "ap_low", "ap_high", "chance", "null_mean", "null_high", "p", "n_facts", "n_other_facts"]
    pd.testing.assert_frame_equal(once[same], twice[same], rtol=1e-6)
    assert twice["n_positive"].tolist() == [40, 40]
    assert once["ap_low"][0] < once["ap"][0] < once["ap_high"][0]


def test_the_interval_is_a_bootstrap_over_facts_within_positives_and_negatives():
    prompts, values = made_up(30)
    row = score_table(prompts, pooled_values(prompts, values), n_resamples=2000).iloc[0]
    numbers = np.array([float(value) for value in values])
    generator, found = np.random.default_rng(1), []
    for _ in range(1000):
        chosen = np.concatenate([generator.integers(0, 30, 30), generator.integers(30, 60, 30)])
        found.append(average_precision_score(chosen < 30, numbers[chosen]))
    assert (row["ap_low"], row["ap_high"]) == pytest.approx(tuple(np.quantile(found, [0.025, 0.975])), abs=0.03)


def test_labels_shuffled_say_little_of_a_neuron_that_tells_nothing():
    p = []
    for seed in range(40):
        prompts, values = made_up(15, seed)
        blind = [torch.rand(1, generator=torch.Generator().manual_seed(100 * seed + i)) for i in range(len(values))]
        p.append(score_table(prompts, pooled_values(prompts, blind), n_resamples=100, n_shuffles=99)["p"][0])
    assert 0.3 < np.mean(p) < 0.7
    assert np.mean(np.array(p) < 0.05) < 0.2


def test_a_single_fact_has_no_interval():
    prompts, values = made_up(1)
    row = score_table(prompts, pooled_values(prompts, values)).iloc[0]
    assert (row["ap_low"], row["ap_high"]) == (0.0, 1.0)


def test_top_prompts_hold_the_tokens_of_the_extreme_prompts(study, planted, eats, result):
    values, top_prompts = result.tables["values"], result.tables["top_prompts"]
    order = values.sort_values("value", ascending=False, kind="stable")
    for side, expected in (("most", order.head(3)), ("least", order[::-1].head(3))):
        places = top_prompts[top_prompts["side"] == side].drop_duplicates("place")
        assert places["value"].tolist() == expected["value"].tolist()
        assert places["place"].tolist() == [1, 2, 3]
    prompts = {one.text: one for one in study.detection()}
    for (_, text), rows in top_prompts.groupby(["place", "prompt"]):
        (one,) = encode(planted.model, [prompts[text]])
        _, cache = planted.model.run_with_cache(torch.tensor([one.ids]))
        expected = cache[hook_name(planted.model, eats.site, eats.layer)][0, :, eats.index].tolist()
        np.testing.assert_allclose(rows["activation"], expected, rtol=1e-5, atol=1e-6)
        assert "".join(rows["token"]) == text
        assert rows["position"].tolist() == list(range(len(one.ids)))
        assert rows["value"].iloc[0] == pytest.approx(np.mean(expected), rel=1e-5)
    at_most = top_prompts[(top_prompts["side"] == "most") & (top_prompts["place"] == 1)]
    assert at_most.loc[at_most["activation"].idxmax(), "token"].strip() == "eats"


def test_pieces_are_of_the_query_only(tiny):
    for prompt in word_prompts(4, examples=True):
        assert "".join(query_pieces(tiny, prompt)).strip() == prompt.text[prompt.query_start :]


def test_a_bos_token_that_counts_stands_in_front(tiny):
    prompts = word_prompts(4, examples=False)
    tokens = token_activations(tiny, prompts, NEURONS[0], include_bos=True)
    from relation_neurons.experiments.single_neuron_scores import top_prompts_table

    table = top_prompts_table(tiny, prompts, pooled_values(prompts, tokens), tokens, 1)
    first = table[table["position"] == -1]
    assert first["token"].tolist() == ["<bos>", "<bos>"]
    assert len(table[table["side"] == "most"]) == len(tokens[0]) or len(first) == 2


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_tokens_are_a_plain_product_of_weights(wrap, tiny_llama, neuron):
    llama = copy.deepcopy(tiny_llama[0])
    with torch.no_grad():
        llama.model.norm.weight.copy_(torch.rand(32, generator=torch.Generator().manual_seed(1)) + 0.5)
    model = wrap(llama, copy.deepcopy(tiny_llama[1]))
    row = output_row(model, neuron)
    if neuron.site in "qkv":
        assert row is None
        assert token_table(model, neuron, 5).empty
        return
    column = llama.model.layers[neuron.layer].mlp.down_proj.weight[:, neuron.index]
    written = torch.eye(32)[neuron.index] if neuron.site in ("down", "o") else column
    expected = ((written * llama.model.norm.weight) @ llama.lm_head.weight.T).detach()
    torch.testing.assert_close(direct_logits(model, row), expected, atol=1e-5, rtol=1e-5)
    table = token_table(model, neuron, 4)
    for side, best in (("promotes", expected.topk(4)), ("suppresses", (-expected).topk(4))):
        rows = table[table["side"] == side]
        assert rows["id"].tolist() == best.indices.tolist()
        assert rows["rank"].tolist() == [1, 2, 3, 4]
        assert rows["token"].tolist() == model.tokenizer.convert_ids_to_tokens(best.indices.tolist())
    z = (expected - expected.mean()) / expected.std(correction=0)
    np.testing.assert_allclose(table["z"], z[table["id"].tolist()], rtol=1e-4)


def test_a_direction_adds_to_logits_what_attribution_says(tiny):
    """Up to the scale of the norm, which a small step across the stream hardly changes."""
    generator = torch.Generator().manual_seed(0)
    stream, step = torch.randn(2, 32, generator=generator)
    step -= stream * (step @ stream) / (stream @ stream)
    after, before = (tiny.unembed(tiny.ln_final((stream + part * step)[None, None]))[0, 0] for part in (0.02, -0.02))
    expected = (after - before) / 0.04 * stream.square().mean().sqrt()
    torch.testing.assert_close(direct_logits(tiny, step), expected, atol=1e-3, rtol=1e-3)


def test_a_norm_that_centres_is_followed(tiny_llama):
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(tiny_llama[1]), n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=3, eos_token_id=2
    )
    gpt = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        gpt.transformer.ln_f.weight.normal_(1, 0.2)
    weights = {name: value.clone() for name, value in gpt.state_dict().items()}
    model = bridge(gpt, copy.deepcopy(tiny_llama[1]), name="gpt2")
    row = output_row(model, rn.Neuron("post", 1, 9))
    expected = weights["transformer.h.1.mlp.c_proj.weight"][9]
    torch.testing.assert_close(row, expected)
    centred = (expected - expected.mean()) * weights["transformer.ln_f.weight"]
    torch.testing.assert_close(direct_logits(model, row), centred @ weights["lm_head.weight"].T, atol=1e-5, rtol=1e-5)


def test_a_planted_neuron_promotes_the_objects_of_its_relation(planted, result):
    tokens = result.tables["tokens"]
    promoted = tokens[tokens["side"] == "promotes"]
    assert set(promoted["token"]) == {f"eats{number}" for number in range(4)}
    assert (tokens[tokens["side"] == "suppresses"]["z"] < 0).all()
    assert (promoted["logit"] > 0).all()


class Tokenizer:
    """Three tokens: a byte-level space, SentencePiece's, and half a letter."""

    names = ("ĠParis", "\u2581Paris", "Ã")

    def convert_ids_to_tokens(self, number):
        return self.names[number]

    def decode(self, numbers):
        return [" Paris", "Paris", "\ufffd"][numbers[0]]


def test_tokens_are_text_with_the_space_in_front():
    assert [token_text(Tokenizer(), number) for number in range(3)] == [" Paris", " Paris", "Ã"]


def test_effects_are_those_of_ablating_the_neuron_by_hand(study, planted, eats, result):
    asked = study.evaluation("eats")
    clean = rn.recall(planted.model, asked)
    with rn.ablate(planted.model, rn.NeuronSet((eats,))):
        ablated = rn.recall(planted.model, asked)
    row = result.tables["effects"].query("relation == 'eats' and measure == 'logprob'").iloc[0]
    assert row["effect"] == pytest.approx((ablated["logprob"] - clean["logprob"]).mean(), abs=1e-5)
    assert row["effect"] < 0
    assert row["ablated"] == str(eats)
    answers = result.tables["answers"].query("relation == 'eats'")
    assert sorted(answers["draw"].unique()) == [-1, 0, 1, 2]
    assert (row["n"], row["n_controls"]) == (8, 3)
    own = answers[answers["draw"] == -1]
    np.testing.assert_allclose(own["d_logprob"], ablated["logprob"] - clean["logprob"], atol=1e-5)
    random = answers[answers["draw"] >= 0].groupby("draw")["d_logprob"].mean()
    assert row["random"] == pytest.approx(random.mean())


def test_controls_are_single_neurons_of_the_same_place_and_others_for_another_neuron(study, planted, monkeypatch):
    asked = []

    def changes(cases, **options):
        asked.append([case.neurons.neurons for case in cases])
        return Study.changes(study, cases, **options)

    monkeypatch.setattr(study, "changes", changes)
    first, second = planted.neurons["plays"].neurons[:2]
    for neuron in (first, second):
        single_neuron(study, neuron, OPTIONS)
    (own,), drawn, _, other = asked
    assert own == (first,)
    assert len({one for (one,) in drawn}) == 3
    assert all((one.site, one.layer) == (first.site, first.layer) and one != first for (one,) in drawn)
    assert drawn != other


def test_contributions_are_those_of_attribute_where_the_scorer_reads_them(study, planted, eats, result):
    assert result.tables["contributions"].empty
    attributed = Study(planted.model, planted.relations, dataclasses.replace(CONFIG, scorer="attribution_t"))
    prompts = study.detection()
    table = contribution_table(attributed, eats, prompts).set_index("relation")
    found = rn.attribute(planted.model, prompts, site=eats.site)
    values = found.values[:, found.space.flatten([eats])[0]].numpy()
    own = np.array([prompt.relation == "eats" for prompt in prompts])
    assert table.loc["eats", "n"] == len({prompt.unit for prompt in prompts if prompt.relation == "eats"})
    assert table.loc["eats", "contribution"] == pytest.approx(values[own].mean(), rel=1e-5)
    assert table.loc["eats", "others"] == pytest.approx(values[~own].mean(), rel=1e-5)
    assert table["contribution"].idxmax() == "eats"
    assert table.loc["eats", "contribution_low"] > table.drop(index="eats")["contribution_high"].max()


def test_a_neuron_of_attention_is_looked_at_too(study):
    result = single_neuron(study, rn.Neuron("v", 0, 5), OPTIONS)
    assert result.tables["tokens"].empty
    assert "no output row" in " ".join(result.verdict)
    assert "through attention" in " ".join(result.verdict)
    assert len(result.tables["effects"]) == 6


def test_the_verdict_names_what_is_shown(result, eats):
    said = neuron_verdicts.single_neuron(eats, dict(result.tables))
    assert said == result.verdict
    assert len(said) == 5
    assert (
        f"{eats} tells eats from other relations best: average precision 1.000 [1.000, 1.000] over 32 facts" in said[0]
    )
    assert "above chance in 1 of 3 relations (eats)" in said[0]
    assert "Its top activating prompt is 's" in said[1]
    assert "the top activating prompts are of eats" in said[1]
    assert re.search(r"promotes 'eats\d' \(z \+", said[2])
    tables = dict(result.tables)
    effects = tables["effects"].copy()
    shown = (effects["relation"] == "eats") & (effects["measure"] == "logprob")
    effects.loc[shown, ["verdict", "effect", "effect_low", "effect_high"]] = ["falls", -1.5, -2.0, -1.0]
    effects.loc[~shown, "verdict"] = "not shown"
    something = neuron_verdicts.single_neuron(eats, tables | {"effects": effects})
    assert "layer in 1 of 3 relations (eats)" in something[3]
    assert "Largest change: eats -1.500 [-2.000, -1.000], random neurons" in something[3]
    assert ", falls." in something[3]
    assert "in 0 of 3 relations (none) and rises in 0 (none)" in something[4]
    nothing = tables["scores"].assign(verdict="not shown")
    assert (
        "above chance in 0 of 3 relations (none)"
        in neuron_verdicts.single_neuron(eats, tables | {"scores": nothing})[0]
    )


def test_senseless_options_are_refused():
    for wrong in ({"n_prompts_shown": 0}, {"n_tokens_shown": 0}, {"n_resamples": 1}, {"n_shuffles": 0}):
        with pytest.raises(rn.RelationNeuronsError, match=next(iter(wrong))):
            SingleNeuronConfig(**wrong)


def call(*arguments):
    tyro.cli(neuron_command, args=list(arguments), config=(tyro.conf.OmitArgPrefixes,))


@pytest.fixture
def options(planted_folder, tmp_path):
    return [
        *("--model", str(planted_folder / "model"), "--relations", str(planted_folder), "--shots", "0"),
        *("--n-evaluation", "8", "--n-controls", "3", "--device", "cpu", "--n-resamples", "200", "--n-shuffles", "199"),
        *("--k", "6", "--out", str(tmp_path / "study")),
    ]


def test_the_command_writes_tables_and_one_offline_page(options, eats, tmp_path, capsys):
    call(str(eats), *options)
    out, place = capsys.readouterr().out, tmp_path / "study" / "neuron" / f"post-{eats}"
    assert f"{eats} tells eats from other relations best" in out
    assert "Average precision" in out
    assert "Ablated alone" in out
    assert "eats0 (+" in out
    tables = {path.stem: pd.read_parquet(path) for path in place.glob("*.parquet")}
    names = {"scores", "values", "top_prompts", "tokens", "effects", "answers", "contributions"}
    assert set(tables) == names
    assert tables["scores"].set_index("relation").loc["eats", "ap"] == 1.0
    page = (place / "neuron.html").read_text(encoding="utf-8")
    assert len(page) < 10e6
    outside = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r'(src|href)="?http', outside)
    assert page.count('class="plotly-graph-div"') == 5
    assert "eats" in outside
    assert f"{eats} tells eats" in outside
    assert 'title="+' in outside
    call(str(eats), *options)  # goes on in the same folder, with the same answers


def test_the_command_takes_the_site_of_the_study(options, tmp_path):
    call("L1.N3", "--site", "gate", *options)
    assert (tmp_path / "study" / "neuron" / "gate-L1.N3" / "neuron.html").is_file()


@pytest.mark.parametrize(
    ("neuron", "says"),
    [("L9.N0", "no neuron post:L9.N0"), ("gate:L0.N128", "gate 0-127"), ("seven", "is not a neuron")],
)
def test_the_command_refuses_before_it_writes(options, tmp_path, neuron, says):
    with pytest.raises(rn.RelationNeuronsError, match=says):
        call(neuron, *options)
    assert not (tmp_path / "study").exists()
