"""Power cuts: whatever a filesystem can leave of a run, Portage's pass and the next run lose no package."""

import functools
import hashlib
import io
import os
import random
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import files_of, read_index
from tests.lab.promise import digest, image_of

from .disk import CHOICES, Disk, cuts
from .scenes import FIRST_RUN, SCENES, SECOND_RUN, record, signing_at

FULL = bool(os.environ.get("BINPKG_RESIGN_FULL"))
SHARDS = 2
#: States for each scene, layout and shard, as far as there are so many.
STATES = 750 if FULL else 12
#: For one state that is wanted, so many are drawn: most are no others than those before.
DRAWS = 16
CHUNK = 100
#: Where the states are built: they are models of a disk already, and on a real one each flush only takes its time.
MEMORY = Path("/dev/shm")


def sample(recorded, seed, count):
    """At most so many states, no two the same, from all over the run."""
    states_at = cuts(recorded.before, recorded.operations, seed)
    length = len(recorded.operations) + 1
    dice = random.Random(seed)
    positions = [dice.randrange(length) for _ in range(count * DRAWS)]
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


@dataclass(frozen=True)
class Package:
    """What is known of a package by its bytes."""

    digest: str
    md5: str
    #: the digest of its image, or None
    image: str | None


@functools.lru_cache(maxsize=10_000)
def package_of(data):
    """The same few packages are in most states."""
    return Package(hashlib.sha256(data).hexdigest(), hashlib.md5(data).hexdigest(), image_of(io.BytesIO(data)))


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

    def packages(self):
        """Path below PKGDIR → what lies there."""
        return {path: package_of((self.pkgdir / path).read_bytes()) for path in files_of(self.pkgdir)}

    def look_for_all(self, when):
        """Every package is in place, with bytes that Portage accepts, or held."""
        there = {}
        for found in self.packages().values():
            there.setdefault(found.image, set()).add(found.digest)
        held = {digest(path) for path in self.pkgdir.glob(".binpkg-resign/held/**/*.held*")}
        fine = self.recorded.accepted | self.made
        for path, image in self.recorded.images.items():
            if not there.get(image, set()) & fine and self.recorded.bytes[path] not in held:
                self.problem(f"LOST {path} {when}")

    def run(self, prefix, second, keep):
        """A plain run. What it has made is kept under `keep`, for Portage to look at."""
        before = {found.digest for found in self.packages().values()}
        # gpg has a locale's dozen files to read otherwise, at each of its starts
        environment = {"PKGDIR": self.pkgdir, "LC_ALL": "C"} | signing_at(prefix.key, second)
        result = prefix.resign("--json", "apply", check=None, env=environment)
        self.said.append(str(result))
        if "panicked" in result.text or result.status not in (0, 1):
            self.problem(f"ended with {result.status}")
        for path, found in self.packages().items():
            if found.digest in before or found.digest in self.recorded.accepted or found.digest in self.made:
                continue
            self.made.add(found.digest)
            place = keep / found.digest / os.path.basename(path)
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.pkgdir / path, place)

    def look_for_leftovers(self):
        """All is as it is after a run that nothing has disturbed."""
        packages = self.packages()
        if list(packages) != self.recorded.wanted:
            self.problem(f"NOT IN ORDER, {sorted(set(packages) ^ set(self.recorded.wanted))}")
        left = [path.name for path in self.pkgdir.rglob(".*") if path.name != ".Packages.portage_lockfile"]
        if left:
            self.problem(f"NOT IN ORDER, left over: {left}")
        entries = sorted((entry["PATH"], entry["MD5"]) for entry in read_index(self.pkgdir / "Packages")[1])
        if entries != [(path, found.md5) for path, found in packages.items()]:
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
                one.run(recorded.prefix, FIRST_RUN, keep)
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
                one.run(recorded.passed, SECOND_RUN, keep)
                one.look_for_all("after the pass and a run")
                one.look_for_leftovers()
            shutil.rmtree(one.pkgdir)
            problems += one.problems
    made = sorted(keep.rglob("*.gpkg.tar"))
    answer = recorded.prefix.inside("verify", {"paths": [str(path) for path in made]}).answer if made else {}
    return problems + [f"{path}: {error}" for path, error in answer.items() if error]


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("layout", ["multi-instance", "flat"])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_a_power_cut(lab, scene, layout, shard):
    recorded = record(lab, layout, scene)
    # one sample for all shards: none sees a state that another has seen
    states = sample(recorded, f"{scene.__name__}-{layout}", STATES * SHARDS)[shard::SHARDS]
    print(f"{len(states)} states")
    has_room = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 2**30
    with tempfile.TemporaryDirectory(prefix="brl-cut.", dir=MEMORY if has_room else lab.path) as top:
        problems = go_over(recorded, states, Path(top))
    assert not problems, f"{len(problems)} of {len(states)}\n" + "\n".join(problems[:3])
