"""A tree as it is at one moment, to show that something changed nothing."""

import hashlib
import os
import stat
from pathlib import Path


class Snapshot:
    """Path → type, mode, owner, mtime in nanoseconds, and the digest of the bytes."""

    def __init__(self, top, leave_out=()):
        self.entries = {}
        top = Path(top)
        for directory, names, files in os.walk(top):
            names[:] = sorted(name for name in names if name not in leave_out)
            for name in [".", *names, *sorted(files)]:
                if name in leave_out:
                    continue
                path = Path(directory) / name
                self.entries[str(path.relative_to(top))] = _entry(path)

    def contents(self):
        """Only the files and their bytes: no times, no directories."""
        return {path: entry["bytes"] for path, entry in self.entries.items() if "bytes" in entry}

    def packages(self):
        """Only package files, with everything known about them."""
        return {path: entry for path, entry in self.entries.items() if path.endswith(".gpkg.tar")}

    def difference(self, later):
        """Lines that say what is not as it was; empty when nothing changed."""
        lines = []
        for path in sorted(self.entries.keys() | later.entries.keys()):
            before, after = self.entries.get(path), later.entries.get(path)
            if before is None:
                lines.append(f"new: {path}")
            elif after is None:
                lines.append(f"gone: {path}")
            else:
                lines += [f"{key} changed: {path}" for key in before if before[key] != after.get(key)]
        return lines


def _entry(path):
    status = os.lstat(path)
    entry = {
        "type": stat.S_IFMT(status.st_mode),
        "mode": stat.S_IMODE(status.st_mode),
        "owner": (status.st_uid, status.st_gid),
        "mtime": status.st_mtime_ns,
    }
    if stat.S_ISREG(status.st_mode):
        entry["bytes"] = hashlib.sha256(path.read_bytes()).hexdigest()
        entry["inode"] = status.st_ino
    elif stat.S_ISLNK(status.st_mode):
        entry["target"] = os.readlink(path)
    return entry
