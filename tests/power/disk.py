"""What a power cut can leave of a folder: a filesystem as a model, fed with the operations that a run has logged.

The model is stricter than ext4, XFS or btrfs: what it assumes stands in doc/reliability.md.
"""

import json
import os
import random
from dataclasses import dataclass, field
from pathlib import Path

ROOT = 0


@dataclass(frozen=True)
class Content:
    """The bytes of a file and its time of change in nanoseconds."""

    data: bytes
    mtime: int


@dataclass
class Operation:
    """A line of the log; `content` is what a flush of a file has made last, None for a flush of a folder."""

    number: int
    action: str
    path: str
    source: str | None = None
    content: Content | None = None


@dataclass
class Inode:
    """A file or folder. A file has what is on the disk (None before its first flush), and may have more in memory."""

    is_folder: bool
    durable: Content | None = None
    dirty: bool = False
    #: (position of the flush, what it made last), of the whole log
    flushes: list = field(default_factory=list)


@dataclass
class Change:
    """One operation on names that may or may not have reached the disk: (folder, name) → inode, or None."""

    effects: dict


def read_log(pkgdir, log, records, leave_out=()):
    """The operations of one run, with the paths below PKGDIR. Those in `leave_out` were told to fail: nothing was done."""
    operations = []
    for line in Path(log).read_text().splitlines():
        number, rest = line.split(" ", 1)
        action, paths = _split_action(rest)
        path, _, source = paths.partition(" from ")
        content = None
        kept = Path(records) / number
        if action == "flush" and kept.exists():
            content = Content(kept.read_bytes(), kept.stat().st_mtime_ns)
        if int(number) not in leave_out:
            source = os.path.relpath(source, pkgdir) if source else None
            operations.append(Operation(int(number), action, os.path.relpath(path, pkgdir), source, content))
    return sorted(operations, key=lambda operation: operation.number)


ACTIONS = ("create", "make folder", "open", "write", "flush", "rename to", "link to", "remove", "set the mode of", "copy to")


def _split_action(text):
    for action in ACTIONS:
        if text.startswith(f"{action} "):
            return action, text[len(action) + 1 :]
    raise AssertionError(f"an operation that the model does not know: {text}")


class Disk:
    """A folder, as programs see it and as it is on the disk."""

    def __init__(self, folder):
        self.inodes = [Inode(is_folder=True)]
        self.live = {}
        self.temporaries = {}
        self.pending = []
        known = {}
        for place, folders, files in os.walk(folder):
            where = os.path.relpath(place, folder)
            at, _ = self._find(where)
            for name in folders:
                self.live[at, name] = self._new(Inode(is_folder=True))
            for name in files:
                status = os.lstat(Path(place, name))
                if status.st_ino not in known:
                    content = Content(Path(place, name).read_bytes(), status.st_mtime_ns)
                    known[status.st_ino] = self._new(Inode(is_folder=False, durable=content))
                self.live[at, name] = known[status.st_ino]
        #: real inode → ours, of what was there before
        self.known = known
        self.durable = dict(self.live)

    def _new(self, inode):
        self.inodes.append(inode)
        return len(self.inodes) - 1

    def _find(self, path, names=None):
        """(inode of a folder, its inode in the folder above) by the path."""
        names = self.live if names is None else names
        at = ROOT
        for part in [part for part in path.split("/") if part not in ("", ".")]:
            at = names[at, part]
        return at, path

    def _entry(self, path):
        folder, name = os.path.split(path)
        return self._find(folder)[0], name

    def foresee(self, operations):
        """Tells every file what it will be flushed as, so that what is in memory before the flush is known.

        To be called once with the whole log, on a disk of its own.
        """
        for position, operation in enumerate(operations):
            self.do(operation, position)
        return [list(inode.flushes) for inode in self.inodes]

    def do(self, operation, position=0):
        """One operation, which has succeeded."""
        match operation.action:
            case "create" | "open":
                entry = self._entry(operation.path)
                if entry not in self.live:
                    inode = self._new(Inode(is_folder=False, dirty=operation.action == "create"))
                    self.temporaries[entry[1]] = inode
                    self._change({entry: inode})
            case "make folder":
                entry = self._entry(operation.path)
                if entry not in self.live:
                    self._change({entry: self._new(Inode(is_folder=True))})
            case "write" | "copy to":
                self.inodes[self.live[self._entry(operation.path)]].dirty = True
            case "flush" if operation.content is not None:
                inode = self.inodes[self.live[self._entry(operation.path)]]
                inode.durable, inode.dirty = operation.content, False
                inode.flushes.append((position, operation.content))
            case "flush":
                self._flush_folder(self._find(operation.path)[0])
            case "rename to":
                source = self._entry(operation.source)
                self._change({self._entry(operation.path): self.live[source], source: None})
            case "link to":
                entry = self._entry(operation.path)
                if entry not in self.live:
                    self._change({entry: self.live[self._entry(operation.source)]})
            case "remove":
                self._remove(operation.path)

    def _remove(self, path):
        try:
            entry = self._entry(path)
        except KeyError:
            return
        inode = self.live.get(entry)
        # locks are made without a line in the log, and a folder that is not empty stays
        if inode is not None and not any(folder == inode for folder, _ in self.live):
            self._change({entry: None})

    def _change(self, effects):
        _apply(self.live, effects)
        self.pending.append(Change(dict(effects)))

    def _flush_folder(self, folder):
        """What was done in this folder is on the disk now, and what came before it under the same names is over."""
        later = []
        for place, change in enumerate(self.pending):
            if not any(at == folder for at, _ in change.effects):
                later.append(change)
                continue
            for earlier in self.pending[:place]:
                for entry in change.effects:
                    earlier.effects.pop(entry, None)
            _apply(self.durable, change.effects)
            # what came after it is on the disk only if it is so by itself
        self.pending = [change for change in later if change.effects]

    def tree(self, names=None, pick=None):
        """Path → inode of all that can be reached; `pick(inode)` is asked for contents elsewhere."""
        names = self.live if names is None else names
        below = {}
        for (folder, name), inode in names.items():
            below.setdefault(folder, []).append((name, inode))
        found, todo = {}, [(ROOT, "")]
        while todo:
            folder, path = todo.pop()
            for name, inode in below.get(folder, ()):
                where = f"{path}{name}"
                if where in found:
                    continue
                found[where] = inode
                if self.inodes[inode].is_folder:
                    todo.append((inode, f"{where}/"))
        return found


