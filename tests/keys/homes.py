"""gpg homes in every state of the table: made before packages are signed, changed afterwards."""

import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from tests.lab.command import base_environment, run
from tests.lab.session import Key, keyboxd_where_asked

PASSPHRASE = "correct horse"
# The clock stands still (`!`): what takes gpg a second must not make a subkey older than its key.
THEN = ("--faked-system-time", "20200101T000000!")
NEXT_DAY = ("--faked-system-time", "20200102T000000!")
LATER = ("--faked-system-time", "20200601T000000!")
# How many digits a fingerprint has, but that of an Ed448 key.
DIGITS = 40

PINENTRY = '''#!{python}
"""A person at a terminal, as gpg-agent sees them: Assuan on stdin and stdout. {what}"""
import sys, time
log = open({log!r}, "a")
print("OK", flush=True)
for line in sys.stdin:
    command = line.split(" ")[0].strip()
    log.write(line)
    log.flush()
    if command == "GETPIN":
{getpin}
    else:
        print("OK", flush=True)
    if command == "BYE":
        break
'''
ANSWERS = {
    "types": ('print("D {passphrase}\\nOK", flush=True)', "Types the passphrase."),
    "mistypes": ('print("D nonsense\\nOK", flush=True)', "Types something else."),
    "cancels": ('print("ERR 83886179 Operation cancelled <Pinentry>", flush=True)', "Refuses."),
    "has no terminal": (
        'print("ERR 83918950 Inappropriate ioctl for device <Pinentry>", flush=True)',
        "Finds no terminal, as pinentry-curses.",
    ),
    "waits": ("time.sleep(600)", "Never comes."),
}


