"""Packages that could not be signed are kept safe from Portage's pass and come back without a rebuild."""

import os

import pytest

from tests.e2e.world import LAYOUTS, path_of, publish, world
from tests.lab import NEWEST, Snapshot, assert_all_verify, assert_index_agrees, assert_portage_finds_nothing, files_of

pytestmark = pytest.mark.parametrize("layout", LAYOUTS)

CONCERNED = ("dev-libs/slotted-2.0", "app-misc/oldname-1.0-r1", "app-misc/user-1")
ALL = ("dev-util/strace-6.6", "dev-debug/strace-6.6", "app-misc/newname-1.0-r1", "app-misc/plain-1", *CONCERNED)


def paths(layout, cpvs):
    """Their files, strace's second build with them."""
    found = {path_of(layout, cpv) for cpv in cpvs}
    if layout == "multi-instance":
        found |= {path_of(layout, cpv, 2) for cpv in cpvs if "/strace-" in cpv}
    return sorted(found)


def synced_with_a_broken_key(lab, layout):
    """A prefix after a sync in which nothing could be signed."""
    prefix = world(lab, NEWEST, layout).clone()
    prefix.install_hook()
    good = dict(prefix.variables)
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "/bin/false [PORTAGE_CONFIG]"
    prefix.configure()
    publish(prefix)
    before = Snapshot(prefix.pkgdir)
    result = prefix.sync(check=None)
    prefix.variables = good
    prefix.configure()
    return prefix, before, result


def test_a_failing_command_costs_nothing(lab, layout):
    prefix, before, result = synced_with_a_broken_key(lab, layout)
    assert result.status != 0
    assert "/bin/false" in result.text and "held retry" in result.text, result
    assert files_of(prefix.pkgdir) == paths(layout, ["dev-util/strace-6.6", "app-misc/plain-1"])
    for cpv in CONCERNED:
        path = path_of(layout, cpv)
        held = prefix.held / f"{path}.held"
        assert held.is_file()
    listed = prefix.resign_json("held", "list")
    concerned = {*paths(layout, CONCERNED), *paths(layout, ["dev-util/strace-6.6"])}
    assert {record["path"] for record in listed["packages"]} == concerned
    assert all("/bin/false" in record["reason"]["text"] for record in listed["packages"])
    text = prefix.resign("held", check=None).text
    assert "dev-libs/slotted-2.0" in text


def test_retry_brings_everything_back(lab, layout):
    prefix, _, _ = synced_with_a_broken_key(lab, layout)
    answer = prefix.resign_json("held", "retry")
    assert answer["status"] == "done", answer
    assert files_of(prefix.pkgdir) == paths(layout, ALL)
    assert not (prefix.pkgdir / ".binpkg-resign").exists()
    assert_all_verify(prefix)
    assert_index_agrees(prefix)
    assert_portage_finds_nothing(prefix)


def test_the_next_sync_brings_everything_back(lab, layout):
    prefix, _, _ = synced_with_a_broken_key(lab, layout)
    result = prefix.sync()
    assert "saved" in result.text, result
    assert files_of(prefix.pkgdir) == paths(layout, ALL)
    assert_all_verify(prefix)
    assert_index_agrees(prefix)


def test_a_sync_with_nothing_new_warns_of_held_packages_and_does_not_fail(lab, layout):
    prefix, _, _ = synced_with_a_broken_key(lab, layout)
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "/bin/false [PORTAGE_CONFIG]"
    prefix.configure()
    result = prefix.sync()
    assert "still held" in result.text, result
    assert prefix.resign("held", "retry", check=1).text.count("/bin/false") >= 1


def test_drop_gives_one_up(lab, layout):
    prefix, _, _ = synced_with_a_broken_key(lab, layout)
    path = path_of(layout, "dev-libs/slotted-2.0")
    log = prefix.path / "operations"
    prefix.resign("held", "drop", path, env={"BINPKG_RESIGN_FAULT_LOG": log})
    assert not (prefix.held / f"{path}.held").exists()
    done = [line.split(" ", 1)[1] for line in sorted(log.read_text().splitlines(), key=lambda line: int(line.split()[0]))]
    removed = done.index(f"remove {prefix.held / path}.held")
    assert any(line.startswith("flush ") and line.endswith(os.path.dirname(path)) for line in done[removed:]), done
    assert path not in {record["path"] for record in prefix.resign_json("held")["packages"]}
    assert "no package is held as" in prefix.resign("held", "drop", "a/b.gpkg.tar", check=2).text


def test_a_build_that_took_the_name_meanwhile_stays(lab, layout):
    prefix, _, _ = synced_with_a_broken_key(lab, layout)
    prefix.build("dev-libs/slotted")
    path = path_of(layout, "dev-libs/slotted-2.0")
    newer = (prefix.pkgdir / path).read_bytes()
    prefix.resign("held", "retry", check=None)
    assert (prefix.pkgdir / path).read_bytes() == newer
    if layout == "multi-instance":
        other = path_of(layout, "dev-libs/slotted-2.0", 2)
        assert (prefix.pkgdir / other).is_file()
        assert prefix.metadata([other])[other]["BUILD_ID"].strip() == "2"
        assert_all_verify(prefix)
        assert_index_agrees(prefix)
    else:
        records = prefix.resign_json("held")["packages"]
        assert [record["path"] for record in records] == [path]
        assert "newer build" in records[0]["reason"]["text"]


@pytest.mark.parametrize("journal", [None, "no journal at all"])
def test_without_its_journal_everything_comes_back_from_the_files(lab, layout, journal):
    prefix, _, _ = synced_with_a_broken_key(lab, layout)
    file = prefix.pkgdir / ".binpkg-resign/journal"
    if journal is None:
        file.unlink()
    else:
        file.write_text(journal)
    result = prefix.resign("held", "retry")
    # nobody remembers that strace, which Portage's pass has left where it was, was to be moved; `--all` does
    assert set(paths(layout, ALL)) - set(files_of(prefix.pkgdir)) == set(paths(layout, ["dev-debug/strace-6.6"]))
    assert not (prefix.pkgdir / ".binpkg-resign").exists()
    assert_all_verify(prefix)
    assert_index_agrees(prefix)
    prefix.resign("apply", "--all")
    assert files_of(prefix.pkgdir) == paths(layout, ALL)
    assert_index_agrees(prefix)
    assert_portage_finds_nothing(prefix)
