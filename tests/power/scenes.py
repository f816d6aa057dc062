"""Runs of several batches, recorded operation by operation, on small signed prefixes."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.world import LAYOUTS
from tests.lab import Prefix, files_of, package
from tests.lab.moment import sign_with
from tests.lab.promise import digest, held_files, image_of

from .disk import Disk, read_log

MOVES = ("move dev-util/strace dev-debug/strace", "slotmove dev-libs/slotted 0 2", "move app-misc/old app-misc/new")
NO_NET = {"BINPKG_RESIGN_NET": "no"}
BATCH = "2"
#: So often a run is made again whose threads took other turns than those of the run before it.
TRIES = 20


def small(lab, path, layout):
    """Seven packages: five that change in place, one that moves, one that stays."""
    # no safety net: the store alone must not lose anything
    prefix = Prefix.create(lab, path, key=lab.key(), features=LAYOUTS[layout], variables=NO_NET)
    prefix.make(
        package("app-misc/user-1", RDEPEND="dev-util/strace"),
        package("app-misc/other-2", BDEPEND=">=dev-util/strace-5"),
        package("app-misc/third-3", DEPEND="dev-util/strace"),
        package("dev-libs/slotted-2.0"),
        package("dev-libs/fifth-5", PDEPEND="dev-util/strace"),
        package("app-misc/old-1.0", RDEPEND="dev-util/strace"),
        package("app-misc/plain-1"),
    )
    prefix.updates("1Q-2024", *MOVES)
    return prefix


@dataclass
class Recorded:
    """A recorded run and what is known of its packages."""

    #: the prefix as it was before the run, its updates pending
    prefix: Prefix
    #: the same after Portage's pass
    passed: Prefix
    #: PKGDIR before the run
    before: Path
    operations: list
    #: where not every package at risk has a backup yet: [(from, to)], positions in the operations
    unsafe: list
    #: the packages as they were: path → digest, path → image
    bytes: dict
    images: dict
    #: digests of packages, old or new, that Portage accepts
    accepted: set
    #: what lies in PKGDIR when all is done
    wanted: list


def record(lab, layout, scene):
    """Makes a scene once and runs it: `scene(prefix, run)`, where `run(words, …)` records a run of the program."""
    top = lab.once("templates", f"power-{layout}-{scene.__name__}", lambda path: _make(lab, path, layout, scene))
    prefix = _prefix(lab, top / "before", layout)
    passed = _prefix(lab, top / "passed", layout)
    after = _prefix(lab, top / "after", layout)
    operations, unsafe = [], []
    for folder in sorted((top / "runs").iterdir()):
        left_out = [int(number) for number in (folder / "fault").read_text().split()]
        of_run = read_log(after.pkgdir, folder / "log", folder / "record", left_out)
        unsafe.append((len(operations), len(operations) + _safe_from(of_run)))
        operations += of_run
    _assert_model_is_right(Disk(prefix.pkgdir), operations, after)
    images = {path: image_of(top / "origin" / path) for path in files_of(top / "origin")}
    origin = {path: digest(top / "origin" / path) for path in files_of(top / "origin")}
    # all are accepted before and after; what is neither must be asked about
    accepted = set(origin.values())
    bad = {path: error for path, error in after.verify().items() if error}
    assert not bad, bad
    accepted |= {digest(after.pkgdir / path) for path in files_of(after.pkgdir)}
    assert not held_files(after)
    return Recorded(
        prefix, passed, prefix.pkgdir, operations, unsafe, origin, images, accepted, files_of(after.pkgdir)
    )


def _safe_from(operations):
    """From which operation of a run on every package at risk has a backup that lasts."""
    links = [place for place, operation in enumerate(operations) if operation.action == "link to"]
    if not links:
        return 0
    flushes = (place for place, operation in enumerate(operations) if operation.action == "flush" and operation.path == ".")
    return next(place for place in flushes if place > links[-1]) + 1


def _prefix(lab, path, layout):
    return Prefix(lab, path, key=lab.key(), features=LAYOUTS[layout], variables=NO_NET).with_repositories("gentoo")


def _make(lab, top, layout, scene):
    os.makedirs(top)
    prefix = small(lab, top / "before", layout)
    shutil.copytree(prefix.pkgdir, top / "origin")
    bad = {path: error for path, error in prefix.verify().items() if error}
    assert not bad, bad
    scene.prepare(prefix)
    after = prefix.clone(top / "after")
    # Portage's pass goes over a PKGDIR of its own: only what it remembers is wanted here
    prefix.clone(top / "passed").update_pass()
    (top / "runs").mkdir()

    def run(*words, fault=None, at=None, ends=(0,)):
        """Records a run of the program; with a fault of a kind at the operation that `at` chooses from a log."""
        folder = top / "runs" / f"{len(os.listdir(top / 'runs')):02}"
        numbers = [None]
        for _ in range(TRIES):
            shutil.rmtree(folder, ignore_errors=True)
            (folder / "record").mkdir(parents=True)
            environment = {"BINPKG_RESIGN_FAULT_LOG": folder / "log", "BINPKG_RESIGN_RECORD": folder / "record"}
            environment["BINPKG_RESIGN_BATCH"] = BATCH
            number = numbers[-1]
            if number is not None:
                environment["BINPKG_RESIGN_FAULT"] = f"{number}:{fault}"
            given = top / "given"
            after.run("cp", "-a", after.pkgdir, given)
            result = after.resign(*words, "-j1", env=environment, check=None)
            lines = sorted((folder / "log").read_text().splitlines(), key=lambda line: int(line.split()[0]))
            # the threads of two runs do not take turns in the same way
            if fault is None or number is not None and _chosen(at, lines) == number:
                assert result.status in ends, f"{number}:{fault} {result}\n" + "\n".join(lines)
                (folder / "fault").write_text(str(number or ""))
                shutil.rmtree(given)
                return lines
            numbers.append(_chosen(at, lines) or numbers[1])
            shutil.rmtree(after.pkgdir)
            given.rename(after.pkgdir)
        raise AssertionError(f"no run had the {fault} where it was wanted, but at {numbers}\n{result}")

    scene(after, run)


def _chosen(at, lines):
    try:
        return at(lines)
    except (IndexError, StopIteration):
        return None


def _assert_model_is_right(disk, operations, after):
    """After all operations the model holds what the real filesystem holds."""
    for operation in operations:
        disk.do(operation)
    ours = disk.tree()
    found = {}
    for place, folders, files in os.walk(after.pkgdir):
        for name in [*folders, *files]:
            path = Path(place, name)
            found[os.path.relpath(path, after.pkgdir)] = path.read_bytes() if path.is_file() else None
    found = {path: data for path, data in found.items() if not path.endswith("lockfile")}
    model = {path: disk.inodes[inode] for path, inode in ours.items()}
    model = {path: None if inode.is_folder else inode.durable.data for path, inode in model.items()}
    assert model == found, sorted(set(model) ^ set(found)) or [path for path in found if model[path] != found[path]]


def _nothing(_prefix):
    """Nothing was there before."""


def apply(_prefix, run):
    """One whole run."""
    lines = run("apply")
    assert sum(" rename to " in line and line.split(" from ")[0].endswith("/Packages") for line in lines) >= 3, "several batches"


def retry(prefix, run):
    """The held copies are the only ones: nothing could be signed, and Portage's pass was there."""
    assert len(held_files(prefix)) == 6
    run("held", "retry")


