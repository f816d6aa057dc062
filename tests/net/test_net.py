"""What Portage's update pass removed while no hook ran comes back; what its user removed does not."""

import json
import os

import pytest

from tests.e2e.world import LAYOUTS, UPDATES, path_of, publish, pull, world
from tests.lab import NEWEST, Snapshot, assert_all_verify, assert_index_agrees, assert_portage_finds_nothing, files_of
from tests.lab.disk import btrfs_subvolume

CONCERNED = ("dev-libs/slotted-2.0", "app-misc/oldname-1.0-r1", "app-misc/user-1")


@pytest.fixture(params=LAYOUTS)
def layout(request):
    """Both layouts."""
    return request.param


def with_net(lab, layout, **variables):
    """A prefix without hook, whose net is filled."""
    prefix = world(lab, NEWEST, layout).clone()
    prefix.variables.update(variables)
    prefix.configure()
    prefix.resign("apply")
    return prefix


def net_of(prefix):
    """Where the net lies beside PKGDIR."""
    return prefix.pkgdir.parent / f".{prefix.pkgdir.name}.binpkg-resign-net"


def lose(prefix):
    """A sync without hook, and the pass after it."""
    publish(prefix)
    pull(prefix)
    prefix.update_pass()


def test_what_the_pass_removed_comes_back(lab, layout):
    prefix = with_net(lab, layout)
    before = files_of(prefix.pkgdir)
    links = [path for path in net_of(prefix).iterdir() if path.name.startswith("package.")]
    assert len(links) == len(before) and all(path.stat().st_nlink == 2 for path in links)
    assert net_of(prefix).stat().st_mode & 0o777 == 0o700
    lose(prefix)
    concerned = {path_of(layout, cpv) for cpv in CONCERNED}
    assert not concerned & set(files_of(prefix.pkgdir)), "the control: Portage removes them"
    foretold = prefix.resign_json("apply", "--pretend")
    assert {record["path"] for record in foretold["packages"] if record["outcome"] == "restored"} == concerned
    answer = prefix.resign_json("apply")
    outcomes = {(record["path"], record["outcome"]) for record in answer["packages"]}
    assert {path for path, outcome in outcomes if outcome == "restored"} == concerned, outcomes
    assert concerned <= set(files_of(prefix.pkgdir))
    assert not (prefix.pkgdir / ".binpkg-resign").exists()
    assert_all_verify(prefix)
    prefix.resign("apply", "--all")
    assert_portage_finds_nothing(prefix)
    assert_index_agrees(prefix)


def test_doctor_knows_what_the_net_knows(lab, layout):
    prefix = with_net(lab, layout)
    lose(prefix)
    before = Snapshot(prefix.path)
    [check] = [check for check in prefix.resign_json("doctor", check=None)["checks"] if check["name"] == "processed"]
    assert check["state"] == "warning" and f"removed {len(CONCERNED)} signed packages" in check["text"], check
    assert before.difference(Snapshot(prefix.path)) == []
    prefix.resign("apply")
    [check] = [check for check in prefix.resign_json("doctor", check=None)["checks"] if check["name"] == "processed"]
    assert "removed" not in check["text"].split(";")[0] and "--all" in check["fix"], check


def test_doctor_names_a_net_that_is_switched_off(lab, layout):
    prefix = with_net(lab, layout)
    prefix.variables["BINPKG_RESIGN_NET"] = "no"
    prefix.configure()
    [check] = [check for check in prefix.resign_json("doctor", check=None)["checks"] if check["name"] == "net"]
    assert check["state"] == "warning" and f"rm -r {net_of(prefix)}" in check["fix"], check


def test_movebin_is_seen_through_too(lab, layout):
    """Every file is taken, and mtimedb says nothing of it."""
    prefix = world(lab, NEWEST, layout).clone()
    prefix.updates("1Q-2024", *UPDATES)
    processed = prefix.repository_path("gentoo") / "profiles/updates/1Q-2024"
    mtimedb = prefix.path / "var/cache/edb/mtimedb"
    mtimedb.write_text(f'{{"updates": {{"{processed.resolve()}": {int(processed.stat().st_mtime)}}}}}')
    prefix.resign("apply")
    prefix.movebin()
    concerned = {path_of(layout, cpv) for cpv in CONCERNED}
    assert not concerned & set(files_of(prefix.pkgdir)), "the control: Portage removes them"
    prefix.resign("apply")
    assert concerned <= set(files_of(prefix.pkgdir))
    assert_all_verify(prefix)


