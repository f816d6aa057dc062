"""The ways in which a tree is updated: how each is set up, what is run, and what doc/syncing.md says is to be run."""

import contextlib
import os
import shutil
from dataclasses import dataclass

from tests.lab import Prefix
from tests.lab.command import run
from tests.lab.prefix import FETCH, FILL_IN
from tests.lab.serve import served
from tests.lab.session import TOP

from . import scene
from .snapshots import snapshot_key, trust_snapshots, write_snapshot

POST_SYNC = "ln -s ../postsync.d/50-binpkg-resign /etc/portage/bin/post_sync"
EIX_PROGRAMS = TOP / "target/eix/bin"
MIRROR = "rsync://mirror.example.org/gentoo-portage/"


class NotHere(Exception):
    """A program of this way is not on this machine."""


@dataclass
class Way:
    """One way of updating a tree.

    `bare` is what somebody runs who knows nothing of us; `recipe` is what the documentation says, after `setup`, a line
    that is run once. `before` is how the tree came to be new, where that is somebody else's business. `prepare` sets a prefix up for it, `opened` holds open what it needs while it runs.
    """

    name: str
    bare: str
    recipe: str = ""
    prepare: callable = lambda prefix: None
    environment: callable = lambda prefix: {}
    eix_conf: bool = False
    opened: callable = lambda prefix: contextlib.nullcontext()
    setup: str = ""
    before: str = "true"

    def __post_init__(self):
        self.recipe = self.recipe or self.bare

    def run(self, prefix, line):
        """Runs a line as it stands but for the places: the prefix's are meant."""
        with self.opened(prefix):
            return prefix.run("sh", "-c", placed(prefix, f"{self.before} && {line}"), env=self.environment(prefix), check=None)


def placed(prefix, line):
    """A line with the prefix's places for those of a system."""
    line = line.replace(MIRROR, f"{prefix.gentoo.path}/").replace("SERVER", f"mirror:{prefix.gentoo.path}/")
    for folder in ("/etc/portage/", "/var/db/", "/srv/"):
        line = line.replace(f" {folder}", f" {prefix.path}{folder}")
    line = line.replace("/usr/bin/binpkg-resign", str(prefix.session.path / "bin/binpkg-resign"))
    return line


# What has to be set up


def webrsync(delta="no"):
    """Snapshots from a local mirror; no signature is asked for under `emerge --sync`, which would want gemato."""

    def prepare(prefix):
        key = snapshot_key(prefix.session)
        trust_snapshots(prefix, key)
        shutil.rmtree(prefix.repository_path("gentoo") / ".git")
        fetch = f'{prefix.session.venv(prefix.portage)}/bin/python {FETCH} \\"\\${{URI}}\\" \\"\\${{DISTDIR}}/\\${{FILE}}\\"'
        prefix.variables |= {"FETCHCOMMAND": fetch, "RESUMECOMMAND": fetch}
        prefix.configure()
        options = ("sync-type = webrsync", "sync-webrsync-verify-signature = false", f"sync-webrsync-delta = {delta}")
        scene.configure_sync(prefix, *options)

    return prepare


@contextlib.contextmanager
def mirror(prefix):
    """A snapshot of what is upstream now, served while the way runs."""
    folder = prefix.path / "mirror"
    write_snapshot(prefix.gentoo, folder, snapshot_key(prefix.session))
    with served(folder) as address:
        prefix.variables["GENTOO_MIRRORS"] = address
        prefix.configure()
        yield


def delta(prefix):
    """emerge-delta-webrsync as where diffball is installed, with no older snapshot to begin with."""
    if not (prefix.session.venv(prefix.portage) / "bin/emerge-delta-webrsync").exists():
        raise NotHere("emerge-delta-webrsync")
    (prefix.path / "var/delta-webrsync").mkdir()
    programs = prefix.path / "bin"
    programs.mkdir()
    (programs / "gtar").symlink_to("/usr/bin/tar")
    (programs / "patcher").symlink_to("/usr/bin/false")


def eix(prefix):
    """eix's cache; skipped where there is no eix."""
    if not shutil.which("eix-sync", path=eix_path()):
        raise NotHere("eix-sync")
    (prefix.path / "var/cache/eix").mkdir()
    # eix gives up its privileges
    (prefix.path / "var/cache/eix").chmod(0o777)
    # where this is not set, eix-sync -s stops with "parameter not set"
    prefix.variables["PORTAGE_RSYNC_EXTRA_OPTS"] = "--exclude=/.git"
    prefix.configure()


def eix_path():
    """Where eix's programs are looked for: PATH, and where `make eix` puts them."""
    return f"{EIX_PROGRAMS}:{os.environ['PATH']}"


def filled_in(_prefix):
    """The hook has to know where the program is."""
    if not FILL_IN.exists():
        raise NotHere("hooks/fill-in")


def everything(*steps):
    """One preparation after the other."""

    def prepare(prefix):
        for step in steps:
            step(prefix)

    return prepare


