"""One run of the lab: its directory, its keys, its binaries, and the end of it all."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .command import base_environment, run

TOP = Path(__file__).resolve().parents[2]
NEWEST = "3.0.83"
OLDEST = "3.0.60"
KEYBOXD = bool(os.environ.get("BINPKG_RESIGN_KEYBOXD"))


class Session:
    """A short directory under /tmp (gpg's sockets need short paths), world-readable
    because Portage verifies signatures as nobody.

    Several processes may share one by its path; whoever made it closes it.
    """

    def __init__(self, path=None):
        self.owner = path is None
        if path is None:
            path = tempfile.mkdtemp(prefix="brl.", dir=os.environ.get("BINPKG_RESIGN_LAB_TMP", "/tmp"))
            os.chmod(path, 0o755)
            for name in ("bin", "keys", "templates", "home"):
                (Path(path) / name).mkdir(mode=0o755)
        self.path = Path(path)

    # What is being tested, and the Portage it is tested against.

    @property
    def program(self):
        """The program under test."""
        given = os.environ.get("BINPKG_RESIGN")
        return Path(given).resolve() if given else TOP / "target/debug/binpkg-resign"

    def venv(self, portage):
        """The virtual environment of one Portage release."""
        where = Path(os.environ.get("BINPKG_RESIGN_VENVS", TOP / "target")) / f"portage-{portage}"
        if not (where / "bin/emerge").exists():
            raise FileNotFoundError(f"{where} holds no Portage: run `make setup`")
        return where

    def search_path(self, portage):
        """PATH with the program under test, that Portage, and the system's own directories."""
        program = self.path / "bin/binpkg-resign"
        with self.locked("bin"):
            if not program.is_symlink():
                program.symlink_to(self.program)
        git = os.path.dirname(shutil.which("git") or "/usr/bin/git")
        return f"{program.parent}:{self.venv(portage)}/bin:{git}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    @contextlib.contextmanager
    def locked(self, name):
        """Holds a lock that all processes of the session share."""
        with open(self.path / f".{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def once(self, kind, name, make):
        """The directory `kind/name`, filled by `make(directory)` the first time it is asked for.

        It is filled in its place, because Portage's trees hold absolute paths.
        """
        where = self.path / kind / name
        done = where.with_name(where.name + ".done")
        with self.locked(f"{kind}-{name}"):
            if not done.exists():
                shutil.rmtree(where, ignore_errors=True)
                make(where)
                done.touch()
        return where

    def directory(self, prefix="p"):
        """A fresh, empty directory."""
        path = Path(tempfile.mkdtemp(prefix=f"{prefix}.", dir=self.path))
        path.chmod(0o755)
        return path

    # Keys

    def key(self, algorithm="ed25519", who="binhost"):
        """A gpg home with one secret key without passphrase, made once a session."""
        home = self.once("keys", f"{algorithm}-{who}", lambda where: _generate(where, algorithm, who, ""))
        return Key(home)

    def new_key(self, algorithm="ed25519", who="other", passphrase=""):
        """A gpg home of its own, for tests that change it."""
        home = self.directory("k")
        _generate(home, algorithm, who, passphrase)
        return Key(home)

    def copy_key(self, key):
        """A copy of `key`'s home, for tests that change it."""
        home = self.directory("k")
        home.chmod(0o700)
        for item in key.home.iterdir():
            if item.is_dir():
                shutil.copytree(item, home / item.name, ignore=shutil.ignore_patterns(".#lk*", "*.lock"))
            # another test's gpg may be at work here: its lock comes and goes
            elif not item.name.startswith(".#lk") and item.suffix != ".lock" and item.is_file():
                shutil.copy2(item, home / item.name)
        return Key(home)

    # The end

    def close(self):
        """Ends every agent started here and removes the directory (BINPKG_RESIGN_KEEP=1 keeps it)."""
        if not self.owner:
            return
        for home in {socket.parent for socket in self.path.rglob("S.gpg-agent")}:
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False, capture_output=True)
        if os.environ.get("BINPKG_RESIGN_KEEP"):
            print(f"The lab is kept in {self.path}")
        else:
            shutil.rmtree(self.path, ignore_errors=True)


class Key:
    """A gpg home with one secret key."""

    def __init__(self, home):
        self.home = Path(home)
        listing = self.gpg("--list-secret-keys", "--with-colons").out.splitlines()
        self.fingerprint = next(line.split(":")[9] for line in listing if line.startswith("fpr:"))
        #: when it was made, in seconds since 1970
        self.created = next(int(line.split(":")[5]) for line in listing if line.startswith("sec:"))

    def gpg(self, *words, stdin=None, check=0):
        """Runs gpg in this home."""
        return run(["gpg", "--homedir", self.home, "--batch", *words], _gpg_environment(self.home), stdin=stdin, check=check)

    def sign(self, how, data):
        """A signature (`--detach-sign`) or a signed text (`--clear-sign`), armored."""
        return self.gpg("--no-tty", "--armor", "--digest-algo", "SHA512", how, stdin=data).out.encode()

    def public(self):
        """The armored certificate."""
        return self.gpg("--armor", "--export", self.fingerprint).out

    def kill_agent(self):
        """Ends this home's agent."""
        run(["gpgconf", "--homedir", self.home, "--kill", "all"], _gpg_environment(self.home), check=None)


def keyboxd_where_asked(home):
    """With BINPKG_RESIGN_KEYBOXD set the public keys of a new signing home are kept by keyboxd (GnuPG 2.4)."""
    if KEYBOXD:
        (Path(home) / "common.conf").write_text("use-keyboxd\n")


def trusting_keyring(home, certificates):
    """A clients' keyring: public keys with ultimate trust, readable for nobody (else Portage trusts none)."""
    home = Path(home)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    gpg = ["gpg", "--homedir", home, "--batch", "--no-tty", "--quiet"]
    environment = _gpg_environment(home)
    for key in certificates:
        run([*gpg, "--import"], environment, stdin=key.public().encode())
        run([*gpg, "--import-ownertrust"], environment, stdin=f"{key.fingerprint}:6:\n".encode())
    run([*gpg, "--check-trustdb"], environment)
    run(["gpgconf", "--homedir", home, "--kill", "all"], environment, check=None)
    home.chmod(0o755)
    for item in home.rglob("*"):
        item.chmod(0o755 if item.is_dir() else 0o644)


def _generate(home, algorithm, who, passphrase):
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.chmod(0o700)
    keyboxd_where_asked(home)
    run(
        ["gpg", "--homedir", home, "--batch", "--pinentry-mode", "loopback", "--passphrase", passphrase]
        + ["--quick-generate-key", f"{who.capitalize()} <{who}@example.org>", algorithm, "sign", "never"],
        _gpg_environment(home),
    )


def _gpg_environment(home):
    return base_environment("/usr/local/bin:/usr/bin:/bin") | {"HOME": home}
