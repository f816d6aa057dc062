"""A fault at every single operation of the store: nothing is lost, and the next plain run mends everything."""

import hashlib
import os

import pytest

from tests.lab import (
    NEWEST,
    Prefix,
    assert_all_verify,
    assert_index_agrees,
    assert_portage_finds_nothing,
    files_of,
    package,
)

FULL = bool(os.environ.get("BINPKG_RESIGN_FULL"))
KINDS = ("die", "enospc", "eio", "erofs", "short") if FULL else ("die", "enospc")
SHARDS = 8

MOVES = ("move dev-util/strace dev-debug/strace", "slotmove dev-libs/slotted 0 2", "move app-misc/old app-misc/new")


def world(lab):
    """Packages that change in place, one that moves, one that stays."""

    def fill(path):
        prefix = Prefix.create(lab, path, key=lab.key())
        prefix.make(
            package("app-misc/user-1", RDEPEND="dev-util/strace"),
            package("app-misc/other-2", BDEPEND=">=dev-util/strace-5"),
            package("dev-libs/slotted-2.0"),
            package("app-misc/old-1.0", RDEPEND="dev-util/strace"),
            package("app-misc/plain-1"),
        )
        prefix.updates("1Q-2024", *MOVES)

    path = lab.once("templates", "faults", fill)
    return Prefix(lab, path, key=lab.key()).with_repositories("gentoo")


def operations(lab):
    """How many operations a whole run has, and how many until every package at risk has its second name."""
    prefix = world(lab).clone()
    log = prefix.path / "operations"
    prefix.resign("apply", "-j1", env={"BINPKG_RESIGN_FAULT_LOG": log})
    lines = log.read_text().splitlines()
    return len(lines), max(number for number, line in enumerate(lines, 1) if " link to " in line)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_nothing_lost(prefix, before, words):
    """Every package is there, with its old bytes or with new ones that Portage accepts, in its place or held."""
    verdicts = prefix.verify()
    for path, old in before.items():
        here = prefix.pkgdir / path
        if here.is_file() and verdicts[path] is None:
            continue
        held = [digest(file) for file in prefix.held.glob(f"{path}.held*")] if prefix.held.is_dir() else []
        assert old in held, f"{words}: {path} is lost ({verdicts.get(path)})"


def assert_mended(prefix, words):
    """What a run without a fault would have left."""
    prefix.resign("apply")
    wanted = {
        "app-misc/user/user-1-1.gpkg.tar",
        "app-misc/other/other-2-1.gpkg.tar",
        "dev-libs/slotted/slotted-2.0-1.gpkg.tar",
        "app-misc/old/old-1.0-1.gpkg.tar",
        "app-misc/new/new-1.0-1.gpkg.tar",
        "app-misc/plain/plain-1-1.gpkg.tar",
    }
    assert set(files_of(prefix.pkgdir)) == wanted, words
    left = [str(path) for path in prefix.pkgdir.rglob(".*") if path.name != ".Packages.portage_lockfile"]
    assert not left, f"{words}: {left}"
    assert_all_verify(prefix)
    assert_index_agrees(prefix)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_fault_at_every_operation(lab, shard):
    count, safe_from = operations(lab)
    assert count > 50 and safe_from < 20
    checked = 0
    for number in range(1 + shard, count + 1, SHARDS):
        for kind in KINDS:
            words = f"{number}:{kind}"
            prefix = world(lab).clone()
            before = {path: digest(prefix.pkgdir / path) for path in files_of(prefix.pkgdir)}
            result = prefix.resign("apply", "-j1", env={"BINPKG_RESIGN_FAULT": words}, check=None)
            assert result.status in (0, 1, 2, -9), f"{words}: {result}"
            assert "panicked" not in result.text, f"{words}: {result}"
            assert_nothing_lost(prefix, before, f"{words}: {result}")
            if number <= safe_from and (kind == "die" or number == 1):
                # Dying before the second names are there, or a PKGDIR where no folder can be made, is as if the hook had
                # not run: nothing was changed, and Portage's pass would do as without us.
                continue
            prefix.update_pass()
            assert_nothing_lost(prefix, before, f"{words}, after the pass: {result}")
            assert_mended(prefix, f"{words}: {result}")
            checked += 1
    print(f"{checked} faults, packages lost: 0")


def test_the_whole_run_without_a_fault(lab):
    """The same world without a fault, so that the test above cannot pass by doing nothing."""
    prefix = world(lab).clone()
    prefix.resign("apply")
    assert_portage_finds_nothing(prefix)
    assert_mended(prefix, "no fault")


@pytest.mark.parametrize("shard", range(4))
def test_a_fault_at_every_operation_of_a_retry(lab, shard):
    """The only copies are the held ones: Portage's pass has removed the packages themselves."""

    def held_world():
        prefix = world(lab).clone()
        before = {path: digest(prefix.pkgdir / path) for path in files_of(prefix.pkgdir)}
        prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "/bin/false [PORTAGE_CONFIG]"
        prefix.configure()
        prefix.resign("apply", check=None)
        prefix.update_pass()
        assert set(files_of(prefix.pkgdir)) < set(before)
        prefix.variables.pop("BINPKG_GPG_SIGNING_BASE_COMMAND")
        prefix.configure()
        return prefix, before

    prefix, _ = held_world()
    log = prefix.path / "operations"
    prefix.resign("held", "retry", "-j1", env={"BINPKG_RESIGN_FAULT_LOG": log})
    count = len(log.read_text().splitlines())
    assert count > 30
    for number in range(1 + shard, count + 1, 4 if FULL else 12):
        for kind in KINDS:
            words = f"retry {number}:{kind}"
            prefix, before = held_world()
            result = prefix.resign("held", "retry", "-j1", env={"BINPKG_RESIGN_FAULT": f"{number}:{kind}"}, check=None)
            assert result.status in (0, 1, 2, -9), f"{words}: {result}"
            assert "panicked" not in result.text, f"{words}: {result}"
            assert_nothing_lost(prefix, before, f"{words}: {result}")
            prefix.update_pass()
            assert_nothing_lost(prefix, before, f"{words}, after the pass: {result}")
            assert_mended(prefix, f"{words}: {result}")