def test_what_its_user_removed_stays_away(lab, layout):
    prefix = with_net(lab, layout)
    gone = prefix.pkgdir / path_of(layout, "app-misc/user-1")
    gone.unlink()
    lose(prefix)
    prefix.resign("apply")
    assert not gone.exists() and not list(prefix.held.rglob("*user*")) if prefix.held.exists() else not gone.exists()
    assert (prefix.pkgdir / path_of(layout, "dev-libs/slotted-2.0")).is_file()
    # and its disk space with it
    assert all(path.stat().st_nlink == 2 for path in net_of(prefix).iterdir() if path.name.startswith("package."))


def test_without_a_key_it_is_held_for_the_host_that_signs(lab, layout):
    prefix = with_net(lab, layout)
    prefix.features.append("-binpkg-signing")
    prefix.variables["BINPKG_RESIGN_NET"] = "yes"
    prefix.configure()
    lose(prefix)
    answer = prefix.resign_json("apply", check=None)
    held = {record["path"] for record in answer["packages"] if record["outcome"] == "held"}
    assert held == {path_of(layout, cpv) for cpv in CONCERNED}
    prefix.features.remove("-binpkg-signing")
    prefix.configure()
    prefix.resign("held", "retry")
    assert held <= set(files_of(prefix.pkgdir))
    assert_all_verify(prefix)


def test_no_net_is_made_where_none_is_wanted(lab, layout):
    prefix = with_net(lab, layout, BINPKG_RESIGN_NET="no")
    assert not net_of(prefix).exists()


def test_it_lies_inside_where_it_cannot_lie_beside(lab, layout):
    prefix = with_net(lab, layout, BINPKG_RESIGN_NET="no")
    if os.getuid() != 0:
        pytest.skip("only root mounts")
    prefix.run("mount", "--bind", prefix.pkgdir, prefix.pkgdir)
    try:
        prefix.variables["BINPKG_RESIGN_NET"] = "auto"
        prefix.configure()
        prefix.resign("apply")
        assert not net_of(prefix).exists() and not (prefix.pkgdir / ".binpkg-resign").exists()
        prefix.variables["BINPKG_RESIGN_NET"] = "yes"
        prefix.configure()
        prefix.resign("apply")
        assert (prefix.pkgdir / ".binpkg-resign/net/list").is_file()
        lose(prefix)
        prefix.resign("apply")
        assert {path_of(layout, cpv) for cpv in CONCERNED} <= set(files_of(prefix.pkgdir))
    finally:
        prefix.run("umount", prefix.pkgdir)


def test_where_links_cannot_be_it_has_reflinks(lab, layout):
    """PKGDIR is a subvolume of btrfs, and the net lies in another one: files of its own that share their blocks."""
    prefix = with_net(lab, layout, BINPKG_RESIGN_NET="no")
    with btrfs_subvolume(prefix):
        prefix.variables["BINPKG_RESIGN_NET"] = "auto"
        prefix.configure()
        prefix.resign("apply")
        before = files_of(prefix.pkgdir)
        links = [path for path in net_of(prefix).iterdir() if path.name.startswith("package.")]
        assert len(links) == len(before) and all(path.stat().st_nlink == 1 for path in links)
        prefix.run("sync")
        shared = prefix.run("btrfs", "filesystem", "du", "--raw", "-s", net_of(prefix)).out.split()
        assert int(shared[-3]) < int(shared[-4]) // 4, shared
        whole = Snapshot(prefix.path)
        prefix.resign("apply")
        assert whole.difference(Snapshot(prefix.path)) == [], "a run that has nothing to do changes nothing"
        lose(prefix)
        concerned = {path_of(layout, cpv) for cpv in CONCERNED}
        assert not concerned & set(files_of(prefix.pkgdir)), "the control: Portage removes them"
        prefix.resign("apply")
        assert concerned <= set(files_of(prefix.pkgdir))
        assert_all_verify(prefix)
        assert_index_agrees(prefix)


