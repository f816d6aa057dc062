"""What a run asks of the system, counted by strace: counts do not depend on how busy a machine is."""

import re
from collections import Counter
from dataclasses import dataclass, field

CALLS = "execve,fsync,fdatasync,syncfs,openat,read,pread64,mkdirat,clone,clone3,fork,vfork"
LINE = re.compile(r"^(\d+) +(.*)$")
CALL = re.compile(r"^(\w+)\((.*)\) += (-?\d+)", re.DOTALL)
NAME = re.compile(r'"((?:[^"\\]|\\.)*)"')
# What the C library looks at when it gives memory back, once in a while: by chance, and nothing of ours.
MALLOCS = "/proc/sys/vm/overcommit_memory"


@dataclass
class Counts:
    """One run. Bytes, opens and flushes are those of the program itself, not of what it starts."""

    starts: Counter = field(default_factory=Counter)
    forks: int = 0
    flushes: int = 0
    folders: int = 0
    opens: int = 0
    read: int = 0
    opened: list = field(default_factory=list)

    def __sub__(self, other):
        starts = self.starts.copy()
        starts.subtract(other.starts)
        numbers = {name: getattr(self, name) - getattr(other, name) for name in ("forks", "flushes", "folders", "opens", "read")}
        return Counts(+starts, **numbers)

    def each(self, number):
        """By package, where so many are between the two runs."""
        starts = Counter({name: count / number for name, count in self.starts.items()})
        numbers = {name: getattr(self, name) / number for name in ("forks", "flushes", "folders", "opens", "read")}
        return Counts(starts, **numbers)


def traced(prefix, *words, check=0):
    """Runs the program under strace and counts."""
    log = prefix.path / "strace.log"
    argv = ["strace", "-f", "-qq", "-s", "300", "-e", f"trace={CALLS}", "-e", "signal=none", "-o", log]
    prefix.run(*argv, "binpkg-resign", "--prefix", prefix.path, *words, check=check)
    return counted(log.read_text(errors="replace"))


def counted(log):
    """The counts of a log."""
    counts, ours, begun = Counts(), set(), {}
    for line in log.splitlines():
        found = LINE.match(line)
        if not found:
            continue
        pid, text = found.groups()
        ours = ours or {pid}
        if text.endswith("<unfinished ...>"):
            begun[pid] = text.removesuffix("<unfinished ...>").rstrip()
            continue
        if text.startswith("<... "):
            text = begun.pop(pid, "") + text.split(" resumed>", 1)[1]
        call = CALL.match(text)
        if not call or int(call[3]) < 0:
            continue
        name, words, result = call[1], call[2], int(call[3])
        if name == "execve":
            counts.starts[NAME.search(words)[1].rsplit("/", 1)[-1]] += 1
        elif name in ("clone", "clone3", "fork", "vfork"):
            if pid in ours and "CLONE_THREAD" in words:
                ours.add(str(result))
            elif pid in ours:
                counts.forks += 1
        elif pid not in ours:
            continue
        elif name == "openat" and NAME.search(words)[1] == MALLOCS:
            continue
        elif name == "openat":
            counts.opens += 1
            counts.opened.append(NAME.search(words)[1])
        elif name in ("read", "pread64"):
            counts.read += result
        elif name == "mkdirat":
            counts.folders += 1
        else:
            counts.flushes += 1
    return counts
