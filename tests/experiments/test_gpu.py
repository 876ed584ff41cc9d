"""On a GPU: the same neurons and answers as on the CPU, activations that stay there, no waiting within a pass."""

import pandas as pd
import pytest
import torch

import relation_neurons as rn
from relation_neurons.experiments import detection
from relation_neurons.experiments.study import Study
from relation_neurons.experiments.summary import summary
from relation_neurons.interventions.interventions import Intervention, rows_under
from relation_neurons.models.hooked_model import forward, new_cache
from relation_neurons.models.position_kinds import PROMPT
from tests.planted import GROUP, N_LAYERS, plant, planted_config

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
K = GROUP * N_LAYERS


@pytest.fixture(scope="module")
def on_gpu(tmp_path_factory):
    """The planted model, loaded on the GPU as users load theirs."""
    planted, folder = plant(), tmp_path_factory.mktemp("planted")
    planted.llama.save_pretrained(folder)
    planted.tokenizer.save_pretrained(folder)
    return rn.load_model(str(folder), device="cuda", dtype="float32")


def study_of(model, planted, **changes):
    return Study(model, planted.relations, planted_config(rn.StudyConfig, 15, k=K, **changes))


@pytest.mark.parametrize("score_device", [None, "cpu", "cuda"])
def test_the_same_neurons_wherever_they_are_scored(on_gpu, planted, score_device):
    here, there = study_of(planted.model, planted), study_of(on_gpu, planted, score_device=score_device)
    for name in here.names:
        assert list(here.target(name)) == list(there.target(name))
    place = "cpu" if score_device == "cpu" else "cuda"
    assert there.activations(there.detection()).values.device.type == place


def test_activations_that_do_not_fit_are_moved_through_the_gpu(on_gpu, planted, monkeypatch):
    monkeypatch.setattr(detection, "memory_of", lambda device: (1000, 1000))
    here, there = study_of(planted.model, planted), study_of(on_gpu, planted)
    activations = there.activations(there.detection())
    assert (activations.values.device.type, activations.score_on.type) == ("cpu", "cuda")
    for name in here.names:
        assert list(here.target(name)) == list(there.target(name))


def test_activations_read_back_from_a_folder_are_put_on_the_gpu(on_gpu, planted, tmp_path):
    there = study_of(on_gpu, planted)
    there.keep_in(tmp_path)
    assert there.activations(there.detection()).values.is_cuda
    assert list(there.target("lives")) == list(study_of(planted.model, planted).target("lives"))


def test_effects_equal_those_on_the_cpu(on_gpu, planted):
    here, there = (summary(study_of(model, planted)).table for model in (planted.model, on_gpu))
    numbers = here.select_dtypes("number").columns
    pd.testing.assert_frame_equal(here[numbers], there[numbers], atol=1e-3, rtol=1e-3)


def test_the_same_answers_to_the_last_digit_a_second_time(on_gpu, planted):
    study = study_of(on_gpu, planted)
    prompts = study.evaluation()
    conditions = [rn.Condition("clean", prompts), rn.Condition("off", prompts, (Intervention(study.target("lives")),))]
    first, second = (rn.recall_under(on_gpu, conditions) for _ in range(2))
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    cpu = rn.recall_under(planted.model, conditions)
    assert first["generated"].tolist() == cpu["generated"].tolist()
    assert first["logprob"].to_numpy() == pytest.approx(cpu["logprob"].to_numpy(), abs=1e-4)


def test_no_pass_waits_for_the_gpu_while_neurons_are_ablated(on_gpu, planted):
    study = study_of(on_gpu, planted)
    conditions = [[Intervention(study.target(name))] for name in study.names]
    tokens = torch.randint(5, 50, (len(conditions), 6), device="cuda")
    kinds = torch.full_like(tokens, PROMPT)
    with torch.inference_mode(), rows_under(on_gpu, conditions) as patches:
        forward(on_gpu, tokens, kinds, new_cache(on_gpu, len(tokens)), keep=1)  # what is made once is made
        cache = new_cache(on_gpu, len(tokens))
        patches.use(list(reversed(range(len(conditions)))))  # rows are put together anew
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            forward(on_gpu, tokens, kinds, cache, keep=1)
        finally:
            torch.cuda.set_sync_debug_mode("default")
