"""The world of the end-to-end tests: real packages built by emerge, and the updates that concern them."""

from tests.lab import Prefix

LAYOUTS = {"multi-instance": (), "flat": ("-binpkg-multi-instance",)}

UPDATES = (
    "move dev-util/strace dev-debug/strace",
    "slotmove dev-libs/slotted 0 2",
    "move app-misc/oldname app-misc/newname",
)

ATOMS = ("dev-util/strace", "dev-libs/slotted", "app-misc/oldname", "app-misc/user", "app-misc/plain")


def world(lab, portage, layout="multi-instance", *, signed=True):
    """A prefix with five packages that emerge built; made once, so take a clone of it."""
    name = f"world-{portage}-{layout}-{'signed' if signed else 'unsigned'}"
    words = {"portage": portage, "key": lab.key() if signed else None, "features": LAYOUTS[layout]}

    def fill(path):
        prefix = Prefix.create(lab, path, **words)
        _ebuilds(prefix.gentoo)
        prefix.sync()
        prefix.build(*ATOMS)
        if layout == "multi-instance":
            prefix.emerge("--buildpkgonly", "--nodeps", "dev-util/strace")

    path = lab.once("templates", name, fill)
    return Prefix(lab, path, **words).with_repositories("gentoo")


def _ebuilds(gentoo):
    gentoo.add("dev-util/strace-6.6")
    gentoo.add("dev-libs/slotted-2.0", SLOT="0/2.30")
    gentoo.add("app-misc/oldname-1.0-r1", RDEPEND="dev-util/strace")
    gentoo.add(
        "app-misc/user-1",
        IUSE="+foo bar",
        BDEPEND="dev-util/strace",
        RDEPEND="foo? ( >=dev-util/strace-6 ) bar? ( dev-util/strace[bar?] ) dev-libs/slotted:0",
        PDEPEND="|| ( app-misc/oldname app-misc/plain )",
    )
    gentoo.add("app-misc/plain-1", RDEPEND="app-misc/other")
    gentoo.commit("Add ebuilds")


def publish(prefix, *lines, name="1Q-2024"):
    """Publishes an update file upstream; the next sync brings it."""
    prefix.gentoo.updates(name, *(lines or UPDATES))
    prefix.gentoo.commit("Package moves")


def pull(prefix, repository="gentoo"):
    """What a sync does, but without hooks and without the pass after it."""
    where = prefix.repository_path(repository)
    prefix.run("git", "-c", "safe.directory=*", "-C", where, "pull", "--quiet")


def path_of(layout, cpv, build_id=1):
    """Where the package file of `cat/pf` lies below PKGDIR."""
    category, pf = cpv.split("/")
    if layout == "flat":
        return f"{category}/{pf}.gpkg.tar"
    name = pf.rsplit("-r", 1)[0].rsplit("-", 1)[0]
    return f"{category}/{name}/{pf}-{build_id}.gpkg.tar"
