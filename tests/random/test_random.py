"""Random interleavings of all that happens to packages: after each step, every package that should be there is somewhere."""

import contextlib
import os

import pytest

from tests.lab.disk import small_ext4

from .walk import Walk

FULL = bool(os.environ.get("BINPKG_RESIGN_FULL"))
WALKS = 30 if FULL else 4
#: An hour's worth, or two minutes'.
STEPS = int(os.environ.get("BINPKG_RESIGN_STEPS") or (50 if FULL else 15))


@pytest.mark.parametrize("number", range(WALKS))
def test_a_random_walk(lab, number):
    seed = f"{os.environ.get('BINPKG_RESIGN_SEED', 'walk')}-{number}"
    layout = ("multi-instance", "flat")[number % 2]
    walk = Walk(lab, seed, layout, net="no" if number % 4 < 2 else "auto")
    with contextlib.ExitStack() as stack:
        if number % 4 in (1, 2):
            with contextlib.suppress(pytest.skip.Exception):
                stack.enter_context(small_ext4(walk.prefix, blocks=4096))
        for _ in range(3):
            walk.build()
            walk.check()
        for _ in range(STEPS):
            walk.step()
        walk.end()
    print(f"{seed}: {STEPS} steps {walk.counts}, {walk.builds} builds, packages lost: 0")
