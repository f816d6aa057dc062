"""Runs of several batches, and faults after the last of them."""

import re
import shutil

import pytest

from tests.e2e.world import LAYOUTS, path_of
from tests.lab import Prefix, assert_index_agrees, files_of, package
from tests.lab.disk import on_a_disk_of_its_own
from tests.lab.moment import sign_with
from tests.lab.promise import Builds, assert_promised, ended, held_files, image_of, run_to_its_end

from .scene import MOVE, both_layouts, five

MANY = 68


def many(lab, layout):
    """More packages than one batch holds."""

    def fill(path):
        prefix = Prefix.create(lab, path, key=lab.key(), features=LAYOUTS[layout])
        prefix.make(*(package(f"app-misc/p{number:03}-1", RDEPEND="dev-util/strace") for number in range(MANY)))
        prefix.updates("1Q-2024", MOVE)

    path = lab.once("templates", f"many-{layout}", fill)
    prefix = Prefix(lab, path, key=lab.key(), features=LAYOUTS[layout])
    return prefix.with_repositories("gentoo").clone()


def flush_fails(prefix, place, when):
    """Runs `apply` with EIO from the so many-th flush of one folder."""
    log = prefix.path / "strace"
    result = prefix.run(
        *("strace", "-f", "--seccomp-bpf", "-qq", "-o", log, "-P", place, "-e", "trace=fsync,fdatasync"),
        *("-e", f"inject=fsync,fdatasync:error=EIO:when={when}"),
        *("binpkg-resign", "--prefix", prefix.path, "--json", "apply"),
        check=None,
        timeout=120,
    )
    return ended(result), log.read_text().count("INJECTED")


@both_layouts
@pytest.mark.parametrize("when", ["1", "1+"])
def test_a_folder_that_cannot_be_flushed(lab, layout, when):
    """EIO in one batch, others after it: files and index agree after the next run, and nothing is there twice."""
    if shutil.which("strace") is None:
        pytest.skip("skipped: no strace to make a flush fail")
    prefix = many(lab, layout)
    builds, before = Builds(prefix), files_of(prefix.pkgdir)
    place = (prefix.pkgdir / path_of(layout, "app-misc/p005-1")).parent
    run, injected = flush_fails(prefix, place, when)
    if when == "1":
        assert injected, "the folder of a new package is flushed"
    images = {path: image_of(prefix.pkgdir / path) for path in files_of(prefix.pkgdir)}
    assert len(set(images.values())) == len(images) and set(images) <= set(before), f"there twice\n{run.result}"
    after_the_pass = prefix.clone()
    assert_promised(after_the_pass, builds, run)
    for one in (prefix, after_the_pass):
        again = run_to_its_end(one, "apply", "--all", timeout=120)
        assert again.status == 0, again.result
        assert files_of(one.pkgdir) == before and held_files(one) == [], f"{run.result}\n{again.result}"
        assert not builds.missing(one)
        assert_index_agrees(one)


def index_writes(lines):
    """The numbers of the operations that put a new index in place, each of which ends a batch."""
    return [number for number, line in enumerate(lines, 1) if " rename" in line and re.search(r"[ /]Packages( from |$)", line)]


@pytest.mark.parametrize("kind", ["eio", "die"])
def test_a_fault_in_the_second_batch(lab, kind):
    """Wherever in it: found by the log of a run, and checked by the log of the run with the fault."""
    prefix = many(lab, "flat")
    log = prefix.path / "operations"
    whole = prefix.clone()
    whole.resign("apply", "-j1", env={"BINPKG_RESIGN_FAULT_LOG": log}, timeout=120)
    ends = index_writes(log.read_text().splitlines())
    assert len(ends) >= 2, "several batches"
    for share in (0.98, 1.0):
        number = ends[0] + int((ends[1] - ends[0]) * share)
        one = prefix.clone()
        builds, before = Builds(one), files_of(one.pkgdir)
        result = one.resign("apply", "-j1", env={"BINPKG_RESIGN_FAULT": f"{number}:{kind}"}, check=None, timeout=120)
        assert result.status in ((-9,) if kind == "die" else (0, 1)), result
        assert not builds.missing(one), f"{number}: {result}"
        one.update_pass()
        assert not builds.missing(one), f"{number}, after the pass: {result}"
        again = run_to_its_end(one, "apply", "--all", timeout=120)
        assert again.status == 0, f"{number}: {result}\n{again.result}"
        assert files_of(one.pkgdir) == before and held_files(one) == [], f"{number}: {result}\n{again.result}"
        assert not builds.missing(one)
        assert_index_agrees(one)


