# The keys with other GnuPGs, and with a card. Included by the Makefile; each target takes some minutes.

.PHONY: test-gnupg test-card

# The GnuPG, gpgme and Sequoia of these Debians, with and without keyboxd.
GNUPG_SUITES ?= trixie sid

test-gnupg:
	set -e; for suite in $(GNUPG_SUITES); do tests/gnupg/run $$suite; done

# A virtual OpenPGP card behind the real pcscd and scdaemon.
test-card: setup build
	tests/card/run
