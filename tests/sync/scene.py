"""Four signed packages, of which Portage's update pass removes two, and the ways in which a tree is updated."""

import shutil

from tests.lab import NEWEST, Prefix, files_of, package

from tests.e2e.world import path_of

UPDATES = ("move dev-util/strace dev-debug/strace", "slotmove dev-libs/slotted 0 2")
PACKAGES = ("dev-util/strace-6.6", "dev-libs/slotted-2.0", "app-misc/user-1", "app-misc/plain-1")
PATHS = {cpv: path_of("multi-instance", cpv) for cpv in PACKAGES}
"""cat/pf → where the package lies below PKGDIR."""
MOVED = path_of("multi-instance", "dev-debug/strace-6.6")
"""Where the moved package is to be found afterwards."""
DOOMED = {PATHS["dev-libs/slotted-2.0"], PATHS["app-misc/user-1"]}
"""What Portage's pass removes."""
DUE = (
    (PATHS["app-misc/user-1"], "RDEPEND", "dev-debug/strace dev-libs/slotted:2", UPDATES[0]),
    (PATHS["dev-libs/slotted-2.0"], "SLOT", "2/2.30", UPDATES[1]),
)
"""What is due to those: path, key, what the index is to say afterwards, by which update."""
CLEANED = path_of("multi-instance", "app-misc/cleaned-1")
"""A package of no update's concern, for `clean` to remove."""


def scene(lab, portage=NEWEST):
    """A prefix with the four packages and a repository in git that has no updates yet."""

    def fill(path):
        prefix = Prefix.create(lab, path, portage=portage, key=lab.key())
        prefix.gentoo.updates("4Q-2023", "move app-misc/never app-misc/was")
        prefix.gentoo.add("app-misc/tool-1")
        stamp(prefix)
        prefix.gentoo.commit("Updates of old, and an ebuild")
        prefix.sync()
        prefix.make(
            package("dev-util/strace-6.6"),
            package("dev-libs/slotted-2.0", slot="0/2.30"),
            package("app-misc/user-1", RDEPEND="dev-util/strace dev-libs/slotted:0"),
            package("app-misc/plain-1", RDEPEND="app-misc/other"),
            package("app-misc/cleaned-1"),
        )

    path = lab.once("templates", f"scene-{portage}", fill)
    return Prefix(lab, path, portage=portage, key=lab.key()).with_repositories("gentoo").clone()


def lost(prefix):
    """Which of the four packages are neither in PKGDIR nor held."""
    return sorted(path for path in PATHS.values() if not (prefix.pkgdir / path).is_file() and not list(prefix.held.glob(f"{path}.held*")))


def assert_all_done(prefix):
    """Every package is in its place, as Portage would have made it, and Portage accepts it."""
    assert files_of(prefix.pkgdir) == sorted([*PATHS.values(), MOVED, CLEANED])
    bad = {path: error for path, error in prefix.verify().items() if error}
    assert not bad, bad
    for path, key, value, _ in DUE:
        assert prefix.entry(path)[key] == value


def clean(prefix):
    """What eclean-pkg does to a package that is not wanted any more: the file goes, and its entry."""
    (prefix.pkgdir / CLEANED).unlink()
    prefix.reindex()


def publish(prefix):
    """Publishes the updates upstream."""
    prefix.gentoo.updates("1Q-2024", *UPDATES)
    stamp(prefix)
    prefix.gentoo.commit("Package moves")


def stamp(prefix):
    """Puts forward, by an hour, what rsync and webrsync look at to see whether there is anything new upstream."""
    file = prefix.gentoo.path / "metadata/timestamp.chk"
    hour = int(file.read_text()[17:19]) + 1 if file.exists() else 0
    prefix.gentoo.write("metadata/timestamp.chk", f"Mon, 01 Jan 2024 {hour:02}:00:00 +0000\n")
    prefix.gentoo.write("metadata/timestamp.x", f"{1704067200 + 3600 * hour} Mon 01 Jan 2024 {hour:02}:00:00 UTC\n")


def configure_sync(prefix, *options, uri=None):
    """Writes the section of the main repository in repos.conf: location, sync-uri and these options."""
    lines = ["[DEFAULT]", "main-repo = gentoo", "", "[gentoo]", f"location = {prefix.repository_path('gentoo')}"]
    lines += [f"sync-uri = {uri or f'file://{prefix.gentoo.path}'}", *options]
    prefix.write("etc/portage/repos.conf/gentoo.conf", "".join(f"{line}\n" for line in lines))


def use_rsync(prefix, *options):
    """Has the main repository synced by rsync."""
    shutil.rmtree(prefix.repository_path("gentoo") / ".git")
    no_git = "sync-rsync-extra-opts = --exclude=/.git"
    configure_sync(prefix, "sync-type = rsync", "sync-rsync-verify-metamanifest = no", no_git, *options)


def use_rcu(prefix):
    """Has the main repository synced by rsync into snapshots, and syncs once: the folder becomes a link to the first."""
    use_rsync(prefix, "sync-rcu = yes", f"sync-rcu-store-dir = {prefix.path}/var/db/rcu")
    stamp(prefix)
    prefix.sync()
