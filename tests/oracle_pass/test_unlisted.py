"""Where Portage does not trust the index, it reads the files: those that the index does not list count, too."""

import os

import pytest

from tests.lab import NEWEST, Prefix, Snapshot, assert_all_verify, package

from .twins import Twins

LAYOUTS = {"multi-instance": "binpkg-multi-instance", "flat": "-binpkg-multi-instance"}
UPDATES = ["move dev-util/strace dev-debug/strace", "slotmove dev-libs/slotted 0 2"]


def unlist(prefix, *cpvs):
    """Takes packages out of the index, as if somebody had just copied their files to PKGDIR."""
    index = prefix.pkgdir / "Packages"
    header, *blocks = index.read_text().rstrip("\n").split("\n\n")
    kept = [block for block in blocks if not any(f"CPV: {cpv}" in block.splitlines() for cpv in cpvs)]
    assert len(blocks) - len(kept) == len(cpvs)
    index.write_text("\n\n".join([header, *kept]) + "\n\n")


@pytest.fixture(params=LAYOUTS)
def twins(lab, portage, request):
    twins = Twins(lab, portage=portage, features=[LAYOUTS[request.param], "-pkgdir-index-trusted"])
    twins.signed.updates("1Q-2024", *UPDATES)
    twins.share_repositories()
    twins.make(
        package("app-misc/listed-1.0", RDEPEND="dev-util/strace"),
        package("app-misc/unlisted-1.0", RDEPEND="dev-util/strace", iuse="foo", BDEPEND="foo? ( dev-util/strace )"),
        package("app-misc/left-alone-1.0", RDEPEND="app-misc/listed"),
        package("dev-util/strace-6.6"),
        package("dev-libs/slotted-2.0", slot="0/2.30"),
    )
    return twins


def test_unlisted_files_are_saved_as_the_others(twins):
    """Portage alone updates them in the one prefix; in the other it finds nothing to do after us."""
    unlisted = ("app-misc/unlisted-1.0", "app-misc/left-alone-1.0", "dev-util/strace-6.6", "dev-libs/slotted-2.0")
    for prefix in (twins.signed, twins.plain):
        unlist(prefix, *unlisted)
    answer = twins.run()
    assert sorted((record["cpv"], record["outcome"]) for record in answer["packages"]) == [
        ("app-misc/listed-1.0", "resigned"),
        ("app-misc/unlisted-1.0", "resigned"),
        ("dev-libs/slotted-2.0", "resigned"),
        ("dev-util/strace-6.6", "moved"),
    ]
    assert_portage_only_lists(twins)
    twins.assert_portage_touches_nothing()
    twins.assert_the_same()
    assert_all_verify(twins.signed)


def test_an_entry_of_another_file_does_not_count(twins):
    """The index still describes the build before; Portage goes by the file, which is another one now."""
    [path] = [path for path in twins.paths if "listed-1.0" in path and "unlisted" not in path]
    for prefix in (twins.signed, twins.plain):
        index = prefix.pkgdir / "Packages"
        blocks = index.read_text().split("\n\n")
        changed = [
            block.replace("RDEPEND: dev-util/strace", "RDEPEND: app-misc/build-before") if f"PATH: {path}" in block else block
            for block in blocks
        ]
        assert changed != blocks
        index.write_text("\n\n".join(changed))
        os.utime(prefix.pkgdir / path, (1_600_000_000, 1_600_000_000))
    answer = twins.run()
    assert path in [record["path"] for record in answer["packages"]]
    assert_portage_only_lists(twins)
    twins.assert_portage_touches_nothing()
    twins.assert_the_same()
    assert_all_verify(twins.signed)


def assert_portage_only_lists(twins):
    """Portage's pass adds to the index what was not in it, and touches no file."""
    before = Snapshot(twins.signed.pkgdir).packages()
    twins.signed.update_pass(every_file=True)
    assert Snapshot(twins.signed.pkgdir).packages() == before


def test_a_trusted_index_leaves_unlisted_files_alone(lab, portage):
    """Portage does not see them, and neither do we: they stay byte for byte."""
    prefix = Prefix.create(lab, portage=portage, key=lab.key())
    prefix.updates("1Q-2024", *UPDATES)
    [path] = prefix.make(package("app-misc/unlisted-1.0", RDEPEND="dev-util/strace"))
    unlist(prefix, "app-misc/unlisted-1.0")
    before = (prefix.pkgdir / path).read_bytes()
    assert prefix.resign_json("apply")["packages"] == []
    prefix.update_pass()
    assert (prefix.pkgdir / path).read_bytes() == before


def test_held_packages_are_planned_from_their_files(lab):
    """A held package whose only old name stands under a flag that is off: Portage 3.0.83 would remove it again."""
    prefix = Prefix.create(lab, portage=NEWEST, key=lab.key(), features=["-pkgdir-index-trusted"])
    prefix.updates("1Q-2024", *UPDATES)
    [path] = prefix.make(package("app-misc/user-1.0", iuse="foo", RDEPEND="foo? ( dev-util/strace ) app-misc/a"))
    good = dict(prefix.variables)
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "/bin/false [PORTAGE_CONFIG]"
    prefix.configure()
    held = prefix.resign_json("apply", check=1)["packages"]
    assert [record["outcome"] for record in held] == ["held"]
    prefix.update_pass()
    assert not (prefix.pkgdir / path).exists()
    prefix.variables = good
    prefix.configure()
    assert [record["outcome"] for record in prefix.resign_json("held", "retry")["packages"]] == ["resigned"]
    assert prefix.metadata([path])[path]["RDEPEND"].split() == "foo? ( dev-debug/strace ) app-misc/a".split()
    before = (prefix.pkgdir / path).read_bytes()
    prefix.update_pass(every_file=True)
    assert (prefix.pkgdir / path).read_bytes() == before
