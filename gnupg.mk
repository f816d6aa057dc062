# The keys with other GnuPGs, and with a card. Included by the Makefile; each target takes some minutes.

.PHONY: test-gnupg test-card

# The GnuPG, gpgme and Sequoia of these Debians, with and without keyboxd; and where GNUPG_SOURCE names a git checkout of
# GnuPG's sources, that one on Debian sid.
GNUPG_SUITES ?= trixie sid $(if $(GNUPG_SOURCE),source)

test-gnupg:
	failed=0; for suite in $(GNUPG_SUITES); do GNUPG_SOURCE='$(GNUPG_SOURCE)' tests/gnupg/run $$suite || failed=1; done; exit $$failed

# A virtual OpenPGP card behind the real pcscd and scdaemon.
test-card: setup build
	tests/card/run
