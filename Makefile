# choreo: two commands do all the set-up: make demo, make test. The rest is listed by `make`.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CHOREO := $(BIN)/choreo
DEMO := demo
RUNS := runs
DATA ?= $(RUNS)/sessions
DANCES ?= $(RUNS)/dances
SEEDS ?= 0,1,2
BRANCHES ?= 0 1 2 3 4 5
DEVICE ?= cpu
MINUTES ?= 60
TIMES ?= 4
NIGHT := $(RUNS)/nightly/$(shell date -u +%Y%m%dT%H%M%SZ)
.PHONY: help setup demo test test-slow lint man bench generate-data requirements clean
.PHONY: train-rps train-mapper train-flow evaluate report baseline run-sim run-live test-live nightly branches evidence

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
	$(CHOREO) train rps $(DEMO)/dataset -o $(DEMO)/rps > /dev/null
	$(CHOREO) train mapper $(DEMO)/rps -o $(DEMO)/mapper --table
	$(CHOREO) evaluate groove $(DEMO)/mapper --no-gate -o $(DEMO)/groove.json --table
	$(CHOREO) run-live --checkpoint $(DEMO)/mapper --source $(DEMO)/dataset --speed max --out loop: -o $(DEMO)/played --table
	$(CHOREO) evaluate groove $(DEMO)/played --no-gate -o $(DEMO)/played.json --table
	$(CHOREO) report $(DEMO)/rps $(DEMO)/mapper $(DEMO)/groove.json $(DEMO)/played.json -o $(DEMO)/report --table || test $$? -eq 1 -o $$? -eq 3
	@echo "Look at: $(DEMO)/report/report.html, $(DEMO)/dataset/report.md, $(DEMO)/frames.png, $(DEMO)/dataset/preview/"

$(RUNS)/sessions/sessions.json: | setup
	$(CHOREO) synth sessions --sessions 8 --minutes 3 --bpm 92,120,140 --seed 0 --frames-only -o $(RUNS)/sessions > /dev/null

$(DATA): | $(RUNS)/sessions/sessions.json

train-rps: setup | $(DATA)  ## train M1 on DATA (synthetic sessions by default), three seeds, and once literally
	$(CHOREO) train rps $(DATA) --seeds $(SEEDS) -o $(RUNS)/rps --table
	$(CHOREO) train rps $(DATA) --form literal -o $(RUNS)/rps-literal --table

train-mapper: train-rps  ## train M3 on the trained M1, with and without the normaliser
	$(CHOREO) train mapper $(RUNS)/rps --seeds 0,1,2,3,4 -o $(RUNS)/mapper --table
	$(CHOREO) train mapper $(RUNS)/rps --seeds 0,1,2,3,4 --set normalizer=false -o $(RUNS)/mapper-raw --table

$(RUNS)/dances/motions.json: | setup
	$(CHOREO) synth motions --clips 512 --seconds 10 --seed 0 --jobs 0 -o $(RUNS)/dances > /dev/null

$(RUNS)/dances: | $(RUNS)/dances/motions.json

train-flow: setup | $(DANCES)  ## train a dancer on DANCES (synthetic by default) and judge it: under an hour on 2 cores
	$(CHOREO) train flow $(DANCES) --config examples/generation/tiny-train.yaml --seed 0 -o $(RUNS)/flow --table
	$(CHOREO) evaluate generation $(RUNS)/flow --samples $(RUNS)/flow-dances -o $(RUNS)/generation.json --table

evaluate: train-mapper  ## judge them on the held-out sessions, and on a negative control
	$(CHOREO) evaluate model $(RUNS)/rps --no-gate -o $(RUNS)/rps.json --table
	$(CHOREO) evaluate model $(RUNS)/mapper --no-gate -o $(RUNS)/mapper.json --table
	$(CHOREO) evaluate normalizer $(RUNS)/mapper $(RUNS)/mapper-raw --no-gate -o $(RUNS)/normalizer.json --table
	$(CHOREO) evaluate groove $(RUNS)/mapper --no-gate -o $(RUNS)/groove.json --table
	$(CHOREO) synth sessions --sessions 8 --minutes 3 --bpm 97,113,150 --seed 300 --frames-only -o $(RUNS)/others > /dev/null
	$(CHOREO) evaluate groove $(RUNS)/mapper --against $(RUNS)/others --no-gate -o $(RUNS)/control.json --table

