# @ECLASS: systemd.eclass
# @MAINTAINER:
# binpkg-resign's tests
# @SUPPORTED_EAPIS: 8
# @BLURB: a stand-in for ::gentoo's, with the one function that our ebuild uses

# @FUNCTION: systemd_dounit
# @USAGE: <unit>...
# @DESCRIPTION:
# As in the real one where systemd says nothing else.
systemd_dounit() {
	insinto /usr/lib/systemd/system
	doins "$@"
}