def _held_by_now(prefix):
    sign_with(prefix, "/bin/false")
    prefix.resign("apply", check=1)
    prefix.update_pass()
    sign_with(prefix, None)


apply.prepare = _nothing
retry.prepare = _held_by_now


def _twice(words, name, prepare, at, fault, ends):
    """A run with a fault at the operation that `at` chooses, and the next run."""

    def scene(_prefix, run):
        run(*words, fault=fault, at=at, ends=ends)
        run("apply")

    scene.__name__, scene.prepare = name, prepare
    return scene


def _numbers(lines, test):
    return [int(line.split()[0]) for line in lines if test(line.split(" ", 1)[1])]


def after_renames(lines):
    """The first flush of a folder of packages after a batch was renamed into place."""
    placed = _numbers(lines, lambda text: text.startswith("rename to ") and ".gpkg.tar from " in text)
    flushes = _numbers(lines, lambda text: text.startswith("flush ") and ".binpkg-resign" not in text)
    return next(number for number in flushes if number > placed[0])


def before_second_index(lines):
    """The second write of the index is just about to be renamed into place."""
    return _numbers(lines, lambda text: text.startswith("rename to ") and text.split(" from ")[0].endswith("/Packages"))[1]


def before_note_goes(lines):
    """The first batch is done, all but its note."""
    return _numbers(lines, lambda text: text.startswith("remove ") and text.endswith("/commit"))[0]


KILLED = {"fault": "die", "ends": (-9,)}
APPLY, RETRY = ("apply",), ("held", "retry")

SCENES = [
    apply,
    retry,
    _twice(APPLY, "killed_after_renames", _nothing, after_renames, **KILLED),
    _twice(APPLY, "killed_before_index", _nothing, before_second_index, **KILLED),
    _twice(RETRY, "retry_killed_after_renames", _held_by_now, after_renames, **KILLED),
    _twice(RETRY, "retry_killed_before_note_goes", _held_by_now, before_note_goes, **KILLED),
    _twice(RETRY, "retry_flush_fails", _held_by_now, after_renames, fault="eio", ends=(0, 1)),
]