# Errors after everything is in place


def last_operations(prefix, *words):
    """The numbers of the operations after the last rename of the index or, where there is none, of the last few."""
    log = prefix.path / "operations"
    prefix.resign(*words, "-j1", env={"BINPKG_RESIGN_FAULT_LOG": log}, check=None)
    lines = log.read_text().splitlines()
    done = index_writes(lines)
    return range(done[-1] + 1 if done else max(1, len(lines) - 8), len(lines) + 1)


@both_layouts
@pytest.mark.parametrize("kind", ["eio", "erofs"])
def test_a_fault_after_the_last_commit(lab, layout, kind):
    """A good run stays a good run, with its report: everything is in place already."""
    numbers = last_operations(five(lab, layout), "apply")
    assert len(numbers) >= 3
    for number in sorted({numbers[0], numbers[len(numbers) // 2], numbers[-2], numbers[-1]}):
        prefix = five(lab, layout)
        builds = Builds(prefix)
        run = run_to_its_end(prefix, "apply", "-j1", env={"BINPKG_RESIGN_FAULT": f"{number}:{kind}"})
        assert run.status in (0, 1), f"{number}:{kind}\n{run.result}"
        assert len(run.answer["packages"]) == 5, f"{number}:{kind}\n{run.result}"
        assert_promised(prefix, builds, run)


@both_layouts
def test_a_fault_after_everything_is_held(lab, layout):
    """Nothing could be signed, everything is held, and then the journal cannot be written: 1, and a report."""
    prefix = five(lab, layout)
    sign_with(prefix, "/bin/false")
    numbers = last_operations(prefix.clone(), "apply")
    for number in numbers[::2]:
        one = prefix.clone()
        builds = Builds(one)
        run = run_to_its_end(one, "apply", "-j1", env={"BINPKG_RESIGN_FAULT": f"{number}:enospc"})
        assert run.status == 1, f"{number}\n{run.result}"
        assert len(run.answer["packages"]) == 5, f"{number}\n{run.result}"
        assert_promised(one, builds, run)


@both_layouts
@pytest.mark.parametrize("kind", ["eio", "enospc", "erofs"])
def test_a_fault_before_anything_is_done(lab, layout, kind):
    """Whatever cannot be written first: a report, and no silent loss."""
    for number in (1, 2, 3, 5):
        prefix = five(lab, layout)
        builds = Builds(prefix)
        run = run_to_its_end(prefix, "apply", "-j1", env={"BINPKG_RESIGN_FAULT": f"{number}:{kind}"})
        assert_promised(prefix, builds, run)


def test_a_key_that_expires_soon(lab):
    """The warning is a warning, whatever it stumbles over."""
    key = lab.new_key(who="soon")
    key.gpg("--quick-set-expire", key.fingerprint, "7d")
    soon = Prefix.create(lab, key=key)
    soon.make(package("app-misc/one-1", RDEPEND="dev-util/strace"))
    soon.updates("1Q-2024", MOVE)
    builds = Builds(soon)
    run = run_to_its_end(soon, "apply")
    assert run.status == 0, run.result
    assert "expire" in run.result.err
    assert_promised(soon, builds, run)


@both_layouts
def test_a_category_on_a_disk_of_its_own_with_few_open_files(lab, layout):
    """No backup can be a link there, and there are more packages than the process may have open: all are held."""
    prefix = many(lab, layout)
    builds = Builds(prefix)
    sign_with(prefix, "/bin/false")
    with on_a_disk_of_its_own(prefix, prefix.pkgdir / "app-misc"):
        words = f"ulimit -n 56; exec binpkg-resign --prefix {prefix.path} --json apply"
        run = ended(prefix.run("sh", "-c", words, check=None, timeout=120))
        assert len(held_files(prefix)) == MANY, run.result
        assert run.status == 1 and "has no backup" not in run.result.err, run.result
        assert_promised(prefix, builds, run)
