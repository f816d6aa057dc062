"""Two builds under one name are two packages: held, brought back, found after a crash."""

import pytest

from tests.lab import assert_all_verify, assert_index_agrees, files_of, package
from tests.lab.moment import sign_with
from tests.lab.promise import Builds, assert_promised, ended, held_files, image_of, run_to_its_end

from .scene import MOVE, both_layouts, five, where

SECOND = "move dev-util/ltrace dev-debug/ltrace"


def rebuild(prefix, name="three", number=1):
    """Another build of one of the five under the same name, as after `emerge --buildpkg`."""
    prefix.make(
        package(
            f"app-misc/{name}-1",
            RDEPEND="dev-util/strace dev-util/ltrace",
            build_time=1_700_000_000 + number,
            payload=f"build {number}\n",
        )
    )


def everywhere(prefix):
    """The images of all packages, in place and held, in as many copies as there are."""
    return sorted(image_of(prefix.pkgdir / path) for path in [*files_of(prefix.pkgdir), *held_files(prefix)])


def two_held(lab, layout):
    """Held, removed by Portage's pass, built again under the same name, held again, removed again."""
    prefix = five(lab, layout)
    sign_with(prefix, "/bin/false")
    first = Builds(prefix)
    prefix.resign("apply", check=1)
    prefix.update_pass()
    sign_with(prefix, None)
    rebuild(prefix)
    sign_with(prefix, "/bin/false")
    second = Builds(prefix)
    assert set(second.bytes) == {where(layout, "three")}
    prefix.updates("2Q-2024", SECOND)
    prefix.resign("apply", check=1)
    prefix.update_pass()
    assert files_of(prefix.pkgdir) == []
    held = [path for path in held_files(prefix) if "/three-1" in path]
    assert len(held) == 2, held
    sign_with(prefix, None)
    return prefix, first, second


@both_layouts
def test_two_held_builds_of_one_name(lab, layout):
    """`held retry` brings each back, or keeps it: none is destroyed, none is stored twice, the index is right."""
    prefix, first, second = two_held(lab, layout)
    run = run_to_its_end(prefix, "held", "retry")
    assert not first.missing(prefix) and not second.missing(prefix), run.result
    images = everywhere(prefix)
    assert len(images) == len(set(images)) == 6, f"stored twice\n{run.result}"
    assert_all_verify(prefix)
    assert_index_agrees(prefix)
    assert where(layout, "three") in files_of(prefix.pkgdir)
    if layout == "multi-instance":
        assert len(files_of(prefix.pkgdir)) == 6 and run.status == 0, run.result
    for builds in (first, second):
        assert_promised(prefix, builds, run)
    # and once more, where there is nothing left to do
    again = run_to_its_end(prefix, "apply", "--all")
    assert everywhere(prefix) == images, again.result
    assert_index_agrees(prefix)


@both_layouts
def test_two_held_builds_in_the_next_apply(lab, layout):
    """The same by the next sync's `apply`."""
    prefix, first, second = two_held(lab, layout)
    run = run_to_its_end(prefix, "apply")
    assert not first.missing(prefix) and not second.missing(prefix), run.result
    images = everywhere(prefix)
    assert len(images) == len(set(images)) == 6, f"stored twice\n{run.result}"
    assert_all_verify(prefix)
    assert_index_agrees(prefix)


def killed(lab, layout):
    """A run that the signing command kills with SIGKILL; then Portage's pass, which removes all five."""
    prefix = five(lab, layout)
    builds = Builds(prefix)
    sign_with(prefix, prefix.write("bin/kill", "#!/bin/sh\nkill -9 $PPID\n"))
    (prefix.path / "bin/kill").chmod(0o755)
    prefix.resign("apply", check=-9)
    sign_with(prefix, None)
    assert not builds.missing(prefix)
    prefix.update_pass()
    assert files_of(prefix.pkgdir) == []
    assert not builds.missing(prefix), "the backups are there"
    return prefix, builds


def spoil_journal(prefix, how):
    """Makes the files in our folder unreadable as what they are."""
    files = [path for path in (prefix.pkgdir / ".binpkg-resign").iterdir() if path.is_file() and path.name != "lock"]
    assert files, "there is a journal"
    for path in files:
        match how:
            case "not parsed":
                path.write_text("{ this is no JSON")
            case "empty":
                path.write_text("")
            case "cut":
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            case "removed":
                path.unlink()