report: evaluate  ## one page of everything: runs/report/report.html
	$(CHOREO) report $(RUNS)/rps $(RUNS)/rps-literal $(RUNS)/mapper $(RUNS)/mapper-raw $(RUNS)/groove.json $(RUNS)/control.json $(RUNS)/normalizer.json -o $(RUNS)/report --table || test $$? -eq 1 -o $$? -eq 3

$(RUNS)/trajectories/trajectories.json: | setup
	$(CHOREO) synth trajectories --seed 42 -o $(RUNS)/trajectories > /dev/null

branches: setup $(RUNS)/trajectories/trajectories.json  ## train the six branches of the trajectory lab, three seeds, on DEVICE
	$(CHOREO) train video $(RUNS)/trajectories $(foreach k,$(BRANCHES),--branch examples/trajectory/branch$(k).yaml) --seeds $(SEEDS) --device $(DEVICE) -o $(RUNS)/video --table

evidence: setup  ## the tests of true vision: red on a broken twin, green here; logs in artifacts/
	$(BIN)/python tests/trajectory/evidence.py artifacts

run-sim: setup  ## play the bundled session in virtual time, no hardware, and judge it
	$(CHOREO) run-live --speed max --out loop: --planner -o $(RUNS)/sim --table
	$(CHOREO) evaluate groove $(RUNS)/sim --no-gate -o $(RUNS)/sim.json --table

run-live: setup  ## play the bundled session, or SHOW=show.yaml, until Ctrl-C
	$(CHOREO) run-live $(if $(SHOW),--show $(SHOW),--out ws:) -o $(RUNS)/live

baseline: setup  ## train the small M1 and M3 that examples/checkpoints keeps
	$(CHOREO) synth sessions --sessions 8 --minutes 3 --bpm 92,120,140 --seed 0 --frames-only -o $(RUNS)/baseline/sessions > /dev/null
	$(CHOREO) train rps $(RUNS)/baseline/sessions -o $(RUNS)/baseline/rps --table
	$(CHOREO) train mapper $(RUNS)/baseline/rps -o $(RUNS)/baseline/mapper --table
	for m in rps mapper; do mkdir -p examples/checkpoints/$$m && cp $(RUNS)/baseline/$$m/model.* examples/checkpoints/$$m/ || exit 1; done

test: setup  ## the test suite, under 15 minutes on 2 cores
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

test-live: setup  ## real receivers: JACK, fluidsynth, Pure Data, SuperCollider, Strudel in a browser
	$(BIN)/python -m pytest -q -m live --timeout 600 -rs

test-slow: setup  ## the long campaigns, two at a time; then those that need the machine to themselves
	$(BIN)/python -m pytest -q -m "slow and not alone" -n 2 --dist worksteal --timeout 1800 --durations 25
	$(BIN)/python -m pytest -q -m "slow and alone" --timeout 1800 --durations 10

nightly: setup  ## MINUTES of run-live in real time, the long campaigns TIMES as large; into runs/nightly
	mkdir -p $(NIGHT)
	$(BIN)/python -m tests.live.nightly_hour $(NIGHT)/hour --minutes $(MINUTES) > $(NIGHT)/hour.txt 2>&1 || touch $(NIGHT)/short
	@cat $(NIGHT)/hour.txt
	CHOREO_NIGHTLY=$(TIMES) $(BIN)/python -m pytest -q -m slow --timeout 14400 --durations 30 > $(NIGHT)/campaigns.txt 2>&1 || touch $(NIGHT)/short
	@cat $(NIGHT)/campaigns.txt
	@echo "kept in $(NIGHT)"; test ! -e $(NIGHT)/short

lint: setup  ## style, types, man pages and pins
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

man: setup  ## generate the man pages and the TypeScript types
	$(BIN)/python -m choreo_cli.mangen man

bench: setup  ## the figures, each beside its baseline and its floor
	mkdir -p bench-out
	$(CHOREO) bench data --table -o bench-out/data.json
	$(CHOREO) bench train --table -o bench-out/train.json
	$(CHOREO) bench live --table -o bench-out/live.json
	$(CHOREO) bench generate --table -o bench-out/generate.json

generate-data: setup  ## regenerate examples/data
	$(BIN)/python tests/make_examples.py

requirements: setup  ## pin what is installed now
	$(BIN)/python tests/pins.py > requirements.txt

clean:  ## remove what these targets made
	rm -rf $(DEMO) $(RUNS) bench-out .pytest_cache .mypy_cache .ruff_cache .hypothesis
