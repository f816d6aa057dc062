"""Random histories of updates: through us and then through Portage's pass, which touches nothing.

Many histories share a prefix; each has names of its own, so that none can disturb another.
Some have no fixed point: their packages are held with that reason, and the others go on.
"""

import os
import random

import pytest

from tests.lab import NEWEST, OLDEST, package

from .twins import Twins

FULL = bool(os.environ.get("BINPKG_RESIGN_FULL"))
HISTORIES = 30
SEEDS = range(24 if FULL else 2)


class History:
    """One random history: packages and update lines over a handful of names."""

    def __init__(self, number, seed):
        self.mark = f"h{number}"
        self.random = random.Random(f"{seed}-{number}")
        categories = ("app-misc", "dev-util", "dev-debug")
        self.names = [f"{category}/{self.mark}{word}" for category in categories for word in ("one", "two")]
        self.lines = [self._line() for _ in range(self.random.randint(1, 6))]
        self.packages = [self._package(number) for number in range(self.random.randint(2, 5))]

    def _line(self):
        choose = self.random
        if choose.random() < 0.7:
            old, new = choose.sample(self.names, 2)
            return f"move {old} {new}"
        atom = choose.choice(self.names)
        old, new = choose.sample(["0", "1", "2"], 2)
        if choose.random() < 0.3:
            atom = f"{choose.choice(['>=', '=', '<', '~'])}{atom}-{choose.choice('123')}"
        return f"slotmove {atom} {old} {new}"

    def _package(self, number):
        choose = self.random
        # Every package has a version of its own, so that no two builds meet under one name.
        name = choose.choice(self.names)
        words = {key: self._dependencies() for key in choose.sample(["BDEPEND", "RDEPEND", "PDEPEND", "DEPEND"], choose.randint(0, 3))}
        return package(
            f"{name}-{number + 1}",
            slot=choose.choice(["0", "0", "1", "2"]),
            repository=choose.choice(["gentoo", "gentoo", "overlay", "quiet", "vanished"]),
            build_time=1_700_000_000 + number,
            iuse="foo bar",
            use=choose.choice(["", "foo", "bar", "foo bar"]),
            eapi=choose.choice(["6", "7", "8"]),
            **words,
        )

    def _dependencies(self):
        return " ".join(self._dependency(2) for _ in range(self.random.randint(1, 4)))

    def _dependency(self, depth):
        choose = self.random
        kind = choose.random()
        if depth and kind < 0.15:
            return f"{choose.choice(['foo?', '!foo?', 'bar?'])} ( {self._dependency(depth - 1)} )"
        if depth and kind < 0.25:
            return f"|| ( {self._dependency(depth - 1)} {self._dependency(depth - 1)} )"
        blocker = choose.choice(["", "", "", "", "!", "!!"])
        operator = choose.choice(["", "", ">=", "<", "~", "="])
        version = f"-{choose.choice('12345')}" if operator else ""
        slot = choose.choice(["", "", ":0", ":1", ":2", ":0=", ":=", ":*", ":0/2="])
        if blocker and slot in (":=", ":*", ":0=", ":0/2="):
            slot = ":0"
        use = choose.choice(["", "", "", "[foo]", "[foo?]", "[-bar,foo=]"])
        return f"{blocker}{operator}{choose.choice(self.names)}{version}{slot}{use}"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("layout", ["binpkg-multi-instance", "-binpkg-multi-instance"])
@pytest.mark.parametrize("portage", [NEWEST, OLDEST] if FULL else [NEWEST])
def test_random_histories(lab, portage, layout, seed):
    """What comes to rest comes to the same rest; what does not is held; Portage touches nothing else."""
    twins = Twins(lab, portage=portage, features=[layout])
    twins.signed.add_repository("overlay")
    twins.signed.add_repository("quiet")
    histories = [History(number, seed) for number in range(HISTORIES)]
    files = {("gentoo", "1Q-2024"): [], ("gentoo", "2Q-2024"): [], ("overlay", "1Q-2024"): []}
    for history in histories:
        for line in history.lines:
            files[history.random.choice(list(files))].append(line)
    for (repository, name), lines in files.items():
        twins.signed.updates(name, *lines, repository=repository)
    twins.share_repositories()
    twins.make(*{made.cpv: made for history in histories for made in history.packages}.values())

    answer = twins.run(check=None)

    held = {record["path"] for record in answer["packages"] if record["outcome"] == "held"}
    restless = {_mark(path) for path in twins.unstable}
    assert {_mark(path) for path in held} <= restless, f"held, but Portage comes to rest with it: {held}"
    for record in answer["packages"]:
        if record["outcome"] == "held":
            assert "never come to an end" in record["reason"]["text"], record
    twins.assert_portage_touches_nothing(but_for=held)
    for path in held:
        assert (twins.signed.held / f"{path}.held").is_file()
    twins.assert_the_same(leave_out=lambda path: _mark(path) in restless)


def _mark(path):
    """The history a file belongs to."""
    import re

    return re.search(r"/(h[0-9]+)", path)[1]
