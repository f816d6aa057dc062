"""PKGDIR spread over disks by symbolic links: followed where root alone could have made them, else never a silent loss."""

import os
import shutil

import pytest

from tests.lab.promise import Builds, assert_promised, assert_saved, held_files, run_to_its_end

from .scene import NAMES, both_layouts, five, where

SOMEBODY = 65534

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can make what root alone may make")


def spread(prefix, what="app-misc"):
    """Moves a folder or a file of PKGDIR to another disk and puts a link in its place; returns where it is now."""
    there = prefix.path / "other-disk" / what
    there.parent.mkdir(parents=True)
    here = prefix.pkgdir / what
    shutil.move(here, there)
    here.symlink_to(there)
    return there


def link_owned_by_somebody(prefix, there):
    """The link itself is somebody else's."""
    os.chown(prefix.pkgdir / "app-misc", SOMEBODY, SOMEBODY, follow_symlinks=False)


def target_owned_by_somebody(prefix, there):
    """The folder that it points to is somebody else's."""
    os.chown(there, SOMEBODY, SOMEBODY)


def target_writable_by_all(prefix, there):
    """Everybody may write where it points to."""
    there.chmod(0o777)


def way_writable_by_a_group(prefix, there):
    """A group may exchange what it points to."""
    os.chown(there.parent, 0, SOMEBODY)
    there.parent.chmod(0o775)


def pkgdir_writable_by_a_group(prefix, there):
    """The link is root's, but lies where a group may exchange it."""
    os.chown(prefix.pkgdir, 0, SOMEBODY)
    prefix.pkgdir.chmod(0o2775)


def by_way_of_somebody(prefix, there):
    """Root's link points to a link of somebody else."""
    turn = prefix.path / "turn"
    turn.symlink_to(there)
    os.chown(turn, SOMEBODY, SOMEBODY, follow_symlinks=False)
    (prefix.pkgdir / "app-misc").unlink()
    (prefix.pkgdir / "app-misc").symlink_to(turn)


DOUBTFUL = [
    link_owned_by_somebody,
    target_owned_by_somebody,
    target_writable_by_all,
    way_writable_by_a_group,
    pkgdir_writable_by_a_group,
    by_way_of_somebody,
]


@both_layouts
@pytest.mark.parametrize("form", ["absolute", "relative", "two links"])
def test_a_category_that_root_has_put_elsewhere(lab, layout, form):
    """It is followed: every package is signed where it lies, and the link stays a link."""
    prefix = five(lab, layout)
    builds = Builds(prefix)
    there = spread(prefix)
    link = prefix.pkgdir / "app-misc"
    if form == "relative":
        link.unlink()
        link.symlink_to(os.path.relpath(there, prefix.pkgdir))
    elif form == "two links":
        (prefix.path / "turn").symlink_to(there)
        link.unlink()
        link.symlink_to(prefix.path / "turn")
    assert_saved(prefix, builds, "apply")
    assert link.is_symlink()
    for name in NAMES:
        assert (there.parent / where(layout, name)).is_file()
    left = [path.name for path in there.rglob("*") if path.is_file() and not path.name.endswith(".gpkg.tar")]
    assert not left


@both_layouts
def test_a_category_elsewhere_where_nothing_can_be_signed(lab, layout):
    """Held all the same: a backup across filesystems is a copy."""
    prefix = five(lab, layout)
    builds = Builds(prefix)
    spread(prefix)
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "/bin/false [PORTAGE_CONFIG]"
    prefix.configure()
    ended = run_to_its_end(prefix, "apply")
    assert ended.status == 1, ended.result
    assert_promised(prefix, builds, ended)
    assert len(held_files(prefix)) == 5, ended.result


@both_layouts
@pytest.mark.parametrize("doubt", DOUBTFUL, ids=lambda doubt: doubt.__name__)
def test_a_category_that_somebody_else_could_have_put_elsewhere(lab, layout, doubt):
    """Not followed, so at the most held: said, named, exit status 1."""
    prefix = five(lab, layout)
    builds = Builds(prefix)
    there = spread(prefix)
    doubt(prefix, there)
    inside = {path: path.read_bytes() for path in there.rglob("*") if path.is_file()}
    ended = run_to_its_end(prefix, "apply")
    assert ended.status == 1, ended.result
    assert {path: path.read_bytes() for path in there.rglob("*") if path.is_file()} == inside, "it was followed"
    assert_promised(prefix, builds, ended)


@both_layouts
def test_a_package_that_is_a_link(lab, layout):
    """Portage's pass removes the link, and with it the package: it is named, exit status 1, and the others go on."""
    prefix = five(lab, layout)
    path = where(layout, "three")
    there = spread(prefix, path)
    builds = Builds(prefix)
    before = there.read_bytes()
    ended = run_to_its_end(prefix, "apply")
    assert ended.status == 1, ended.result
    assert there.read_bytes() == before
    named = {one for one, outcome in ended.outcomes if outcome in ("exposed", "held")}
    assert named == {path}, ended.result
    assert {one for one, outcome in ended.outcomes if outcome == "resigned"} == {where(layout, n) for n in NAMES if n != "three"}
    assert_promised(prefix, builds, ended)
