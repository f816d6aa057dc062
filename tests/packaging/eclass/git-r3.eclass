# @ECLASS: git-r3.eclass
# @MAINTAINER:
# binpkg-resign's tests
# @SUPPORTED_EAPIS: 8
# @BLURB: a stand-in for ::gentoo's: clones EGIT_REPO_URI

PROPERTIES="live"

# @ECLASS_VARIABLE: EGIT_REPO_URI
# @DEFAULT_UNSET
# @DESCRIPTION:
# As in the real one; LAB_GIT (make.conf) stands in for it.

# @FUNCTION: git-r3_src_unpack
# @DESCRIPTION:
# As in the real one.
git-r3_src_unpack() {
	git clone --quiet "${LAB_GIT:-${EGIT_REPO_URI}}" "${S}" || die
}