def test_a_run_that_has_nothing_to_do_changes_nothing(lab, layout):
    prefix = with_net(lab, layout)
    before = Snapshot(prefix.path)
    prefix.resign("apply")
    assert before.difference(Snapshot(prefix.path)) == []


def test_an_update_file_that_grew_after_the_pass(lab, layout):
    """A quarter's file gets new lines all the time: that it is younger than a loss proves nothing."""
    prefix = with_net(lab, layout)
    lose(prefix)
    publish(prefix, *UPDATES, "move app-misc/gone app-misc/further", "move app-misc/other app-misc/another")
    pull(prefix)
    prefix.resign("apply")
    assert {path_of(layout, cpv) for cpv in CONCERNED} <= set(files_of(prefix.pkgdir))
    assert_all_verify(prefix)


def test_a_package_that_cannot_be_taken_back_stays_in_the_net(lab, layout):
    """Every operation that can fail while it is: said with exit status 1, and the next run brings it back."""
    lost = with_net(lab, layout)
    log = lost.path / "operations"
    lose(lost)
    whole = lost.clone()
    link_net(lost, whole)
    whole.resign("apply", "-j1", env={"BINPKG_RESIGN_FAULT_LOG": log})
    lines = log.read_text().splitlines()
    first = next(number for number, line in enumerate(lines, 1) if " link to " in line and "/held/" in line)
    concerned = {path_of(layout, cpv) for cpv in CONCERNED}
    for number in range(first - 4, first + 12):
        one = lost.clone()
        link_net(lost, one)
        result = one.resign("apply", "-j1", env={"BINPKG_RESIGN_FAULT": f"{number}:enospc"}, check=None)
        one.resign("apply", check=None)
        assert concerned <= set(files_of(one.pkgdir)), f"{number}: {result}"


def link_net(prefix, clone):
    """A clone has copies of files: its net gets the inodes that its list names."""
    there = net_of(clone)
    listed = [json.loads(line) for line in (there / "list").read_text().splitlines()]
    for one in listed:
        old, package = there / f"package.{one['inode']}", clone.pkgdir / one["path"]
        if package.exists():
            old.unlink(missing_ok=True)
            os.link(package, there / f"package.{package.stat().st_ino}")
            one["inode"] = package.stat().st_ino
        else:
            new = there / f"package.{old.stat().st_ino}"
            old.rename(new)
            one["inode"] = new.stat().st_ino
    (there / "list").write_text("".join(json.dumps(one) + "\n" for one in listed))


def test_without_the_old_index_everything_that_is_gone_comes_back(lab, layout):
    """Then nobody can tell who removed it, and losing is worse than a package too many."""
    prefix = with_net(lab, layout)
    lose(prefix)
    (net_of(prefix) / "index").unlink()
    prefix.resign("apply")
    assert {path_of(layout, cpv) for cpv in CONCERNED} <= set(files_of(prefix.pkgdir))


def test_a_wrong_setting_drops_nothing(lab, layout):
    prefix = with_net(lab, layout)
    lose(prefix)
    prefix.variables["BINPKG_RESIGN_NET"] = "perhaps"
    prefix.configure()
    prefix.resign("apply", check=2)
    del prefix.variables["BINPKG_RESIGN_NET"]
    prefix.configure()
    prefix.resign("apply")
    assert {path_of(layout, cpv) for cpv in CONCERNED} <= set(files_of(prefix.pkgdir))


def test_a_pkgdir_that_cannot_be_written_does_not_make_every_sync_fail(lab, layout):
    """No update is pending; only the net would have been filled."""
    prefix = with_net(lab, layout, BINPKG_RESIGN_NET="no")
    prefix.variables["BINPKG_RESIGN_NET"] = "auto"
    prefix.configure()
    result = prefix.resign("apply", env={"BINPKG_RESIGN_FAULT": "1:erofs"})
    assert "safety net" in result.err, result
