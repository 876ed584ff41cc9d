"""Options, and which tests a run leaves out; all that imports the package is in `tests.fixtures`."""

import hypothesis

hypothesis.settings.register_profile("default", max_examples=50, deadline=None)
hypothesis.settings.register_profile("full", max_examples=1000, deadline=None)


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="every generated bad input, every place of a kill, and so on")


def pytest_configure(config):
    """Load what tests share; the process that only hands them to workers would import the package for nothing."""
    hypothesis.settings.load_profile("full" if config.getoption("full") else "default")
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        config.pluginmanager.import_plugin("tests.fixtures")


def pytest_collection_modifyitems(config, items):
    """Leave out what only a full run has."""
    if not config.getoption("full"):
        left_out = [item for item in items if item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("full")]
