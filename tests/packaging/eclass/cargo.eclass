# @ECLASS: cargo.eclass
# @MAINTAINER:
# binpkg-resign's tests
# @SUPPORTED_EAPIS: 8
# @BLURB: a stand-in for ::gentoo's: builds, or takes the program that cargo has already built
# @DESCRIPTION:
# Has the functions and variables of the real one that our ebuild uses, and nothing more. Set in make.conf:
# with LAB_BINARY, a program, nothing is compiled; crates are fetched and checked by Portage, but not used.
# With LAB_TOOLCHAIN, a folder with cargo and rustc, those build from a tarball of crates, without a network.

# @ECLASS_VARIABLE: CRATES
# @PRE_INHERIT
# @DEFAULT_UNSET
# @DESCRIPTION:
# As in the real one.

# @ECLASS_VARIABLE: RUST_MIN_VER
# @PRE_INHERIT
# @DEFAULT_UNSET
# @DESCRIPTION:
# As in the real one (there from rust.eclass).

# @ECLASS_VARIABLE: CARGO_CRATE_URIS
# @OUTPUT_VARIABLE
# @DESCRIPTION:
# As in the real one, from an address that there is not: the tests put the crates into DISTDIR.

case ${EAPI} in
	8) ;;
	*) die "EAPI ${EAPI} is not supported" ;;
esac

[[ ${PV} == 9999 || ${CRATES} == *clap@* || ${CRATES} == " " ]] || die "CRATES is not set before inherit"
[[ ${PV} == 9999 && ${CRATES} ]] && die "a live ebuild has its crates from Cargo.lock"
[[ ${RUST_MIN_VER} ]] || die "RUST_MIN_VER is not set before inherit"

IUSE="debug"
BDEPEND="|| ( >=dev-lang/rust-${RUST_MIN_VER} >=dev-lang/rust-bin-${RUST_MIN_VER} )"
CARGO_CRATE_URIS=""
for _crate in ${CRATES}; do
	CARGO_CRATE_URIS+="https://example.org/crates/${_crate/@/-}.crate "
done
unset _crate

# @FUNCTION: cargo_target_dir
# @DESCRIPTION:
# As in the real one.
cargo_target_dir() {
	echo "target/$(usex debug debug release)"
}

# @FUNCTION: cargo_src_unpack
# @DESCRIPTION:
# As in the real one, without single crates.
cargo_src_unpack() {
	local archive
	for archive in ${A}; do
		# not unpack, which wants a program named gtar outside of Gentoo
		[[ ${archive} == *.crate ]] || tar -x -o -f "${DISTDIR}/${archive}" -C "${WORKDIR}" || die
	done
}

# @FUNCTION: cargo_live_src_unpack
# @DESCRIPTION:
# As in the real one, without crates.
cargo_live_src_unpack() {
	:
}

# @FUNCTION: cargo_src_configure
# @DESCRIPTION:
# As in the real one; LAB_CARGO_CONFIG is a line more for cargo's configuration.
cargo_src_configure() {
	ECARGO_ARGS=( "$@" )
	export CARGO_HOME="${WORKDIR}/cargo_home"
	mkdir -p "${CARGO_HOME}" || die
	cat > "${CARGO_HOME}/config.toml" <<-END || die
		${LAB_CARGO_CONFIG}
		[source.gentoo]
		directory = "${CARGO_HOME}/gentoo"
		[source.crates-io]
		replace-with = "gentoo"
		[net]
		offline = true
	END
}

# @FUNCTION: cargo_src_compile
# @DESCRIPTION:
# Takes the program that is there, or builds it.
cargo_src_compile() {
	[[ ${ECARGO_ARGS[*]} == --locked ]] || die "not configured"
	[[ -f Cargo.lock ]] || die "no Cargo.lock in ${PWD}"
	if [[ ${LAB_TOOLCHAIN} ]]; then
		PATH=${LAB_TOOLCHAIN}:${PATH} cargo build $(usev !debug --release) "${ECARGO_ARGS[@]}" || die
		return
	fi
	mkdir -p "$(cargo_target_dir)" || die
	cp "${LAB_BINARY}" "$(cargo_target_dir)"/ || die
}

# @FUNCTION: cargo_src_install
# @DESCRIPTION:
# As in the real one.
cargo_src_install() {
	into /usr
	dobin "$(cargo_target_dir)"/binpkg-resign
}

# @FUNCTION: cargo_src_test
# @DESCRIPTION:
# Nothing: `make test-rust` is this.
cargo_src_test() {
	:
}

EXPORT_FUNCTIONS src_unpack src_configure src_compile src_install src_test
