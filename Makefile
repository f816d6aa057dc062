# binpkg-resign: what to build, test and install. `make` names the targets.

PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
EPREFIX ?=
DESTDIR ?=
PYTHON ?= python3
CARGO ?= cargo

# The Portage that is the oracle, and the oldest that users of signed packages are likely to have.
PORTAGE_NEWEST := 3.0.83
PORTAGE_OLDEST := 3.0.60
VENVS := target/portage-$(PORTAGE_NEWEST)/.ready target/portage-$(PORTAGE_OLDEST)/.ready
PYTEST = target/portage-$(PORTAGE_NEWEST)/bin/python -m pytest -p no:cacheprovider
# What is tested can be told to fail; `make release` and the ebuilds build without this.
TESTED := --locked --features fault-injection
# The tests run side by side, one process a core.
PYTEST_JOBS ?= auto

.PHONY: help setup build release test test-rust test-portage test-full lint demo readme bench fuzz first-release

help:
	@echo 'make demo       what this does, shown with the real Portage in a throw-away prefix'
	@echo 'make readme     the same, and its transcript into README.md'
	@echo 'make build      the program, for testing (release: optimised)'
	@echo 'make test       everything, with its own set-up (test-full: at full size)'
	@echo 'make lint       formatting, clippy, shellcheck'
	@echo 'make bench      speed, side by side with Portage'
	@echo 'make fuzz       many mutated inputs through the parsers'
	@echo 'make overlay    an overlay of the last commit that emerge can merge from'
	@echo 'make install    into DESTDIR, PREFIX=$(PREFIX), SYSCONFDIR=$(SYSCONFDIR), EPREFIX'

setup: tests/lab/.system $(VENVS) setup-delta setup-packaging

.PHONY: tests/lab/.system
tests/lab/.system:
	@PYTHON='$(PYTHON)' tests/lab/setup

# pytest lives beside the newest Portage; the older one is only ever run by it.
target/portage-$(PORTAGE_NEWEST)/.ready: WITH = pytest==8.3.4 pytest-xdist==3.6.1
target/portage-%/.ready: | tests/lab/.system
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check portage==$* $(WITH)
	$(@D)/bin/python -c 'import portage.gpkg'
	touch $@

# Gentoo packages it apart from Portage; of Portage's releases, only the source has it.
DELTA := target/portage-$(PORTAGE_NEWEST)/bin/emerge-delta-webrsync

.PHONY: setup-delta
setup-delta: target/portage-$(PORTAGE_NEWEST)/.ready
	@$(MAKE) --no-print-directory $(DELTA) || \
		echo 'emerge-delta-webrsync cannot be had: its tests will be skipped.' >&2

$(DELTA):
	rm -rf target/tmp/portage-source && mkdir -p target/tmp/portage-source
	target/portage-$(PORTAGE_NEWEST)/bin/python -m pip download --quiet --disable-pip-version-check --no-deps \
		--no-binary portage --dest target/tmp/portage-source portage==$(PORTAGE_NEWEST)
	tar -xzf target/tmp/portage-source/portage-*.tar.gz -O --wildcards '*/misc/emerge-delta-webrsync' >$@.new
	chmod 755 $@.new && mv $@.new $@

# eix is no package of Debian's: `make eix EIX_SOURCE=… PUSH_SOURCE=…` builds it where tests/sync looks for it.
.PHONY: eix
eix:
	@test -f '$(EIX_SOURCE)/meson.build' && test -f '$(PUSH_SOURCE)/bin/push.sh' || \
		{ echo 'Say EIX_SOURCE=DIR PUSH_SOURCE=DIR: the sources of app-portage/eix and app-shells/push.' >&2; exit 2; }
	rm -rf target/eix
	meson setup target/eix/build '$(EIX_SOURCE)' -Deprefix-default= -Dprotobuf=false -Dnls=false --prefix '$(CURDIR)/target/eix' --sysconfdir /etc --localstatedir /var
	ninja -C target/eix/build install
	install -m 755 '$(PUSH_SOURCE)/bin/push.sh' target/eix/bin/push.sh

build:
	$(CARGO) build $(TESTED)

release:
	$(CARGO) build --locked --release

# 0.1.0 as it was released, for the test of the upgrade.
FIRST_RELEASE := e5e3201
first-release: target/release-0.1.0/debug/binpkg-resign

target/release-0.1.0/debug/binpkg-resign:
	rm -rf target/release-0.1.0/source && mkdir -p target/release-0.1.0/source
	git archive $(FIRST_RELEASE) | tar -x -C target/release-0.1.0/source
	cd target/release-0.1.0/source && CARGO_TARGET_DIR='$(CURDIR)/target/release-0.1.0' $(CARGO) build --locked

test: setup build test-rust test-portage

test-rust: setup
	$(CARGO) test $(TESTED)

test-portage: setup build
	$(PYTEST) -n $(PYTEST_JOBS) tests

test-full: setup build test-rust
	@$(MAKE) --no-print-directory first-release || echo '0.1.0 cannot be built here: its tests will be skipped.' >&2
	BINPKG_RESIGN_FULL=1 $(PYTEST) -n $(PYTEST_JOBS) tests

lint: setup
	$(CARGO) fmt --check
	$(CARGO) clippy $(TESTED) --all-targets -- -D warnings
	$(MAKE) lint-packaging

demo: setup build
	@target/portage-$(PORTAGE_NEWEST)/bin/python -m tests.lab.demo

# README.md quotes the demo's transcript; a test sees where it has become another one.
readme: setup build
	target/portage-$(PORTAGE_NEWEST)/bin/python -m tests.lab.demo --quote

bench: setup release
	$(CARGO) bench --locked --bench micro
	target/portage-$(PORTAGE_NEWEST)/bin/python benches/bench.py $(BENCH)

# Millions of mutated inputs, and everything that `make test` has at full size in Rust; tests/cases/mod.rs has the knobs.
fuzz: setup
	BINPKG_RESIGN_CASES=25 $(CARGO) test --locked --release --test fuzz
	BINPKG_RESIGN_CASES=25 $(CARGO) test --locked --release --lib store::fuzz
	BINPKG_RESIGN_FULL=1 $(CARGO) test --locked --release --test gpkg --test atoms --test settings

include packaging.mk
include gnupg.mk