def _apply(names, effects):
    for entry, inode in effects.items():
        if inode is None:
            names.pop(entry, None)
        else:
            names[entry] = inode


@dataclass
class State:
    """One state of the disk after a cut: path → inode, the contents of the inodes, and how it came about."""

    words: str
    disk: Disk
    tree: dict
    contents: dict

    def key(self):
        """Two states with the same key are the same to everybody."""
        return tuple(sorted((path, inode, self.contents.get(inode)) for path, inode in self.tree.items()))

    def build(self, folder):
        """Puts it on a real disk."""
        folder = Path(folder)
        folder.mkdir(mode=0o755)
        first = {}
        for path in sorted(self.tree):
            inode, where = self.tree[path], folder / path
            ours = path.split("/")[0] == ".binpkg-resign"
            if self.disk.inodes[inode].is_folder:
                where.mkdir(mode=0o700 if ours else 0o755)
            elif inode in first:
                os.link(first[inode], where)
            else:
                content = self.contents[inode]
                where.write_bytes(content.data)
                where.chmod(0o600 if ours else 0o644)
                os.utime(where, ns=(content.mtime, content.mtime))
                first[inode] = where
        self._renumber(folder, first)

    def _renumber(self, folder, first):
        """The note of a batch speaks of inodes by their numbers, which are others here."""
        for name in ("commit", "commit.new"):
            note = folder / ".binpkg-resign" / name
            try:
                read = json.loads(note.read_bytes())
            except (OSError, ValueError):
                continue
            times = note.stat().st_mtime_ns
            for item in read["items"]:
                real = first.get(self.disk.temporaries.get(item["temporary"]))
                item["inode"] = real.stat().st_ino if real else 0
            note.write_bytes(json.dumps(read).encode())
            os.utime(note, ns=(times, times))


NOTHING, ALL, SOME, FIRST, ALL_BUT_ONE, ONLY_ONE = "nothing", "all", "some", "the first", "all but one", "only one"
CHOICES = (NOTHING, ALL, FIRST, SOME, SOME, ALL_BUT_ONE, ONLY_ONE)
DATA = ("old", "empty", "zeros", "torn", "half zeros", "whole")


def cuts(folder, operations, seed):
    """For each point of the log, one state after another without an end: `cuts(…)[k](choice)`."""
    flushes = Disk(folder).foresee(operations)

    def states_at(disk, position, choice, number):
        dice = random.Random(f"{seed}-{position}-{choice}-{number}")
        names = dict(disk.durable)
        for change in _chosen(disk.pending, choice, dice):
            _apply(names, change.effects)
        tree = disk.tree(names)
        contents = {}
        for inode in set(tree.values()):
            if not disk.inodes[inode].is_folder:
                contents[inode] = _content(disk.inodes[inode], flushes[inode], position, dice)
        return State(f"cut before operation {position + 1}, names: {choice} ({number})", disk, tree, contents)

    return states_at


def _chosen(pending, choice, dice):
    count = len(pending)
    match choice:
        case "nothing":
            return []
        case "all":
            return pending
        case "the first":
            return pending[: dice.randint(0, count)]
        case "some":
            share = dice.random()
            return [change for change in pending if dice.random() < share]
        case "all but one":
            without = dice.randrange(count) if count else 0
            return pending[:without] + pending[without + 1 :]
        case _:
            return [dice.choice(pending)] if pending else []


def _content(inode, flushes, position, dice):
    """What the disk has of a file: nothing is sure of what was written since its last flush."""
    durable = inode.durable or Content(b"", 0)
    if not inode.dirty:
        return durable
    coming = next((content for at, content in flushes if at >= position), durable)
    old, new = durable.data, coming.data
    grown = new[len(old) :] if new.startswith(old) else new
    kept = old if new.startswith(old) else b""
    half = len(grown) // 2
    data = {
        "old": old,
        "empty": b"",
        "zeros": kept + bytes(len(grown)),
        "torn": kept + grown[:half],
        "half zeros": kept + grown[:half] + bytes(len(grown) - half),
        "whole": new,
    }
    how = dice.choice(DATA)
    # a file that was flushed before keeps that
    return Content(data["old" if how == "empty" and old else how], coming.mtime)
