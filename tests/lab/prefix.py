"""One disposable Gentoo: configuration, repositories, packages, and Portage's commands in it."""

import json
import os
import pwd
import grp
import shutil
import sys
from pathlib import Path

from .checks import files_of, read_index
from .command import base_environment, run
from .repository import Repository
from .session import NEWEST, TOP, trusting_keyring

HOOK = TOP / "hooks/postsync.d/50-binpkg-resign"
FILL_IN = TOP / "hooks/fill-in"
INSIDE = Path(__file__).with_name("inside.py")
FETCH = Path(__file__).with_name("fetch.py")

# What a prefix on any Linux needs to be without.
PLAIN = (
    "-sandbox -usersandbox -userpriv -userfetch -network-sandbox -ipc-sandbox -pid-sandbox -mount-sandbox "
    "-usersync -ebuild-locks -merge-sync -merge-wait -qa-unresolved-soname-deps"
).split()


class Prefix:
    """A prefix at `path` (EPREFIX). `key` signs; without one, signing is not configured.

    `features` and `variables` go into make.conf; change them and call `configure()`.
    """

    def __init__(self, session, path, *, portage=NEWEST, key=None, features=(), variables=None, trusted=None):
        self.session = session
        self.path = Path(path)
        self.portage = portage
        self.key = key
        self.trusted = trusted if trusted is not None else [key] if key else []
        self.features = list(features)
        self.variables = dict(variables or {})
        self.repositories = {}

    # Making it

    @classmethod
    def create(cls, session, path=None, *, portage=NEWEST, **words):
        """A new prefix with the repository `gentoo`, synced once."""
        prefix = cls(session, path or session.directory(), portage=portage, **words)
        prefix._directories()
        prefix.add_repository("gentoo")
        prefix.configure()
        return prefix

    def clone(self, path=None):
        """A copy of the whole prefix at another path, with bytes and times kept."""
        copy = Prefix(
            self.session,
            path or self.session.directory(),
            portage=self.portage,
            key=self.key,
            features=self.features,
            variables=self.variables,
            trusted=self.trusted,
        )
        run(["cp", "-a", f"{self.path}/.", copy.path], base_environment("/usr/bin:/bin"))
        old, new = str(self.path).encode(), str(copy.path).encode()
        for pattern in ("etc/portage/**/*", "var/db/repos/*/.git/config", "var/cache/edb/mtimedb", "var/lib/portage/*"):
            for file in copy.path.glob(pattern):
                if file.is_file() and not file.is_symlink() and old in file.read_bytes():
                    file.write_bytes(file.read_bytes().replace(old, new))
        return copy.with_repositories(*self.repositories)

    def _directories(self):
        for name in (
            "etc/portage/repos.conf",
            "etc/portage/postsync.d",
            "upstream",
            "var/db/repos",
            "var/db/pkg",
            "var/cache/binpkgs",
            "var/cache/distfiles",
            "var/cache/edb",
            "var/lib/portage",
            "var/log",
            "var/tmp",
            "home",
        ):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        shutil.copytree(self.session.venv(self.portage) / "share/portage/config", self.path / "share/portage/config")

    def configure(self):
        """Writes make.conf (and the clients' keyring, the first time)."""
        values = {
            "FEATURES": " ".join([*PLAIN, *(["binpkg-signing"] if self.key else []), *self.features]),
            "PORTAGE_TMPDIR": self.path / "var/tmp",
            "DISTDIR": self.path / "var/cache/distfiles",
            "PKGDIR": self.pkgdir,
            "BINPKG_GPG_VERIFY_GPG_HOME": self.keyring,
        }
        if self.key:
            lock = self.path / "var/tmp/gpg.lock"
            values |= {
                "BINPKG_GPG_SIGNING_GPG_HOME": self.key.home,
                "BINPKG_GPG_SIGNING_KEY": self.key.fingerprint,
                "BINPKG_GPG_SIGNING_BASE_COMMAND": f"/usr/bin/flock {lock} /usr/bin/gpg --sign --armor [PORTAGE_CONFIG]",
            }
        values |= self.variables
        text = "".join(f'{key}="{value}"\n' for key, value in values.items() if value is not None)
        self.write("etc/portage/make.conf", text)
        if self.trusted and not self.keyring.exists():
            # A name of few letters: gpg's sockets need short paths.
            names = "+".join(key.fingerprint[-6:] for key in self.trusted)
            template = self.session.once("templates", f"keyring-{names}", lambda home: trusting_keyring(home, self.trusted))
            # the sockets of the agent that has made it may still be going away
            shutil.copytree(template, self.keyring, ignore=shutil.ignore_patterns("S.*"))
        link = self.path / "etc/portage/make.profile"
        if not link.is_symlink():
            link.symlink_to("../../var/db/repos/gentoo/profiles/default")

    def add_repository(self, name, *, sync=True, masters="gentoo", settings=""):
        """A repository with an upstream under `upstream/NAME`, cloned below var/db/repos."""
        upstream = Repository.create(self.path / "upstream" / name, name, masters="" if name == "gentoo" else masters)
        self.repositories[name] = upstream
        location = self.repository_path(name)
        run(["git", "clone", "--quiet", f"file://{upstream.path}", location], self.environment())
        lines = [f"[{name}]", f"location = {location}"]
        if sync:
            lines += ["sync-type = git", f"sync-uri = file://{upstream.path}", "auto-sync = yes"]
            lines += ["sync-git-verify-commit-signature = no"]
        if name == "gentoo":
            lines = ["[DEFAULT]", "main-repo = gentoo", "", *lines]
        self.write(f"etc/portage/repos.conf/{name}.conf", "\n".join([*lines, settings, ""]))
        return upstream

    def with_repositories(self, *names):
        """Tells this object of repositories that the prefix on disk already has."""
        self.repositories |= {name: Repository(self.path / "upstream" / name, name) for name in names}
        return self

    def remove_repository(self, name):
        """Forgets a repository, as `eselect repository remove` does."""
        shutil.rmtree(self.repository_path(name))
        (self.path / f"etc/portage/repos.conf/{name}.conf").unlink()
        self.repositories.pop(name)

    def install_hook(self):
        """Puts the hook where Portage looks for it."""
        target = self.path / "etc/portage/postsync.d" / HOOK.name
        shutil.copy(HOOK, target)
        target.chmod(0o755)
        return target

    def install_hook_with_place(self):
        """The hook as `make install` leaves it: it knows where the program is."""
        target = self.install_hook()
        if FILL_IN.exists():
            folder = self.session.directory("hooks")
            self.run(FILL_IN, self.session.path / "bin/binpkg-resign", folder)
            shutil.copy(folder / "postsync.d" / HOOK.name, target)
        return target

    # Where things are

    @property
    def pkgdir(self):
        """PKGDIR."""
        return self.path / "var/cache/binpkgs"

    @property
    def keyring(self):
        """BINPKG_GPG_VERIFY_GPG_HOME."""
        return self.path / "etc/portage/gnupg"

    @property
    def gentoo(self):
        """The upstream of the main repository."""
        return self.repositories["gentoo"]

    @property
    def held(self):
        """Where packages are kept that could not be signed."""
        return self.pkgdir / ".binpkg-resign/held"

    def repository_path(self, name):
        """Where a repository lies in the prefix."""
        return self.path / "var/db/repos" / name

    def write(self, path, text):
        """Writes a file of the prefix."""
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    def updates(self, name, *lines, repository="gentoo"):
        """Writes an update file straight into the prefix's copy of a repository, as a `git pull` would."""
        path = f"var/db/repos/{repository}/profiles/updates/{name}"
        return self.write(path, "".join(f"{line}\n" for line in lines))

    # Commands

    def environment(self, **more):
        """The environment of every command in the prefix."""
        environment = base_environment(self.session.search_path(self.portage))
        environment |= {
            "HOME": self.path / "home",
            "PORTAGE_OVERRIDE_EPREFIX": self.path,
            "PORTAGE_USERNAME": pwd.getpwuid(os.getuid()).pw_name,
            "PORTAGE_GRPNAME": grp.getgrgid(os.getgid()).gr_name,
        }
        return environment | more

    def run(self, *argv, check=0, env=None, stdin=None, timeout=300):
        """Runs any command in the prefix."""
        return run(argv, self.environment(**(env or {})), cwd=self.path, check=check, stdin=stdin, timeout=timeout)

    def emerge(self, *words, check=0, **more):
        """Runs emerge."""
        return self.run("emerge", "--color=n", *words, check=check, **more)

    def build(self, *atoms):
        """Builds, installs and packs real packages."""
        return self.emerge("--oneshot", "--buildpkg", "--nodeps", "--quiet-build=y", *atoms)

    def sync(self, check=0, **more):
        """A real `emerge --sync`."""
        return self.emerge("--sync", check=check, **more)

    def update_pass(self, *, every_file=False, check=0):
        """Portage's update pass as any emerge action starts with it, without a sync."""
        return self.inside("global_pass", {"all": every_file}, check=check)

    def movebin(self, check=0):
        """`emaint movebin --fix`: the pass over every update file."""
        return self.run("emaint", "--fix", "movebin", check=check)

    def resign(self, *words, check=0, **more):
        """Runs the program from a plain root shell."""
        return self.run("binpkg-resign", "--prefix", self.path, *words, check=check, **more)

    def resign_json(self, *words, check=0, **more):
        """Runs the program with --json and reads its answer."""
        result = self.resign("--json", *words, check=check, **more)
        try:
            return json.loads(result.out)
        except ValueError as error:
            raise AssertionError(f"stdout is not one JSON object: {error}\n{result}") from error

    # Through Portage's API

    def inside(self, job, words, check=0, timeout=900):
        """Runs one job of inside.py; the answer has `.answer`, and Portage's words in `.err`."""
        python = self.session.venv(self.portage) / "bin/python"
        result = self.run(python, INSIDE, job, stdin=json.dumps(words).encode(), check=check, timeout=timeout)
        result.answer = json.loads(result.out) if result.out else None
        return result

    def make(self, *packages, index=True):
        """Makes packages without building them; returns their paths below PKGDIR."""
        job = {"packages": [package.job() for package in packages], "index": index, "workers": os.cpu_count() or 1}
        return self.inside("make", job).answer

    def reindex(self):
        """`emaint binhost --fix`."""
        return self.run("emaint", "--fix", "binhost")

    def verify(self, paths=None, *, signed=True):
        """Path below PKGDIR → None, or what Portage has against the package."""
        paths = files_of(self.pkgdir) if paths is None else paths
        job = {"paths": [str(self.pkgdir / path) for path in paths], "unsigned": not signed}
        answer = self.inside("verify", job).answer
        return {os.path.relpath(path, self.pkgdir): error for path, error in answer.items()}

    def examine(self, paths):
        """Path below PKGDIR → metadata entry → text, of those that Portage accepts, asking for signatures."""
        answer = self.inside("examine", {"paths": [str(self.pkgdir / path) for path in paths]}).answer
        return {os.path.relpath(path, self.pkgdir): entries for path, entries in answer.items()}

    def metadata(self, paths=None):
        """Path below PKGDIR → metadata entry → text."""
        paths = files_of(self.pkgdir) if paths is None else paths
        answer = self.inside("metadata", {"paths": [str(self.pkgdir / path) for path in paths]}).answer
        return {os.path.relpath(path, self.pkgdir): entries for path, entries in answer.items()}

    def index(self):
        """The index: (header, list of entries)."""
        return read_index(self.pkgdir / "Packages")

    def entry(self, path):
        """The index entry of one file."""
        entries = [entry for entry in self.index()[1] if entry["PATH"] == path]
        assert len(entries) == 1, f"{len(entries)} entries for {path}"
        return entries[0]


def python():
    """The Python that runs the tests."""
    return sys.executable
