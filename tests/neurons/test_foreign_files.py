"""Neuron sets from other programs' files, in the layouts that they write, and sites by other names."""

import json
import pickle
import re

import pandas as pd
import pytest
import torch

import relation_neurons as rn
from relation_neurons.models.sites import SITES, expand_site
from relation_neurons.neurons.foreign_files import LAPE_LANGUAGES
from relation_neurons.neurons.module_names import MODULE_OF, place_of

N_LAYERS = 3
PUBLISHED = ("BLOOM-7B", "LLaMA-2-13B", "LLaMA-2-70B", "LLaMA-2-7B", "Mistral-7B", "OPT-6.7B", "Phi-2-2.7B")
"""Models whose neurons LAPE publishes, each as `<model>.neuron.pth`."""


def places(neurons):
    return [(neuron.site, neuron.layer, neuron.index) for neuron in neurons]


@pytest.mark.parametrize("number", range(len(PUBLISHED)))
def test_lape_files_are_read_in_the_published_layout(tmp_path, number):
    generator = torch.Generator().manual_seed(number)
    held = [
        [
            torch.randperm(20, generator=generator)[: (number + layer + place) % 4].sort().values
            for layer in range(N_LAYERS)
        ]
        for place, _ in enumerate(LAPE_LANGUAGES)
    ]
    path = tmp_path / f"{PUBLISHED[number]}.neuron.pth"
    torch.save(held, path)
    sets = rn.import_neurons(path)
    expected = {
        name: [("post", layer, int(index)) for layer, one in enumerate(layers) for index in one]
        for name, layers in zip(LAPE_LANGUAGES, held, strict=True)
    }
    assert {name: places(one) for name, one in sets.items()} == {name: one for name, one in expected.items() if one}


def test_a_pickle_that_would_run_something_is_refused(tmp_path):
    class Runs:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").write_text, ("x",))

    path = tmp_path / "evil.pth"
    torch.save([[Runs()]], path)
    with pytest.raises(rn.RelationNeuronsError, match="not safe or not whole"):
        rn.import_neurons(path)
    path.write_bytes(pickle.dumps([[1]]))
    with pytest.raises(rn.RelationNeuronsError, match=r"not safe or not whole|another layout"):
        rn.import_neurons(path)
    assert not (tmp_path / "ran").exists()


def test_expertise_tables_are_read_best_first(tmp_path):
    rows = [
        (0.5, "model.layers.2.mlp.gate_proj:0", 7),
        (0.9, "model.layers.10.mlp.up_proj:0", 3),
        (0.7, "model.layers.0.self_attn.q_proj:0", 1),
    ]
    table = pd.DataFrame(rows, columns=["ap", "layer", "unit"]).assign(
        on_p50=1.0, uuid=range(3), concept="de", group="sense"
    )
    path = tmp_path / "expertise.csv"
    table.to_csv(path, index=False)
    (german,) = rn.import_neurons(path).values()
    assert german.name == "de"
    assert places(german) == [("up", 10, 3), ("q", 0, 1), ("gate", 2, 7)]
    assert german.scores == (0.9, 0.7, 0.5)
    assert places(rn.import_neurons(path, k=2)["de"]) == [("up", 10, 3), ("q", 0, 1)]
    table.assign(layer="transformer.h.4.attn.c_attn:0").to_csv(path, index=False)
    with pytest.raises(rn.RelationNeuronsError, match=r"'transformer\.h\.4\.attn\.c_attn:0' is neither"):
        rn.import_neurons(path)


@pytest.mark.parametrize("written", ["csv", "tsv", "pairs", "objects", "by name"])
def test_plain_tables_and_json_are_read(tmp_path, written):
    pairs, frame = [[3, 1], [0, 5]], pd.DataFrame({"layer": [3, 0], "index": [1, 5]})
    if written in ("csv", "tsv"):
        path = tmp_path / f"mine.{written}"
        frame.to_csv(path, index=False, sep="," if written == "csv" else "\t")
    else:
        path = tmp_path / "mine.json"
        held = {"pairs": pairs, "objects": frame.to_dict("records"), "by name": {"mine": pairs}}[written]
        path.write_text(json.dumps(held), encoding="utf-8")
    (found,) = rn.import_neurons(path, site="mlp.hook_pre").values()
    assert (found.name, places(found)) == ("mine", [("gate", 3, 1), ("gate", 0, 5)])


def test_what_a_set_writes_is_read_again(tmp_path):
    first = rn.NeuronSet(tuple(map(rn.Neuron.parse, ["gate:L2.N3", "down:L0.N1"])), "a", (0.9, 0.8))
    second = rn.NeuronSet.from_pairs([(1, 2)], name="b")
    path = tmp_path / "sets.csv"
    pd.concat([first.to_frame(), second.to_frame()]).to_csv(path, index=False)
    assert rn.import_neurons(path) == {"a": first, "b": second}


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "layer,neuron\n1,2\n", "has the columns layer, neuron. Expected: layer, index"),
        ("a.csv", "layer,index\n1,x\n", "no whole number"),
        ("a.csv", "layer,index\n1,-2\n", "no whole number"),
        ("a.csv", "layer,index\n", "has no neurons"),
        ("a.json", "[[1, 2, 3]]", r"has \[1, 2, 3\] for a neuron"),
        ("a.json", "{", "is not JSON"),
        ("a.npz", "", "is of no known kind"),
        ("a.pth", "PK", "not safe or not whole"),
    ],
)
def test_other_contents_are_refused(tmp_path, name, text, says):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(rn.RelationNeuronsError, match=says):
        rn.import_neurons(tmp_path / name)


def test_layouts_of_tensors_that_are_not_lapes_are_refused(tmp_path):
    for held, says in (
        ([torch.arange(3)], "another layout"),
        ([[torch.zeros(2)]], "another layout"),
        ([[torch.arange(1)], []], "has 1, 0 layers"),
        ({"en": [torch.arange(1)]}, "another layout"),
    ):
        torch.save(held, tmp_path / "x.pth")
        with pytest.raises(rn.RelationNeuronsError, match=says):
            rn.import_neurons(tmp_path / "x.pth")
    torch.save([[torch.arange(1)], [torch.arange(1)]], tmp_path / "x.pth")
    assert list(rn.import_neurons(tmp_path / "x.pth")) == ["set_0", "set_1"]
    assert list(rn.import_neurons(tmp_path / "x.pth", names=["a", "b"])) == ["a", "b"]
    with pytest.raises(rn.RelationNeuronsError, match="has 2 sets and there are 1 names"):
        rn.import_neurons(tmp_path / "x.pth", names=["a"])


def test_hooks_are_sites():
    for site, place in SITES.items():
        assert expand_site(place.hook.removeprefix("blocks.{layer}.")) == (site,)
        assert place_of(place.hook.format(layer=3)) == (site, 3)
        assert place_of(f"model.layers.3.{MODULE_OF[site]}")[0] == ("down" if site == "post" else site)
    with pytest.raises(rn.RelationNeuronsError, match=re.escape("such as 'mlp.hook_post'")):
        expand_site("blocks.3.mlp.hook_post")
    assert rn.NeuronSet.from_pairs([(1, 2)], site="mlp.hook_post") == rn.NeuronSet.from_pairs([(1, 2)])
    found = rn.NeuronSet.from_hooks({"blocks.3.mlp.hook_post": [1, 5], "blocks.0.attn.hook_q": [2]})
    assert places(found) == [("post", 3, 1), ("post", 3, 5), ("q", 0, 2)]
