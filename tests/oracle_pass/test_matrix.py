"""The oracle over every setup: layout, trust in the index, compression, repositories, Portage."""

import itertools
import os

import pytest

from tests.lab import NEWEST, OLDEST, package
from tests.lab.packages import Package

from .twins import Twins

COMPRESSIONS = ("zstd", "xz", "gzip", "bzip2", "lz4", "none")
LAYOUTS = ("binpkg-multi-instance", "-binpkg-multi-instance")
TRUST = ("pkgdir-index-trusted", "-pkgdir-index-trusted")
INDEXES = ("compress-index", "-compress-index")

FULL = bool(os.environ.get("BINPKG_RESIGN_FULL"))


def cases():
    """All combinations in the full run; otherwise each compression once a layout, everything else in turn."""
    for number, (layout, compression) in enumerate(itertools.product(LAYOUTS, COMPRESSIONS)):
        for turn, (trust, portage) in enumerate(itertools.product(TRUST, (NEWEST, OLDEST))):
            if FULL or (number + number // len(COMPRESSIONS)) % 4 == turn:
                yield pytest.param(portage, layout, trust, INDEXES[(number + turn) % 2], compression)


GENTOO = (
    "move dev-util/strace dev-debug/strace",
    "slotmove dev-libs/slotted 0 2",
    "slotmove >=dev-libs/versioned-2 0 3",
    "move app-misc/oldname app-misc/newname",
    "move app-old/chain app-misc/chain",
    "move app-misc/chain app-alt/chain",
)
LATER = ("slotmove app-alt/chain 0 1", "move app-old/backwards2 app-old/backwards3", "move app-old/backwards1 app-old/backwards2")
OVERLAY = ("move dev-util/strace app-alt/strace", "move app-misc/ours app-alt/ours")


def packages(repository):
    """One of everything that an update can concern, for one repository."""
    deps = {
        "BDEPEND": "dev-util/strace",
        "RDEPEND": "foo? ( >=dev-util/strace-6:0[bar?,baz(-)=] ) !foo? ( app-misc/oldname ) "
        "|| ( dev-libs/slotted:0= app-old/chain ) !<dev-util/strace-5 dev-libs/slotted:0/2.30=",
        "PDEPEND": "app-misc/ours ~app-misc/oldname-1.0 =app-misc/oldname-1*",
        "IDEPEND": "bar? ( baz? ( dev-util/strace ) )",
        "DEPEND": "!!dev-util/strace:0 app-old/backwards1 dev-libs/versioned:0",
    }
    short = repository[:2]
    words = {"repository": repository}

    def one(cpv, **more) -> Package:
        return package(cpv, **(words | more))

    return [
        one(f"app-misc/{short}-user-1", iuse="foo bar +baz", use="foo baz", **deps),
        one(f"app-misc/{short}-user-1.1-r3", iuse="foo bar baz", use="", build_id=7, **deps),
        one(f"app-misc/{short}-old-1", eapi="5", slot="0", RDEPEND="dev-util/strace:0 !dev-util/strace:1", DEPEND="dev-util/strace"),
        one(f"app-misc/{short}-seven-1", eapi="7", RDEPEND="dev-util/strace\tdev-util/stracer\n(  dev-util/strace )"),
        one(f"app-misc/{short}-plain-1", RDEPEND="app-misc/other sys-apps/dev-util", LICENSE="foo? ( GPL-2 )", iuse="foo"),
    ]


def only_once():
    """Packages whose names the updates themselves change: each once, from whichever repository."""
    return [
        package("dev-util/strace-6.6", DEPEND="!!dev-util/strace:0 app-misc/oldname", slot="0/6"),
        package("dev-util/strace-6.7-r1", build_time=1_700_000_100, iuse="foo", RDEPEND="foo? ( dev-util/strace )"),
        package("dev-libs/slotted-2.0", slot="0/2.30", RDEPEND="!dev-libs/slotted:0 dev-util/strace"),
        package("dev-libs/versioned-1"),
        package("dev-libs/versioned-2.1", build_time=1_700_000_200),
        package("app-misc/oldname-1.0_rc1-r2", RDEPEND="app-misc/oldname"),
        package("app-misc/oldname-2", repository="overlay", build_time=1_700_000_300),
        package("app-old/chain-3", PDEPEND="app-old/chain"),
        package("app-old/backwards1-1"),
        package("app-misc/ours-1", repository="overlay"),
        package("app-misc/ours-2", build_time=1_700_000_400),
    ]


@pytest.mark.parametrize("portage, layout, trust, compress_index, compression", cases())
def test_the_same_as_portage(lab, portage, layout, trust, compress_index, compression):
    """Four kinds of repository, every kind of update: no difference, and Portage's pass touches nothing."""
    twins = Twins(
        lab,
        portage=portage,
        features=[layout, trust, compress_index],
        variables={"BINPKG_COMPRESS": compression},
    )
    twins.signed.add_repository("overlay")
    twins.signed.add_repository("quiet")
    twins.signed.updates("1Q-2024", *GENTOO)
    twins.signed.updates("2Q-2024", *LATER)
    twins.signed.updates("1Q-2024", *OVERLAY, repository="overlay")
    twins.share_repositories()
    made = [one for name in ("gentoo", "overlay", "quiet", "vanished") for one in packages(name)]
    if layout == "binpkg-multi-instance":
        made.append(package("dev-util/strace-6.6", build_id=2, build_time=1_700_000_050, RDEPEND="app-old/chain"))
    twins.make(*made, *only_once())

    answer = twins.run()

    assert answer["status"] == "done" and answer["counts"]["held"] == 0
    twins.assert_sound()
    twins.assert_portage_touches_nothing()
    twins.assert_the_same()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_repository_alone(lab, portage, layout):
    """Without any overlay, and with a package whose repository is not there any more."""
    twins = Twins(lab, portage=portage, features=[layout])
    twins.signed.updates("1Q-2024", *GENTOO)
    twins.make(*packages("gentoo"), *packages("vanished"), *only_once())
    twins.share_repositories()
    answer = twins.run()
    assert answer["status"] == "done" and answer["counts"]["held"] == 0
    twins.assert_sound()
    twins.assert_portage_touches_nothing()
    twins.assert_the_same()


def test_an_empty_updates_directory(lab, portage):
    """An overlay that has the directory but nothing in it gets no updates at all, not the main repository's."""
    twins = Twins(lab, portage=portage)
    twins.signed.add_repository("overlay")
    (twins.signed.repository_path("overlay") / "profiles/updates").mkdir()
    twins.signed.updates("1Q-2024", *GENTOO)
    twins.share_repositories()
    twins.make(*packages("gentoo"), *packages("overlay"))
    answer = twins.run()
    assert all("ov-" not in record["cpv"] for record in answer["packages"])
    twins.assert_portage_touches_nothing()
    twins.assert_the_same()


def test_the_oracle_can_fail(lab):
    """The control: one other word in one package, and the comparison says so."""
    twins = Twins(lab, portage=NEWEST)
    twins.signed.updates("1Q-2024", *GENTOO)
    twins.share_repositories()
    twins.signed.make(package("app-misc/one-1", RDEPEND="dev-util/strace"))
    twins.plain.make(package("app-misc/one-1", RDEPEND="dev-util/strace app-misc/more"))
    twins.run()
    lines = twins.differences()
    assert len(lines) == 3 and all("app-misc/more" in line for line in lines), lines
