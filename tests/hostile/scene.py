"""A PKGDIR into which a group may write, somebody of that group, and what he must not gain."""

import os
import shlex

import pytest

from tests.e2e.world import LAYOUTS, path_of
from tests.lab import Prefix, Snapshot, files_of, package
from tests.lab.bounds import LIMIT, run_in_bounds
from tests.lab.promise import digest, image_of

MOVE = "move dev-util/strace dev-debug/strace"
ATTACKER = 54321

both_layouts = pytest.mark.parametrize("layout", LAYOUTS)
only_root = pytest.mark.skipif(os.getuid() != 0, reason="only root has something that others want")


class Ground:
    """The prefix, the treasure outside of PKGDIR, and every build that is ours, by what its signed metadata says."""

    def __init__(self, prefix, layout):
        self.prefix = prefix
        self.layout = layout
        self.treasure = prefix.path / "treasure"
        paths = files_of(prefix.pkgdir)
        self.bytes = {digest(prefix.pkgdir / path) for path in paths}
        if layout not in _known:
            _known[layout] = set(identities(prefix, paths).values())
        self.known = set(_known[layout])
        self.before = None

    @property
    def pkgdir(self):
        """PKGDIR."""
        return self.prefix.pkgdir

    def where(self, cpv, build_id=1):
        """The path of a package below PKGDIR."""
        return path_of(self.layout, cpv, build_id)

    def command(self, script):
        """A shell command that runs a shell script as the attacker; P is PKGDIR and T the treasure."""
        words = ["setpriv", f"--reuid={ATTACKER}", f"--regid={ATTACKER}", "--clear-groups", "sh", "-c"]
        head = f"umask 002; P={shlex.quote(str(self.pkgdir))}; T={shlex.quote(str(self.treasure))}; cd $P\n"
        return shlex.join([*words, head + script])

    def attack(self, script):
        """What the attacker does before the run; it must work."""
        self.prefix.run("sh", "-c", self.command("set -e\n" + script))

    def watch(self):
        """Remembers everything outside of PKGDIR."""
        self.before = _outside(self.prefix)

    def run(self, *words, limit=LIMIT):
        """Runs the program, and checks that nothing was gained by it."""
        if self.before is None:
            self.watch()
        result = run_in_bounds(self.prefix, *words, limit=limit)
        self.check(result)
        return result

    def check(self, result):
        """Nothing outside is changed, and nothing is signed that was not ours under that name."""
        assert result.status in (0, 1, 2), result
        changed = [line for line in self.before.difference(_outside(self.prefix)) if not line.endswith(NOISE)]
        assert not changed, "changed outside of PKGDIR:\n" + "\n".join([*changed, str(result)])
        assert "treasure-that-nobody-may-read" not in result.text, f"a secret is shown\n{result}"
        candidates = [path for path in _files(self.pkgdir) if _looks_like_a_package(self.pkgdir / path)]
        fresh = [path for path in candidates if digest(self.pkgdir / path) not in self.bytes]
        if not fresh:
            return
        for path, found in identities(self.prefix, fresh).items():
            assert found in self.known, f"{path} is signed, and is none of ours: {_shown(found)}\n{result}"
            # in folders that the attacker has moved, names are his
            if path.endswith(".gpkg.tar") and not path.startswith((".", "mine")):
                said = dict(found[1])
                named = self.where(f"{said['CATEGORY']}/{said['PF']}", said.get("BUILD_ID", "1"))
                old = named.replace("dev-debug/strace", "dev-util/strace")
                assert path in (named, old), f"{path} is signed, but says that it is {named}\n{result}"

    def assert_others_saved(self, *cpvs):
        """Portage's pass finds nothing to do to these."""
        paths = [self.where(cpv) for cpv in cpvs]
        entries = self.prefix.examine(paths)
        assert sorted(entries) == sorted(paths), "they are not signed as they should be"
        assert all("dev-util/strace" not in entry["RDEPEND"] for entry in entries.values()), entries


# What every gpg writes for itself.
NOISE = ("/random_seed", "/trustdb.gpg", ": .", ": home", "/.gnupg")
# Where only root can write: the first run that signs writes down with which key.
NOISE += (": var/lib", ": var/lib/binpkg-resign", ": var/lib/binpkg-resign/signed-with")


def ground(lab, layout, pending=True):
    """Packages that a pending move concerns (or none does), root's, and a PKGDIR of the attacker's group."""
    # the net lies beside PKGDIR, and here nothing may change there
    words = {"key": lab.key(), "features": LAYOUTS[layout], "variables": {"BINPKG_RESIGN_NET": "no"}}

    def fill(path):
        prefix = Prefix.create(lab, path, **words)
        prefix.make(
            package("app-misc/one-1", RDEPEND="dev-util/strace"),
            package("app-misc/two-1", RDEPEND="dev-util/strace"),
            package("dev-libs/three-1", RDEPEND=">=dev-util/strace-6"),
            package("dev-util/strace-6", RDEPEND="dev-libs/three"),
            package("app-misc/plain-1", RDEPEND="app-misc/other"),
        )
        prefix.write("treasure/secret", "treasure-that-nobody-may-read\n").chmod(0o600)
        prefix.write("treasure/app-misc/secret", "treasure-that-nobody-may-read\n").chmod(0o600)
        for name in ("app-misc/one-1.gpkg.tar", "app-misc/two/two-1-1.gpkg.tar.held", "Packages", "held/app-misc/x.held"):
            prefix.write(f"treasure/{name}", "treasure-that-nobody-may-read\n").chmod(0o600)
        # where it lies is no secret, and what is not root's alone is no treasure
        (prefix.path / "treasure").chmod(0o755)

    path = lab.once("templates", f"hostile-{layout}", fill)
    prefix = Prefix(lab, path, **words).with_repositories("gentoo").clone()
    if pending:
        prefix.updates("1Q-2024", MOVE)
    for folder, names, files in os.walk(prefix.pkgdir):
        os.chown(folder, 0, ATTACKER)
        os.chmod(folder, 0o2775)
        for file in files:
            os.chown(f"{folder}/{file}", 0, ATTACKER)
            os.chmod(f"{folder}/{file}", 0o664)
    return Ground(prefix, layout)


def identities(prefix, paths):
    """Path → what a signed package is, apart from what the pending move changes: its image, and its metadata."""
    found = {}
    for path, metadata in prefix.examine(paths).items():
        said = {}
        for key, value in metadata.items():
            if key not in ("CONTENTS", "environment.bz2"):
                said[key] = " ".join(value.split()).replace("dev-util/strace", "dev-debug/strace")
        if said["PF"].startswith("strace-") and said["CATEGORY"] == "dev-util":
            said["CATEGORY"] = "dev-debug"
        found[path] = image_of(prefix.pkgdir / path), tuple(sorted(said.items()))
    return found


# Layout → the builds of its template, the same in every copy.
_known = {}


def _shown(found):
    return {key: value[:200] for key, value in found[1] if not key.endswith(".ebuild")}


def _looks_like_a_package(path):
    with open(path, "rb") as file:
        file.seek(257)
        return file.read(5) == b"ustar"


def _files(top):
    """Every regular file below a folder, as paths below it; no links are followed."""
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path) and os.path.getsize(path) < 1 << 24:
                yield os.path.relpath(path, top)


def _outside(prefix):
    return Snapshot(prefix.path, leave_out=("binpkgs", "tmp"))

