# choreo: two commands do all the set-up: make demo, make test. The rest is listed by `make`.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CHOREO := $(BIN)/choreo
DEMO := demo
.PHONY: help setup demo test test-slow lint man bench generate-data requirements clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(VENV)/.ready: pyproject.toml requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "choreo needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	touch $@

setup: $(VENV)/.ready  ## make .venv with everything in it

demo: setup  ## make synthetic sessions, discover, pair, inspect, preview
	$(CHOREO) synth sessions --sessions 5 --minutes 1 --seed 0 -o $(DEMO)/recordings > /dev/null
	$(CHOREO) discover $(DEMO)/recordings -o $(DEMO)/inventory.json
	$(CHOREO) pair $(DEMO)/inventory.json --split loso --preview -o $(DEMO)/dataset > /dev/null
	$(CHOREO) inspect $(DEMO)/dataset/frames.parquet --table --plot $(DEMO)/frames.png
	$(CHOREO) check $(DEMO)/dataset
	@echo "Look at: $(DEMO)/dataset/report.md, $(DEMO)/dataset/README.md, $(DEMO)/frames.png, $(DEMO)/dataset/preview/"

test: setup  ## the test suite, under 15 minutes on 2 cores
	$(BIN)/python -m pytest -q

test-slow: setup  ## the long campaigns
	$(BIN)/python -m pytest -q -m slow --timeout 1800

lint: setup  ## style, types, man pages and pins
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

man: setup  ## generate the man pages and the TypeScript types
	$(BIN)/python -m choreo_cli.mangen man

bench: setup  ## the figures, each beside its baseline and its floor
	mkdir -p bench-out
	$(CHOREO) bench data --table -o bench-out/data.json

generate-data: setup  ## regenerate examples/data
	$(BIN)/python tests/make_examples.py

requirements: setup  ## pin what is installed now
	$(BIN)/python tests/pins.py > requirements.txt

clean:  ## remove what these targets made
	rm -rf $(DEMO) bench-out .pytest_cache .mypy_cache .ruff_cache .hypothesis
