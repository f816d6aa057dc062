"""What a sync changes besides the updates: the hook's environment has it as it was, the pass has it as it is now."""

import shutil

import pytest

from tests.e2e.world import path_of
from tests.lab import package
from tests.lab.checks import REMOVED

from .scene import UPDATES, lost, publish, scene

THEIRS = path_of("multi-instance", "app-misc/theirs-1")


def renamed_main_repository(prefix):
    """The main repository has another name now, and its old one as an alias."""
    prefix.gentoo.write("profiles/repo_name", "gentoo-next\n")
    layout = prefix.gentoo.path / "metadata/layout.conf"
    layout.write_text(layout.read_text() + "aliases = gentoo\n")


def renamed_twice(prefix):
    """The section is named by an alias, and the name changes."""
    renamed_main_repository(prefix)
    prefix.gentoo.commit("Another name")
    prefix.sync()
    prefix.gentoo.write("profiles/repo_name", "gentoo-other\n")


def profile_features(words):
    """The profile sets FEATURES."""

    def change(prefix):
        file = prefix.gentoo.path / "profiles/default/make.defaults"
        file.write_text(file.read_text() + f'FEATURES="{words}"\n')

    return change


def unlisted_and_untrusted(prefix):
    """The index misses a package, and is not trusted any more."""
    file = prefix.pkgdir / "Packages"
    blocks = [block for block in file.read_text().split("\n\n") if "CPV: app-misc/user-1" not in block]
    file.write_text("\n\n".join(blocks).replace("PACKAGES: 5", "PACKAGES: 4"))
    profile_features("-pkgdir-index-trusted")(prefix)


def profile_pkgdir(prefix):
    """The profile says where packages are, in place of make.globals."""
    prefix.variables["PKGDIR"] = None
    prefix.configure()
    make_globals = prefix.path / "share/portage/config/make.globals"
    make_globals.write_text(make_globals.read_text() + f'PKGDIR="{prefix.path}/var/cache/empty"\n')
    (prefix.path / "var/cache/empty").mkdir()
    file = prefix.gentoo.path / "profiles/default/make.defaults"
    file.write_text(file.read_text() + f'PKGDIR="{prefix.pkgdir}"\n')


CHANGES = {
    "main repository renamed": renamed_main_repository,
    "section named by an alias, repository renamed": renamed_twice,
    "layout of PKGDIR": profile_features("-binpkg-multi-instance"),
    "trust in the index": unlisted_and_untrusted,
    "PKGDIR": profile_pkgdir,
}
"""What may change, and what a publisher does for it."""

def cases(changes):
    """The changes as parameters."""
    return [pytest.param(change, id=name) for name, change in changes.items()]


@pytest.mark.parametrize("change", cases(CHANGES))
def test_the_main_repository(lab, change):
    """The updates come in the same sync."""
    prefix = scene(lab)
    prefix.install_hook()
    change(prefix)
    publish(prefix)
    result = prefix.sync()
    assert lost(prefix) == [] and REMOVED not in result.text, result


def with_overlay(lab):
    """A prefix with a package from an overlay without updates."""
    prefix = scene(lab)
    upstream = prefix.add_repository("overlay")
    prefix.make(package("app-misc/theirs-1", RDEPEND="dev-util/strace", repository="overlay"))
    prefix.install_hook()
    return prefix, upstream


def first_sync(prefix, upstream):
    """It was not there before."""
    shutil.rmtree(prefix.repository_path("overlay"))
    upstream.updates("1Q-2024", *UPDATES)


def first_sync_by_alias(prefix, upstream):
    """It was not there before, and its section has another name."""
    first_sync(prefix, upstream)
    conf = prefix.path / "etc/portage/repos.conf/overlay.conf"
    conf.write_text(conf.read_text().replace("[overlay]", "[other]"))
    upstream.write("metadata/layout.conf", "masters = gentoo\nthin-manifests = true\naliases = other\n")


def renamed_overlay(prefix, upstream):
    """Its packages have the old name, and belong to the main repository then."""
    upstream.write("profiles/repo_name", "other\n")
    upstream.write("metadata/layout.conf", "masters = gentoo\nthin-manifests = true\naliases = overlay\n")
    publish(prefix)


def updates_gone(prefix, upstream):
    """It had updates of its own, and has none any more: the main repository's count."""
    upstream.updates("1Q-2023", "move a/b a/c")
    upstream.commit("Updates")
    prefix.sync()
    shutil.rmtree(upstream.path / "profiles/updates")
    publish(prefix)


OVERLAY_CHANGES = {
    "first sync": first_sync,
    "first sync, section named by an alias": first_sync_by_alias,
    "overlay renamed": renamed_overlay,
    "updates gone": updates_gone,
}


@pytest.mark.parametrize("change", cases(OVERLAY_CHANGES))
def test_an_overlay(lab, change):
    """Which repository's updates its packages get is what it is after the sync."""
    prefix, upstream = with_overlay(lab)
    change(prefix, upstream)
    upstream.commit("Change")
    result = prefix.sync()
    assert REMOVED not in result.text, result
    assert prefix.entry(THEIRS)["RDEPEND"] == "dev-debug/strace", result
