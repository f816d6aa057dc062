"""Small prefixes with a few packages made by Portage's API: half a second each."""

import hashlib

from tests.lab import NEWEST, Prefix, package

from .world import path_of

MOVE = "move dev-util/strace dev-debug/strace"
VICTIM, GOOD = "app-misc/victim-1", "app-misc/good-1"
VICTIM_PATH, GOOD_PATH = path_of("multi-instance", VICTIM), path_of("multi-instance", GOOD)


def small(lab, portage=NEWEST):
    """Two signed packages that the pending move concerns: one to be spoiled, and one that must go on."""

    def fill(path):
        prefix = Prefix.create(lab, path, portage=portage, key=lab.key())
        prefix.make(
            package(VICTIM, RDEPEND="dev-util/strace", iuse="foo"),
            package(GOOD, RDEPEND="dev-util/strace", BDEPEND="app-misc/victim"),
        )
        prefix.updates("1Q-2024", MOVE)

    path = lab.once("templates", f"small-{portage}", fill)
    return Prefix(lab, path, portage=portage, key=lab.key()).with_repositories("gentoo").clone()


def digest(path):
    """What a file holds."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_kept(prefix, path, before):
    """The bytes of a package are still there: in its place or held."""
    places = [prefix.pkgdir / path, *prefix.held.glob(f"{path}.held*")]
    assert before in [digest(place) for place in places if place.is_file()], f"{path} is lost"


def assert_good_went_on(prefix):
    """The other package was saved as if nothing had been."""
    entries = prefix.metadata([GOOD_PATH])[GOOD_PATH]
    assert entries["RDEPEND"].split() == ["dev-debug/strace"]
    assert prefix.verify([GOOD_PATH]) == {GOOD_PATH: None}
    assert prefix.entry(GOOD_PATH)["RDEPEND"] == "dev-debug/strace"
