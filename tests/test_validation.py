"""What users hand to public names is checked by its annotations, and nothing else about those names changes."""

import copy
import dataclasses
import inspect
import pickle

import numpy as np
import pytest
import torch
from jaxtyping import Float

import relation_neurons as rn
from relation_neurons import validation
from relation_neurons.experiments.intra_relation import IntraConfig
from relation_neurons.experiments.neuron_types import NeuronTypesConfig
from relation_neurons.models.sites import SITES, NeuronSpace
from relation_neurons.prompts import contrast, prompts
from relation_neurons.validation import validated
from tests.helpers import word_prompts

LABELS = np.array([True, False, True, False])


def says(call):
    with pytest.raises(rn.RelationNeuronsError) as refusal:
        call()
    return str(refusal.value)


def test_a_wrong_array_is_named_with_its_type_and_shape():
    said = says(lambda: rn.average_precision(np.zeros((4, 3)), LABELS, np.zeros((4, 2))))
    assert said == (
        "rn.average_precision: argument 'mask' is a float64 array of shape (4, 2). "
        'Expected: Bool[Tensor, "example ..."] | Bool[ndarray, "example ..."] | None. '
        "Do this: see help(rn.average_precision)."
    )


def test_shapes_that_do_not_fit_together_are_all_named():
    said = says(lambda: rn.average_precision(torch.zeros(5, 3), torch.from_numpy(LABELS)))
    assert "scores is a float32 tensor of shape (5, 3); labels is a bool tensor of shape (4,)" in said
    assert 'scores: Float[Tensor, "example neuron"] | Float[ndarray, "example neuron"]' in said


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (lambda: rn.make_prompts("lives"), "argument 'relations' is 'lives' (a str). Expected: Sequence[Relation]"),
        (lambda: rn.make_prompts([1]), "argument 'relations' holds 1 (an int). Expected: Sequence[Relation]"),
        (lambda: rn.contrast([*word_prompts(900, examples=False), None]), "argument 'prompts' holds None"),
        (lambda: rn.load_relations(3), "argument 'sources[0]' is 3 (an int). Expected: str | Path | Relation"),
        (lambda: rn.recall("smollm2-135m", []), "argument 'model' is 'smollm2-135m' (a str). Expected: a model from"),
        (lambda: rn.recall(None, [], conditon="a"), "'conditon'. Expected: did you mean 'condition'?"),
        (lambda: rn.ablate(None, 3), "argument 'model' is None. Expected: a model from load_model"),
        (lambda: rn.PromptConfig(shots="2"), "rn.PromptConfig: argument 'shots' is '2' (a str). Expected: int"),
        (lambda: rn.PromptConfig(shots=2.0), "argument 'shots' is 2.0 (a float)"),
        (lambda: rn.PromptConfig(shots=10**5000), "argument 'shots' is something that cannot be shown"),
        (lambda: rn.PromptConfig(shot=2), "'shot'. Expected: did you mean 'shots'?"),
        (lambda: rn.StudyConfig(site="pst"), "argument 'site' is 'pst' (a str). Expected: did you mean 'post'?"),
        (lambda: rn.open_study(kk=3), "'kk'. Expected: did you mean 'k'?"),
        (lambda: rn.Neuron("post", 1.5, 2), "The layer of a neuron is 1.5. Expected: an integer"),
        (lambda: rn.NeuronSet((rn.Neuron("post", 1, 2), 3)), "argument 'neurons' holds 3 (an int)"),
        (lambda: rn.NeuronSet.from_pairs([(1, 2, 3)]), "(1, 2, 3) is not a pair"),
        (lambda: rn.Intervention([(1, 2)]), "neurons"),
        (lambda: rn.Scale("x"), "alpha"),
    ],
)
def test_what_was_found_is_named(call, found):
    assert found in says(call)


def test_numbers_of_numpy_and_lists_pass_and_become_plain():
    config = rn.PromptConfig(shots=np.int64(2), bos=np.bool_(True))
    assert config == rn.PromptConfig(shots=2, bos=True)
    assert type(config.shots) is int
    assert rn.StudyConfig(relations=["a"]) == rn.StudyConfig(relations=("a",))
    assert rn.NeuronSet.from_pairs([[np.int64(1), np.uint8(2)]]).neurons == (rn.Neuron("post", 1, 2),)
    assert type(rn.Neuron("post", np.int64(1), 2).layer) is int
    assert (
        rn.Quantile.over(rn.Activations(torch.zeros(1, 2), (word_prompts(1, examples=False)[0],), tiny_space()), p=1).p
        == 1
    )


