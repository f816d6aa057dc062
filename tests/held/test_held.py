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
    # for good: the net does not bring it back
    prefix.sync()
    assert set(files_of(prefix.pkgdir)) == set(paths(layout, ALL)) - {path}


def test_a_held_package_is_called_by_name_or_path(lab, layout):
    """The list has both, and `list`, `retry` and `drop` take either."""
    prefix, _, _ = synced_with_a_broken_key(lab, layout)
    slotted, user = path_of(layout, "dev-libs/slotted-2.0"), path_of(layout, "app-misc/user-1")
    records = {record["path"]: record for record in prefix.resign_json("held")["packages"]}
    build_id = "" if layout == "flat" else "-1"
    lines = prefix.resign("held", check=0).out.splitlines()
    for path, name in ((slotted, f"dev-libs/slotted-2.0{build_id}"), (user, f"app-misc/user-1{build_id}")):
        assert any(f" {name} (" in line and path in line for line in lines), lines
        for called in (name, path, records[path]["cpv"]):
            assert [record["path"] for record in prefix.resign_json("held", "list", called)["packages"]] == [path]

    # nothing is written where one of the names is wrong, or only asked for
    before = Snapshot(prefix.path)
    assert "no package is held as" in prefix.resign("held", "retry", slotted, "a/b", check=2).err
    assert "no package is held as" in prefix.resign("held", "list", "a/b", check=2).err
    would = prefix.resign_json("held", "retry", "--pretend", slotted)
    assert [record["path"] for record in would["packages"]] == [slotted] and would["pretend"], would
    assert before.difference(Snapshot(prefix.path)) == []

    said = prefix.resign("held", "retry", f"dev-libs/slotted-2.0{build_id}")
    assert f"{len(records) - 1} packages are still held" in said.text, said
    assert (prefix.pkgdir / slotted).is_file() and not (prefix.pkgdir / user).exists()
    assert {record["path"] for record in prefix.resign_json("held")["packages"]} == set(records) - {slotted}
    prefix.resign("held", "retry", user)
    assert {record["path"] for record in prefix.resign_json("held")["packages"]} == set(records) - {slotted, user}
    prefix.resign("held", "drop", records[path_of(layout, "app-misc/oldname-1.0-r1")]["cpv"])
    prefix.resign("held", "retry")
    assert files_of(prefix.pkgdir) == sorted(set(paths(layout, ALL)) - {path_of(layout, name) for name in ("app-misc/newname-1.0-r1", "app-misc/oldname-1.0-r1")})
    assert_all_verify(prefix)
    assert_index_agrees(prefix)
    assert_portage_finds_nothing(prefix)


def test_retry_can_be_tried_out(lab, layout):
    """`held retry -p` says what `held retry` then does, and writes nothing."""
    prefix, _, _ = synced_with_a_broken_key(lab, layout)
    before = Snapshot(prefix.pkgdir)
    would = prefix.resign_json("held", "retry", "-p")
    assert "would" in prefix.resign("held", "retry", "-p").out
    prefix.variables["BINPKG_GPG_SIGNING_KEY"] = "nobody@example.org"
    prefix.configure()
    said = prefix.resign("held", "retry", "--pretend", check=1)
    assert "would stay held" in said.text and "nobody@example.org" in said.text, said
    assert "would bring back" not in said.text, said
    prefix.variables.pop("BINPKG_GPG_SIGNING_KEY")
    prefix.configure()
    assert before.difference(Snapshot(prefix.pkgdir)) == []
    did = prefix.resign_json("held", "retry")
    facts = [[(record["path"], record["outcome"], record["new_path"], record["changes"]) for record in answer["packages"]] for answer in (would, did)]
    assert facts[0] == facts[1] and facts[0]


def test_a_retry_in_vain_counts_once(lab, layout):
    """What it tells of is not told of again as held from earlier."""
    prefix, _, _ = synced_with_a_broken_key(lab, layout)
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "/bin/false [PORTAGE_CONFIG]"
    prefix.configure()
    assert "still held" not in prefix.resign("held", "retry", check=1).text


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
        records = prefix.resign_json("held")["packages"]
        times = {int(held.stat().st_ctime) for held in prefix.held.rglob("*.held*")}
        assert records and {record["since"] for record in records} <= times, records
        assert all("held retry" in record["reason"]["text"] for record in records), records
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
