# Copyright 2026 Gentoo Authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

# CRATES and LICENSE+= are written by `make ebuild`; `make lint` says when they part from Cargo.lock.
# The live ebuild is the release's without CRATES.

RUST_MIN_VER="1.85.0"

inherit cargo shell-completion systemd toolchain-funcs

DESCRIPTION="Keep signed binary packages through package moves: update and sign them again"
# A placeholder, here and in the next lines, until the project has a public home.
HOMEPAGE="https://example.org/binpkg-resign"

if [[ ${PV} == 9999 ]]; then
	inherit git-r3
	EGIT_REPO_URI="https://example.org/binpkg-resign.git"
else
	SRC_URI="
		https://example.org/binpkg-resign/${P}.tar.gz
		${CARGO_CRATE_URIS}
	"
	KEYWORDS="~amd64"
fi

LICENSE="GPL-2+"
# Dependent crate licenses
LICENSE+="
	Apache-2.0 Apache-2.0-with-LLVM-exceptions BSD-2 BSD LGPL-2.1 MIT
	Unicode-3.0 Unlicense ZLIB
"
SLOT="0"
IUSE="test"
RESTRICT="!test? ( test )"

DEPEND="
	>=app-arch/zstd-1.5:=
	>=app-crypt/gpgme-1.13:=
	dev-libs/libgpg-error
"
RDEPEND="
	${DEPEND}
	app-crypt/gnupg
	>=sys-apps/portage-3.0.60
"
BDEPEND="
	virtual/pkgconfig
	test? (
		app-arch/lz4
		app-arch/lzip
		app-arch/lzop
		app-crypt/gnupg
	)
"

QA_FLAGS_IGNORED="usr/bin/binpkg-resign"

src_unpack() {
	if [[ ${PV} == 9999 ]]; then
		git-r3_src_unpack
		cargo_live_src_unpack
	else
		cargo_src_unpack
	fi
}

src_configure() {
	export ZSTD_SYS_USE_PKG_CONFIG=1
	cargo_src_configure --locked
}

src_compile() {
	cargo_src_compile

	if ! tc-is-cross-compiler; then
		local shell
		for shell in bash fish zsh; do
			"$(cargo_target_dir)"/${PN} completions ${shell} > ${PN}.${shell} || die
		done
	fi
}

src_install() {
	cargo_src_install

	local filled="${T}/filled"
	hooks/fill-in "${EPREFIX}/usr/bin/${PN}" "${filled}" || die
	exeinto /etc/portage/postsync.d
	doexe "${filled}"/postsync.d/50-${PN}
	systemd_dounit "${filled}"/${PN}.{service,timer}

	doman man/${PN}.1
	if ! tc-is-cross-compiler; then
		newbashcomp ${PN}.bash ${PN}
		newfishcomp ${PN}.fish ${PN}.fish
		newzshcomp ${PN}.zsh _${PN}
	fi

	dodoc README.md CHANGELOG.md CONTRIBUTING.md
	dodoc -r doc
	docinto benches
	dodoc benches/README.md
	docinto examples
	dodoc "${filled}"/{${PN}.cron,eix-sync.conf,post_emerge}
	# links from one to another, and lines to be copied
	docompress -x /usr/share/doc/${PF}
}

pkg_preinst() {
	# a hook that was switched off by chmod -x has the bytes of the new one, and is no case for config protection
	local path=etc/portage/postsync.d/50-${PN}
	if [[ -e ${EROOT}/${path} && ! -x ${EROOT}/${path} ]]; then
		chmod -x "${ED}/${path}" || die
	fi
}

pkg_postinst() {
	local replaced
	for replaced in ${REPLACING_VERSIONS}; do
		if ver_test "${replaced}" -lt 0.2.0; then
			elog "New: a safety net of hard links beside PKGDIR, from which comes back what Portage"
			elog "removed while no hook ran. Whatever is deleted from PKGDIR needs its disk space"
			elog "until the next run of ${PN}; BINPKG_RESIGN_NET=no in make.conf switches it off."
		fi
	done
	[[ ${REPLACING_VERSIONS} ]] && return

	elog "The hook is active: it runs with every emerge --sync from now on, and does nothing"
	elog "unless binary packages are signed here. To see whether all is set up for it, run:"
	elog "    binpkg-resign doctor"
	elog "To switch it off, take its executable bits away, or make \"exit 0\" the second line of"
	elog "    ${EROOT}/etc/portage/postsync.d/50-binpkg-resign"
	elog "If you sync in other ways than by emerge --sync, or have sync-webrsync-delta on, read"
	elog "    ${EROOT}/usr/share/doc/${PF}/doc/syncing.md"
}

pkg_postrm() {
	[[ ${REPLACED_BY_VERSION} ]] && return

	elog "These are left, and may be the only copies of packages, below and beside PKGDIR:"
	elog "    PKGDIR/.binpkg-resign          held packages"
	elog "    .NAME.binpkg-resign-net        the safety net, NAME being that of PKGDIR"
	elog "and in ${EROOT}/var/lib/binpkg-resign what runs have remembered."
}
