# @ECLASS: shell-completion.eclass
# @MAINTAINER:
# binpkg-resign's tests
# @SUPPORTED_EAPIS: 8
# @BLURB: a stand-in for ::gentoo's, with the three functions that our ebuild uses

# @FUNCTION: newbashcomp
# @USAGE: <file> <newname>
# @DESCRIPTION:
# As in the real one.
newbashcomp() {
	insinto /usr/share/bash-completion/completions
	newins "$@"
}

# @FUNCTION: newfishcomp
# @USAGE: <file> <newname>
# @DESCRIPTION:
# As in the real one.
newfishcomp() {
	insinto /usr/share/fish/vendor_completions.d
	newins "$@"
}

# @FUNCTION: newzshcomp
# @USAGE: <file> <newname>
# @DESCRIPTION:
# As in the real one.
newzshcomp() {
	insinto /usr/share/zsh/site-functions
	newins "$@"
}
