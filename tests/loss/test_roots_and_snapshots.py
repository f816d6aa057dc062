"""Real syncs in which Portage's pass sees other update files than the hook was told of."""

import json
import shutil

import pytest

from tests.e2e.world import LAYOUTS
from tests.lab import Prefix, Repository, files_of, package
from tests.lab.checks import REMOVED
from tests.lab.command import run
from tests.lab.promise import Builds

from .scene import MOVE, both_layouts, five, where


def with_rsync(prefix, options):
    """Syncs the main repository with rsync from its upstream, instead of git."""
    shutil.rmtree(prefix.repository_path("gentoo"))
    lines = [
        "[DEFAULT]",
        "main-repo = gentoo",
        "[gentoo]",
        f"location = {prefix.repository_path('gentoo')}",
        "sync-type = rsync",
        f"sync-uri = file://{prefix.gentoo.path}",
        "auto-sync = yes",
        "sync-rsync-verify-metamanifest = no",
        *options,
    ]
    prefix.write("etc/portage/repos.conf/gentoo.conf", "\n".join([*lines, ""]))


def rsynced(lab, layout, path=None, options=()):
    """A prefix whose tree comes by rsync; then five packages, and the hook."""
    if shutil.which("rsync") is None:
        pytest.skip("skipped: no rsync")
    prefix = Prefix.create(lab, path, key=lab.key(), features=LAYOUTS[layout])
    with_rsync(prefix, options)
    prefix.gentoo.updates("4Q-2023", "move app-misc/never app-misc/was")
    timestamp(prefix.gentoo, 1)
    run(["emerge", "--color=n", "--sync"], prefix.environment(), cwd=prefix.path)
    prefix.make(*(package(f"app-misc/{name}-1", RDEPEND="dev-util/strace") for name in ("one", "two")))
    prefix.make(package("dev-util/strace-6"), package("app-misc/three-1"))
    return prefix


def timestamp(repository: Repository, number):
    """What a mirror writes with each new state; without it rsync is not asked."""
    repository.write("metadata/timestamp.chk", f"Mon, 01 Jan 2024 00:0{number}:00 +0000\n")
    repository.write("metadata/timestamp.x", f"{1704067200 + 60 * number} Mon 01 Jan 2024 00:0{number}:00 UTC\n")


RCU = ["sync-allow-hardlinks = yes", "sync-rcu = yes"]


def with_snapshots(lab, layout):
    """The same, each sync making a snapshot."""
    path = lab.directory()
    prefix = rsynced(lab, layout, path, [*RCU, f"sync-rcu-store-dir = {path}/snapshots"])
    assert prefix.repository_path("gentoo").is_symlink(), "the repository is a link to a snapshot"
    return prefix


def copy_with_snapshots(prefix):
    """A copy whose links lead to its own snapshots."""
    copy = prefix.clone()
    for link in (copy.repository_path("gentoo"), *(copy.path / "snapshots").iterdir()):
        if link.is_symlink():
            target = str(link.readlink()).replace(str(prefix.path), str(copy.path))
            link.unlink()
            link.symlink_to(target)
    assert str(copy.path) in str(copy.repository_path("gentoo").resolve())
    return copy


def new_state(prefix):
    """The upstream publishes the move."""
    prefix.gentoo.updates("1Q-2024", MOVE)
    timestamp(prefix.gentoo, 2)


@both_layouts
def test_a_sync_that_makes_a_new_snapshot(lab, layout):
    """sync-rcu = yes: the hook is told of the old snapshot, the pass takes every file of the new one."""
    prefix = with_snapshots(lab, layout)
    control = copy_with_snapshots(prefix)
    new_state(control)
    lost = Builds(control)
    said = control.sync(check=None)
    assert said.text.count(REMOVED) == 2 and len(lost.missing(control)) == 2, f"the control: two are lost\n{said}"

    prefix.install_hook()
    new_state(prefix)
    builds = Builds(prefix)
    said = prefix.sync()
    assert REMOVED not in said.text, said
    assert builds.missing(prefix) == set(), said
    moved = where(layout, "strace").replace("app-misc", "dev-debug").replace("strace-1", "strace-6")
    assert moved in files_of(prefix.pkgdir), said
    # and nothing is signed anew by a sync that brings nothing new, although all files have new paths then
    before = {path: (prefix.pkgdir / path).read_bytes() for path in files_of(prefix.pkgdir)}
    timestamp(prefix.gentoo, 3)
    said = prefix.sync()
    assert before == {path: (prefix.pkgdir / path).read_bytes() for path in files_of(prefix.pkgdir)}, said


