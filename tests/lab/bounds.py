"""The program within bounds: it ends in time, and with little memory."""

import os
import resource
import signal
import subprocess
import tempfile
import time

from .command import CommandFailed, Result

LIMIT = 30
# Bytes of memory of its own. The greatest resident size that wait4 tells would be that of the Python before it.
MEMORY = 256 << 20


def start(prefix, *words):
    """The program, running; its words go into a file, so that no pipe is ever full. More than MEMORY it cannot have."""
    argv = ["binpkg-resign", "--prefix", str(prefix.path), *map(str, words)]
    environment = {key: str(value) for key, value in prefix.environment().items()}
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
    child = subprocess.Popen(argv, env=environment, cwd=prefix.path, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
    resource.prlimit(child.pid, resource.RLIMIT_DATA, (MEMORY, MEMORY))
    child.words = (out, err)
    return child


def end(child, limit=LIMIT):
    """What it said and its exit status, once it has ended, which it must in time and without much memory."""
    deadline = time.monotonic() + limit
    while child.poll() is None:
        if time.monotonic() > deadline:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise CommandFailed(f"no end within {limit} s\n{_result(child)}")
        time.sleep(0.02)
    result = _result(child)
    assert "panicked" not in result.text and "memory allocation" not in result.text, result
    return result


def run_in_bounds(prefix, *words, limit=LIMIT):
    """Runs the program within bounds."""
    return end(start(prefix, *words), limit)


def _result(child):
    texts = []
    for file in child.words:
        file.seek(0)
        texts.append(file.read(1 << 20).decode("utf-8", "replace"))
    return Result(child.args, child.returncode, *texts)
