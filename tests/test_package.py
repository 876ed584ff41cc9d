"""The wheel carries the relations: built, installed alone into an empty folder, and read from elsewhere."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.install
def test_an_installed_package_finds_its_relations(tmp_path):
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(wheel, check=True, capture_output=True)
    (built,) = tmp_path.glob("*.whl")
    target = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(built)],
        check=True,
        capture_output=True,
    )
    code = (
        "import relation_neurons as rn; from importlib import resources; "
        "import relation_neurons.report.study; "
        "from relation_neurons.cli.notebook_runner import notebook_paths; "
        "assert '00_quickstart' in notebook_paths(); "
        "files = ('report.html', 'section.html', 'page.css', 'page.js', 'neuron.html'); "
        "assert all((resources.files('relation_neurons.report') / 'templates' / one).is_file() for one in files); "
        "print(rn.__file__, len(rn.load_relations()))"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=elsewhere, env={"PYTHONPATH": str(target)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    file, count = done.stdout.split()
    assert Path(file).is_relative_to(target)
    assert count == "16"
