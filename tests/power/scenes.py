"""Runs of several batches, recorded operation by operation, on small signed prefixes."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.world import LAYOUTS
from tests.lab import Prefix, files_of, package
from tests.lab.promise import digest, held_files, image_of

from .disk import Disk, read_log

MOVES = ("move dev-util/strace dev-debug/strace", "slotmove dev-libs/slotted 0 2", "move app-misc/old app-misc/new")
VARIABLES = {
    # no safety net: the store alone must not lose anything
    "BINPKG_RESIGN_NET": "no",
    # tens of thousands of states: no process that has nothing to do with power cuts, and none that cannot be a vfork
    "BINPKG_COMPRESS": "none",
    "GPG_VERIFY_USER_DROP": "",
    "GPG_VERIFY_GROUP_DROP": "",
}
BATCH = "2"


def signing_at(key, second):
    """The setting with a signing command to which it is always the same second, counted from when the key was made.

    The program makes the same bytes of the same package then, as long as the real clock's second is the same too, and
    Portage has to be asked about them once only. Each run has its own second: two runs never sign alike.
    """
    return {"BINPKG_GPG_SIGNING_BASE_COMMAND": f"/usr/bin/gpg --faked-system-time {key.created + second}! --sign --armor [PORTAGE_CONFIG]"}


#: Seconds of the runs over a state: before Portage's pass and after it. The recorded ones count from 1.
FIRST_RUN, SECOND_RUN = 101, 102


def small(lab, path, layout):
    """Seven packages: five that change in place, one that moves, one that stays."""
    key = lab.key()
    prefix = Prefix.create(lab, path, key=key, features=LAYOUTS[layout], variables=VARIABLES | signing_at(key, 0))
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
        fault = folder / "fault"
        left_out = [int(fault.read_text())] if fault.exists() else []
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
    return Prefix(lab, path, key=lab.key(), features=LAYOUTS[layout], variables=VARIABLES).with_repositories("gentoo")


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
        """Records a run of the program; with a fault of a kind at the operation that `at` chooses from a whole run."""
        folder = top / "runs" / f"{len(os.listdir(top / 'runs')):02}"
        (folder / "record").mkdir(parents=True)
        # a run with nothing to do logs nothing
        (folder / "log").touch()
        environment = {"BINPKG_RESIGN_FAULT_LOG": folder / "log", "BINPKG_RESIGN_RECORD": folder / "record"}
        environment["BINPKG_RESIGN_BATCH"] = BATCH
        environment |= signing_at(after.key, len(os.listdir(top / "runs")))
        if fault is not None:
            count, text = at(_log_of_whole_run(after, words), after.pkgdir)
            environment["BINPKG_RESIGN_FAULT"] = f"{count} {text}:{fault}"
        result = after.resign(*words, "-j1", env=environment, check=None)
        assert result.status in ends, result
        lines = _lines(folder / "log")
        if fault is not None:
            numbers = [number for number, line in (line.split(" ", 1) for line in lines) if line.split(" from ")[0] == text]
            (folder / "fault").write_text(numbers[count - 1])
        return lines

    scene(after, run)


def _lines(log):
    return sorted(log.read_text().splitlines(), key=lambda line: int(line.split()[0]))


def _log_of_whole_run(prefix, words):
    whole = prefix.clone()
    log = whole.path / "operations"
    whole.resign(*words, "-j1", env={"BINPKG_RESIGN_FAULT_LOG": log, "BINPKG_RESIGN_BATCH": BATCH})
    texts = [line.split(" ", 1)[1] for line in _lines(log)]
    return [text.replace(str(whole.pkgdir), str(prefix.pkgdir)) for text in texts]


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
    prefix.resign("apply", check=1, env={"BINPKG_GPG_SIGNING_BASE_COMMAND": "/bin/false [PORTAGE_CONFIG]"})
    prefix.update_pass()


apply.prepare = _nothing
retry.prepare = _held_by_now


def _twice(words, name, prepare, at, fault, ends):
    """A run with a fault at the operation that `at` chooses, and the next run."""

    def scene(_prefix, run):
        run(*words, fault=fault, at=at, ends=ends)
        run("apply")

    scene.__name__, scene.prepare = name, prepare
    return scene


def after_renames(texts, pkgdir):
    """The flush of a folder of packages after a batch was renamed into place; in the flat layout, of a category."""
    placed = next(text for text in texts if text.startswith("rename to ") and ".gpkg.tar from " in text)
    folder = os.path.dirname(placed.removeprefix("rename to ").split(" from ")[0])
    flush = f"flush {folder}"
    # it may have been made and flushed before
    return texts[: texts.index(placed)].count(flush) + 1, flush


def before_second_index(_texts, pkgdir):
    """The second write of the index is just about to be renamed into place."""
    return 2, f"rename to {pkgdir}/Packages"


def before_note_goes(_texts, pkgdir):
    """The first batch is done, all but its note."""
    return 1, f"remove {pkgdir}/.binpkg-resign/commit"


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
