"""The program within bounds: it ends in time, and with little memory."""

import os
import resource
import signal
import subprocess
import tempfile
import time

from .command import CommandFailed, Result

LIMIT = 30
MEMORY = 256 << 20


def start(prefix, *words):
    """The program, running; its words go into a file, so that no pipe is ever full."""
    argv = ["binpkg-resign", "--prefix", str(prefix.path), *map(str, words)]
    environment = {key: str(value) for key, value in prefix.environment().items()}
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
    child = subprocess.Popen(argv, env=environment, cwd=prefix.path, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
    child.words = (out, err)
    return child


def end(child, limit=LIMIT):
    """What it said and its exit status, once it has ended, which it must in time and without much memory."""
    deadline = time.monotonic() + limit
    status = usage = None
    while status is None:
        process, code, usage = os.wait4(child.pid, os.WNOHANG)
        if process:
            status = child.returncode = os.waitstatus_to_exitcode(code)
        elif time.monotonic() > deadline:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise CommandFailed(f"no end within {limit} s\n{_result(child)}")
        else:
            time.sleep(0.02)
    result = _result(child)
    assert "panicked" not in result.text, result
    assert usage.ru_maxrss << 10 < MEMORY, f"{usage.ru_maxrss} KiB of memory\n{result}"
    return result


def run_in_bounds(prefix, *words, limit=LIMIT):
    """Runs the program; more than 2 GiB it cannot have."""
    child = start(prefix, *words)
    resource.prlimit(child.pid, resource.RLIMIT_AS, (2 << 30, 2 << 30))
    return end(child, limit)


def _result(child):
    texts = []
    for file in child.words:
        file.seek(0)
        texts.append(file.read(1 << 20).decode("utf-8", "replace"))
    return Result(child.args, child.returncode, *texts)
