"""A finished run of the planted model to explore."""

import pytest

import relation_neurons as rn
from relation_neurons.experiments.neuron_cards import CardsConfig
from relation_neurons.experiments.registry import RUN_OPTIONS
from relation_neurons.experiments.runner import reproduce
from relation_neurons.explorer.run_data import open_run_data
from tests.planted import planted_config


@pytest.fixture(scope="package")
def run_folder(planted_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("explored") / "run"
    config = planted_config(rn.StudyConfig, 10, planted_folder, n_controls=2)
    reproduce(["layers"], config, out, options=RUN_OPTIONS, cards=CardsConfig(n_cards=4, n_facts=4))
    return out


@pytest.fixture(scope="package")
def data(run_folder):
    return open_run_data(run_folder, device="cpu")
