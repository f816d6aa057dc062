# @ECLASS: toolchain-funcs.eclass
# @MAINTAINER:
# binpkg-resign's tests
# @SUPPORTED_EAPIS: 8
# @BLURB: a stand-in for ::gentoo's

# @FUNCTION: tc-is-cross-compiler
# @RETURN: whether the program built here cannot run here
# @DESCRIPTION:
# As in the real one.
tc-is-cross-compiler() {
	[[ ${CBUILD:-${CHOST}} != "${CHOST}" ]]
}
