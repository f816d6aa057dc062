"""A fault at every single operation of the store: nothing is lost, and the next plain run puts everything in order."""

import hashlib
import os

import pytest

from tests.lab import (
    Prefix,
    assert_index_agrees,
    assert_portage_finds_nothing,
    files_of,
    package,
)
from tests.lab.moment import sign_with

FULL = bool(os.environ.get("BINPKG_RESIGN_FULL"))
KINDS = ("die", "enospc", "eio", "erofs", "short") if FULL else ("die", "enospc")
SHARDS = 8
# Of so many operations one is tried; all of them where the batches are as large as they are for users.
EVERY = {"64": 1, "2": 1 if FULL else 4}
RETRY_EVERY = 1 if FULL else 6
# The store alone must lose nothing; the safety net has a test of its own.
NO_NET = {"BINPKG_RESIGN_NET": "no"}

MOVES = ("move dev-util/strace dev-debug/strace", "slotmove dev-libs/slotted 0 2", "move app-misc/old app-misc/new")


def world(lab):
    """Packages that change in place, one that moves, one that stays."""

    def fill(path):
        prefix = Prefix.create(lab, path, key=lab.key(), variables=NO_NET)
        prefix.make(
            package("app-misc/user-1", RDEPEND="dev-util/strace"),
            package("app-misc/other-2", BDEPEND=">=dev-util/strace-5"),
            package("dev-libs/slotted-2.0"),
            package("app-misc/old-1.0", RDEPEND="dev-util/strace"),
            package("app-misc/plain-1"),
        )
        prefix.updates("1Q-2024", *MOVES)

    path = lab.once("templates", "faults", fill)
    return Prefix(lab, path, key=lab.key(), variables=NO_NET).with_repositories("gentoo")


class Operations:
    """The operations of a whole run, by their numbers from 1."""

    def __init__(self, prefix, *words, batch="64"):
        log = prefix.path / "operations"
        prefix.resign(*words, "-j1", env={"BINPKG_RESIGN_FAULT_LOG": log, "BINPKG_RESIGN_BATCH": batch}, check=None)
        lines = (line.split(" ", 1) for line in log.read_text().splitlines())
        self.lines = [text for _, text in sorted((int(number), text) for number, text in lines)]

    def __len__(self):
        return len(self.lines)

    def numbers(self, test):
        """Those that are as asked for."""
        return [number for number, line in enumerate(self.lines, 1) if test(line)]

    @property
    def safe_from(self):
        """With the one after this, every package at risk has its backup; the links of the net come later."""
        return max(self.numbers(lambda line: line.startswith("link to ") and "/held/" in line), default=0)

    @property
    def described_from(self):
        """With the one after this, the journal knows what the index said of them."""
        return min(self.numbers(lambda line: line.startswith("write ") and line.endswith("/journal")), default=0)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digests(prefix):
    """Path → digest of every package in PKGDIR."""
    return {path: digest(prefix.pkgdir / path) for path in files_of(prefix.pkgdir)}


#: Digests of packages that Portage has accepted: it does not think otherwise of the same bytes.
ACCEPTED = set()


def verdicts_of(prefix):
    """Path → None, or what Portage has against the package, which is asked once about the same bytes."""
    here = digests(prefix)
    fresh = [path for path, found in here.items() if found not in ACCEPTED]
    verdicts = dict.fromkeys(here) | (prefix.verify(fresh) if fresh else {})
    ACCEPTED.update(here[path] for path, error in verdicts.items() if error is None)
    return verdicts


def assert_nothing_lost(prefix, before, words):
    """Every package is there, with its old bytes or with new ones that Portage accepts, in its place or held."""
    verdicts = verdicts_of(prefix)
    held = {digest(file) for file in prefix.held.rglob("*.held*") if file.is_file()} if prefix.held.is_dir() else set()
    for path, old in before.items():
        here = prefix.pkgdir / path
        if here.is_file() and verdicts[path] is None:
            continue
        assert old in held, f"{words}: {path} is lost ({verdicts.get(path)})"


WANTED = [
    "app-misc/new/new-1.0-1.gpkg.tar",
    "app-misc/old/old-1.0-1.gpkg.tar",
    "app-misc/other/other-2-1.gpkg.tar",
    "app-misc/plain/plain-1-1.gpkg.tar",
    "app-misc/user/user-1-1.gpkg.tar",
    "dev-libs/slotted/slotted-2.0-1.gpkg.tar",
]


def assert_mended(prefix, words, wanted=WANTED):
    """After a plain run, all is as a run without a fault would have left it."""
    result = prefix.resign("apply")
    assert files_of(prefix.pkgdir) == wanted, f"{words}\n{result}"
    left = [str(path) for path in prefix.pkgdir.rglob(".*") if path.name != ".Packages.portage_lockfile"]
    assert not left, f"{words}: {left}"
    bad = {path: error for path, error in verdicts_of(prefix).items() if error}
    assert not bad, f"{words}: {bad}"
    assert_index_agrees(prefix)


def fail_at(prefix, number, kind, *words, batch="64"):
    """A run with one fault; whatever happens, it ends in good order."""
    environment = {"BINPKG_RESIGN_FAULT": f"{number}:{kind}", "BINPKG_RESIGN_BATCH": batch}
    result = prefix.resign(*words, "-j1", env=environment, check=None)
    assert result.status in (0, 1, 2, -9), f"{number}:{kind}: {result}"
    assert "panicked" not in result.text, f"{number}:{kind}: {result}"
    return result


