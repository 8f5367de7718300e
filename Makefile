# Everything a fresh clone needs; Python >= 3.11 with pip and venv is all that is assumed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CACHE := .cache
GGUF := $(CACHE)/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
# Directories $(CACHE)/magika and $(CACHE)/minilm; the NOTICE is written last.
TENSOR_MODELS := $(CACHE)/minilm/NOTICE

# A runner that forbids bytecode would have every daemon of the tests compile 500 modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test lint types outside unit e2e netns interop fresh models clean
.PHONY: bench bench-direct bench-webrtc bench-origin bench-latency bench-memory bench-planner
.PHONY: bench-worker_start bench-inference bench-offload
.PHONY: bench-fanout bench-tracker bench-simulator

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Dreamer needs Python 3.11 or newer: say make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

models: $(GGUF) $(TENSOR_MODELS)

$(GGUF): simulations/demo/model.txt | install
	$(BIN)/python -m dreamer.simulations.demo.model $@

$(TENSOR_MODELS): simulations/demo/tensor_models.txt | install
	$(BIN)/python -m dreamer.simulations.demo.tensor_models $(CACHE)
	touch $@

demo: install models
	$(BIN)/python -m dreamer.simulations.demo.main --gguf $(GGUF)

test: lint types outside unit e2e netns interop fresh

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: install
	$(BIN)/mypy

# What others wrote and the tests run; as root it installs Debian packages too.
outside:
	$(PYTHON) tests/outside.py

unit: install
	$(BIN)/pytest -n 2 -m 'not e2e and not interop and not model'

# Three at a time on two cores: most of these wait for a process or a timeout somewhere.
e2e: install models
	DREAMER_TEST_GGUF=$(abspath $(GGUF)) DREAMER_TEST_MODELS=$(abspath $(CACHE)) \
	    $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder \
	    -m '(e2e or model) and not netns'

# Real networks out of namespaces; without root these skip.
netns: install
	$(BIN)/pytest tests/netns

# What starts daemons, or needs a model, has been run by e2e.
interop: install
	$(BIN)/pytest -n 3 --dist loadfile -m 'interop and not e2e and not model'

fresh: install
	$(BIN)/python tests/fresh_clone.py

# The benchmarks one after the other, each with its table; they want the machine to themselves.
# Fan-out lays a network out of namespaces and needs root.
bench: bench-direct bench-webrtc bench-origin bench-latency bench-memory bench-planner bench-fanout \
       bench-worker_start bench-inference bench-offload

bench-direct bench-fanout: install outside
	$(BIN)/python -m dreamer.simulations.bench.$(@:bench-%=%)

bench-origin bench-latency bench-memory bench-planner bench-simulator bench-worker_start \
bench-offload: install
	$(BIN)/python -m dreamer.simulations.bench.$(@:bench-%=%)

bench-webrtc: install
	$(BIN)/python -m dreamer.simulations.bench.webrtc
	$(BIN)/python -m dreamer.simulations.bench.webrtc_links

# onnxruntime-genai gets a virtual environment of its own: its onnxruntime would overwrite ours.
bench-inference: install models
	$(BIN)/python -m dreamer.simulations.bench.inference --gguf $(GGUF) --genai $(CACHE)/genai

bench-tracker: install outside
	$(BIN)/python -m dreamer.simulations.bench.tracker --npm

# The three figures that the simulator holds the protocol to, as reports with their seeds. Of each
# the status counts, but only once all are written. They take the simulator's time, not the tests'.
FIGURES := flash-crowd malicious-tenth churn
REPORTS := build/reports
.PHONY: sim-figures

sim-figures: install
	status=0; for name in $(FIGURES); do \
	    $(BIN)/dreamer-sim run $$name --out $(REPORTS)/$$name || status=1; \
	done; exit $$status

clean:
	rm -rf $(VENV) $(CACHE) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
