"""Measuring, and the rows of the table."""

import os
import statistics
import subprocess
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


def measured(argv, env, **words):
    """Wall time, peak memory (bytes) and exit status of one command."""
    began = time.perf_counter()
    child = subprocess.Popen([str(w) for w in argv], env={k: str(v) for k, v in env.items()}, **words)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return time.perf_counter() - began, usage.ru_maxrss * 1024, child.returncode


def repeated(times, action):
    """The middle one of several measurements `(seconds, memory)`, each made anew, and the highest memory."""
    results = [action() for _ in range(times)]
    return statistics.median(seconds for seconds, _ in results), max(memory for _, memory in results)
