"""A real `emerge --sync` with the hook: every signed package is there afterwards, as Portage would have made it."""

import os

import pytest

from tests.lab import (
    NEWEST,
    OLDEST,
    Snapshot,
    assert_all_verify,
    assert_index_agrees,
    assert_portage_finds_nothing,
    files_of,
    raw_entries,
)
from tests.lab.checks import IGNORED, REMOVED

from .world import LAYOUTS, UPDATES, path_of, publish, pull, world

pytestmark = pytest.mark.parametrize("layout", LAYOUTS)

FULL = bool(os.environ.get("BINPKG_RESIGN_FULL"))
BEFORE = ("dev-util/strace-6.6", "dev-libs/slotted-2.0", "app-misc/oldname-1.0-r1", "app-misc/user-1", "app-misc/plain-1")
MOVED = {"dev-util/strace-6.6": "dev-debug/strace-6.6", "app-misc/oldname-1.0-r1": "app-misc/newname-1.0-r1"}


def paths(layout, cpvs):
    """All files of these packages: strace was built twice where the layout allows it."""
    found = {path_of(layout, cpv) for cpv in cpvs}
    if layout == "multi-instance":
        found |= {path_of(layout, cpv, 2) for cpv in cpvs if "/strace-" in cpv}
    return sorted(found)


def dependencies(prefix, path):
    """What a file says, white space apart."""
    entries = prefix.metadata([path])[path]
    return {key: " ".join(entries[key].split()) for key in entries if key.endswith("DEPEND")}


def test_without_the_hook_packages_are_lost(lab, portage, layout):
    """The control: what this project is for really happens."""
    prefix = world(lab, portage, layout).clone()
    publish(prefix)
    result = prefix.sync()
    left = files_of(prefix.pkgdir)
    assert left == paths(layout, ["dev-util/strace-6.6", "app-misc/plain-1"])
    assert result.text.count(REMOVED) == 3
    assert IGNORED in result.text


def test_with_the_hook_everything_is_saved(lab, portage, layout):
    """The main promise, after the control above."""
    prefix = world(lab, portage, layout).clone()
    prefix.install_hook()
    publish(prefix)
    before = Snapshot(prefix.pkgdir)
    entries = raw_entries(prefix.pkgdir / "Packages")
    assert sorted(before.packages()) == paths(layout, BEFORE)

    result = prefix.sync()

    assert REMOVED not in result.text and IGNORED not in result.text, result
    assert files_of(prefix.pkgdir) == paths(layout, [*BEFORE, *MOVED.values()])
    assert_all_verify(prefix)
    assert_index_agrees(prefix)

    plain = path_of(layout, "app-misc/plain-1")
    assert Snapshot(prefix.pkgdir).entries[plain] == before.entries[plain], "an untouched package was touched"
    assert raw_entries(prefix.pkgdir / "Packages")[plain] == entries[plain]

    user = dependencies(prefix, path_of(layout, "app-misc/user-1"))
    assert "dev-util/strace" not in " ".join(user.values())
    assert user["BDEPEND"] == "dev-debug/strace"
    assert ">=dev-debug/strace-6" in user["RDEPEND"] and "dev-libs/slotted:2" in user["RDEPEND"]
    assert user["PDEPEND"] == "|| ( app-misc/newname app-misc/plain )"
    slotted = prefix.metadata([path_of(layout, "dev-libs/slotted-2.0")])
    assert next(iter(slotted.values()))["SLOT"] == "2/2.30\n"
    for old in MOVED:
        # The old file stays, as Portage leaves it, with its own dependencies brought up to date.
        assert "dev-util/strace" not in " ".join(dependencies(prefix, path_of(layout, old)).values())

    assert_portage_finds_nothing(prefix)
    assert not prefix.held.exists() or not any(prefix.held.rglob("*.held"))


def test_a_second_run_finds_nothing_to_do(lab, portage, layout):
    """After a sync with the hook, neither the hook nor `--all` changes a byte."""
    prefix = world(lab, portage, layout).clone()
    prefix.install_hook()
    publish(prefix)
    prefix.sync()
    after = Snapshot(prefix.pkgdir)
    for words in (["apply"], ["apply", "--all"]):
        answer = prefix.resign_json(*words)
        assert answer["status"] == "nothing-to-do", answer
        assert answer["packages"] == []
        assert after.difference(Snapshot(prefix.pkgdir)) == []
    prefix.sync()
    assert after.contents() == Snapshot(prefix.pkgdir).contents()


