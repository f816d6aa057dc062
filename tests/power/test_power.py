"""Power cuts: whatever a filesystem can leave of a run, Portage's pass and the next run lose no package."""

import os
import random
import shutil

import pytest

from tests.lab import files_of, read_index
from tests.lab.promise import digest, image_of

from .disk import CHOICES, Disk, cuts
from .scenes import SCENES, record

FULL = bool(os.environ.get("BINPKG_RESIGN_FULL"))
SHARDS = 4 if FULL else 2
#: States for each scene, layout and shard.
STATES = 800 if FULL else 12
CHUNK = 40
#: Of so many packages that the runs after a cut have made, Portage is asked about one.
LOOKED_AT = 1 if FULL else 6


def sample(recorded, seed, count):
    """So many states, no two the same, from all over the run."""
    states_at = cuts(recorded.before, recorded.operations, seed)
    length = len(recorded.operations) + 1
    dice = random.Random(seed)
    positions = [dice.randrange(length) for _ in range(count * 3)]
    wanted = {}
    for number, position in enumerate(positions):
        wanted.setdefault(position, []).append((number, CHOICES[number % len(CHOICES)]))
    disk = Disk(recorded.before)
    states, seen = [], set()
    for position in range(length):
        for number, choice in wanted.get(position, ()):
            state = states_at(disk, position, choice, number)
            if state.key() not in seen:
                seen.add(state.key())
                states.append((position, state))
        if position < len(recorded.operations):
            disk.do(recorded.operations[position], position)
    dice.shuffle(states)
    return states[:count]


class Inspection:
    """One state on a real disk, and what went wrong with it."""

    def __init__(self, recorded, state, position, pkgdir):
        self.recorded = recorded
        self.words = state.words
        self.has_backups = not any(first <= position < last for first, last in recorded.unsafe)
        self.pkgdir = pkgdir
        self.said = []
        self.problems = []
        self.made = set()
        state.build(pkgdir)

    def problem(self, words):
        """Something is not as it should be."""
        said = "\n".join(self.said)
        self.problems.append(f"{words}: {self.words}, all have backups: {self.has_backups}\n{said}")

    def digests(self):
        """Path below PKGDIR → digest."""
        return {path: digest(self.pkgdir / path) for path in files_of(self.pkgdir)}

    def look_for_all(self, when):
        """Every package is in place, with bytes that Portage accepts, or held."""
        there = {}
        for path, found in self.digests().items():
            there.setdefault(image_of(self.pkgdir / path), set()).add(found)
        held = {digest(path) for path in self.pkgdir.glob(".binpkg-resign/held/**/*.held*")}
        fine = self.recorded.accepted | self.made
        for path, image in self.recorded.images.items():
            if not there.get(image, set()) & fine and self.recorded.bytes[path] not in held:
                self.problem(f"LOST {path} {when}")

    def run(self, prefix, keep):
        """A plain run. What it has made is kept under `keep`, for Portage to look at."""
        before = set(self.digests().values())
        result = prefix.resign("--json", "apply", check=None, env={"PKGDIR": self.pkgdir})
        self.said.append(str(result))
        if "panicked" in result.text or result.status not in (0, 1):
            self.problem(f"ended with {result.status}")
        for path, found in self.digests().items():
            if found in before or found in self.recorded.accepted or found in self.made:
                continue
            self.made.add(found)
            place = keep / found / os.path.basename(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.pkgdir / path, place)

    def look_for_leftovers(self):
        """All is as it is after a run that nothing has disturbed."""
        files = files_of(self.pkgdir)
        if files != self.recorded.wanted:
            self.problem(f"NOT IN ORDER, {sorted(set(files) ^ set(self.recorded.wanted))}")
        left = [path.name for path in self.pkgdir.rglob(".*") if path.name != ".Packages.portage_lockfile"]
        if left:
            self.problem(f"NOT IN ORDER, left over: {left}")
        entries = [(entry["PATH"], int(entry["SIZE"])) for entry in read_index(self.pkgdir / "Packages")[1]]
        if sorted(entries) != [(path, (self.pkgdir / path).stat().st_size) for path in files]:
            self.problem("NOT IN ORDER, the index")


def go_over(recorded, states, top):
    """Each state: Portage's pass, then a plain run; or, as at the next sync, a plain run and then the pass.

    Returns what went wrong.
    """
    problems = []
    keep = top / "made"
    for start in range(0, len(states), CHUNK):
        chunk = [
            Inspection(recorded, state, position, top / f"{start + number:05}")
            for number, (position, state) in enumerate(states[start : start + CHUNK])
        ]
        for number, one in enumerate(chunk):
            one.look_for_all("at once")
            if number % 2:
                one.run(recorded.prefix, keep)
                one.look_for_all("after a run")
        folders = [str(one.pkgdir) for one in chunk]
        passed = recorded.prefix.inside("passes", {"pkgdirs": folders}).answer
        for number, one in enumerate(chunk):
            log = one.pkgdir.with_name(f"{one.pkgdir.name}.log").read_text()
            one.said.append(log)
            if not passed[str(one.pkgdir)]:
                one.problem("Portage's pass failed")
            # before that, Portage does as without us
            if number % 2 or one.has_backups:
                one.look_for_all("after Portage's pass")
                one.run(recorded.passed, keep)
                one.look_for_all("after the pass and a run")
                one.look_for_leftovers()
            shutil.rmtree(one.pkgdir)
            problems += one.problems
    made = sorted(keep.rglob("*.gpkg.tar"))[::LOOKED_AT]
    answer = recorded.prefix.inside("verify", {"paths": [str(path) for path in made]}).answer if made else {}
    return problems + [f"{path}: {error}" for path, error in answer.items() if error]


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("layout", ["multi-instance", "flat"])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_a_power_cut(lab, scene, layout, shard):
    recorded = record(lab, layout, scene)
    states = sample(recorded, f"{scene.__name__}-{layout}-{shard}", STATES)
    problems = go_over(recorded, states, lab.directory("cut"))
    assert not problems, f"{len(problems)} of {len(states)}\n" + "\n".join(problems[:3])
