"""A run that is killed leaves no gpg behind that waits for it."""

import os
import random
import signal
import subprocess
import time

from .homes import ring
from .scene import Scene

KILLS = 40


def gpgs_below(folder):
    """The processes whose gpg home lies there."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{pid}/cmdline", "rb").read()
        except OSError:
            continue
        if bytes(folder) in words and b"--verify-files" in words:
            found.add(int(pid))
    return found


def test_no_gpg_outlives_a_killed_run(lab):
    """Whatever it was about to read: nobody will write it."""
    scene = Scene(lab, ring(lab, "ed25519"), ["ours"], copies=20)
    prefix, dice = scene.prefix, random.Random(1)
    temporary = prefix.path / "tmp"
    temporary.mkdir()
    argv = ["binpkg-resign", "--prefix", prefix.path, "verify"]
    environment = {name: str(value) for name, value in prefix.environment(TMPDIR=temporary).items()}
    seen = 0
    for _ in range(KILLS):
        run = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while run.poll() is None and not gpgs_below(temporary):
            pass
        time.sleep(dice.random() * 0.05)
        seen += run.poll() is None
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert seen > KILLS / 4, "the runs were over before they were killed"
    for _ in range(100):
        left = gpgs_below(temporary)
        if not left:
            return
        time.sleep(0.1)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    raise AssertionError(f"{len(left)} of {seen} are left behind")
