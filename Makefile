# make quickstart  sets everything up and runs the main job; make test sets everything up and passes the tests.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
OLDEST := $(VENV)-oldest

.PHONY: quickstart test test-oldest lint setup results clean

quickstart: $(STAMP)
	$(BIN)/rtmw-edge quickstart $(if $(IMAGE),--image "$(IMAGE)")

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

# What a board may have: no PyTorch, and the oldest versions that the package takes. They want Python 3.10 to 3.12.
test-oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/python -m pytest tests/core tests/bundle tests/runtime tests/attacks

$(OLDEST)/.installed: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/pip install -q -c constraints-oldest.txt -e ".[openvino,tflite,ncnn,evaluate]" onnx pytest hypothesis
	touch $@

# mypy sees what users install: the package, not the work tree.
lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/lint && $(BIN)/pip install -q --no-deps --target build/lint .
	cd build/lint && MYPYPATH=. ../../$(BIN)/mypy --config-file ../../pyproject.toml --python-executable ../../$(BIN)/python -p rtmw_edge

# A quarter of an hour, or two hours: the shipped model over all targets, precisions and grids. It goes on where it was stopped.
results: $(STAMP) sweeps/before-qat.safetensors
	$(BIN)/rtmw-edge sweep benchmarks/shipped_sweep.toml --out sweeps/shipped
	$(BIN)/rtmw-edge results report sweeps/shipped --out docs/results/report.html
	$(BIN)/rtmw-edge results export sweeps/shipped --markdown --out docs/results/tables.md
	$(BIN)/rtmw-edge results export sweeps/shipped --csv --out docs/results/results.csv
	$(BIN)/rtmw-edge results export sweeps/shipped --svg --most 100 --out docs/results/whole.svg
	$(BIN)/rtmw-edge results export sweeps/shipped --svg --most 100 --part face --out docs/results/face.svg
	$(BIN)/rtmw-edge results export sweeps/shipped --svg --most 100 --part left_hand --out docs/results/left-hand.svg

# The shipped weights as they were before they were fine-tuned with quantization; a shallow clone has to fetch that commit.
BEFORE_QAT := bf4332f69b60ac38ebbf0b5553ac5e3cac0033a3
sweeps/before-qat.safetensors: Makefile
	mkdir -p sweeps
	git cat-file -e $(BEFORE_QAT) 2>/dev/null || git fetch --depth 1 origin $(BEFORE_QAT)
	git show $(BEFORE_QAT):benchmarks/before-qat.safetensors > $@.part
	mv $@.part $@

setup: $(STAMP)

# torch first and pinned: an unpinned one brings gigabytes of CUDA. Installed again when pyproject.toml changes.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q torch==2.13.0
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) $(OLDEST) build dist *.egg-info quickstart
