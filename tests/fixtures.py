"""Shared models; an import hook checks every shape in the package's signatures while tests run."""

import copy
import dataclasses
import json
import os
import shutil

import huggingface_hub
import pytest
import torch
import transformers

if not torch.cuda.is_available():  # before anything imports Triton
    os.environ.setdefault("TRITON_INTERPRET", "1")

from tests.import_hook import checked_import

with checked_import():
    import relation_neurons

    for name in relation_neurons.__all__:  # which imports it
        getattr(relation_neurons, name)

from relation_neurons.models.pretrained import resolve
from relation_neurons.models.wrapping import HookedTransformer, bridge, hook_llama
from tests.planted import plant, word_tokenizer


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Random weights are the same in every run, whatever ran before: none lies just beyond a tolerance by chance."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def full(pytestconfig):
    """Whether every case is tested, or one of each kind."""
    return pytestconfig.getoption("full")


@pytest.fixture(scope="session")
def planted():
    """A tiny model whose relation neurons are known."""
    return plant()


@pytest.fixture(scope="session")
def planted_folder(planted, tmp_path_factory):
    """The planted model and its relations as files, as a user would bring their own."""
    folder = tmp_path_factory.mktemp("planted")
    planted.llama.save_pretrained(folder / "model")
    planted.tokenizer.save_pretrained(folder / "model")
    for relation in planted.relations:
        samples = [dataclasses.asdict(fact) for fact in relation.facts]
        content = {"name": relation.name, "prompt_templates": relation.templates, "samples": samples}
        (folder / f"{relation.name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_llama():
    """A tiny random Llama of Transformers with grouped queries, and a word tokenizer that sets BOS."""
    words = [f"w{number}" for number in range(60)] + ["?", "Answer", ":"]
    tokenizer = word_tokenizer(words, bos=True)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config).eval(), tokenizer


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WRAPPERS = {"bridge": bridge} if HookedTransformer is None else {"hooked": hook_llama, "bridge": bridge}


@pytest.fixture(params=sorted(WRAPPERS))
def wrap(request):
    """Makes a hooked model of a Transformers one, by each way that the installed TransformerLens has."""
    return lambda llama, tokenizer, name="tiny": WRAPPERS[request.param](copy.deepcopy(llama), tokenizer, name=name)


@pytest.fixture
def tiny(wrap, tiny_llama):
    """The tiny random Llama as a hooked model of its own."""
    return wrap(tiny_llama[0], copy.deepcopy(tiny_llama[1]))


@pytest.fixture(scope="session")
def embedded():
    """The embedded trained model."""
    try:
        resolve("smollm2-135m")
    except relation_neurons.RelationNeuronsError as error:
        pytest.skip(str(error))
    return relation_neurons.load_model("smollm2-135m", device="cpu")


@pytest.fixture
def offline(monkeypatch):
    """Nothing is looked for on the network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def browser():
    """A real browser, if one is installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"none of these browsers is installed: {', '.join(BROWSERS)}")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()
