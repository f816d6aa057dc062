"""Killed, interrupted, out of space, on odd filesystems, and beside other programs: no package is lost."""

import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from tests.e2e.world import path_of
from tests.e2e.world import world as real_world
from tests.lab import NEWEST, assert_all_verify, assert_index_agrees, files_of

from .test_faults import FULL, assert_mended, assert_nothing_lost, digests, world

KILLS = 300 if FULL else 24


def start(prefix, *words, **more):
    """The program, running."""
    argv = ["binpkg-resign", "--prefix", str(prefix.path), *words]
    environment = {key: str(value) for key, value in prefix.environment(**more).items()}
    return subprocess.Popen(argv, env=environment, cwd=prefix.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run_time(lab):
    prefix = world(lab).clone()
    began = time.monotonic()
    prefix.resign("apply")
    return time.monotonic() - began


@pytest.mark.parametrize("shard", range(4))
def test_kill_at_random_moments(lab, shard):
    whole = run_time(lab)
    moments = random.Random(20240101 + shard)
    for number in range(KILLS // 4):
        prefix = world(lab).clone()
        before = digests(prefix)
        child = start(prefix, "apply")
        moment = moments.uniform(0, whole)
        time.sleep(moment)
        child.kill()
        child.communicate()
        words = f"kill {number} after {moment:.3f} s of {whole:.3f}"
        assert_nothing_lost(prefix, before, words)
        if prefix.held.is_dir() or child.returncode == 0:
            # from here on every package at risk has a backup, or is done
            held = {str(path.relative_to(prefix.held)) for path in prefix.held.rglob("*.held")} if prefix.held.is_dir() else set()
            if len(held) == 4 or child.returncode == 0:
                prefix.update_pass()
                assert_nothing_lost(prefix, before, f"{words}, after the pass")
        assert_mended(prefix, words)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_in_good_order(lab, number):
    prefix = world(lab).clone()
    before = digests(prefix)
    slow = prefix.write("slow-gpg", "#!/bin/sh\nsleep 0.5\nexec gpg --sign --armor \"$@\"\n")
    slow.chmod(0o755)
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = f"{slow} [PORTAGE_CONFIG]"
    prefix.configure()
    child = start(prefix, "apply", "-j1")
    time.sleep(0.8)
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode in (0, 128 + number), (child.returncode, out, err)
    prefix.update_pass()
    assert_nothing_lost(prefix, before, f"signal {number}")
    prefix.variables.pop("BINPKG_GPG_SIGNING_BASE_COMMAND")
    prefix.configure()
    assert_mended(prefix, f"signal {number}")


@pytest.fixture
def small_disk(lab):
    """A filesystem of 400 KiB, where the machine lets us make one."""
    place = lab.directory("disk")
    place.mkdir(exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("skipped: no filesystem can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def on_disk(prefix, place):
    """Puts PKGDIR there: another filesystem than /var's."""
    shutil.copytree(prefix.pkgdir, place / "binpkgs", copy_function=shutil.copy2)
    prefix.variables["PKGDIR"] = place / "binpkgs"
    shutil.rmtree(prefix.pkgdir)
    prefix.pkgdir.symlink_to(place / "binpkgs")
    prefix.configure()


def test_a_full_disk(lab, small_disk):
    prefix = world(lab).clone()
    on_disk(prefix, small_disk)
    before = digests(prefix)
    free = os.statvfs(small_disk)
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * (free.f_bavail * free.f_bsize - 8192))
    result = prefix.resign("apply", check=None)
    assert result.status == 1 and "No space left" in result.text, result
    assert_nothing_lost(prefix, before, f"full disk: {result}")
    # it may find no room for its index
    prefix.update_pass(check=None)
    assert_nothing_lost(prefix, before, f"full disk, after the pass: {result}")
    filler.unlink()
    prefix.resign("held", "retry", check=None)
    assert_mended(prefix, f"full disk: {result}")


def test_another_filesystem(lab, small_disk):
    prefix = world(lab).clone()
    on_disk(prefix, small_disk)
    assert_mended(prefix, "another filesystem")


def test_without_hard_links(lab):
    if not shutil.which("strace"):
        pytest.skip("skipped: no strace to make links fail")
    prefix = world(lab).clone()
    before = digests(prefix)
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "/bin/false [PORTAGE_CONFIG]"
    prefix.configure()
    traced = prefix.run(
        "strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=linkat", "-e", "inject=linkat:error=EPERM",
        "binpkg-resign", "--prefix", prefix.path, "apply", check=None,
    )
    assert traced.status == 1, traced
    prefix.update_pass()
    assert_nothing_lost(prefix, before, f"no hard links: {traced}")
    prefix.variables.pop("BINPKG_GPG_SIGNING_BASE_COMMAND")
    prefix.configure()
    assert_mended(prefix, "no hard links")


@pytest.mark.parametrize("number", range(40 if FULL else 8))
def test_two_at_once(lab, number):
    """Whoever waits for the lock plans anew: what the run before has done is not done again, and nothing is held."""
    prefix = world(lab).clone()
    children = [start(prefix, "apply") for _ in range(4)]
    for child in children:
        out, err = child.communicate(timeout=120)
        assert child.returncode == 0, (number, out.decode(), err.decode())
        assert b"kept safe" not in out, (number, out.decode(), err.decode())
    assert_mended(prefix, "four at once")


def test_beside_real_builds(lab):
    """`emerge --buildpkg` in a loop beside a loop of applies: every build is in the index, everything verifies."""
    prefix = real_world(lab, NEWEST, "multi-instance").clone()
    builds = 6 if FULL else 3
    prefix.updates("1Q-2024", "move dev-util/strace dev-debug/strace")
    emerge = ["emerge", "--color=n", "--buildpkgonly", "--nodeps", "--package-moves=n", "app-misc/plain"]
    environment = {key: str(value) for key, value in prefix.environment().items()}
    loop = subprocess.Popen(
        ["sh", "-c", f"for i in $(seq {builds}); do {' '.join(emerge)} || exit 1; done"],
        env=environment, cwd=prefix.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    applies = 0
    while loop.poll() is None:
        prefix.updates("1Q-2024", "move dev-util/strace dev-debug/strace", f"move app-misc/other app-misc/other{applies}")
        prefix.resign("apply", "--all", check=None)
        applies += 1
    out = loop.communicate()[0].decode()
    assert loop.returncode == 0, out
    assert applies > 1
    paths = {entry["PATH"] for entry in prefix.index()[1]}
    for number in range(1, builds + 2):
        assert path_of("multi-instance", "app-misc/plain-1", number) in paths, (number, sorted(paths))
    assert set(files_of(prefix.pkgdir)) == paths
    assert_all_verify(prefix)
    assert_index_agrees(prefix)
