# `make` lists the targets. Each one makes what it needs first: an environment, the build, the tools.
#
#   make test ARGS="-k ring -x"    more arguments for pytest
#   make test JOBS=0               in one process, so that --pdb and -s work (2 side by side)
#   make test PYTHON=python3.13    another interpreter (remove the environments first: make clean)
#   make demo JRNL_DEBUG=1         any target on the debug build, JRNL_SANITIZE=1 on the sanitized one

PYTHON ?= python3
JOBS ?= 2
LOG ?= tests/data/ext4-sqlite.log.xz

# One environment for each variant that setup.py builds, so that they don't share an extension.
on = $(filter-out 0,$(1))
ifneq ($(call on,$(JRNL_SANITIZE)),)
VARIANT := sanitize
else ifneq ($(call on,$(JRNL_DEBUG)),)
VARIANT := debug
else ifneq ($(call on,$(JRNL_SABOTAGE)),)
VARIANT := sabotage
else
VARIANT := release
endif
VENV := .venv$(patsubst %,-%,$(filter-out release,$(VARIANT)))
export JRNL_DEBUG JRNL_SANITIZE JRNL_SABOTAGE

RUN := $(VENV)/bin/python
PIP := $(VENV)/bin/python -m pip --quiet --disable-pip-version-check
PYTEST = $(RUN) -m pytest
SIDE_BY_SIDE := --numprocesses=$(JOBS) --dist=worksteal --benchmark-disable

ifeq ($(VARIANT),sanitize)
# Python is not sanitized: the libraries have to come first, every allocation has to go through
# them, and pytest has to leave file descriptor 2 alone, or a report would die with the process. To
# note by which way each came, all the way up, would be a sixth of the time.
RUN = LD_PRELOAD="$$(gcc -print-file-name=libasan.so):$$(gcc -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:malloc_context_size=4 \
	UBSAN_OPTIONS=print_stacktrace=1 \
	PYTHONMALLOC=malloc $(VENV)/bin/python
PYTEST = $(RUN) -m pytest --capture=sys
endif

# A change, a new file or a removed one (a folder's time) means a new build.
SOURCES := pyproject.toml setup.py MANIFEST.in src/_jrnl_pytest.py \
	$(shell find src/jrnl -name __pycache__ -prune -o \( -type f -o -type d \) -print)

.DELETE_ON_ERROR:
.PHONY: help demo fast test long sabotage crash soak tested-builds debug-test sanitize sanitize-quick \
	bench bench-smoke lint dist clean

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.built  ## replay a recorded ext4 history and recover, restore, re-recover, rewind it
	$(RUN) -m jrnl demo $(LOG)

test: $(VENV)/.built $(VENV)/.test  ## run the test suite (six to seven minutes on two cores)
	$(PYTEST) tests $(SIDE_BY_SIDE) $(ARGS)

# In the release build's environment, ahead of that build on Python's path.
FAST := build/fast/lib
fast: $(VENV)/.build $(VENV)/.run $(VENV)/.test  ## build after an edit, not optimised, and run the tests that ARGS names
	@mkdir -p $(FAST) && find $(FAST) -name '*.py' -delete
	JRNL_FAST=1 $(RUN) setup.py --quiet egg_info --egg-base $(FAST) build --build-lib $(FAST)
	PYTHONPATH="$(CURDIR)/$(FAST)" $(PYTEST) $(SIDE_BY_SIDE) $(or $(ARGS),tests/core)

long: $(VENV)/.built $(VENV)/.test  ## run the tests that take longer (SHARE=5: a fifth of the largest)
	JRNL_LONG_SHARE=$(or $(SHARE),1) $(PYTEST) tests -m long $(SIDE_BY_SIDE) $(ARGS)

sabotage:  ## take each rule of stores on disk away, in a build for it: is it missed?
	$(MAKE) test JRNL_SABOTAGE=1 ARGS="-m sabotage $(ARGS)"

crash: $(VENV)/.built $(VENV)/.test  ## cut the power of stores on disk 200,000 ways, damage them; archives in 100,000 orders
	$(RUN) -m tests.crash.campaign --states $(or $(STATES),200000) --damages $(or $(DAMAGES),1) \
		--faults $(or $(FAULTS),1) $(ARGS)
	$(RUN) -m tests.crash.recorded.campaign --states $(or $(RECORDED),20000)
	$(RUN) -m tests.crash.recorded.creation --rounds 50
	$(RUN) -m tests.archive.sim.campaign --runs $(or $(INTERLEAVINGS),100000) --jobs 2

