# Each target works alone on a fresh machine with Python >= 3.11 and pip; a second run reuses .venv.
PYTHON ?= python3
BIN := .venv/bin
PROCESSES = $(shell $(PYTHON) -c "import os; print(os.cpu_count() + 1)")

.PHONY: demo test test-peers check cards pages manifest results faults site seen bench clean

demo: .venv/demo.stamp
	$(BIN)/robust-zoo demo

# A process for each core and one more, as some tests wait for a clock; one thread in each, which is faster than torch's own
# threads on such small models.
test: .venv/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

# Compares with the robustness library (genuine checkpoints) and runs timm's own test file; see tests/peers.
test-peers: .venv/peers.stamp
	$(BIN)/python -m pytest -q -m peers

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

cards: manifest pages
	$(BIN)/robust-zoo card --all -o model_cards

# What stands between marks in README.md and docs/, from the rows.
pages: .venv/dev.stamp
	$(BIN)/python -m robust_zoo.cards.blocks .

# The hashes of all that the package vouches for; `robust-zoo verify --signature` checks who signed them.
manifest: .venv/dev.stamp
	$(BIN)/python -m robust_zoo.weights.manifest

# What was measured, from the entries in results/: their table, and the figures of rows.
results: .venv/dev.stamp
	$(BIN)/robust-zoo report results --readme results/README.md --rows robust_zoo/registry/measured.json > /dev/null

# docs/faults.md, from the failures that the tests planted.
faults: .venv/dev.stamp
	$(BIN)/python -m pytest -q -n auto -m fault --write-docs tests/weights

# The zoo as pages for a browser, in site/.
site: .venv/dev.stamp
	$(BIN)/robust-zoo site -o site

# docs/what_a_robust_model_sees.png, and the pictures of the bundled models' pages.
seen: .venv/dev.stamp
	$(BIN)/robust-zoo visualize resnet18_x0_25_cifar10_l2_eps0_5 -o docs/what_a_robust_model_sees.png
	for file in robust_zoo/bundled/*.safetensors; do name=$$(basename $$file .safetensors); \
		$(BIN)/robust-zoo visualize $$name --bare --tile 32 -o results/$$name/seen.webp || exit 1; done

bench: .venv/peers.stamp
	for b in loading.py pipeline.py training_step.py attacks.py "attacks.py --autoattack" site.py; do \
		$(BIN)/python benchmarks/$$b || exit 1; done

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/demo.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e '.[training]'
	touch $@

.venv/dev.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e '.[dev]'
	touch $@ .venv/demo.stamp

.venv/peers.stamp: tests/peers/requirements.txt .venv/dev.stamp
	$(BIN)/python -m pip install -q --no-deps -r tests/peers/requirements.txt
	touch $@

clean:
	rm -rf .venv build *.egg-info
