# Every target installs what it needs. It takes Python 3.11 or newer, make and pip.
PYTHON ?= python3
# uv: the one on PATH, or one installed into .venv
UV := $(shell command -v uv || echo .venv/bin/uv)
export UV_SYSTEM_CERTS := 1
export NODE_USE_SYSTEM_CA := 1
export UV_PYTHON_DOWNLOADS := never
# without compiled files each process takes 4 s to start instead of 1.4
unexport PYTHONDONTWRITEBYTECODE
RUN := .venv/bin/

.DEFAULT_GOAL := help
.PHONY: help demo up test test-heavy generators bench bench-growth fuzz floods chaos drills audit sbom wheel check containers kubernetes format lock

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/.ready: pyproject.toml uv.lock
	@[ -x .venv/bin/python ] || $(PYTHON) -m venv --without-pip .venv
	@command -v uv >/dev/null || [ -x .venv/bin/uv ] || $(PYTHON) -m pip --python .venv/bin/python install --quiet uv
	@$(UV) sync --frozen --inexact --all-extras --quiet
	@touch $@

demo: .venv/.ready ## send 1,000 sample messages through a sandbox gateway and print the statistics
	@$(RUN)mailing demo

up: .venv/.ready ## run API, worker, embedded PostgreSQL and sandbox gateway until Ctrl-C
	@$(RUN)mailing up

test: .venv/.ready ## run the whole test suite
	@$(RUN)pytest -n auto --dist worksteal $(ARGS)

test-heavy: .venv/.ready ## run the tests that take minutes each: seeded bugs, the search for secrets, the benchmarks' own tests
	@$(RUN)pytest -n auto --dist worksteal -m heavy $(ARGS)

generators: .generators/.ready ## install what makes clients from the OpenAPI document, and Node.js: tests run those clients

.generators/.ready: tests/generated_clients/requirements.txt tests/generated_clients/package.json | .venv/.ready
	@[ -x .generators/bin/python ] || $(PYTHON) -m venv --without-pip .generators
	@$(UV) pip install --quiet --python .generators/bin/python --requirement $<
	@cp tests/generated_clients/package.json .generators/
	@cd .generators && PATH="$$PWD/bin:$$PATH" npm install --silent --ignore-scripts --no-audit --no-fund --no-package-lock \
		--fetch-timeout=30000 --fetch-retries=1
	@touch $@

fuzz: .venv/.ready ## run 10,000 or more cases, made from its own documentation, against the API; some minutes
	@PYTHONPATH=tests $(RUN)python -m fuzz.run $(ARGS)

floods: .venv/.ready ## flood `mailing up` as a stranger could, and measure memory and waits; a minute
	@ulimit -n 4096 && PYTHONPATH=tests $(RUN)python -m fuzz.flood $(ARGS)

chaos: .venv/.ready ## run the fault run: every part is broken while 100,000 messages are sent; half an hour
	@PYTHONPATH=tests $(RUN)python -m chaos.run $(ARGS)

bench-growth: .venv/.ready ## measure the cost of a message among 10,000 and among 100,000; ARGS="--largest 1M" or 10M; some minutes to hours
	@PYTHONPATH=tests $(RUN)python -m bench.growth.run $(ARGS)

drills: .venv/.ready ## run one fault at a time: a hanging gateway, one that is down, rolling restarts, the rate, fairness; half an hour
	@PYTHONPATH=tests $(RUN)python -m chaos.drills $(ARGS)

bench: .venv/.ready ## compare with the machine's limits and the peers; three quarters of an hour; ARGS="--quick" or "--stage dispatch"
	@$(UV) sync --frozen --inexact --all-extras --group bench --quiet
	@PYTHONPATH=tests $(RUN)python -m bench.run $(ARGS)

audit: .venv/.ready ## list known vulnerabilities of everything in uv.lock; fails if it finds one, or cannot ask
	@UV="$(UV)" .ci/audit $(ARGS)

sbom: .venv/.ready ## write sbom.json: every shipped package with version and hash, as CycloneDX 1.5
	@$(UV) export --quiet --frozen --no-dev --all-extras --format cyclonedx1.5 --output-file sbom.json
	@echo "sbom.json: $$(grep -c '"purl"' sbom.json) packages"

wheel: .venv/.ready ## build dist/mailing-*.whl, for pip install 'mailing-*.whl[embedded]'
	@$(RUN)hatchling build --target wheel --directory dist

check: .venv/.ready ## check format, lint, types and import contracts
	@$(RUN)ruff format --check
	@$(RUN)ruff check
	@$(RUN)mypy
	@$(RUN)lint-imports

containers: ## build the image, run docker-compose.yml, send mailings, kill a worker, remove everything (COMPOSE="docker compose")
	@.ci/containers

kubernetes: .venv/.ready ## run deploy/kubernetes by podman kube play, send one mailing, remove everything (PODMAN="sudo podman")
	@$(RUN)python deploy/kubernetes/try.py

format: .venv/.ready ## reformat, and fix what ruff can fix
	@$(RUN)ruff format
	@$(RUN)ruff check --fix

lock: ## upgrade uv.lock
	@$(UV) lock --upgrade
