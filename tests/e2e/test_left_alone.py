"""Packages that are not ours stay byte for byte what they were."""

import pytest

from tests.lab import NEWEST, OLDEST, Prefix, Snapshot, assert_index_agrees, package, raw_entries

from .world import LAYOUTS, path_of

MOVES = ("move dev-util/strace dev-debug/strace", "slotmove dev-libs/slotted 0 2")


def mixed(lab, portage, layout, variables=None):
    """One of ours, an unsigned one and one signed by somebody else, of every kind of update."""
    foreign = lab.key(who="foreign")
    prefix = Prefix.create(
        lab, portage=portage, key=lab.key(), trusted=[lab.key(), foreign], features=LAYOUTS[layout], variables=variables
    )
    somebody = f"{foreign.home} {foreign.fingerprint}"
    packages = []
    for signer, word in (("configured", "ours"), ("nobody", "unsigned"), (somebody, "foreign")):
        packages.append(package(f"app-misc/{word}-1", RDEPEND="dev-util/strace", signer=signer))
        packages.append(package(f"dev-libs/slotted-{len(packages)}", signer=signer))
        packages.append(package(f"dev-util/strace-{len(packages)}", signer=signer))
    prefix.make(*packages)
    prefix.updates("1Q-2024", *MOVES)
    return prefix, {p.cpv: p for p in packages}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_unsigned_and_foreign_packages_are_not_touched(lab, portage, layout):
    """Not their bytes, not their times, not their index entries; the foreign ones are named."""
    prefix, packages = mixed(lab, portage, layout)
    before, entries = Snapshot(prefix.pkgdir), raw_entries(prefix.pkgdir / "Packages")
    answer = prefix.resign_json("apply")
    after, entries_after = Snapshot(prefix.pkgdir), raw_entries(prefix.pkgdir / "Packages")
    for cpv, made in packages.items():
        path = path_of(layout, cpv)
        if made.signer != "configured":
            assert after.entries[path] == before.entries[path]
            assert entries_after[path] == entries[path]
    outcomes = {record["path"]: record["outcome"] for record in answer["packages"]}
    assert {path for path, outcome in outcomes.items() if outcome == "foreign"} == {
        path_of(layout, "app-misc/foreign-1"),
        path_of(layout, "dev-libs/slotted-7"),
    }
    assert not any("unsigned" in path or path.endswith(("slotted-4.gpkg.tar", "strace-5.gpkg.tar")) for path in outcomes)
    assert answer["counts"]["resigned"] == 2 and answer["counts"]["moved"] == 1
    assert_index_agrees(prefix)
    # And Portage goes on as it does: it updates the unsigned and removes the foreign ones.
    prefix.update_pass()
    gone = set(before.packages()) - set(Snapshot(prefix.pkgdir).packages())
    assert gone == {path_of(layout, "app-misc/foreign-1"), path_of(layout, "dev-libs/slotted-7")}


def test_foreign_packages_can_be_held(lab):
    """BINPKG_RESIGN_FOREIGN=hold keeps what Portage removes."""
    prefix, _ = mixed(lab, NEWEST, "multi-instance", {"BINPKG_RESIGN_FOREIGN": "hold"})
    path = path_of("multi-instance", "app-misc/foreign-1")
    before = (prefix.pkgdir / path).read_bytes()
    prefix.resign("apply", check=None)
    prefix.update_pass()
    assert not (prefix.pkgdir / path).exists()
    assert (prefix.held / f"{path}.held").read_bytes() == before


@pytest.mark.parametrize("portage", [NEWEST, OLDEST])
def test_an_unsigned_move_does_not_overwrite_a_signed_package(lab, portage):
    """Flat layout, a move of the category only: Portage would write over the signed destination."""
    prefix = Prefix.create(lab, portage=portage, key=lab.key(), features=LAYOUTS["flat"])
    prefix.make(
        package("dev-util/strace-1", signer="nobody", build_time=1_700_000_001),
        package("dev-debug/strace-1", build_time=1_700_000_002),
    )
    control = prefix.clone()
    signed = (prefix.pkgdir / "dev-debug/strace-1.gpkg.tar").read_bytes()
    for one in (prefix, control):
        one.updates("1Q-2024", MOVES[0])
    control.update_pass()
    assert (control.pkgdir / "dev-debug/strace-1.gpkg.tar").read_bytes() != signed, "the control: Portage overwrites it"

    prefix.resign("apply", check=None)
    prefix.update_pass()
    kept = [file.read_bytes() for file in prefix.pkgdir.rglob("*") if file.is_file()]
    assert signed in kept
