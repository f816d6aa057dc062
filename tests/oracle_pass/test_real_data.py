"""The oracle over real packages: ::gentoo's update files 2020 to 2026, the overlay's own, and its packages of January 2024."""

import os

import pytest

from tests.lab import NEWEST, OLDEST

from . import real
from .twins import Twins

FULL = bool(os.environ.get("BINPKG_RESIGN_FULL"))
NUMBER = None if FULL else 150

if FULL:
    CASES = [(portage, layout) for portage in (NEWEST, OLDEST) for layout in ("binpkg-multi-instance", "-binpkg-multi-instance")]
else:
    CASES = [(NEWEST, "binpkg-multi-instance"), (OLDEST, "-binpkg-multi-instance")]

needs_data = pytest.mark.skipif(real.shared() is None, reason="the real data (BINPKG_RESIGN_SHARED or ../shared/data) is not here")


def real_twins(lab, portage, layout, seed):
    """Twins with the real repositories' updates and packages."""
    made = real.packages(NUMBER, seed)
    twins = Twins(lab, portage=portage, features=[layout])
    twins.signed.add_repository("guru")
    categories = sorted({one.cpv.split("/")[0] for one in made} | _categories())
    for prefix in (twins.signed, twins.plain):
        prefix.write("etc/portage/categories", "\n".join(categories) + "\n")
    for repository, which in (("gentoo", "gentoo-updates"), ("guru", "guru-updates")):
        for name, data in real.update_files(which).items():
            path = twins.signed.repository_path(repository) / "profiles/updates" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
    twins.share_repositories()
    return twins, made


def _categories():
    names = set()
    for which in ("gentoo-updates", "guru-updates"):
        for data in real.update_files(which).values():
            names |= {word.split("/")[0].lstrip("<>=~") for word in data.decode().split() if "/" in word}
    return names


def leave_out_what_portage_does(twins):
    """Portage 3.0.60 takes some names in the flat layout (`svt-vp9-9999`) for invalid and does not list the files."""
    listed = {entry["PATH"] for entry in twins.signed.index()[1]}
    unlisted = [path for path in twins.paths if path not in listed]
    assert not unlisted or twins.signed.portage == OLDEST
    assert len(unlisted) <= 3, unlisted
    for path in unlisted:
        for prefix in (twins.signed, twins.plain):
            (prefix.pkgdir / path).unlink()


@needs_data
@pytest.mark.parametrize("portage, layout", CASES)
def test_real_packages(lab, portage, layout):
    """No difference in index or metadata; Portage's pass touches nothing. As guru's and as ::gentoo's packages."""
    twins, made = real_twins(lab, portage, layout, seed=1)
    # The overlay has updates of its own, so ::gentoo's do not concern its packages. Every second one
    # is taken for ::gentoo's, which concerns a quarter of them.
    for number, one in enumerate(made):
        if number % 4:
            one.repository = "gentoo"
    twins.make(*made)
    leave_out_what_portage_does(twins)
    answer = twins.run()
    changed = answer["counts"]["resigned"] + answer["counts"]["moved"]
    print(f"{len(made)} packages, {changed} changed, {answer['seconds']} s, Portage took {twins.passes} passes")
    assert answer["counts"]["held"] == 0
    assert changed >= len(made) // 5, "hardly any package is concerned: the test says nothing"
    twins.assert_sound()
    twins.assert_portage_touches_nothing()
    twins.assert_the_same()
