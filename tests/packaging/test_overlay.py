"""`make overlay`: the real emerge merges from it, offline, and what is installed keeps packages through a sync."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.world import path_of, publish, world
from tests.lab import NEWEST, Prefix, assert_all_verify, assert_portage_finds_nothing, files_of
from tests.lab.checks import IGNORED, REMOVED
from tests.lab.command import base_environment, run
from tests.lab.session import TOP
from tests.lab.terminal import Terminal

from .gentoo import PACKAGES, checkout, fetch_crates, furnish, version, without_program
from .test_pkgcheck import scan

# Time is short: what is built here is for running once.
CARGO_CONFIG = "profile.dev = {debug = false, package = {'*' = {opt-level = 0}}}"


def make_overlay(folder, umask="022"):
    """`make overlay` in a checkout, with nothing to be had from a network; its words."""
    keep = {name: os.environ[name] for name in ("CARGO", "CARGO_HOME", "HOME", "RUSTUP_HOME") if name in os.environ}
    environment = base_environment(os.environ["PATH"]) | keep | {"CARGO_NET_OFFLINE": "true"}
    return run(["/bin/sh", "-c", f"umask {umask}; exec make --no-print-directory overlay"], environment, cwd=folder)


@pytest.fixture(scope="module")
def made(lab):
    """A checkout in which `make overlay` has run, and what that printed."""
    fetch_crates()

    def fill(path):
        path.mkdir()
        checkout(path)
        (path / "said").write_text(make_overlay(path).out)

    path = lab.once("templates", "overlay", fill)
    return path, (path / "said").read_text()


def contents(folder):
    """Path → bytes of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_commit_gives_the_same_bytes(lab, made):
    """In another place, with other times, another umask, and a file that is not committed."""
    other = lab.directory()
    shutil.copytree(made[0], other, dirs_exist_ok=True, copy_function=shutil.copy, ignore=shutil.ignore_patterns("target", "said"))
    (other / "README.md").write_text("Not committed.\n")
    said = make_overlay(other, umask="077")
    assert "not committed" in said.err
    first, second = contents(made[0] / "target/overlay"), contents(other / "target/overlay")
    assert sorted(first) == sorted(second) and len(first) == 8
    assert [name for name in first if first[name] != second[name]] == []


def test_another_commit_gives_other_bytes(lab, made):
    """The control of the test above; the crates are the same, and so is their tarball."""
    other = lab.directory()
    shutil.copytree(made[0], other, dirs_exist_ok=True, ignore=shutil.ignore_patterns("target", "said"))
    (other / "README.md").write_text("Committed.\n")
    words = ["git", "-c", "safe.directory=*", "-C", other, "commit", "--quiet", "-am", "Change"]
    run(words, base_environment(os.environ["PATH"]))
    make_overlay(other)
    first, second = contents(made[0] / "target/overlay"), contents(other / "target/overlay")
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {f"distfiles/binpkg-resign-{version()}.tar.gz", "overlay/app-portage/binpkg-resign/Manifest"}


def toolchain():
    """The folder with cargo and rustc themselves, not with rustup's names for them."""
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], check=True, capture_output=True, text=True).stdout.strip()
    cargo = Path(sysroot) / "bin/cargo"
    return cargo.parent if cargo.exists() else Path(shutil.which("cargo")).parent


@pytest.fixture(scope="module")
def host(lab):
    """A host with signed packages; what our ebuild needs of ::gentoo is there, and there is no network."""
    words = {"portage": NEWEST, "key": lab.key()}
    words["variables"] = {
        "ACCEPT_KEYWORDS": "amd64 ~amd64",
        "ACCEPT_LICENSE": "*",
        "FETCHCOMMAND": "/bin/false",
        "RESUMECOMMAND": "/bin/false",
        "USE": "debug",
        "LAB_TOOLCHAIN": toolchain(),
        "LAB_CARGO_CONFIG": CARGO_CONFIG,
    }

    def fill(path):
        prefix = world(lab, NEWEST).clone(path)
        prefix.variables = words["variables"]
        prefix.configure()
        furnish(prefix.gentoo)
        prefix.sync()
        prefix.write("etc/portage/profile/package.provided", "".join(f"{cpv}\n" for cpv in PACKAGES))

    path = lab.once("templates", "overlay-host", fill)
    return Prefix(lab, path, **words).with_repositories("gentoo")