@pytest.mark.parametrize("batch", EVERY)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_fault_at_every_operation(lab, shard, batch):
    """In a run of one batch, and in one of several."""
    whole = Operations(world(lab).clone(), "apply", batch=batch)
    assert len(whole) > 50 and 0 < whole.safe_from < whole.described_from < 30
    checked = 0
    for number in range(1 + shard * EVERY[batch], len(whole) + 1, SHARDS * EVERY[batch]):
        for kind in KINDS:
            prefix = world(lab).clone()
            before = digests(prefix)
            result = fail_at(prefix, number, kind, "apply", batch=batch)
            words = f"{number}:{kind}: {result}"
            assert_nothing_lost(prefix, before, words)
            if number <= whole.safe_from and (kind == "die" or number == 1):
                # Dying before the backups are there, or a PKGDIR where no folder can be made, is as if the hook had
                # not run: nothing was changed, and Portage's pass would do as without us.
                continue
            prefix.update_pass()
            assert_nothing_lost(prefix, before, f"after the pass, {words}")
            assert_mended(prefix, words)
            checked += 1
    print(f"{checked} faults, packages lost: 0")


def test_the_whole_run_without_a_fault(lab):
    """The same world without a fault, so that the test above cannot pass by doing nothing."""
    prefix = world(lab).clone()
    prefix.resign("apply")
    assert_portage_finds_nothing(prefix)
    assert_mended(prefix, "no fault")


def held_world(prefix):
    """The only copies are the held ones: nothing could be signed, and Portage's pass has removed the packages."""
    before = digests(prefix)
    sign_with(prefix, "/bin/false")
    prefix.resign("apply", check=1, timeout=600)
    prefix.update_pass()
    assert set(files_of(prefix.pkgdir)) < set(before)
    sign_with(prefix, None)
    return prefix, before


@pytest.mark.parametrize("batch", EVERY)
@pytest.mark.parametrize("shard", range(4))
def test_a_fault_at_every_operation_of_a_retry(lab, shard, batch):
    """In a run of one batch, and in one of several."""
    prefix, _ = held_world(world(lab).clone())
    count = len(Operations(prefix, "held", "retry", batch=batch))
    assert count > 30
    for number in range(1 + shard * RETRY_EVERY, count + 1, 4 * RETRY_EVERY):
        for kind in KINDS:
            prefix, before = held_world(world(lab).clone())
            result = fail_at(prefix, number, kind, "held", "retry", batch=batch)
            words = f"retry {number}:{kind}: {result}"
            assert_nothing_lost(prefix, before, words)
            prefix.update_pass()
            assert_nothing_lost(prefix, before, f"after the pass, {words}")
            assert_mended(prefix, words)


def test_a_fault_at_every_operation_of_the_safety_net(lab):
    """What can go wrong while the net is filled spoils nothing of the run before it."""
    given = world(lab).clone()
    given.variables.pop("BINPKG_RESIGN_NET")
    given.configure()
    whole = Operations(given.clone(), "apply")
    numbers = whole.numbers(lambda line: ".binpkgs.binpkg-resign-net" in line)
    assert len(numbers) > 6
    for number in numbers[:: 1 if FULL else 3]:
        for kind in KINDS:
            prefix = given.clone()
            before = digests(prefix)
            result = fail_at(prefix, number, kind, "apply")
            words = f"{number}:{kind}: {result}"
            assert_nothing_lost(prefix, before, words)
            if number <= whole.safe_from and kind == "die":
                assert digests(prefix) == before, words
            prefix.update_pass()
            assert_mended(prefix, words)


def many(lab):
    """More packages than one batch holds."""

    def fill(path):
        prefix = Prefix.create(lab, path, key=lab.key(), variables=NO_NET)
        prefix.make(*(package(f"app-misc/p{number:03}-1", RDEPEND="dev-util/strace") for number in range(70)))
        prefix.updates("1Q-2024", *MOVES)

    path = lab.once("templates", "faults-many", fill)
    return Prefix(lab, path, key=lab.key(), variables=NO_NET).with_repositories("gentoo").clone()


@pytest.mark.parametrize("kind", ["die", "eio", "enospc"])
@pytest.mark.parametrize("words", [("apply",), ("held", "retry")], ids=" ".join)
def test_a_fault_in_a_large_run(lab, words, kind):
    """Seventy packages, two batches as users have them: a fault in either, and between them."""

    def scene():
        prefix = many(lab)
        return (prefix, digests(prefix)) if words == ("apply",) else held_world(prefix)

    whole = Operations(scene()[0], *words)
    ends = whole.numbers(lambda line: line.startswith("rename to ") and line.split(" from ")[0].endswith("/Packages"))
    assert len(ends) >= 2, "several batches"
    middle = [ends[0] - 40, ends[0] - 1, ends[0] + 1, ends[0] + 2, ends[0] + 70, ends[1] - 2, ends[1], ends[1] + 8]
    for number in middle if FULL else middle[len(kind) % 2 :: 3]:
        prefix, before = scene()
        result = fail_at(prefix, number, kind, *words)
        said = f"{number}:{kind}: {result}"
        assert_nothing_lost(prefix, before, said)
        prefix.update_pass()
        assert_nothing_lost(prefix, before, f"after the pass, {said}")
        assert_mended(prefix, said, wanted=sorted(before))
