"""The promise as a check: after a run and Portage's pass, no build of ours is lost without having been named."""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from .checks import files_of
from .command import Result
from .container import Container
from .snapshot import Snapshot

HELD_NAME = re.compile(r"\.gpkg\.tar\.held(\.[0-9]+)?$")


@dataclass
class Ended:
    """What a run said: its exit status, its JSON, and all its words."""

    status: int
    answer: dict
    result: Result

    @property
    def outcomes(self):
        """(path, outcome) of every record."""
        return {(record["path"], record["outcome"]) for record in self.answer["packages"]}

    @property
    def exposed(self):
        """The packages it names as within Portage's reach."""
        return {path for path, outcome in self.outcomes if outcome == "exposed"}


def run_to_its_end(prefix, *words, timeout=60, **more):
    """Runs the program with --json: it ends in time, panics nowhere, and gives a report whatever its exit status is."""
    result = prefix.resign("--json", *words, check=None, timeout=timeout, **more)
    return ended(result)


def ended(result):
    """A result with its JSON."""
    assert "panicked" not in result.text, result
    assert result.status in (0, 1, 2, 130, 143), result
    try:
        answer = json.loads(result.out)
    except ValueError as error:
        raise AssertionError(f"no report: {error}\n{result}") from error
    return Ended(result.status, answer, result)


class Builds:
    """The builds that lie in PKGDIR at one moment, known by their images, whose bytes a new signature leaves alone.

    They are sound then: take them before anything is spoiled.
    """

    def __init__(self, prefix, paths=None):
        paths = files_of(prefix.pkgdir) if paths is None else paths
        self.bytes = {path: digest(prefix.pkgdir / path) for path in paths}
        self.images = {path: image_of(prefix.pkgdir / path) for path in paths}
        self._accepted = {}

    def missing(self, prefix):
        """Those that are neither in PKGDIR, whole and signed, nor held; by their paths of old."""
        packages, held = _found(prefix.pkgdir)
        files = {path: digest(prefix.pkgdir / path) for path in [*packages, *held]}
        # what they were when they were made by Portage needs no second look, and nothing else a third
        known = set(self.bytes.values())
        unseen = [path for path, bytes_of in files.items() if bytes_of not in known and bytes_of not in self._accepted]
        for path, error in prefix.verify(unseen).items() if unseen else ():
            self._accepted[files[path]] = error is None
        whole = [path for path, bytes_of in files.items() if bytes_of in known or self._accepted[bytes_of]]
        there = {image_of(prefix.pkgdir / path) for path in whole}
        return {path for path in self.bytes if self.images[path] not in there}


def assert_promised(prefix, builds, ended):
    """Exit status 0: Portage's pass touches nothing. Otherwise: what it removes is held, or was named as exposed."""
    words = f"{ended.result}"
    if ended.status != 1:
        assert not ended.exposed, f"exposed, but exit status {ended.status}\n{words}"
    lost = builds.missing(prefix)
    assert not lost, f"lost in the run itself: {sorted(lost)}\n{words}"
    before = Snapshot(prefix.pkgdir)
    passed = prefix.update_pass(check=None)
    lost = builds.missing(prefix) - ended.exposed
    assert not lost, f"exit status {ended.status}, and Portage's pass has removed {sorted(lost)}\n{words}\n{passed}"
    if ended.status == 0:
        touched = [line for line in before.difference(Snapshot(prefix.pkgdir)) if line.endswith(".gpkg.tar")]
        assert not touched, f"exit status 0, and Portage's pass has touched {touched}\n{words}\n{passed}"


def assert_saved(prefix, builds, *words, **more):
    """One run that ends with 0, and then Portage's pass; nothing is held, nothing is lost."""
    ended = run_to_its_end(prefix, *words, **more)
    assert ended.status == 0, ended.result
    assert_promised(prefix, builds, ended)
    assert held_files(prefix) == [], ended.result
    return ended


def held_files(prefix):
    """What is held, as paths below PKGDIR."""
    return sorted(_found(prefix.pkgdir)[1])


def _found(pkgdir):
    """Packages and held packages below PKGDIR, folders that are links followed."""
    packages, held = [], []
    for folder, _, names in os.walk(pkgdir, followlinks=True):
        for name in names:
            path = Path(folder, name)
            where = str(path.relative_to(pkgdir))
            if not path.is_file():
                continue
            if where.startswith(".binpkg-resign"):
                held += [where] * bool(HELD_NAME.search(name) and where.startswith(".binpkg-resign/held/"))
            elif name.endswith(".gpkg.tar"):
                packages.append(where)
    return packages, held


def digest(path):
    """What a file holds."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def image_of(package):
    """What a package (a path, or a file that is open) installs, as the digest of its image archive; None if it is no container."""
    try:
        container = Container.read(package)
        return hashlib.sha256(container.data(container.name("image"))).hexdigest()
    except Exception:
        return None