def tiny_space():
    return NeuronSpace("m", 1, (("post", 2),))


def test_records_are_equal_copied_pickled_and_listed_as_before():
    for one in (
        rn.PromptConfig(),
        rn.StudyConfig(),
        rn.Neuron("gate", 1, 2),
        rn.NeuronSet.from_pairs([(1, 2)]),
        rn.Scale(2),
    ):
        assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one
        assert dataclasses.is_dataclass(one) <= (
            dataclasses.replace(one) == one if dataclasses.is_dataclass(one) else True
        )
    assert dataclasses.asdict(rn.PromptConfig(shots=1))["shots"] == 1
    assert repr(rn.Neuron("gate", 1, 2)) == "Neuron(site='gate', layer=1, index=2)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        rn.PromptConfig().shots = 3


def test_functions_keep_their_names_docstrings_and_signatures_and_are_found_by_pickle():
    assert rn.contrast is contrast.contrast
    assert rn.contrast.__name__ == "contrast"
    assert rn.contrast.__doc__.startswith("Choose the positive and negative prompts")
    assert list(inspect.signature(rn.contrast).parameters) == ["prompts", "ratio", "balanced", "seed", "positives"]
    assert list(inspect.signature(rn.Fact).parameters) == ["subject", "object", "aliases", "original"]
    assert pickle.loads(pickle.dumps(rn.contrast)) is rn.contrast
    assert rn.PromptConfig is prompts.PromptConfig


@pytest.mark.parametrize("name", sorted({*rn.__all__} - {"Neuron", "RelationNeuronsError"}))
def test_every_public_name_refuses_an_option_that_it_does_not_have(name):
    assert says(lambda: getattr(rn, name)(nowhere=1)).startswith("rn.")


def test_what_is_not_public_is_called_by_its_module():
    config = "relation_neurons.experiments.intra_relation.IntraConfig"
    assert says(lambda: IntraConfig(n_detection_tested="x")).startswith(
        f"{config}: argument 'n_detection_tested' is 'x'"
    )


def test_inside_calls_are_checked_apart_from_those_outside():
    @validated
    def outer(scores: Float[torch.Tensor, "example neuron"]) -> object:
        return inner(scores[:1])

    @validated
    def inner(scores: Float[torch.Tensor, "example neuron"]) -> int:
        return len(scores)

    assert outer(torch.zeros(4, 3)) == 1  # an example of `inner` is none of `outer`


def test_as_many_checks_are_made_of_large_arrays_and_collections_as_of_small(monkeypatch):
    checks = []
    monkeypatch.setattr(validation, "is_bearable", lambda *args, **kwargs: checks.append(args) or True)

    def count(size):
        checks.clear()
        rn.average_precision(torch.rand(size, 3), torch.arange(size) < 2)
        rn.NeuronSet.from_pairs([(0, index) for index in range(size)])
        return len(checks)

    assert 0 < count(10) == count(10_000) < 10


def test_a_system_that_refuses_a_file_is_quoted(tmp_path):
    assert "cannot be used (File name too long)" in says(lambda: rn.open_run("x" * 5000))


def test_a_context_manager_is_still_one(planted):
    neurons, (prompt, *_) = (
        planted.neurons["lives"],
        rn.make_prompts(planted.relations, rn.PromptConfig(shots=0, n_evaluation=1)).evaluation,
    )
    clean = rn.recall(planted.model, [prompt])
    with rn.ablate(planted.model, neurons):
        assert rn.recall(planted.model, [prompt])["logprob"].item() != clean["logprob"].item()
    assert rn.recall(planted.model, [prompt]).equals(clean)


@pytest.mark.parametrize("site", sorted(SITES))
def test_a_hook_stands_for_its_site_in_a_study(site):
    hook = SITES[site].hook.removeprefix("blocks.{layer}.")
    assert rn.StudyConfig(site=hook) == rn.StudyConfig(site=site)
    assert NeuronTypesConfig(sites=(hook, "attn")).sites == (site, "attn")
