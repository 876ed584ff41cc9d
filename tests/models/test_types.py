"""What is a hooked model is told without making its hook points."""

import pytest
import torch

from relation_neurons.models.types import HookedModel


def test_models_of_either_kind_are_hooked_and_other_things_are_not(tiny, tiny_llama):
    assert isinstance(tiny, HookedModel)
    for other in (tiny_llama[0], torch.nn.Linear(2, 2), tiny.cfg, "smollm2-135m", None):
        assert not isinstance(other, HookedModel)


def test_a_part_that_only_the_object_has_counts():
    model = torch.nn.Identity()
    model.cfg = model.tokenizer = None
    assert not isinstance(model, HookedModel)
    model.hook_dict = {}
    assert isinstance(model, HookedModel)


def test_hook_points_are_not_made_to_tell_it(tiny, monkeypatch):
    monkeypatch.setattr(type(tiny), "hook_dict", property(lambda _: pytest.fail("made")), raising=False)
    assert isinstance(tiny, HookedModel)