def test_pretend_changes_nothing_at_all(lab, portage, layout):
    """Not a byte, not a time, of the whole prefix and of the keys."""
    prefix = world(lab, portage, layout).clone()
    # a home that no other test works in at the same time
    prefix.key = lab.copy_key(prefix.key)
    prefix.configure()
    publish(prefix)
    pull(prefix)
    before = Snapshot(prefix.path), Snapshot(prefix.key.home, leave_out=("random_seed",))
    result = prefix.resign("apply", "--pretend")
    after = Snapshot(prefix.path), Snapshot(prefix.key.home, leave_out=("random_seed",))
    assert before[0].difference(after[0]) == []
    assert before[1].contents() == after[1].contents()
    for cpv in ("dev-util/strace-6.6", "dev-libs/slotted-2.0", "app-misc/oldname-1.0-r1", "app-misc/user-1"):
        assert cpv in result.text, result
    assert "app-misc/plain" not in result.text
    for update in UPDATES:
        assert update in result.text, f"{update!r} is not named as a reason:\n{result}"


def test_the_answer_in_json(lab, portage, layout):
    """From a plain root shell, what contract.md says of --json."""
    prefix = world(lab, portage, layout).clone()
    publish(prefix)
    pull(prefix)
    pretended = prefix.resign_json("apply", "--pretend")
    answer = prefix.resign_json("apply")
    assert set(answer) == {"command", "status", "packages", "counts", "seconds", "pretend", "error"}
    assert (pretended["pretend"], answer["pretend"], answer["error"]) == (True, False, None)
    assert (answer["command"], answer["status"]) == ("apply", "done")
    records = {(record["path"], record["outcome"]): record for record in answer["packages"]}
    assert len(records) == len(answer["packages"])
    expected = {(path, "resigned") for path in paths(layout, ["dev-libs/slotted-2.0", "app-misc/user-1", "app-misc/oldname-1.0-r1"])}
    expected |= {(path, "moved") for path in paths(layout, MOVED)}
    assert set(records) == expected
    for (path, outcome), record in records.items():
        keys = {"path", "cpv", "build_id", "outcome", "new_path", "changes", "reason"}
        assert set(record) <= keys and {"path", "cpv", "outcome", "changes"} <= set(record), record
        assert (prefix.pkgdir / path).is_file()
        if outcome == "moved":
            assert (prefix.pkgdir / record["new_path"]).is_file()
        assert record["changes"], record
        for change in record["changes"]:
            assert change["update"] in UPDATES and set(change) == {"update", "keys"}, change
    assert isinstance(answer["seconds"], (int, float))
    assert {(record["path"], record["outcome"]) for record in pretended["packages"]} == expected
    assert_portage_finds_nothing(prefix)


def test_with_configuration_root(lab, layout):
    """PORTAGE_CONFIGROOT and EPREFIX by option, with nothing of the prefix in the environment."""
    prefix = world(lab, NEWEST, layout).clone()
    publish(prefix)
    pull(prefix)
    environment = prefix.environment()
    environment.pop("PORTAGE_OVERRIDE_EPREFIX")
    from tests.lab.command import run

    result = run(
        ["binpkg-resign", "--config-root", prefix.path, "--prefix", prefix.path, "apply"], environment, cwd="/"
    )
    assert files_of(prefix.pkgdir) == paths(layout, [*BEFORE, *MOVED.values()]), result
    assert_all_verify(prefix)
    assert_portage_finds_nothing(prefix)


def test_signing_not_configured(lab, portage, layout):
    """Portage acts as it would without us, and we say nothing."""
    if portage == OLDEST and not FULL:
        pytest.skip("only at full size")
    plain = world(lab, portage, layout, signed=False)
    with_hook, without = plain.clone(), plain.clone()
    with_hook.install_hook()
    results = []
    for prefix in (with_hook, without):
        publish(prefix)
        results.append(prefix.sync())
    said = [result.text.replace(str(prefix.path), "P") for result, prefix in zip(results, (with_hook, without))]
    assert [line for line in said[0].splitlines() if ".." not in line] == [line for line in said[1].splitlines() if ".." not in line]
    assert files_of(with_hook.pkgdir) == files_of(without.pkgdir)
    assert with_hook.metadata() == without.metadata()

    result = with_hook.resign("apply")
    assert (result.out, result.err) == ("", "")
    assert "sign" in with_hook.resign("-v", "apply").text
    assert with_hook.resign_json("apply")["status"] == "not-configured"
