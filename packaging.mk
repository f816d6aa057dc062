# Installing and packaging; the Makefile includes this file.

# Newer releases of these two want bash 5.3.
PKGCHECK := pkgcheck==0.10.37 pkgcore==0.12.30
PYCARGOEBUILD := pycargoebuild==0.17.2

# Not built here, so that `sudo make install` compiles nothing: run `make release` first.
BINARY ?= target/release/binpkg-resign
DOCDIR ?= $(PREFIX)/share/doc/binpkg-resign
UNITDIR ?= $(PREFIX)/lib/systemd/system
ROOTED = $(DESTDIR)$(EPREFIX)
HOOK = $(ROOTED)$(SYSCONFDIR)/portage/postsync.d/50-binpkg-resign
MAN_PAGE = $(ROOTED)$(PREFIX)/share/man/man1/binpkg-resign.1
BASH_COMPLETION = $(ROOTED)$(PREFIX)/share/bash-completion/completions/binpkg-resign
FISH_COMPLETION = $(ROOTED)$(PREFIX)/share/fish/vendor_completions.d/binpkg-resign.fish
UNITS = $(addprefix $(ROOTED)$(UNITDIR)/binpkg-resign.,service timer)
ZSH_COMPLETION = $(ROOTED)$(PREFIX)/share/zsh/site-functions/_binpkg-resign

.PHONY: install uninstall overlay install-overlay ebuild setup-packaging lint-packaging

install:
	@test -x $(BINARY) || { echo 'Run `make release` first.' >&2; exit 1; }
	install -D -m 755 $(BINARY) $(ROOTED)$(PREFIX)/bin/binpkg-resign
	install -D -m 644 man/binpkg-resign.1 $(MAN_PAGE)
	install -d $(dir $(BASH_COMPLETION) $(FISH_COMPLETION) $(ZSH_COMPLETION))
	$(BINARY) completions bash >$(BASH_COMPLETION)
	$(BINARY) completions fish >$(FISH_COMPLETION)
	$(BINARY) completions zsh >$(ZSH_COMPLETION)
	chmod 644 $(BASH_COMPLETION) $(FISH_COMPLETION) $(ZSH_COMPLETION)
	install -d $(addprefix $(ROOTED)$(DOCDIR)/,benches doc examples) $(ROOTED)$(UNITDIR)
	install -m 644 README.md CHANGELOG.md CONTRIBUTING.md $(ROOTED)$(DOCDIR)
	install -m 644 benches/README.md $(ROOTED)$(DOCDIR)/benches
	install -m 644 doc/*.md $(ROOTED)$(DOCDIR)/doc
	set -e; filled=$$(mktemp -d); trap 'rm -r "$$filled"' EXIT; \
	hooks/fill-in $(EPREFIX)$(PREFIX)/bin/binpkg-resign $$filled; \
	if test -e $(HOOK) && { ! test -x $(HOOK) || test "$$(sed -n 2p $(HOOK))" = 'exit 0'; }; then \
		echo '$(HOOK) is switched off, and stays as it is.'; \
	else install -D -m 755 $$filled/postsync.d/50-binpkg-resign $(HOOK); fi; \
	install -m 644 $$filled/binpkg-resign.service $$filled/binpkg-resign.timer $(ROOTED)$(UNITDIR); \
	install -m 644 $$filled/binpkg-resign.cron $$filled/eix-sync.conf $$filled/post_emerge $(ROOTED)$(DOCDIR)/examples

uninstall:
	rm -f $(ROOTED)$(PREFIX)/bin/binpkg-resign $(HOOK) $(MAN_PAGE) $(UNITS)
	rm -f $(BASH_COMPLETION) $(FISH_COMPLETION) $(ZSH_COMPLETION)
	rm -rf $(ROOTED)$(DOCDIR)
	@echo 'What is held, the safety net and /var/lib/binpkg-resign stay: README.md says what to do with them.'

# An overlay of the last commit, with all that emerge needs to merge from it.
overlay:
	@CARGO=$(CARGO) $(PYTHON) ebuild/make-overlay target/overlay

install-overlay:
	@ebuild/install-overlay target/overlay $(EPREFIX)

# CRATES, LICENSE and Manifest of the ebuilds, from Cargo.lock.
ebuild: target/pycargoebuild/.ready
	ebuild/update target/pycargoebuild/bin/pycargoebuild

setup-packaging:
	@$(MAKE) --no-print-directory target/pkgcheck/.ready || \
		echo 'pkgcheck cannot be installed: its test will be skipped.' >&2

target/pkgcheck/.ready: TOOL = $(PKGCHECK)
target/pycargoebuild/.ready: TOOL = $(PYCARGOEBUILD)
target/pkgcheck/.ready target/pycargoebuild/.ready:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(TOOL)
	touch $@

lint-packaging:
	grep -rlIE '^#!.*[/ ](ba)?sh$$' --exclude='*.md' --exclude-dir=target --exclude-dir=.git . | xargs shellcheck
	$(PYTHON) ebuild/check-crates
	CARGO=$(CARGO) $(PYTHON) tests/packaging/check-dependencies
	@if command -v groff >/dev/null; then \
		said=$$(groff -man -ww -z -Tutf8 man/binpkg-resign.1 2>&1); test -z "$$said" || { echo "$$said" >&2; exit 1; }; \
	else echo 'groff is not there: the man page was not checked.'; fi
	@if command -v mandoc >/dev/null; then mandoc -T lint -W warning man/binpkg-resign.1; \
	else echo 'mandoc is not there: the man page was checked by groff only.'; fi