@both_layouts
@pytest.mark.parametrize("journal", ["whole", "not parsed", "empty", "cut", "removed"])
def test_a_backup_whose_name_was_built_again(lab, layout, journal):
    """Killed, Portage's pass, a new build of that name, `apply`: both builds are there."""
    prefix, old = killed(lab, layout)
    rebuild(prefix)
    new = Builds(prefix)
    if journal != "whole":
        spoil_journal(prefix, journal)
    run = run_to_its_end(prefix, "apply")
    assert not new.missing(prefix), f"the new build is lost\n{run.result}"
    assert not old.missing(prefix), f"the old build is lost\n{run.result}"
    run = run_to_its_end(prefix, "apply", "--all")
    assert not new.missing(prefix) and not old.missing(prefix), run.result
    images = everywhere(prefix)
    assert len(images) == len(set(images)) == 6, f"stored twice\n{run.result}"
    assert_promised(prefix, old, run)
    assert_promised(prefix, new, run)


@both_layouts
@pytest.mark.parametrize("journal", ["not parsed", "empty", "cut", "removed"])
def test_a_journal_that_cannot_be_read(lab, layout, journal):
    """Killed, Portage's pass: everything comes back from the held files alone, in one run, by its own message's words."""
    prefix, old = killed(lab, layout)
    spoil_journal(prefix, journal)
    run = run_to_its_end(prefix, "apply", "--all")
    assert not old.missing(prefix), run.result
    again = run_to_its_end(prefix, "apply", "--all")
    assert not old.missing(prefix), again.result
    assert again.status == 0, again.result
    assert files_of(prefix.pkgdir) == sorted(old.bytes), f"after {run.result}\n{again.result}"
    assert_all_verify(prefix)


@both_layouts
def test_the_list_of_held_packages_without_a_journal(lab, layout):
    """`held` shows what lies there, or says why it cannot; a report comes out."""
    prefix, _ = killed(lab, layout)
    spoil_journal(prefix, "not parsed")
    listed = ended(prefix.resign("--json", "held", check=None, timeout=60))
    assert listed.status in (0, 1, 2), listed.result
    if listed.status == 0:
        assert len(listed.answer["packages"]) == 5, listed.result


@both_layouts
def test_a_name_that_was_built_again_while_its_old_build_is_held(lab, layout):
    """The new build needs an update as well: both are looked after in one run."""
    prefix = five(lab, layout)
    first = Builds(prefix)
    sign_with(prefix, "/bin/false")
    prefix.resign("apply", check=1)
    prefix.update_pass()
    sign_with(prefix, None)
    rebuild(prefix)
    second = Builds(prefix)
    prefix.updates("2Q-2024", SECOND, MOVE)
    run = run_to_its_end(prefix, "apply")
    assert_promised(prefix, first, run)
    assert_promised(prefix, second, run)
    assert_all_verify(prefix)
    assert_index_agrees(prefix)


@both_layouts
def test_a_name_of_two_gives_neither_up(lab, layout):
    """`held drop` takes one at a time: a name that both have is refused, and what else they are called is said."""
    prefix, first, second = two_held(lab, layout)
    held = [path.removeprefix(".binpkg-resign/held/") for path in held_files(prefix) if "/three-1" in path]
    before = everywhere(prefix)
    for name in ("app-misc/three-1", where(layout, "three")):
        for words in (["drop", name], ["drop", "-p", name]):
            said = prefix.resign("held", *words, check=2)
            assert all(path in said.err for path in held), said
    assert everywhere(prefix) == before
    would = prefix.resign("held", "drop", "-p", held[0]).out
    assert "would give up" in would and "to be given up" in would, would
    assert everywhere(prefix) == before
    prefix.resign("held", "drop", held[0])
    left = everywhere(prefix)
    assert len(left) == len(before) - 1 and set(left) < set(before)
    assert held[1] in {path.removeprefix(".binpkg-resign/held/") for path in held_files(prefix)}
    assert len(first.missing(prefix) | second.missing(prefix)) == 1
    both = [path.removeprefix(".binpkg-resign/held/") for path in held_files(prefix)][:2]
    assert prefix.resign_json("held", "drop", *both)["counts"]["skipped"] == 2
