"""A disk, or a name, with too little room for what saves a package."""

import pytest

from tests.lab import files_of, package
from tests.lab.disk import fill, small_ext4
from tests.lab.promise import Builds, assert_promised, held_files, run_to_its_end

from .scene import NAMES, both_layouts, five, where


@both_layouts
@pytest.mark.parametrize("free", [0, 3, 5, 12, 20])
def test_a_nearly_full_disk(lab, layout, free):
    """Neither a backup that is a copy nor a new file fits: what can be saved is, the rest is named, exit status 1."""
    prefix = five(lab, layout)
    with small_ext4(prefix, blocks=512) as place:
        builds = Builds(prefix)
        filler = fill(place, free)
        ended = run_to_its_end(prefix, "apply")
        assert_promised(prefix, builds, ended)
        # a hard link needs no block but one for a new folder, and what is signed frees the blocks of its old version
        if free >= 20:
            assert not ended.exposed, f"there was room for hard links\n{ended.result}"
        # with room again, everything comes back
        filler.unlink()
        saved = set(files_of(prefix.pkgdir)) | {
            # without room for folders, `~` stands for each slash
            path.split("/held/")[1].rsplit(".held", 1)[0].replace("~", "/")
            for path in held_files(prefix)
        }
        ended = run_to_its_end(prefix, "apply", "--all")
        assert ended.status == 0, ended.result
        assert saved <= set(files_of(prefix.pkgdir)), ended.result


@both_layouts
def test_one_large_package_on_a_nearly_full_disk(lab, layout):
    """The large one does not fit a second time, the small ones do: they are not lost for its sake."""
    prefix = five(lab, layout)
    # random bytes: they stay as large as they are when they are packed
    prefix.make(package("app-misc/large-1", RDEPEND="dev-util/strace", payload=_noise(400_000)))
    with small_ext4(prefix, blocks=1024) as place:
        builds = Builds(prefix)
        fill(place, 128)
        ended = run_to_its_end(prefix, "apply")
        assert_promised(prefix, builds, ended)
        signed = {path for path, outcome in ended.outcomes if outcome == "resigned"}
        assert {where(layout, name) for name in NAMES} <= signed, ended.result
        assert not ended.exposed, f"a hard link of it fits\n{ended.result}"


def _noise(size):
    import random

    return "".join(random.Random(12).choices("".join(map(chr, range(33, 127))), k=size))


@both_layouts
@pytest.mark.parametrize("length", [240, 250, 252, 255])
def test_a_name_with_no_room_for_a_suffix(lab, layout, length):
    """255 bytes is the longest name there is: `.held` does not fit, nor does the name of a temporary file."""
    prefix = five(lab, layout)
    ending = len("-1.gpkg.tar" if layout == "flat" else "-1-1.gpkg.tar")
    long = where(layout, "l" * (length - ending))
    assert len(long.split("/")[-1]) == length
    prefix.make(package(f"app-misc/{'l' * (length - ending)}-1", RDEPEND="dev-util/strace"))
    assert long in files_of(prefix.pkgdir)
    builds = Builds(prefix)
    ended = run_to_its_end(prefix, "apply")
    assert_promised(prefix, builds, ended)
    signed = {path for path, outcome in ended.outcomes if outcome == "resigned"}
    assert {where(layout, name) for name in NAMES} <= signed, "the others go on"
