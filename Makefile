# Needs Python 3.11 or newer, git and make. Everything else goes into .venv, made with uv.
PYTHON ?= python3
BIN := .venv/bin
# trust what the machine trusts, so that set-up works behind an institute's proxy too
export UV_SYSTEM_CERTS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1
# modules are compiled once and kept, not again by each process that a test starts
unexport PYTHONDONTWRITEBYTECODE

# one process for each core, up to eight
SIDE_BY_SIDE := -n logical --maxprocesses 8 --dist worksteal

# what `make bench` runs, in this order; choose with make bench BENCH="loader_speed training_speed"
BENCH ?= loader_speed loader_memory loss_speed augmentation_speed training_speed
BESIDE_PEERS := --peers .venv-peers/bin/python

.PHONY: demo test test-slow lint docs docs-live bench bench-gpu lock clean

demo: .venv/ready  ## Run the main job on simulated galaxies; open gzoo-demo/report.html
	$(BIN)/gzoo demo --out gzoo-demo --overwrite

test: lint  ## ruff, pyright, import contracts, pytest
	$(BIN)/pytest $(SIDE_BY_SIDE)

test-slow: .venv/ready  ## The tests that take minutes
	$(BIN)/pytest $(SIDE_BY_SIDE) -m slow

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-cache --no-logo

docs: .venv-docs/ready  ## The site, into docs/build/html; a warning is an error
	.venv-docs/bin/python docs/figures.py
	.venv-docs/bin/sphinx-build -q -W --keep-going -b html -d docs/build/doctrees docs docs/build/html
	@echo "Wrote docs/build/html/index.html. Open it in a browser."

docs-live: docs  ## The same, served on this machine
	.venv-docs/bin/python -m http.server --bind 127.0.0.1 --directory docs/build/html 8000

bench: .venv/ready .venv-peers/ready  ## Loading and training beside the peers, into benchmarks/results; BENCH=... chooses
	for name in $(BENCH); do $(BIN)/python benchmarks/$$name.py $(BESIDE_PEERS) || exit 1; done

bench-gpu: .venv/ready .venv-peers/ready  ## The same on an NVIDIA GPU
	$(BIN)/python benchmarks/gpu_speed.py $(BESIDE_PEERS)
	$(BIN)/python benchmarks/loss_speed.py $(BESIDE_PEERS) --device cuda
	$(BIN)/python benchmarks/augmentation_speed.py $(BESIDE_PEERS) --device cuda

lock: .venv/ready  ## Resolve requirements.lock and docs/requirements.lock again
	.uv/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-header --upgrade -o requirements.lock
	.uv/bin/uv pip compile pyproject.toml --extra docs --constraint requirements.lock --universal --python-version 3.11 \
		--generate-hashes --no-header --upgrade -o docs/requirements.lock

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v < (3, 11) and sys.exit( \
		"gzoo needs Python 3.11 or newer; this is %d.%d. Name another: make PYTHON=python3.12 ..." % v[:2])'
	test -x .uv/bin/uv || ($(PYTHON) -m venv .uv && .uv/bin/python -m pip install --quiet uv)
	.uv/bin/uv venv --quiet --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv
	.uv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes -r requirements.lock
	.uv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --editable .
	touch .venv/ready

# the site is built in an environment of its own
.venv-docs/ready: docs/requirements.lock pyproject.toml | .venv/ready
	.uv/bin/uv venv --quiet --clear --python .venv/bin/python .venv-docs
	.uv/bin/uv pip install --quiet --python .venv-docs/bin/python --require-hashes -r docs/requirements.lock
	.uv/bin/uv pip install --quiet --python .venv-docs/bin/python --no-deps --editable .
	touch .venv-docs/ready

# the peers, which only benchmarks import, in an environment of their own
.venv-peers/ready: benchmarks/peers.txt | .venv/ready
	.uv/bin/uv venv --quiet --clear --python .venv/bin/python .venv-peers
	.uv/bin/uv pip install --quiet --python .venv-peers/bin/python -r benchmarks/peers.txt
	touch .venv-peers/ready

clean:
	rm -rf .venv .venv-docs .venv-peers .uv build docs/build gzoo-demo .gzoo-demo.gzoo-partial