class Home:
    """A gpg home with a short path; the agents end with the lab's session."""

    def __init__(self, path):
        self.path = Path(path)
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        if not any(self.path.iterdir()):
            self.configure()

    def configure(self, *lines):
        """Writes gpg-agent.conf; passphrases are cheap to check here, or the agent takes 0.1 s for each signature."""
        (self.path / "gpg-agent.conf").write_text("\n".join(["s2k-count 65536", *lines, ""]))

    @classmethod
    def fresh(cls, lab):
        """A new, empty one, for a key that signs."""
        home = cls(lab.directory("g"))
        keyboxd_where_asked(home.path)
        return home

    def gpg(self, *words, stdin=None, check=0, passphrase=""):
        """Runs gpg; the passphrase never goes through a pinentry here."""
        loopback = ["--pinentry-mode", "loopback", "--passphrase", passphrase]
        words = ["gpg", "--homedir", self.path, "--batch", "--quiet", "--no-tty", "--yes", *loopback, *words]
        return run(words, environment(self.path), stdin=stdin, check=check)

    def add(self, who, *more, algorithm="ed25519", usage="sign", expires="never", passphrase=""):
        """A new primary key; its fingerprint."""
        user = f"{who} <{who}@example.org>"
        return self._made(*more, "--quick-generate-key", user, algorithm, usage, expires, passphrase=passphrase)

    def add_subkey(self, fingerprint, *more, algorithm="ed25519", expires="never"):
        """A new signing subkey; its fingerprint."""
        return self._made(*more, "--quick-add-key", fingerprint, algorithm, "sign", expires)

    def _made(self, *words, passphrase=""):
        """The fingerprint of the key that gpg says it has made: listings have an order of their own."""
        said = self.gpg("--status-fd", "1", *words, passphrase=passphrase).out
        return re.search(r"KEY_CREATED \w (\w+)", said)[1]

    def keys(self, *which):
        """Every fingerprint, of subkeys too, in the order of the keyring."""
        listing = self.gpg("--with-colons", "--list-keys", *which).out
        return [line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:")]

    def certificates(self):
        """Everything public, armored."""
        return self.gpg("--armor", "--export").out

    def follow(self, reason):
        """Runs the command that a reason advises, word for word."""
        run(re.search("`(gpg [^`]*)`", reason)[1].split(), environment(self.path))

    def revoke(self, fingerprint):
        """Imports the certificate that gpg made for this beforehand."""
        text = (self.path / f"openpgp-revocs.d/{fingerprint}.rev").read_text().replace(":-----BEGIN", "-----BEGIN")
        self.gpg("--import", stdin=text.encode())

    def revoke_subkey(self, fingerprint, number):
        """What `gpg --edit-key` does when asked to."""
        answers = f"key {number}\nrevkey\ny\n0\n\ny\nsave\n".encode()
        run(
            ["gpg", "--homedir", self.path, "--no-tty", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
            + ["--command-fd", "0", "--status-fd", "2", "--edit-key", fingerprint],
            environment(self.path),
            stdin=answers,
        )

    def secret_file(self, fingerprint):
        """Where the agent keeps the secret half of a key."""
        listing = self.gpg("--with-colons", "--with-keygrip", "--list-keys", fingerprint).out.splitlines()
        place = next(number for number, line in enumerate(listing) if line.startswith("fpr:") and fingerprint in line)
        grip = next(line.split(":")[9] for line in listing[place:] if line.startswith("grp:"))
        return self.path / f"private-keys-v1.d/{grip}.key"

    def kill_agent(self):
        """Ends the agent and all else."""
        run(["gpgconf", "--homedir", self.path, "--kill", "all"], environment(self.path), check=None)

    def start_agent(self):
        """Starts the agent."""
        run(["gpgconf", "--homedir", self.path, "--launch", "gpg-agent"], environment(self.path))

    def pinentry(self, answer):
        """The agent asks a script from now on; gives the script's log."""
        log = self.path / "pinentry.log"
        log.unlink(missing_ok=True)
        program = self.path / "pinentry"
        if answer is None:
            program = "/nonexistent/pinentry"
        else:
            getpin, what = ANSWERS[answer]
            words = {"python": sys.executable, "log": str(log), "what": what}
            program.write_text(PINENTRY.format(getpin=f"        {getpin.format(passphrase=PASSPHRASE)}", **words))
            program.chmod(0o755)
        self.configure(f"pinentry-program {program}")
        self.kill_agent()
        return log

    def state(self):
        """What nobody may change: every file with its bytes, but the random seed, sockets and what the tests wrote.

        Nor does a `.#lk` file count: a gpg that is ended while it waits for pinentry leaves one behind; nor the lock of
        a keyboxd that runs.
        """
        left_out = ("random_seed", "pinentry.log", "pinentry", "gpg-agent.conf", "pubring.db.lock")
        return {
            str(path.relative_to(self.path)): path.read_bytes()
            for path in sorted(self.path.rglob("*"))
            if stat.S_ISREG(path.lstat().st_mode) and path.name not in left_out and not path.name.startswith(".#lk")
        }


def environment(home):
    """Nothing of the caller's, and no pinentry that could find a terminal or a display."""
    return base_environment("/usr/local/bin:/usr/bin:/bin") | {"HOME": home}


@dataclass(frozen=True)
class Signer:
    """Makes signatures for the crafted packages: a key of a home, at some time."""

    home: Home
    key: str
    more: tuple = ()
    passphrase: str = ""

    def sign(self, how, data):
        """The output of gpg."""
        words = ["--digest-algo", "SHA512", *self.more, "--local-user", self.key, "--armor", how]
        return self.home.gpg(*words, stdin=data, passphrase=self.passphrase).out.encode()

    def detached(self, data):
        """An armored detached signature."""
        return self.sign("--detach-sig", data)

    def clear(self, text):
        """A clear-signed text."""
        return self.sign("--clear-sign", text)

    def together_with(self, other):
        """Both sign one text."""
        return _Both(self, other)

    def weakly(self):
        """With a digest that gpg takes for broken."""
        return replace(self, more=(*self.more, "--digest-algo", "MD5", "--allow-weak-digest-algos"))


@dataclass(frozen=True)
class _Both:
    one: Signer
    other: Signer

    def clear(self, text):
        """A clear-signed text with the signatures of both."""
        # A clear-signed text's signatures are packets one after the other: made apart, they can be joined.
        mine, theirs = self.one.clear(text), self.other.clear(text)
        armor = re.compile(rb"-----BEGIN PGP SIGNATURE-----.*", re.S)
        packets = b"".join(_dearmor(self.one.home, armor.search(message)[0]) for message in (mine, theirs))
        joined = self.one.home.gpg("--enarmor", stdin=packets).out.replace("PGP ARMORED FILE", "PGP SIGNATURE")
        joined = "\n".join(line for line in joined.splitlines() if not line.startswith("Comment:"))
        return armor.sub(b"", mine) + joined.encode() + b"\n"


def _dearmor(home, armored):
    # bytes, so not through `run`
    words = ["gpg", "--homedir", home.path, "--batch", "--quiet", "--dearmor"]
    values = {key: str(value) for key, value in environment(home.path).items()}
    return subprocess.run(words, input=armored, env=values, check=True, capture_output=True).stdout


@dataclass
class Ring:
    """One state of the table, as files.

    `setting` is BINPKG_GPG_SIGNING_KEY, `ours` what signs the packages beforehand, `signs` the fingerprint that must
    sign from now on, `directory` BINPKG_GPG_SIGNING_GPG_HOME where it is another one. `change` comes after the packages
    are signed; `fix`, given the reason why one was held, makes the key usable. `replaced` is what
    BINPKG_GPG_SIGNING_KEY_MIGRATION names as the old key.
    """

    home: Home
    setting: str
    ours: Signer
    signs: str
    acquaintance: Signer
    change: callable = lambda: None
    fix: callable = None
    directory: Path = None
    replaced: str = None

    @property
    def gpg_home(self):
        """BINPKG_GPG_SIGNING_GPG_HOME."""
        return self.directory or self.home.path


def rsa(lab, passphrase=""):
    """An rsa4096 key is slow to make: one a session."""
    def make(path):
        home = Home(path)
        keyboxd_where_asked(home.path)
        home.add("rsa", algorithm="rsa4096", passphrase=passphrase)
        home.kill_agent()

    template = Home(lab.once("keys", f"keys-rsa4096-{'locked' if passphrase else 'open'}", make))
    return Home(lab.copy_key(Key(template.path)).home)


def gnupg_version():
    """The version of the gpg that is here, as numbers."""
    said = run(["gpg", "--version"], environment("/tmp")).out.splitlines()[0]
    return tuple(int(part) for part in re.findall(r"\d+", said))


def ring(lab, name):
    """The home for a state of the table; call `change` when the packages are signed."""
    locked = name.endswith("-locked")
    passphrase = PASSPHRASE if locked else ""
    if name.startswith("rsa4096"):
        home = rsa(lab, passphrase)
        key = home.keys()[0]
    else:
        home = Home.fresh(lab)
        match name:
            case "subkey" | "offline-primary" | "superseded" | "exact" | "expired-subkey" | "expired-subkey-named" | "revoked-subkey" | "expired-exact":
                key = home.add("ours", *THEN, usage="cert")
            case "expired":
                key = home.add("ours", *THEN, expires="1y")
            case _:
                key = home.add("ours", *THEN, passphrase=passphrase)
    made = _ring(lab, home, key, name, passphrase)
    other = home.add("acquaintance", *THEN)
    made.acquaintance = Signer(home, other)
    home.gpg("--import", stdin=friend(lab).home.certificates().encode())
    return made


def _ring(lab, home, key, name, passphrase):
    plain = Ring(home, key, Signer(home, key, passphrase=passphrase), key, None)
    match name:
        case "ed25519" | "rsa4096" | "ed25519-locked" | "rsa4096-locked":
            return plain
        case "key-id":
            return replace(plain, setting=f"0x{key[-16:]}")
        case "mail":
            return replace(plain, setting="ours@example.org")
        case "subkey":
            return replace(plain, signs=home.add_subkey(key))
        case "offline-primary":
            subkey = home.add_subkey(key)
            return replace(plain, signs=subkey, change=lambda: home.secret_file(key).unlink())
        case "superseded":
            old = home.add_subkey(key, *NEXT_DAY)
            made = replace(plain, ours=Signer(home, f"{old}!", LATER))
            made.change = lambda: setattr(made, "signs", home.add_subkey(key))
            return made
        case "exact":
            old = home.add_subkey(key, *NEXT_DAY)
            home.add_subkey(key, *LATER)
            return replace(plain, setting=f"{old}!", signs=old, ours=Signer(home, f"{old}!"))
        case "exact-primary":
            home.add_subkey(key, *LATER)
            return replace(plain, setting=f"{key}!", ours=Signer(home, f"{key}!"))
        case "expired-subkey" | "expired-subkey-named":
            old = home.add_subkey(key, *NEXT_DAY, expires="1y")
            made = replace(plain, ours=Signer(home, f"{old}!", LATER), replaced=old if name.endswith("named") else None)
            made.change = lambda: setattr(made, "signs", home.add_subkey(key))
            return made
        case "revoked-subkey":
            old = home.add_subkey(key, *NEXT_DAY)
            made = replace(plain, ours=Signer(home, f"{old}!", LATER))

            def change():
                made.signs = home.add_subkey(key)
                home.revoke_subkey(key, 1)

            made.change = change
            return made
        case "expired":
            return replace(plain, ours=Signer(home, key, LATER), fix=home.follow)
        case "expired-exact":
            old = home.add_subkey(key, *NEXT_DAY, expires="1y")
            home.add_subkey(key, *LATER)
            return replace(plain, setting=f"{old}!", ours=Signer(home, f"{old}!", LATER), signs=old, fix=home.follow)
        case "late":
            # signed today, and then the key says that it had expired in 2021
            return replace(plain, change=lambda: home.gpg(*LATER, "--quick-set-expire", key, "1y"))
        case "revoked":
            return replace(plain, change=lambda: home.revoke(key))
        case "no-secret":
            secret = home.secret_file(key)
            aside = secret.with_suffix(".aside")
            return replace(plain, change=lambda: secret.rename(aside), fix=lambda _: aside.rename(secret))
        case "no-ownertrust":
            return replace(plain, change=lambda: (home.path / "trustdb.gpg").unlink())
        case "two-keys":
            second = home.add("ours", *THEN)
            return replace(plain, setting=second, ours=Signer(home, second), signs=second)
        case "other-home":
            other = Home.fresh(lab)
            other.add("else")
            return replace(plain, directory=other.path)
        case "no-home":
            return replace(plain, directory=Path("/nonexistent/gpg"))
    raise ValueError(name)


def stranger(lab):
    """Somebody else, known to clients and to nobody here; one a session."""
    return _somebody(lab, "stranger")


def friend(lab):
    """Somebody else whose public key is in the signing home; one a session."""
    return _somebody(lab, "friend")


def _somebody(lab, who):
    def make(path):
        Home(path).add(who, *THEN)
        Home(path).kill_agent()

    home = Home(lab.once("keys", f"keys-{who}", make))
    return Signer(home, home.keys()[0])


def trusting(path, *homes):
    """A clients' keyring that trusts every key of these homes, readable for nobody, as Portage needs it."""
    path = Path(path)
    shutil.rmtree(path, ignore_errors=True)
    home = Home(path)
    for other in homes:
        home.gpg("--import", stdin=other.certificates().encode())
    # the first fingerprint after each `pub` is that of a primary key
    primary = re.findall(r"^pub:.*?^fpr:{9}(\w+):", home.gpg("--with-colons", "--list-keys").out, re.M | re.S)
    for key in primary:
        if len(key) == DIGITS:
            home.gpg("--import-ownertrust", stdin=f"{key}:6:\n".encode())
        else:
            # gpg's trust database holds the first 20 bytes of it, and finds no such key
            home.add("local")
            home.gpg("--quick-lsign-key", key)
    home.gpg("--check-trustdb")
    home.kill_agent()
    path.chmod(0o755)
    for item in path.rglob("*"):
        item.chmod(0o755 if item.is_dir() else 0o644)


def running_dirmngr(directories):
    """Sockets of a dirmngr, the program that would use the network, in these gpg homes."""
    return [str(home / "S.dirmngr") for home in directories if os.path.exists(home / "S.dirmngr")]
