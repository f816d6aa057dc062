"""Our overlay in a prefix, with what it needs of ::gentoo: a few eclasses, and packages by name. Stand-ins, for tests."""

import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.lab.repository import Repository
from tests.lab.session import TOP

ECLASSES = Path(__file__).with_name("eclass")

PACKAGES = (
    "app-arch/lz4-1.10.0",
    "app-arch/lzip-1.25",
    "app-arch/lzop-1.04",
    "app-arch/zstd-1.5.7",
    "app-crypt/gnupg-2.4.8",
    "app-crypt/gpgme-2.0.1",
    "dev-lang/rust-1.88.0",
    "dev-lang/rust-bin-1.88.0",
    "dev-libs/libgpg-error-1.55",
    "sys-apps/portage-3.0.83",
    "virtual/pkgconfig-3",
)

LICENSES = "Apache-2.0 Apache-2.0-with-LLVM-exceptions BSD BSD-2 GPL-2 GPL-2+ LGPL-2.1 MIT Unicode-3.0 Unlicense ZLIB"


def version():
    """The version in Cargo.toml."""
    return re.search(r'^version = "(.*)"$', (TOP / "Cargo.toml").read_text(), re.MULTILINE)[1]


def furnish(repository):
    """Adds all that to an upstream of the lab, and publishes it."""
    for eclass in ECLASSES.glob("*.eclass"):
        repository.write(f"eclass/{eclass.name}", eclass.read_text())
    for cpv in PACKAGES:
        repository.add(cpv)
    for name in LICENSES.split():
        repository.write(f"licenses/{name}", f"The text of {name}.\n")
    categories = (repository.path / "profiles/categories").read_text().split()
    wanted = sorted({*categories, "app-portage", *(cpv.split("/")[0] for cpv in PACKAGES)})
    repository.write("profiles/categories", "\n".join(wanted) + "\n")
    repository.write("profiles/use.desc", "debug - Builds with debugging aids\ntest - Runs the tests\n")
    repository.commit("Stand-ins for ::gentoo")


def add_overlay(prefix, manifest=True):
    """Puts `ebuild/` into a prefix, with a source archive of this tree and all crates in DISTDIR.

    Returns where it lies. `manifest` has Portage add the archive's digests, as on a release.
    """
    furnish(prefix.gentoo)
    prefix.sync()
    overlay = prefix.repository_path("binpkg-resign")
    shutil.copytree(TOP / "ebuild", overlay)
    prefix.write("etc/portage/repos.conf/binpkg-resign.conf", f"[binpkg-resign]\nlocation = {overlay}\n")
    distfiles = prefix.path / "var/cache/distfiles"
    archive(distfiles / f"binpkg-resign-{version()}.tar.gz")
    crates(distfiles)
    if manifest:
        prefix.run("ebuild", ebuild_file(prefix), "manifest")
    return overlay


def ebuild_file(prefix, of=None):
    """The ebuild of a version in a prefix."""
    return prefix.repository_path("binpkg-resign") / f"app-portage/binpkg-resign/binpkg-resign-{of or version()}.ebuild"


def files():
    """Every file that git knows or would take, as it lies in the work tree."""
    words = ["git", "-c", "safe.directory=*", "-C", TOP, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(words, check=True, capture_output=True).stdout.decode().split("\0")
    return sorted(name for name in names if name and (TOP / name).exists())


def archive(path):
    """What a release's archive will be."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name in files():
            tar.add(TOP / name, f"binpkg-resign-{version()}/{name}")


def checkout(path):
    """A git checkout of the work tree as it is, whatever of it is committed."""
    for name in files():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(TOP / name, path / name)
    repository = Repository(path, "checkout")
    repository.git("init", "--quiet", "--initial-branch=main")
    repository.commit("All of it")


def fetch_crates():
    """Has cargo fetch all crates of Cargo.lock; the only thing here that may need a network."""
    cargo = os.environ.get("CARGO", "cargo")
    fetched = subprocess.run([cargo, "fetch", "--locked", "--quiet"], cwd=TOP, capture_output=True, text=True)
    if fetched.returncode != 0:
        pytest.skip(f"cargo cannot fetch all crates of Cargo.lock: {fetched.stderr}")


def crates(distfiles):
    """Links the crates of Cargo.lock, as cargo has fetched them, into DISTDIR."""
    fetch_crates()
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    for crate in home.glob("registry/cache/*/*.crate"):
        link = distfiles / crate.name
        if not link.exists():
            link.symlink_to(crate)


def without_program(prefix):
    """A PATH that has neither the lab's link to the program under test nor the place where it is installed."""
    parts = prefix.session.search_path(prefix.portage).split(":")
    return ":".join(part for part in parts if part != f"{prefix.session.path}/bin")