def container(prefix):
    """A builder without a key: the tree is mounted read-only, PKGDIR as it is, and nothing else lasts."""
    inside = prefix.path / "srv/builder/root"
    builder = Prefix.create(prefix.session, inside, portage=prefix.portage, trusted=prefix.trusted)
    (inside.parent / "binpkgs").symlink_to(prefix.pkgdir)
    tree, pkgdir = builder.repository_path("gentoo"), builder.pkgdir
    script = prefix.write(
        "srv/builder/run",
        "#!/bin/sh\nexec unshare --mount sh -ec '"
        f"mount --bind {prefix.repository_path('gentoo')} {tree}; mount -o remount,bind,ro {tree}; mount --bind {prefix.pkgdir} {pkgdir}; "
        f"rm -f {inside}/var/cache/edb/mtimedb; PORTAGE_OVERRIDE_EPREFIX={inside} emerge --check-news'\n",
    )
    script.chmod(0o755)
    if run(["unshare", "--mount", "true"], prefix.environment(), check=None).status:
        raise NotHere("right to mount")


# The environments


def plain_environment(prefix):
    """PATH with what the preparations have put into bin/ before the rest."""
    return {"PATH": f"{prefix.path}/bin:{prefix.environment()['PATH']}"}


def eix_environment(prefix):
    """eix takes the prefix from these."""
    path = f"{plain_environment(prefix)['PATH']}:{EIX_PROGRAMS}"
    rsh = prefix.write("bin/rsh", '#!/bin/sh\nshift\nexec sh -c "$*"\n')
    rsh.chmod(0o755)
    return {"PATH": path, "PORTAGE_CONFIGROOT": f"{prefix.path}/", "EPREFIX": prefix.path, "RSYNC_RSH": rsh}


def cron(prefix):
    """The PATH that many crons have; the rest is the lab's, which has to say where the prefix is."""
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def cron_emerge(prefix):
    """The same, with the folder of this Portage, which is not in /usr/bin."""
    return {"PATH": f"{prefix.session.venv(prefix.portage)}/bin:{cron(prefix)['PATH']}"}


def other_root(prefix):
    """ROOT, with the folder in which Portage remembers update files."""
    root = prefix.path / "root"
    (root / str(prefix.path / "var/cache/edb").lstrip("/")).mkdir(parents=True, exist_ok=True)
    return {"ROOT": root}


NO_MOVES = "EMERGE_DEFAULT_OPTS=--package-moves=n"
PULL = "git -C /var/db/repos/gentoo pull"
RSYNC = f"rsync -a --delete {MIRROR} /var/db/repos/gentoo/"
BUILDER = "/srv/builder/run"
APPLY_FOR_BUILDER = "binpkg-resign --pkgdir /srv/builder/binpkgs apply --all"

SNAPSHOTS = {"prepare": webrsync("no"), "opened": mirror}
DELTA = {"prepare": everything(webrsync("yes"), delta), "opened": mirror, "environment": plain_environment}
EIX = {"environment": eix_environment, "eix_conf": True}

WAYS = (
    Way("emerge --sync, git", "emerge --sync"),
    Way("emerge --sync, rsync", "emerge --sync", prepare=scene.use_rsync),
    Way("emerge --sync, rsync, sync-rcu", "emerge --sync", prepare=scene.use_rcu),
    Way("emerge --sync, webrsync", "emerge --sync", **SNAPSHOTS),
    Way("emerge --sync, webrsync, delta", "emerge --sync", setup=POST_SYNC, **DELTA),
    Way("emerge --sync, ROOT elsewhere", "emerge --sync", environment=other_root),
    Way("emerge --sync, cron's PATH", "emerge --sync", prepare=everything(scene.use_rsync, filled_in), environment=cron_emerge),
    Way("emaint sync", "emaint sync --auto"),
    Way("emerge-webrsync", "emerge-webrsync", f"{NO_MOVES} emerge-webrsync && binpkg-resign apply", **SNAPSHOTS),
    Way("emerge-delta-webrsync", "emerge-delta-webrsync", setup=POST_SYNC, **DELTA),
    Way("eix-sync", "eix-sync", prepare=eix, **EIX),
    Way("eix-sync -w", "eix-sync -w", **EIX | SNAPSHOTS | {"prepare": everything(webrsync("no"), eix)}),
    Way("eix-sync -W", "eix-sync -W", **DELTA | EIX | {"prepare": everything(webrsync("yes"), delta, eix)}),
    Way("eix-sync -s", "eix-sync -s SERVER", prepare=everything(scene.use_rsync, eix), **EIX),
    Way("eix-sync -c", "eix-sync -c emaint -C sync -C --auto", prepare=eix, **EIX),
    Way("git pull", PULL, f"{PULL} && binpkg-resign apply"),
    Way("rsync, cron's PATH", RSYNC, f"{RSYNC} && /usr/bin/binpkg-resign apply", prepare=scene.use_rsync, environment=cron),
    Way("container, throw-away mtimedb", BUILDER, f"{APPLY_FOR_BUILDER} && {BUILDER}", before=PULL, prepare=container),
    Way("emaint movebin --fix", "emaint movebin --fix", "binpkg-resign apply --all && emaint movebin --fix", before=PULL),
    Way("fixpackages", "fixpackages", "binpkg-resign apply --all && fixpackages", before=PULL),
)
