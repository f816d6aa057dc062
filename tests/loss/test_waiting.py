"""Whatever the program waits for, it ends: at a signal, and in any case in time."""

import contextlib
import fcntl
import os
import signal
import time

import pytest

from tests.lab.bounds import LIMIT, end, run_in_bounds, start
from tests.lab.moment import sign_with
from tests.lab.promise import Builds, held_files

from .scene import NAMES, both_layouts, five, where

def asleep(child):
    """Waits until the program does nothing any more, which is when it waits."""

    quiet, before = 0, None
    deadline = time.monotonic() + LIMIT
    while quiet < 10 and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.1)
        # the same threads, and nothing that they have started; one that looks again from time to time is as good
        now = list(_tasks(child.pid))
        quiet = quiet + 1 if now == before and not any(children for _, children in now) else 0
        before = now
    assert child.poll() is None, f"it did not wait\n{end(child)}"


def _tasks(process):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in sorted(os.listdir(f"/proc/{process}/task")):
            with open(f"/proc/{process}/task/{task}/children") as file:
                yield task, file.read()


@both_layouts
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_a_signal_while_it_waits_for_portages_lock(lab, layout, number):
    """An emerge holds the index: everything has its backup, and a signal ends the run."""
    prefix = five(lab, layout)
    builds = Builds(prefix)
    with open(prefix.pkgdir / ".Packages.portage_lockfile", "w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        child = start(prefix, "apply")
        asleep(child)
        child.send_signal(number)
        said = end(child)
    assert said.status == 128 + number, said
    assert "To go on, run `binpkg-resign held retry`" in said.text and "fixed" not in said.text, said
    prefix.update_pass()
    assert not builds.missing(prefix), said
    assert len(held_files(prefix)) == 5, said
    prefix.resign("apply", timeout=60)
    assert not builds.missing(prefix)


@both_layouts
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_a_signal_while_it_waits_for_another_run(lab, layout, number):
    """A run is under way and waits for a card: the next one waits for it, until a signal comes."""
    prefix = five(lab, layout)
    builds = Builds(prefix)
    waits = prefix.write("bin/waits", "#!/bin/sh\ncat >/dev/null\nexec sleep 60\n")
    waits.chmod(0o755)
    sign_with(prefix, waits)
    first = start(prefix, "apply")
    deadline = time.monotonic() + LIMIT
    while not held_files(prefix) and time.monotonic() < deadline:
        time.sleep(0.05)
    second = start(prefix, "apply")
    try:
        asleep(second)
        second.send_signal(number)
        said = end(second)
        assert said.status == 128 + number, said
        first.send_signal(signal.SIGTERM)
        said = end(first)
        assert said.status in (1, 143), said
    finally:
        for child in (first, second):
            if child.poll() is None:
                child.kill()
                child.wait()
    prefix.update_pass()
    assert not builds.missing(prefix), said


def fifo(path):
    """A pipe that nobody writes to."""
    os.mkfifo(path)


def endless(path):
    """Zeros without end."""
    path.symlink_to("/dev/zero")


def terminal(path):
    """A terminal, by a link, that nobody types on."""
    path.symlink_to("/dev/ptmx")


def folder(path):
    """A folder."""
    path.mkdir()


WHAT = [("apply", what) for what in (fifo, endless, terminal, folder)]
WHAT += [(words, what) for words in ("apply -p", "verify", "doctor") for what in (fifo, endless)]


@pytest.mark.parametrize(("words", "what"), WHAT, ids=lambda value: getattr(value, "__name__", value))
def test_an_index_that_is_no_file(lab, words, what):
    """It would hang the hook, and with it the whole sync: said, and the run ends."""
    prefix = five(lab, "multi-instance")
    before = Builds(prefix)
    (prefix.pkgdir / "Packages").unlink()
    what(prefix.pkgdir / "Packages")
    said = run_in_bounds(prefix, *words.split())
    assert said.status in (1, 2) and "Packages" in said.text, said
    assert not before.missing(prefix)


@pytest.mark.parametrize("what", [fifo, endless], ids=lambda what: what.__name__)
@pytest.mark.parametrize(
    "path",
    [
        "var/cache/edb/mtimedb",
        "var/db/repos/gentoo/profiles/updates/2Q-2024",
        "var/db/repos/gentoo/metadata/layout.conf",
        "var/db/repos/gentoo/profiles/repo_name",
        "etc/portage/profile/make.defaults",
        "var/cache/binpkgs/.binpkg-resign/journal",
    ],
    ids=lambda path: path.split("/")[-1],
)
def test_other_files_that_are_none(lab, what, path):
    """Whatever else is read: the run ends, and says so where it fails."""
    prefix = five(lab, "multi-instance")
    before = Builds(prefix)
    place = prefix.path / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    what(place)
    said = run_in_bounds(prefix, "apply")
    assert said.status == 0 or said.status in (1, 2) and said.err, said
    # Portage itself does not come to an end with these
    place.unlink(missing_ok=True)
    prefix.run("git", "-c", "safe.directory=*", "-C", prefix.repository_path("gentoo"), "checkout", "--quiet", "--", ".")
    assert not before.missing(prefix), said


@both_layouts
@pytest.mark.parametrize("what", [fifo, endless], ids=lambda what: what.__name__)
def test_a_package_that_is_no_file(lab, layout, what):
    """A pipe where the index says a package is: the others are signed."""
    prefix = five(lab, layout)
    path = prefix.pkgdir / where(layout, "three")
    others = Builds(prefix, [where(layout, name) for name in NAMES if name != "three"])
    path.unlink()
    what(path)
    result = prefix.resign("apply", check=None, timeout=LIMIT)
    assert result.status in (0, 1), result
    assert not others.missing(prefix), result
    entries = prefix.metadata(sorted(others.bytes))
    assert all("dev-debug/strace" in entry["RDEPEND"] for entry in entries.values()), result
