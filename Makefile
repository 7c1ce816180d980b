# `make` prints these words. Each one sets up what it needs in .venv.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
DEMO := smollm2-135m-instruct-cpu
# In a folder of its own, .venv/modelopt: it touches no other package of the environment.
MODELOPT := nvidia-modelopt==0.47.0 ninja nvidia-ml-py omegaconf pulp scipy antlr4-python3-runtime==4.9.3
# As much of lm-eval's as multiple-choice tasks of local files need, wheels only.
HARNESS := lm-eval==0.4.13 datasets==5.2.0 dill==0.4.1 multiprocess==0.70.19 pyarrow==26.0.1 \
  pandas==3.1.1 xxhash==4.1.0 sacrebleu==2.6.0 portalocker==4.4.2 lxml==6.1.3 tabulate==0.10.0 \
  scipy==1.17.1 threadpoolctl==3.8.0
# The tests of the three rooms that everything stands on; an endpoint's judge is tried on one.
GROUND := tests/unit/recipes tests/unit/artifacts tests/unit/verify tests/conformance tests/golden \
  tests/unit/compile/test_endpoint.py
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The environment is a function of these files: a change of either makes it anew.
SETUP := pyproject.toml constraints.txt

.PHONY: help
help: ## print these words
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1|/' | column -t -s '|'

$(READY): $(SETUP)
	@.ci/system-packages
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q 'pip>=25.1'
	$(BIN)/pip install -q torch==2.13.0
	$(BIN)/pip install -q -c constraints.txt -e '.[aoti,s3,hub,container,plot,trust,serve,report,ray]' --group dev
	$(BIN)/pip install -q --no-deps --target .venv/modelopt $(MODELOPT)
	$(BIN)/pip install -q --no-deps --target .venv/lm-eval $(HARNESS)
	@touch $@

.PHONY: dev
dev: $(READY) ## make the environment in .venv

.PHONY: demo
demo: $(READY) ## the main job on a real model: compile, check, package, publish, prove
	$(BIN)/lmi-compile $(DEMO)

.PHONY: test
test: $(READY) ## all tests but the slow words'
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q \
	  -m 'not chaos and not faults and not families and not scale and not soak'

.PHONY: quick
quick: $(READY) ## the inner loop: recipes, artifacts, compile and models
	$(BIN)/python -m pytest -q -m 'not slow and not smollm2 and not chaos' \
	  tests/unit/recipes tests/unit/artifacts tests/unit/compile tests/unit/models tests/golden

.PHONY: check
check: $(READY) ## style, types, floors, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/house/generated.py --check
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --baseline .secrets.baseline --no-verify

.PHONY: fmt
fmt: $(READY) ## format, and write generated files anew
	$(BIN)/ruff check --fix-only -q .
	$(BIN)/ruff format -q .
	$(BIN)/python tests/house/generated.py

.PHONY: checkpoints
checkpoints: $(READY) ## SmolLM2's TensorRT-LLM checkpoints made and judged on this CPU, minutes
	$(BIN)/python benchmarks/smollm2_checkpoints.py

.PHONY: bench
bench: $(READY) ## the benchmarks, as ratios against the peer
	$(BIN)/pip install -q -c constraints.txt --group bench
	$(BIN)/python benchmarks/noop.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/plan.py
	$(BIN)/python benchmarks/planner_error.py
	$(BIN)/python benchmarks/matrix.py
	$(BIN)/python benchmarks/decode.py
	$(BIN)/python benchmarks/serve.py
	$(BIN)/python benchmarks/judge.py
	$(BIN)/python benchmarks/bench_agreement.py

.PHONY: chaos
chaos: $(READY) ## faults and kills between publishers, pullers, gc and a real S3 server
	$(BIN)/python -m pytest -m chaos
	$(BIN)/python tests/chaos/chaos.py

.PHONY: fuzz
fuzz: $(READY) ## 100,000 damaged inputs into everything that reads bytes of strangers
	$(BIN)/python tests/fuzz/fuzz.py

.PHONY: audit
audit: $(READY) ## known flaws of the pinned packages; SKIPPED where nobody can be asked
	$(BIN)/python tests/house/audit.py

.PHONY: links
links: $(READY) ## every external link still answers; SKIPPED where nobody can be asked
	$(BIN)/python tests/house/links.py

.PHONY: soak
soak: $(READY) ## ten minutes of overload on a server: memory stays, everything is answered or refused
	$(BIN)/python tests/soak/soak.py

.PHONY: docs
docs: $(READY) ## the site in out/site, without a warning
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q --strict

.PHONY: man
man: $(READY) ## manual pages in out/man: man -M out/man lmi-compile
	$(BIN)/python docs/man.py out/man

.PHONY: coverage
coverage: $(READY) ## lines and branches of the three ground rooms that their own tests reach
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q -m 'not chaos' $(GROUND)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

.PHONY: package
package: $(READY) ## wheel and source archive in dist/, installed from the index in a fresh environment
	rm -rf dist out/package
	$(BIN)/python -m hatchling build -d dist
	$(PYTHON) -m venv out/package/venv
	out/package/venv/bin/pip install -q dist/*.whl
	cd out/package && for verb in --version recipes "plan smollm2-135m-instruct-cpu" \
	  "null-demo --cache-dir cache" "pull null-demo pulled"; do \
	  echo "lmi-compile $$verb"; venv/bin/lmi-compile $$verb >said 2>&1 || { cat said; exit 1; }; \
	done

.PHONY: faults
faults: $(READY) ## every seeded fault before the judge, and 50 right builds; writes docs/faults.md
	$(BIN)/python tests/faults/battery.py --jobs 2 --write

.PHONY: families
families: $(READY) ## every family, small: compiled and compared (docs/families.md), and the whole flow
	$(BIN)/python tests/families/families.py --write
	$(BIN)/python -m pytest -m families

.PHONY: scale
scale: $(READY) ## one mixed matrix on every executor, a registry of images, the matrix benchmark
	$(BIN)/python -m pytest -m scale
	$(BIN)/python benchmarks/matrix.py

.PHONY: smoke
smoke: $(READY) ## a smoke build of every architecture of the catalogue; writes docs/smoke.md
	$(BIN)/python benchmarks/smoke.py --write

.PHONY: clean
clean: ## remove the environment and all that was made here
	rm -rf .venv out dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
