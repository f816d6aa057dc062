"""Temporary gpg homes of runs that were killed: the next run removes them, and none that is in use."""

import os
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from .homes import ring
from .scene import Scene

LIMIT = 60


class Run:
    """An `apply` that waits for its signing command. Use it with `with`: it ends both."""

    def __init__(self, lab, **environment):
        self.scene = Scene(lab, ring(lab, "ed25519"), ["ours"])
        started = self.scene.prefix.path / "started"
        waits = self.scene.prefix.write("waits", f'#!/bin/sh\necho $$ >{started}.new; mv {started}.new {started}\nexec sleep 600\n')
        waits.chmod(0o755)
        good = dict(self.scene.prefix.variables)
        self.scene.variables(BINPKG_GPG_SIGNING_BASE_COMMAND=f"{waits} [PORTAGE_CONFIG]", BINPKG_RESIGN_TIMEOUT=600)
        words = ["binpkg-resign", "--prefix", str(self.scene.prefix.path), "apply"]
        self.environment = environment
        child = {key: str(value) for key, value in self.scene.prefix.environment(**environment).items()}
        self.child = subprocess.Popen(words, env=child, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + LIMIT
        while not started.exists():
            assert time.monotonic() < deadline and self.child.poll() is None
            time.sleep(0.05)
        self.waits = int(started.read_text())
        self.scene.variables(**good)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        """At once, so that it cannot tidy up."""
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
            os.kill(self.waits, signal.SIGKILL)

    def homes(self):
        """The temporary homes that it has open."""
        links = [os.readlink(link) for link in Path(f"/proc/{self.child.pid}/fd").iterdir()]
        return [Path(link) for link in links if "/binpkg-resign-gpg." in link]

    def another(self):
        """Another run, by the same user."""
        self.scene.prefix.resign("verify", env=self.environment, check=None)


def assert_swept(run):
    homes = run.homes()
    assert homes and all(stat.S_IMODE(home.stat().st_mode) == 0o700 for home in homes), homes
    run.another()
    assert all((home / "gpg.conf").exists() for home in homes), "it is in use"
    run.kill()
    assert all(home.exists() for home in homes)
    run.another()
    assert not any(home.exists() for home in homes), homes
    return {home.parent for home in homes}


def test_what_a_killed_run_leaves(lab):
    temporary = lab.directory("t")
    with Run(lab, TMPDIR=temporary) as run:
        assert assert_swept(run) == {temporary}
    assert list(temporary.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0 or not os.access("/run", os.W_OK), reason="only root can write in /run")
def test_a_reboot_clears_them(lab):
    with Run(lab) as run:
        assert assert_swept(run) == {Path("/run")}
