"""Whatever the program waits for, it ends: at a signal, and in any case in time."""

import fcntl
import os
import resource
import signal
import subprocess
import time

import pytest

from tests.lab.moment import sign_with
from tests.lab.promise import Builds, held_files

from .scene import NAMES, both_layouts, five, where

LIMIT = 12


def start(prefix, *words):
    """The program, running."""
    argv = ["binpkg-resign", "--prefix", str(prefix.path), *words]
    environment = {key: str(value) for key, value in prefix.environment().items()}
    return subprocess.Popen(argv, env=environment, cwd=prefix.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end(child):
    """Its exit status and its words, when it ends in time."""
    try:
        out, err = child.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        child.kill()
        out, err = child.communicate()
        pytest.fail(f"no end within {LIMIT} s\n{out.decode()}\n{err.decode()}")
    return child.returncode, out.decode() + err.decode()


def asleep(child):
    """Waits until the program does nothing any more, which is when it waits."""

    def used():
        tasks = f"/proc/{child.pid}/task"
        return [open(f"{tasks}/{task}/schedstat").read() for task in sorted(os.listdir(tasks))]

    def children():
        return open(f"/proc/{child.pid}/task/{child.pid}/children").read().split()

    quiet = 0
    deadline = time.monotonic() + LIMIT
    before = used()
    while quiet < 6 and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.1)
        now = used() if child.poll() is None else before
        # one that looks again from time to time is as good
        quiet = quiet + 1 if len(now) == len(before) and not children() else 0
        before = now
    assert child.poll() is None, f"it did not wait\n{end(child)}"


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
        status, said = end(child)
    assert status == 128 + number, said
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
        status, said = end(second)
        assert status == 128 + number, said
        first.send_signal(signal.SIGTERM)
        status, said = end(first)
        assert status in (1, 143), said
    finally:
        for child in (first, second):
            if child.poll() is None:
                child.kill()
                child.communicate()
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


def run_in_bounds(prefix, *words):
    """Runs the program, which must end in time and with little memory; returns its exit status and its words."""
    child = start(prefix, *words)
    resource.prlimit(child.pid, resource.RLIMIT_AS, (2 << 30, 2 << 30))
    deadline = time.monotonic() + LIMIT
    # its words are few: they fit into the pipes
    while not (ended := os.wait4(child.pid, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            child.kill()
            pytest.fail(f"no end within {LIMIT} s\n{child.communicate()}")
        time.sleep(0.02)
    child.returncode = os.waitstatus_to_exitcode(ended[1])
    said = (child.stdout.read() + child.stderr.read()).decode()
    assert "panicked" not in said, said
    assert ended[2].ru_maxrss < 256 << 10, f"{ended[2].ru_maxrss} KiB of memory\n{said}"
    return child.returncode, said


WHAT = [("apply", what) for what in (fifo, endless, terminal, folder)]
WHAT += [(words, what) for words in ("apply -p", "verify", "doctor") for what in (fifo, endless)]


@pytest.mark.parametrize(("words", "what"), WHAT, ids=lambda value: getattr(value, "__name__", value))
def test_an_index_that_is_no_file(lab, words, what):
    """It would hang the hook, and with it the whole sync: said, and the run ends."""
    prefix = five(lab, "multi-instance")
    before = Builds(prefix)
    (prefix.pkgdir / "Packages").unlink()
    what(prefix.pkgdir / "Packages")
    status, said = run_in_bounds(prefix, *words.split())
    assert status in (1, 2), said
    assert "Packages" in said
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
    status, said = run_in_bounds(prefix, "apply")
    assert status in (0, 1, 2), said
    assert status == 0 or said
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
