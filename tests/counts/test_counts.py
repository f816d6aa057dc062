"""A guard that needs no quiet machine: who adds a process, a flush or an open to every package finds out here.

Each number is what the program needs now, and a better one belongs here as well. What is left out, since it differs
from machine to machine, are calls that a run makes once, whatever it has to do.
"""

import shutil

import pytest

from tests.lab import Prefix, package

from .trace import Counts, traced

pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="there is no strace")

# More than there are threads, which have things to do once.
FEW, MANY = 8, 16
PAYLOAD = 1000


def prefix_of(lab, count, signer="configured"):
    """A prefix with `count` packages that need what is moved; without the net, which makes a link for each package."""
    prefix = Prefix.create(lab, key=lab.key(), variables={"BINPKG_RESIGN_NET": "no"})
    prefix.make(*[
        package(f"app-misc/p{number:02}-1", RDEPEND="app-misc/a", payload="x" * PAYLOAD, signer=signer) for number in range(count)
    ])
    return prefix


def by_package(lab, *words, check=0, key=None, **more):
    """What each further package costs, and its size."""
    runs = []
    for count in (FEW, MANY):
        prefix = prefix_of(lab, count, **more)
        if key:
            prefix.variables["BINPKG_GPG_SIGNING_KEY"] = key
            prefix.configure()
        prefix.updates("1Q-2026", "move app-misc/a app-misc/b")
        sizes = [path.stat().st_size for path in prefix.pkgdir.rglob("*.gpkg.tar")]
        runs.append(traced(prefix, "--jobs", "2", *words, check=check))
    return (runs[1] - runs[0]).each(MANY - FEW), sum(sizes) / len(sizes)


def test_nothing_new(lab):
    """No process, no flush, and neither the index nor a package is even opened."""
    prefix = prefix_of(lab, 1)
    prefix.updates("1Q-2026", "move app-misc/a app-misc/b")
    prefix.update_pass()
    counts = traced(prefix, "apply")
    assert (counts.starts, counts.forks, counts.flushes, counts.folders) == ({"binpkg-resign": 1}, 0, 0, 0)
    assert not [path for path in counts.opened if "binpkgs" in path], counts.opened
    assert counts.opens <= 40 and counts.read <= 64_000, counts


def test_a_plan_with_nothing_to_do(lab):
    """The index is read once, and of the packages nothing."""
    prefix = prefix_of(lab, 2)
    prefix.updates("1Q-2026", "move app-misc/nobodys app-misc/nothings")
    index = prefix.pkgdir / "Packages"
    header, *blocks = index.read_text().rstrip("\n").split("\n\n")
    many = [blocks[0].replace("p00", f"q{number:04}") for number in range(2000)]
    index.write_text("\n\n".join([header, *blocks, *many]) + "\n\n")
    counts = traced(prefix, "apply")
    assert (counts.starts, counts.forks, counts.flushes, counts.folders) == ({"binpkg-resign": 1}, 0, 0, 0)
    assert [path for path in counts.opened if "binpkgs" in path or path.startswith("Packages")], counts.opened
    assert counts.read <= index.stat().st_size + 64_000 and counts.opens <= 40, counts


def test_backups(lab):
    """Where nothing can be signed: a link for each package."""
    cost, size = by_package(lab, "apply", check=1, key="0" * 40)
    assert at_most(cost, Counts(forks=0, flushes=1, folders=1, opens=21, read=0.5 * size)), cost


def test_signing_again(lab):
    """Two signatures by the command; the three verifications start nothing."""
    cost, size = by_package(lab, "apply")
    assert cost.starts == {"flock": 2, "gpg": 2}, cost
    assert at_most(cost, Counts(forks=2, flushes=2, folders=0, opens=13, read=1.6 * size)), cost


def test_signing_for_the_first_time(lab):
    """Three signatures by the command; the three verifications start nothing."""
    cost, size = by_package(lab, "sign", "--all", signer="nobody")
    assert cost.starts == {"flock": 3, "gpg": 3}, cost
    assert at_most(cost, Counts(forks=3, flushes=2, folders=0, opens=18, read=3.5 * size)), cost


def test_verify(lab):
    """One gpg verifies for all; and each package twice: what is in it, and the digests of the index."""
    cost, size = by_package(lab, "verify")
    assert not cost.starts, cost
    assert at_most(cost, Counts(forks=0, flushes=0, folders=0, opens=6, read=2.4 * size)), cost


def test_an_index_from_the_files(lab):
    """No process at all."""
    cost, size = by_package(lab, "index", "--all", signer="nobody")
    assert at_most(cost, Counts(forks=0, flushes=0, folders=0, opens=8, read=1.7 * size)), cost


def at_most(cost, limit):
    """Whether nothing costs more than its limit."""
    names = ("forks", "flushes", "folders", "opens", "read")
    return all(getattr(cost, name) <= getattr(limit, name) for name in names)
