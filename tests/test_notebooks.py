"""Notebooks carry no output, define nothing, and run on the planted model with the API's own numbers."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import relation_neurons as rn

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_is_a_notebook():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_clean(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) <= 15
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    for cell in code:
        assert not cell.outputs
        assert "def " not in cell.source
        assert "sys.path" not in cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, planted_folder, planted):
    notebook = nbformat.read(path, as_version=4)
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    values = {
        "model_name": str(planted_folder / "model"),
        "relation_names": (str(planted_folder),),
        "k": 6,
        "n_evaluation": 10,
    }
    assert all(f"{name} = " in parameters.source for name in values)
    parameters.source += "".join(f"\n{name} = {value!r}" for name, value in values.items())
    notebook.cells.append(nbformat.v4.new_code_cell("print(summary.to_json(orient='records'))"))
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    errors = [
        out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs if out.output_type == "error"
    ]
    assert not errors
    shown = json.loads(notebook.cells[-1].outputs[0].text)

    prompts = rn.make_prompts(planted.relations, rn.PromptConfig(n_evaluation=10))
    asked = [prompt for prompt in prompts.evaluation if prompt.relation == "eats"]
    clean = rn.recall(planted.model, asked)["logprob"].mean()
    (row,) = [row for row in shown if (row["relation"], row["measure"]) == ("eats", "logprob")]
    assert row["clean_mean"] == pytest.approx(clean, abs=1e-4)
