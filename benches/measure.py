"""Measuring, and the rows of the table."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("BINPKG_RESIGN_SHARED", TOP.parent / "shared"))
ROWS = []


def row(work, what, seconds, note=""):
    """One row of the table, printed as it comes."""
    ROWS.append((work, what, seconds, note))
    print(f"  {what:<44} {seconds * 1000:12.1f} ms  {note}", flush=True)


def timed(action):
    """Wall time and result of an action."""
    began = time.perf_counter()
    result = action()
    return time.perf_counter() - began, result


# What a child needs at the most counts for what it was forked from, too: so it is a small process that starts it.
SMALL = """
import os, sys, time
began = time.perf_counter()
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(child, 0)
seconds = time.perf_counter() - began
os.write(int(os.environ["MEASURED"]), f"{seconds} {usage.ru_maxrss} {os.waitstatus_to_exitcode(status)}".encode())
"""


def measured(argv, env, **words):
    """Wall time, peak memory (bytes) and exit status of one command."""
    read, write = os.pipe()
    env = {k: str(v) for k, v in env.items()} | {"MEASURED": str(write)}
    argv = [sys.executable, "-S", "-c", SMALL, *(str(word) for word in argv)]
    subprocess.run(argv, env=env, pass_fds=[write], check=True, **words)
    os.close(write)
    with os.fdopen(read) as answer:
        seconds, memory, status = answer.read().split()
    return float(seconds), int(memory) * 1024, int(status)


def repeated(times, action):
    """The middle one of several measurements `(seconds, memory)`, each made anew, and the highest memory."""
    results = [action() for _ in range(times)]
    return statistics.median(seconds for seconds, _ in results), max(memory for _, memory in results)
