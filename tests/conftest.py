"""Options, and which tests a run leaves out; all that imports the package is in `tests.fixtures`."""

from importlib import metadata

import hypothesis

hypothesis.settings.register_profile("default", max_examples=50, deadline=None)
hypothesis.settings.register_profile("full", max_examples=1000, deadline=None)


BRIDGE = metadata.version("transformer-lens") >= "4"
TWICE = (
    "tests/models/test_loading.py",
    "tests/models/test_architectures.py",
    "tests/models/test_device_map.py",
    "tests/attribution",
    "tests/prompts/test_tokenization.py",
    "tests/activations/test_collection.py",
    "tests/interventions/test_interventions.py",
    "tests/inference/test_batching.py",
    "tests/evaluation/test_recall.py",
    "tests/evaluation/test_perplexity.py",
    "tests/evaluation/test_first_tokens.py",
    "tests/experiments/test_planted.py",
)
"""What `make test-bridge` runs, with TransformerLens 4 and the bridge."""
LONG = ("tests/storage/test_permissions.py", "tests/storage/test_interrupts.py", "tests/experiments/test_properties.py")
"""Files that take minutes; they come first, for a worker that begins one last works on while the others are done."""


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="every generated bad input, every place of a kill, and so on")


def pytest_configure(config):
    """Load what tests share; the process that only hands them to workers would import the package for nothing."""
    hypothesis.settings.load_profile("full" if config.getoption("full") else "default")
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        config.pluginmanager.import_plugin("tests.fixtures")


def pytest_collection_modifyitems(config, items):
    """Leave out what only a full run has, and begin with what takes longest."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))
    if not config.getoption("full"):
        left_out = [item for item in items if only_in_full(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not only_in_full(item)]


def only_in_full(item):
    """Whether a test is marked so, or is one of the bridge that `make test-bridge` runs."""
    if item.get_closest_marker("full"):
        return True
    case = getattr(item, "callspec", None)
    return not BRIDGE and case is not None and case.params.get("wrap") == "bridge" and item.nodeid.startswith(TWICE)
