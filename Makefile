# `make demo` and `make test` do all the set-up on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

MODEL ?= HuggingFaceTB/SmolLM2-135M
POPQA := https://raw.githubusercontent.com/AlexTMallen/adaptive-retrieval/main/data/popQA.tsv

.PHONY: demo demo-real test check docs clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[lm,lm-eval,ray,docs,dev]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/curate demo --output demo

# A pretrained model and PopQA, small: six arms, one seed. All of it: examples/real_models/run.py without the options.
demo-real: $(VENV)/installed popQA.tsv
	$(BIN)/python examples/real_models/run.py $(MODEL) popQA.tsv demo-real --only relation --limit 800 --seeds 1 --steps 60

popQA.tsv:
	curl --fail --location --output $@ $(POPQA)

test: $(VENV)/installed check docs
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir site

clean:
	rm -rf $(VENV) demo demo-real site
