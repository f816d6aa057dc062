"""Promise 6: where what we leave differs from what Portage would have made, each with the reason.

Every test shows both: what Portage does with the unsigned twin, and what we do.
"""

from tests.lab import NEWEST, package

from .twins import Twins, comparable_index


def twins_of(lab, portage, updates, *packages, features=()):
    """Twins with these updates and packages, both sides done."""
    twins = Twins(lab, portage=portage, features=features)
    twins.signed.updates("1Q-2024", *updates)
    twins.share_repositories()
    twins.make(*packages)
    twins.run()
    twins.assert_sound()
    twins.assert_portage_touches_nothing()
    return twins


def test_use_conditionals_stay_in_the_file(lab, portage):
    """Portage writes the reduced form, for good; we rewrite inside the conditionals. The index is the same."""
    path = "app-misc/user/user-1-1.gpkg.tar"
    text = "foo? ( dev-util/strace ) bar? ( dev-util/strace app-misc/other )"
    one = package("app-misc/user-1", iuse="foo bar", use="foo", RDEPEND=text)
    twins = twins_of(lab, portage, ["move dev-util/strace dev-debug/strace"], one)
    ours, theirs = (prefix.metadata([path])[path]["RDEPEND"].split() for prefix in (twins.signed, twins.plain))
    assert ours == text.replace("dev-util/strace", "dev-debug/strace").split()
    assert theirs == ["dev-debug/strace"]
    assert comparable_index(twins.signed) == comparable_index(twins.plain)


def test_the_sub_slot_of_one_match_does_not_leak(lab, portage):
    """Within one slotmove, Portage gives the sub-slot of one package to those after it."""
    slots = {"1": "0/1", "2": "0/2.30", "3": "0", "4": "0/2"}
    packages = [package(f"dev-libs/slotted-{version}", slot=slot) for version, slot in slots.items()]
    twins = twins_of(lab, portage, ["slotmove dev-libs/slotted 0 2"], *packages)

    def found(prefix):
        return {entry["CPV"][-1]: entry["SLOT"] for entry in prefix.index()[1]}

    assert found(twins.signed) == {"1": "2/1", "2": "2/2.30", "3": "2", "4": "2"}
    assert found(twins.plain) != found(twins.signed), "Portage has fixed its slip: compare instead"


def test_a_moved_copy_has_its_build_id_in_the_prefix_directory(lab, portage):
    """GLEP 78 wants the file's name there; Portage writes PF alone. Clients accept both."""
    from tests.lab.container import Container

    twins = twins_of(lab, portage, ["move dev-util/strace dev-debug/strace"], package("dev-util/strace-6.6", build_id=3))
    path = "dev-debug/strace/strace-6.6-3.gpkg.tar"
    # 3.0.60 does not keep the build id in the name either, and counts from 1.
    its = path if portage == NEWEST else "dev-debug/strace/strace-6.6-1.gpkg.tar"
    prefixes = [
        {member.name.split("/")[0] for member in Container.read(twin.pkgdir / file).members}
        for twin, file in ((twins.signed, path), (twins.plain, its))
    ]
    assert prefixes[0] == {"strace-6.6-3"}
    assert prefixes[1] == {"strace-6.6"}, "Portage has changed: compare instead"


def test_a_copy_with_another_build_id_says_so(lab, portage):
    """The name is taken by another build: Portage's copy keeps the old BUILD_ID inside, two entries look alike."""
    twins = twins_of(
        lab,
        portage,
        ["move dev-util/strace dev-debug/strace"],
        package("dev-util/strace-6.6", build_id=1, build_time=1_700_000_001),
        package("dev-debug/strace-6.6", build_id=1, build_time=1_700_000_002),
    )
    path = "dev-debug/strace/strace-6.6-2.gpkg.tar"
    assert twins.signed.metadata([path])[path]["BUILD_ID"] == "2\n"
    assert twins.signed.entry(path)["BUILD_ID"] == "2"
    if portage == NEWEST:
        assert twins.plain.metadata([path])[path]["BUILD_ID"] == "1\n", "Portage has changed: compare instead"


def test_a_signed_destination_is_never_overwritten(lab, portage):
    """Flat layout: Portage overwrites another build of the destination; we keep both."""
    twins = Twins(lab, portage=portage, features=["-binpkg-multi-instance"])
    twins.signed.updates("1Q-2024", "move dev-util/strace dev-debug/strace")
    twins.share_repositories()
    twins.make(
        package("dev-util/strace-6.6", build_time=1_700_000_001, payload="moved\n"),
        package("dev-debug/strace-6.6", build_time=1_700_000_002, payload="was there\n"),
    )
    path = "dev-debug/strace-6.6.gpkg.tar"
    before = (twins.signed.pkgdir / path).read_bytes()
    twins.run(check=None)
    assert "1700000001" in twins.plain.metadata([path])[path]["BUILD_TIME"], "the control: Portage overwrites"
    twins.signed.update_pass()
    kept = [file.read_bytes() for file in twins.signed.pkgdir.rglob("*") if file.is_file()]
    assert before in kept
    assert (twins.signed.pkgdir / "dev-util/strace-6.6.gpkg.tar").exists()


def test_an_ebuild_of_a_renamed_package_has_its_new_name(lab, portage):
    """Portage 3.0.60 leaves the entry under its old name; 3.0.83 and we rename it."""
    twins = twins_of(lab, portage, ["move app-misc/oldname app-misc/newname"], package("app-misc/oldname-1"))
    path = "app-misc/newname/newname-1-1.gpkg.tar"
    assert "newname-1.ebuild" in twins.signed.metadata([path])[path]
    assert ("newname-1.ebuild" in twins.plain.metadata([path])[path]) == (portage == NEWEST)
