# Copyright 2026 Gentoo Authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

# CRATES and LICENSE+= are written by `make ebuild`; `make lint` says when they part from Cargo.lock.
# The live ebuild is the release's without CRATES.

CRATES="
	adler2@2.0.1
	aho-corasick@1.1.5
	anstream@1.0.0
	anstyle-parse@1.0.0
	anstyle-query@1.1.5
	anstyle-wincon@3.0.11
	anstyle@1.0.14
	autocfg@1.5.1
	bitflags@1.3.2
	bitflags@2.13.2
	blake2@0.11.0
	block-buffer@0.12.1
	build-rs@0.1.2
	cc@1.11.3
	cfg-expr@0.15.8
	cfg-if@1.0.5
	clap@4.6.9
	clap_builder@4.6.7
	clap_complete@4.6.11
	clap_derive@4.6.9
	clap_lex@1.1.2
	cmov@0.5.4
	colorchoice@1.0.5
	console@0.16.6
	const-oid@0.10.3
	conv@0.3.3
	cpufeatures@0.3.1
	crc32fast@1.5.5
	crypto-common@0.2.2
	cstr-argument@0.1.2
	ctutils@0.4.2
	custom_derive@0.1.7
	digest@0.11.3
	encode_unicode@1.0.0
	env_filter@2.0.0
	env_logger@0.11.11
	equivalent@1.0.3
	errno@0.3.15
	fastrand@2.5.0
	filetime@0.2.29
	find-msvc-tools@0.1.15
	flate2@1.1.11
	getrandom@0.3.4
	getrandom@0.4.3
	gpg-error@0.6.2
	gpgme-sys@0.11.0
	gpgme@0.11.0
	hashbrown@0.17.1
	heck@0.5.0
	hybrid-array@0.4.15
	indexmap@2.14.2
	indicatif@0.18.6
	insta@1.49.0
	is_terminal_polyfill@1.70.2
	itoa@1.0.19
	jiff-core@0.1.8
	jiff-static@0.2.46
	jiff@0.2.46
	jobserver@0.1.35
	libc@0.2.191
	libgpg-error-sys@0.6.2
	linux-raw-sys@0.12.1
	log@0.4.35
	md-5@0.11.0
	memchr@2.8.3
	memoffset@0.7.1
	miniz_oxide@0.9.1
	num-traits@0.2.19
	once_cell@1.21.4
	once_cell_polyfill@1.70.2
	pkg-config@0.3.34
	portable-atomic-util@0.2.8
	portable-atomic@1.15.0
	ppv-lite86@0.2.21
	proc-macro2@1.0.107
	proptest@1.11.0
	quote@1.0.47
	r-efi@5.3.0
	r-efi@6.0.0
	rand@0.9.5
	rand_chacha@0.9.0
	rand_core@0.9.5
	rand_xorshift@0.4.0
	regex-automata@0.4.19
	regex-syntax@0.8.12
	regex@1.13.2
	rustix@1.1.6
	serde@1.0.229
	serde_core@1.0.229
	serde_derive@1.0.229
	serde_json@1.0.154
	serde_spanned@0.6.9
	sha1@0.11.0
	sha2@0.11.0
	shlex@2.0.1
	signal-hook-registry@1.4.8
	signal-hook@0.3.18
	simd-adler32@0.3.10
	similar@2.7.0
	smallvec@1.16.6
	static_assertions@1.1.0
	strsim@0.11.1
	syn@2.0.119
	syn@3.0.10
	system-deps@6.2.2
	tar@0.4.46
	target-lexicon@0.12.16
	tempfile@3.27.0
	terminal_size@0.4.4
	thiserror-impl@2.0.21
	thiserror@2.0.21
	toml@0.8.23
	toml_datetime@0.6.11
	toml_edit@0.22.27
	typenum@1.20.1
	unarray@0.1.4
	unicode-ident@1.0.27
	unit-prefix@0.5.2
	utf8parse@0.2.2
	version-compare@0.2.1
	wasip2@1.0.1+wasi-0.2.4
	winapi-i686-pc-windows-gnu@0.4.0
	winapi-x86_64-pc-windows-gnu@0.4.0
	winapi@0.3.9
	windows-link@0.2.1
	windows-sys@0.48.0
	windows-sys@0.61.2
	windows-targets@0.48.5
	windows_aarch64_gnullvm@0.48.5
	windows_aarch64_msvc@0.48.5
	windows_i686_gnu@0.48.5
	windows_i686_msvc@0.48.5
	windows_x86_64_gnu@0.48.5
	windows_x86_64_gnullvm@0.48.5
	windows_x86_64_msvc@0.48.5
	winnow@0.7.15
	winreg@0.10.1
	winreg@0.52.0
	wit-bindgen@0.46.0
	zerocopy-derive@0.8.64
	zerocopy@0.8.64
	zlib-rs@0.6.8
	zmij@1.0.23
	zstd-safe@7.4.1
	zstd-sys@2.1.3+zstd.1.5.7
	zstd@0.13.5
"

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