@both_layouts
def test_plain_rsync(lab, layout):
    """The same without snapshots."""
    prefix = rsynced(lab, layout)
    prefix.install_hook()
    new_state(prefix)
    builds = Builds(prefix)
    said = prefix.sync()
    assert REMOVED not in said.text and builds.missing(prefix) == set(), said


# ROOT


def mtimedb_of(prefix, root):
    """Where Portage remembers the update files of a root."""
    return root / prefix.path.relative_to("/") / "var/cache/edb/mtimedb"


def with_root(lab, layout, remembered):
    """A prefix with a second root; one of both mtimedbs remembers the update file already."""
    prefix = five(lab, layout)
    root = lab.directory("r")
    other = mtimedb_of(prefix, root)
    other.parent.mkdir(parents=True)
    prefix.gentoo.updates("1Q-2024", MOVE)
    prefix.gentoo.commit()
    updates = prefix.repository_path("gentoo") / "profiles/updates/1Q-2024"
    updates.unlink()
    prefix.run("git", "-c", "safe.directory=*", "-C", prefix.repository_path("gentoo"), "pull", "--quiet")
    known = {"updates": {str(updates.resolve()): int(updates.stat().st_mtime)}, "version": "3.0.83"}
    places = {"running root": [prefix.path / "var/cache/edb/mtimedb"], "target root": [other], "neither": []}
    for place in places[remembered]:
        place.write_text(json.dumps(known))
    return prefix, root


@both_layouts
@pytest.mark.parametrize("remembered", ["running root", "target root", "neither"])
def test_a_sync_for_another_root(lab, layout, remembered):
    """ROOT=/x emerge --sync: the pass runs for both roots, each with what its own mtimedb does not remember."""
    prefix, root = with_root(lab, layout, remembered)
    control = prefix.clone()
    updates = control.repository_path("gentoo") / "profiles/updates/1Q-2024"
    assert updates.is_file()
    builds = Builds(control)
    control_root = lab.directory("r")
    if remembered == "target root":
        there = mtimedb_of(control, control_root)
        there.parent.mkdir(parents=True)
        there.write_text(mtimedb_of(prefix, root).read_text().replace(str(prefix.path), str(control.path)))
    else:
        mtimedb_of(control, control_root).parent.mkdir(parents=True)
    said = control.sync(check=None, env={"ROOT": control_root})
    assert len(builds.missing(control)) == 5, f"the control: all five are lost\n{said}"

    prefix.install_hook()
    builds = Builds(prefix)
    said = prefix.sync(env={"ROOT": root})
    assert REMOVED not in said.text and builds.missing(prefix) == set(), said


@both_layouts
def test_from_a_shell_for_another_root(lab, layout):
    """`binpkg-resign --root /x apply` looks at the running root's mtimedb, too."""
    prefix, root = with_root(lab, layout, "target root")
    builds = Builds(prefix)
    prefix.resign("--root", root, "apply")
    said = prefix.emerge("--pretend", "--oneshot", "app-misc/nothing", check=None, env={"ROOT": root})
    assert builds.missing(prefix) == set(), said
    prefix.update_pass()
    assert builds.missing(prefix) == set(), said


@pytest.mark.parametrize("order", [["one"], ["one", "two"]], ids=["one repository", "two repositories"])
def test_several_repositories_with_snapshots(lab, order):
    """Each overlay's own updates, from its own new snapshot."""
    prefix = with_snapshots(lab, "multi-instance")
    for name in order:
        upstream = Repository.create(prefix.path / "upstream" / name, name, masters="gentoo")
        upstream.updates("4Q-2023", "move app-misc/never app-misc/was")
        timestamp(upstream, 1)
        lines = [
            f"[{name}]",
            f"location = {prefix.repository_path(name)}",
            "sync-type = rsync",
            f"sync-uri = file://{upstream.path}",
            "auto-sync = yes",
            "sync-rsync-verify-metamanifest = no",
            *RCU,
            f"sync-rcu-store-dir = {prefix.path}/snapshots-of-{name}",
        ]
        prefix.write(f"etc/portage/repos.conf/{name}.conf", "\n".join([*lines, ""]))
        prefix.repositories[name] = upstream
    prefix.sync()
    prefix.make(*(package(f"app-misc/of-{name}-1", RDEPEND="dev-libs/a", repository=name) for name in order))
    prefix.install_hook()
    for number, name in enumerate(order, 2):
        prefix.repositories[name].updates("1Q-2024", f"move dev-libs/a dev-libs/b{number}")
        timestamp(prefix.repositories[name], number)
    builds = Builds(prefix)
    said = prefix.sync()
    assert REMOVED not in said.text and builds.missing(prefix) == set(), said
