"""Small signed prefixes on both layouts, every package of which the pending updates concern."""

import pytest

from tests.e2e.world import LAYOUTS, path_of
from tests.lab import Prefix, package

MOVE = "move dev-util/strace dev-debug/strace"
NAMES = ("one", "two", "three", "four", "five")

both_layouts = pytest.mark.parametrize("layout", LAYOUTS)


def five(lab, layout):
    """Five signed packages whose dependencies a pending move rewrites: without us, Portage's pass removes all."""

    def fill(path):
        prefix = Prefix.create(lab, path, key=lab.key(), features=LAYOUTS[layout])
        prefix.make(*(package(f"app-misc/{name}-1", RDEPEND="dev-util/strace dev-util/ltrace") for name in NAMES))
        prefix.updates("1Q-2024", MOVE)

    path = lab.once("templates", f"loss-{layout}", fill)
    prefix = Prefix(lab, path, key=lab.key(), features=LAYOUTS[layout])
    return prefix.with_repositories("gentoo").clone()


def where(layout, name, build_id=1):
    """The path of one of the five."""
    return path_of(layout, f"app-misc/{name}-1", build_id)
