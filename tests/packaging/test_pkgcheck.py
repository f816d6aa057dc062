"""`pkgcheck scan` has nothing to say about the overlay, as it would be after a release."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.lab import NEWEST, Prefix
from tests.lab.command import base_environment, run
from tests.lab.session import TOP

from .gentoo import add_overlay, ebuild_file

PKGCHECK = Path(os.environ.get("BINPKG_RESIGN_VENVS", TOP / "target")) / "pkgcheck/bin"

# The real one, where it is at hand: its eclasses then stand where our stand-ins stand otherwise.
REAL_GENTOO = Path(os.environ.get("BINPKG_RESIGN_GENTOO", "/var/db/repos/gentoo"))


@pytest.fixture(scope="module")
def template(lab):
    """A prefix with our overlay."""

    def fill(path):
        add_overlay(Prefix.create(lab, path))

    return Prefix(lab, lab.once("templates", "pkgcheck", fill)).with_repositories("gentoo")


def scan(prefix):
    """What pkgcheck says of the overlay."""
    if not (PKGCHECK / "pkgcheck").exists():
        pytest.skip("pkgcheck is not installed: `make setup-packaging`")
    environment = base_environment(f"{PKGCHECK}:{os.environ['PATH']}") | {"HOME": prefix.path / "home"}
    program = [PKGCHECK / "pkgcheck", "--config", prefix.path / "etc/portage"]
    # Its exit status is no measure: it may be 120 because it has closed its own standard output.
    if not run([*program, "--version"], environment, check=None).out.startswith("pkgcheck "):
        pytest.skip("pkgcheck does not run here: its releases want a certain bash")
    # --exit makes it end with 1 on any finding, so that silence is not for want of a scan.
    result = run([*program, "scan", "--repo", "binpkg-resign", "--exit", "error,warning,style,info"], environment, check=None)
    assert "error:" not in result.err and "Traceback" not in result.err, result
    return result


def test_the_overlay_is_clean(template):
    """Not a word, of any severity."""
    prefix = template.clone()
    result = scan(prefix)
    assert result.out == "" and result.status != 1, result


def test_pkgcheck_looks_at_it(template):
    """The control of the test above: what is wrong is said."""
    prefix = template.clone()
    file = ebuild_file(prefix)
    file.write_text(file.read_text().replace('LICENSE="GPL-2+"', 'LICENSE="GPL-2+ Nobody"').replace("|| die", ""))
    crate = next(line for line in file.with_name("Manifest").read_text().splitlines() if "/" not in line and ".crate" in line)
    manifest = file.with_name("Manifest")
    manifest.write_text(manifest.read_text().replace(crate + "\n", ""))
    result = scan(prefix)
    said = result.out
    assert result.status == 1 and "Nobody" in said and crate.split()[1] in said, said


def test_with_the_real_gentoo(template):
    """The same, with ::gentoo's own eclasses, licences and packages, where they are at hand."""
    if not (REAL_GENTOO / "eclass/cargo.eclass").exists():
        pytest.skip(f"{REAL_GENTOO} is not ::gentoo")
    prefix = template.clone()
    profile = subprocess.run(["find", REAL_GENTOO / "profiles/default/linux/amd64", "-name", "no-multilib"], capture_output=True, text=True)
    link = prefix.path / "etc/portage/make.profile"
    link.unlink()
    link.symlink_to(sorted(profile.stdout.split())[-1])
    prefix.write("etc/portage/repos.conf/gentoo.conf", f"[DEFAULT]\nmain-repo = gentoo\n\n[gentoo]\nlocation = {REAL_GENTOO}\n")
    result = scan(prefix)
    assert result.out == "" and result.status != 1, result
