"""An index with entries that no Portage writes, or no index at all."""

import pytest

from tests.lab import files_of, package, raw_entries
from tests.lab.promise import Builds, assert_promised, assert_saved, run_to_its_end

from .scene import NAMES, both_layouts, five, where


def add_block(prefix, block):
    """Puts one more block into the index, at its end."""
    index = prefix.pkgdir / "Packages"
    index.write_text(index.read_text().rstrip("\n") + "\n\n" + block.strip("\n") + "\n\n")


LEADS_ELSEWHERE = ("above", "above in between", "absolute")
BAD = {
    "above": "../x.gpkg.tar",
    "above in between": "app-misc/../../x.gpkg.tar",
    "twice a slash": "app-misc//x.gpkg.tar",
    "here": "./app-misc/x.gpkg.tar",
    "here in between": "app-misc/./x.gpkg.tar",
    "absolute": "/nonexistent/x.gpkg.tar",
    "a folder": "app-misc/",
    "very long": "app-misc/" + "x" * 5000,
    "much of a path": "a/" * 3000 + "x.gpkg.tar",
    "our own folder": ".binpkg-resign/held/app-misc/x.gpkg.tar",
    "the index": "Packages",
}


@both_layouts
@pytest.mark.parametrize("bad", BAD)
def test_a_path_that_is_none(lab, layout, bad):
    """That entry is reported where it leads elsewhere, and all other packages are saved."""
    prefix = five(lab, layout)
    builds = Builds(prefix)
    add_block(prefix, f"BUILD_ID: 1\nCPV: app-misc/bad-1\nPATH: {BAD[bad]}\nRDEPEND: dev-util/strace\nREPO: gentoo\n")
    ended = run_to_its_end(prefix, "apply")
    if bad in LEADS_ELSEWHERE:
        assert BAD[bad] in ended.result.text or "app-misc/bad-1" in ended.result.text, ended.result
    assert {path for path, outcome in ended.outcomes if outcome == "resigned"} == {where(layout, name) for name in NAMES}
    assert_promised(prefix, builds, ended)
    assert builds.missing(prefix) == set()


@both_layouts
@pytest.mark.parametrize("form", ["app-misc//", "./app-misc/", "app-misc/./", "app-misc/../app-misc/"])
def test_a_path_that_means_a_real_package(lab, layout, form):
    """Portage finds the package by such a path, and removes it."""
    prefix = five(lab, layout)
    builds = Builds(prefix)
    index = prefix.pkgdir / "Packages"
    path = where(layout, "three")
    index.write_text(index.read_text().replace(f"PATH: {path}\n", f"PATH: {path.replace('app-misc/', form, 1)}\n"))
    ended = run_to_its_end(prefix, "apply")
    others = {where(layout, name) for name in NAMES if name != "three"}
    assert others <= {one for one, outcome in ended.outcomes if outcome == "resigned"}, ended.result
    exposed = {one.split("/")[-1] for one in ended.exposed}
    assert exposed <= {path.split("/")[-1]}
    ended.answer["packages"] = [record | {"path": path} if record["outcome"] == "exposed" else record for record in ended.answer["packages"]]
    assert_promised(prefix, builds, ended)
    assert builds.missing(prefix) <= ({path} if exposed else set())


@both_layouts
def test_two_blocks_of_one_path(lab, layout):
    """The same block twice: one package, signed once, nothing held and nothing made besides."""
    prefix = five(lab, layout)
    builds, before = Builds(prefix), files_of(prefix.pkgdir)
    add_block(prefix, raw_entries(prefix.pkgdir / "Packages")[where(layout, "three")])
    ended = assert_saved(prefix, builds, "apply")
    assert files_of(prefix.pkgdir) == before, ended.result
    assert run_to_its_end(prefix, "apply").answer["status"] == "nothing-to-do"


@both_layouts
def test_two_blocks_of_one_path_that_differ(lab, layout):
    """Two builds claim one file: whichever it is, it is kept."""
    prefix = five(lab, layout)
    builds, before = Builds(prefix), files_of(prefix.pkgdir)
    block = raw_entries(prefix.pkgdir / "Packages")[where(layout, "three")]
    add_block(prefix, block.replace("BUILD_TIME: 1700000000", "BUILD_TIME: 1600000000").replace("SIZE: ", "SIZE: 1"))
    ended = run_to_its_end(prefix, "apply")
    assert ended.status in (0, 1), ended.result
    assert_promised(prefix, builds, ended)
    assert set(files_of(prefix.pkgdir)) <= set(before), ended.result


@both_layouts
def test_two_blocks_of_one_path_of_a_package_that_moves(lab, layout):
    """A move makes one copy of it, not two."""
    prefix = five(lab, layout)
    prefix.make(package("dev-util/strace-6"))
    builds, before = Builds(prefix), files_of(prefix.pkgdir)
    old = where(layout, "strace").replace("app-misc", "dev-util").replace("strace-1", "strace-6")
    add_block(prefix, raw_entries(prefix.pkgdir / "Packages")[old])
    ended = assert_saved(prefix, builds, "apply")
    new = old.replace("dev-util", "dev-debug")
    assert files_of(prefix.pkgdir) == sorted([*before, new]), ended.result


@both_layouts
@pytest.mark.parametrize("spoil", ["missing", "empty", "no version", "a newer version", "cut in the header"])
def test_no_index_where_portage_reads_the_files(lab, layout, spoil):
    """FEATURES=-pkgdir-index-trusted: Portage's pass reads every file, and removes, whatever the index is."""
    prefix = five(lab, layout)
    prefix.features.append("-pkgdir-index-trusted")
    prefix.configure()
    builds = Builds(prefix)
    index = prefix.pkgdir / "Packages"
    text = index.read_text()
    if spoil == "missing":
        index.unlink()
    else:
        ways = {
            "empty": "",
            "no version": text.replace("VERSION: 0\n", ""),
            "a newer version": text.replace("VERSION: 0\n", "VERSION: 7\n"),
            "cut in the header": text[:20],
        }
        index.write_text(ways[spoil])
    (prefix.pkgdir / "Packages.gz").unlink(missing_ok=True)
    ended = run_to_its_end(prefix, "apply")
    assert_promised(prefix, builds, ended)
    assert not builds.missing(prefix), ended.result


@both_layouts
@pytest.mark.parametrize("spoil", ["missing", "no version"])
def test_no_index_where_portage_trusts_it(lab, layout, spoil):
    """Portage's pass sees no package and removes none; said, with a report."""
    prefix = five(lab, layout)
    builds = Builds(prefix)
    index = prefix.pkgdir / "Packages"
    if spoil == "missing":
        index.unlink()
    else:
        index.write_text(index.read_text().replace("VERSION: 0\n", ""))
    ended = run_to_its_end(prefix, "apply")
    assert ended.status in (1, 2), ended.result
    assert "Packages" in ended.result.err, ended.result
    assert_promised(prefix, builds, ended)