soak: $(VENV)/.built $(VENV)/.test  ## the same for SECONDS=3600 seconds, with every damage and fault
	$(RUN) -m tests.crash.campaign --seconds $(or $(SECONDS),3600) --damages 1 --faults 1 \
		--seed $$(date +%s) $(ARGS)
	$(RUN) -m tests.crash.recorded.campaign --seconds $(or $(SECONDS),3600) \
		--states $(or $(RECORDED),1000000) --seed $$(date +%s)
	$(RUN) -m tests.archive.sim.campaign --seconds $(or $(SECONDS),3600) --jobs 2 \
		--every 1000000 --seed $$(date +%s)

# Those that are only tested, one after the other: all builds write the metadata into one folder.
tested-builds:
	$(MAKE) .venv-sanitize/.built .venv-sanitize/.test JRNL_SANITIZE=1
	$(MAKE) .venv-sabotage/.built .venv-sabotage/.test JRNL_SABOTAGE=1

debug-test:  ## run the test suite on a build with bounds checks and assertions
	$(MAKE) test JRNL_DEBUG=1

# Not the tests of the crash benches themselves, nor a thousand interleavings of the same few calls,
# nor what only reads the sources, nor pictures, which Python draws, nor the command, nor programs of
# others that take their time, object stores among them: sessions of clients that nobody has written
# by hand are among the rest. Of archives, what is written in Python alone is left out, too.
QUICK := $(addprefix --ignore=tests/,core/test_reentry.py docs/test_readme.py docs/test_design.py \
	docs/test_nbd_page.py nbd/clients house crash/recorded plot cli archive/sim \
	docs/test_archive_page.py $(addprefix archive/test_,chunks.py damage.py drilling.py events.py \
	failures.py hostile_reading.py kills.py kills_following.py latest.py ledger.py lists.py \
	manifest.py objects.py pace.py preflight.py restore.py sealed.py standby.py state.py table.py \
	working.py) \
	$(addprefix crash/test_,kill.py power_cut.py crash.py interleave.py))

sanitize-quick:  ## the same without the tests that take longest
	$(MAKE) sanitize ARGS="$(QUICK) $(ARGS)"

sanitize:  ## run the test suite under AddressSanitizer and UndefinedBehaviorSanitizer
	$(MAKE) test JRNL_SANITIZE=1 JRNL_TEST_PROFILE=short

bench: $(VENV)/.built $(VENV)/.bench  ## run the benchmarks and print their tables
	$(RUN) -m bench $(ARGS)

bench-smoke: $(VENV)/.built $(VENV)/.bench  ## run each benchmark once, small: do they still work?
	JRNL_BENCH_SMALL=1 $(PYTEST) bench --benchmark-disable -q $(ARGS)

lint: $(VENV)/.built $(VENV)/.lint  ## check style and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy src/jrnl src/_jrnl_pytest.py
	$(RUN) -m mypy --strict examples/*.py
	$(RUN) -m mypy.stubtest jrnl._core --ignore-unused-allowlist \
		--allowlist ci/stubtest-allowlist.txt
	PATH="$(VENV)/bin:$$PATH" cython-lint src/jrnl

dist: $(VENV)/.lint  ## build the sdist, the wheel from it, and check the wheel when installed
	rm -rf dist
	$(RUN) -m build --quiet --outdir dist .
	scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	$(PYTHON) -m venv "$$scratch/venv" && \
	"$$scratch/venv/bin/python" -m pip --quiet --disable-pip-version-check install dist/*.whl && \
	cp ci/check_installed.py "$$scratch" && cd "$$scratch" && venv/bin/python check_installed.py

clean:  ## remove the environments and all that was built
	rm -rf .venv .venv-debug .venv-sanitize .venv-sabotage build dist src/*.egg-info
	rm -rf .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit( \
		"jrnl needs Python 3.11 or newer, this is " + sys.version.split()[0] + \
		": say make PYTHON=python3.11")'
	@echo "making $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# What pyproject.toml requires: `build` to build, `run` to run, then one list for each extra.
$(VENV)/.build $(VENV)/.run $(VENV)/.test $(VENV)/.bench $(VENV)/.lint: \
		$(VENV)/.%: $(VENV)/.created pyproject.toml ci/requirements.py
	@$(VENV)/bin/python ci/requirements.py $* > $(VENV)/$*.txt
	@echo "installing into $(VENV):" $$(cat $(VENV)/$*.txt)
	@$(PIP) install --requirement $(VENV)/$*.txt
	@touch $@

# Without build isolation, so that a rebuild doesn't fetch Cython again. An old build folder could
# hold files that have been renamed or removed since. The stamp has the time of the build's start,
# so that what is saved meanwhile is built the next time.
$(VENV)/.built: $(VENV)/.build $(VENV)/.run $(SOURCES)
	@echo "building jrnl ($(VARIANT))"
	@touch $(VENV)/.building
	@rm -rf build/$(VARIANT)
	@$(PIP) install --no-build-isolation --no-deps --force-reinstall .
	@mv $(VENV)/.building $@
