"""Protection first: how soon the packages at risk have their backups, and what a run takes that can sign nothing."""

import shutil
import subprocess
import threading
import time

from tests.lab import Prefix
from tests.lab.packages import package

from benches.measure import measured, row

# A key that is nowhere: every package can only be held.
NOWHERE = "0" * 40


def part_protect(lab, options):
    for count in (options.concerned // 4, options.concerned):
        print(f"{count} packages concerned, none of which can be signed")
        prefix = concerned_prefix(lab, count)
        prefix.variables["BINPKG_GPG_SIGNING_KEY"] = NOWHERE
        prefix.configure()
        watch = Watch(prefix.pkgdir / ".binpkg-resign", count)
        argv = ["binpkg-resign", "--prefix", prefix.path, "--quiet", "apply"]
        run = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with watch:
            seconds, memory, status = measured(argv, prefix.environment(), **run)
        assert status == 1, status
        assert len(prefix.resign_json("held")["packages"]) == count
        row("backups", f"the first of {count}, after the plan", watch.first, "goal 50 ms")
        row("backups", f"the last of {count}, after the plan", watch.last, "goal 1 s for 20,000")
        # what the index takes is what a run takes that is told to do nothing
        prefix = concerned_prefix(lab, count, update="move app-misc/nobodys app-misc/nothings")
        argv = ["binpkg-resign", "--prefix", prefix.path, "--quiet", "apply"]
        _, index, status = measured(argv, prefix.environment(), **run)
        assert status == 0, status
        row("backups", f"the whole run, {count} held", seconds, f"{memory / 1e6:.0f} MB, {(memory - index) / 1e6:.0f} above the index; goal 100")


def concerned_prefix(lab, count, update="move app-misc/dep app-misc/other"):
    """A prefix with `count` packages of which every one names what is moved: copies of one, and their blocks in the index."""
    prefix = Prefix.create(lab, key=lab.key("ed25519"))
    prefix.sync()
    [path] = prefix.make(package("app-misc/p00000-1", RDEPEND="app-misc/dep"))
    text = (prefix.pkgdir / "Packages").read_text()
    header, block = text.split("\n\n")[:2]
    blocks = [header.replace("PACKAGES: 1", f"PACKAGES: {count}")]
    for number in range(count):
        name = f"p{number:05}"
        place = prefix.pkgdir / path.replace("p00000", name)
        place.parent.mkdir(exist_ok=True)
        if number:
            shutil.copy2(prefix.pkgdir / path, place)
        blocks.append(block.replace("p00000", name))
    (prefix.pkgdir / "Packages").write_text("\n\n".join(blocks) + "\n\n")
    prefix.updates("1Q-2026", update)
    return prefix


class Watch:
    """When the first and the last package were in the journal, counted from the lock, which is taken after the plan."""

    def __init__(self, state, count):
        self.state, self.count = state, count
        self.first = self.last = None
        self.ended = False

    def __enter__(self):
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended = True
        self.thread.join()

    def look(self):
        lock, journal, began, seen, place = self.state / "lock", self.state / "journal", None, 0, 0
        while not self.ended and self.last is None:
            if began is None and lock.exists():
                began = time.perf_counter()
            if began is not None and journal.exists():
                with open(journal, "rb") as file:
                    file.seek(place)
                    new = file.read()
                place += len(new)
                seen += new.count(b'"held":{')
                now = time.perf_counter() - began
                if seen and self.first is None:
                    self.first = now
                if seen >= self.count:
                    self.last = now
            time.sleep(0.001)