@pytest.fixture(scope="module")
def merged(lab, made, host):
    """The host after the lines that `make overlay` prints, as somebody types them."""

    if run(["pkg-config", "--exists", "libzstd"], base_environment(os.environ["PATH"]), check=None).status != 0:
        pytest.skip("libzstd is not there, which the ebuild builds with: `make setup`")

    def fill(path):
        prefix = host.clone(path)
        lines = re.findall(r"^    sudo (.*)$", made[1], re.MULTILINE)
        assert len(lines) == 2 and "make" in lines[0] and "emerge" in lines[1]
        assert all(f"\n    sudo {line}" in (TOP / "README.md").read_text() for line in lines)
        environment = prefix.environment(PATH=without_program(prefix))
        run([*lines[0].split(), f"EPREFIX={prefix.path}"], environment, cwd=made[0])
        with Terminal(lines[1].split(), environment, prefix.path) as terminal:
            terminal.until(lambda seen: "Would you like to merge these packages?" in seen)
            terminal.type("Yes\r")
            status = terminal.end(1800)
            assert status == 0, terminal.seen
        (path / "said").write_text(terminal.seen)

    path = lab.once("templates", "overlay-merged", fill)
    prefix = Prefix(lab, path, portage=NEWEST, key=host.key, variables=host.variables)
    return prefix.with_repositories("gentoo")


def test_emerge_merges_from_it_and_a_sync_uses_it(merged):
    """The hook is in its place, knows its program, and everything is saved."""
    said = (merged.path / "said").read_text()
    assert "Compiling binpkg-resign" in said and "The hook is active" in said, said
    program = merged.path / "usr/bin/binpkg-resign"
    without = {"PATH": without_program(merged)}
    assert merged.run(program, "--version", env=without).out.split()[1] == version()
    answer = json.loads(merged.run(program, "--json", "doctor", env=without, check=None).out)
    assert [check["state"] for check in answer["checks"] if check["name"] == "hook"] == ["ok"], answer

    before = files_of(merged.pkgdir)
    publish(merged)
    result = merged.sync(env=without)
    assert REMOVED not in result.text and IGNORED not in result.text, result
    assert set(before) < set(files_of(merged.pkgdir)), result
    assert path_of("multi-instance", "dev-debug/strace-6.6") in files_of(merged.pkgdir)
    assert_all_verify(merged)
    assert_portage_finds_nothing(merged)


def test_a_build_for_users_has_no_fault_injection(merged):
    """Not with USE=debug either, with which this one was built. The program under test has it."""
    found = [b"BINPKG_RESIGN_FAULT" in file.read_bytes() for file in (merged.session.program, merged.path / "usr/bin/binpkg-resign")]
    assert found == [True, False]


def test_without_make_overlay_emerge_says_what_to_do(made, host):
    """The files are not in DISTDIR: no fetch is tried, and the remedy is named."""
    prefix = host.clone()
    run(["make", "install-overlay", f"EPREFIX={prefix.path}"], prefix.environment(), cwd=made[0])
    for file in (prefix.path / "var/cache/distfiles").iterdir():
        file.unlink()
    result = prefix.emerge("--oneshot", "app-portage/binpkg-resign", check=None)
    assert result.status != 0 and "make overlay" in result.text, result


def test_pkgcheck_has_nothing_against_it(made, host):
    """Nor against what it is made from: test_pkgcheck.py, which has the control as well."""
    prefix = host.clone()
    run(["make", "install-overlay", f"EPREFIX={prefix.path}"], prefix.environment(), cwd=made[0])
    result = scan(prefix)
    assert result.out == "" and result.status != 1, result
