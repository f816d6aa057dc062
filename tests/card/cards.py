"""A virtual OpenPGP card: the card itself, the daemon it is plugged into, and a person who knows its PINs."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.keys.homes import Home, environment
from tests.lab.command import run

PIN, ADMIN_PIN = "123456", "12345678"
NUMBER = 1001

PINENTRY = '''#!{python}
"""Types the PIN that is asked for, or another one."""
import sys
print("OK", flush=True)
text = ""
for line in sys.stdin:
    command, _, rest = line.strip().partition(" ")
    if command in ("SETDESC", "SETPROMPT"):
        text += rest
    if command == "GETPIN":
        print("D " + ({admin!r} if "Admin" in text else {pin!r}), flush=True)
        text = ""
    print("OK", flush=True)
    if command == "BYE":
        break
'''


def start_reader():
    """pcscd, where none but ours can run (see `run`)."""
    for left in Path("/run/pcscd").glob("*"):
        left.unlink()
    child = subprocess.Popen(["pcscd", "--foreground"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        if os.path.exists("/run/pcscd/pcscd.comm"):
            return child
        time.sleep(0.1)
    raise AssertionError("pcscd does not start")


class Card:
    """One card, with its state in a folder, in the reader or not."""

    def __init__(self, folder, number=NUMBER):
        self.folder, self.number, self.process = Path(folder), number, None
        self.folder.mkdir(exist_ok=True)

    def insert(self):
        """Into the reader; waits until it is seen there."""
        program = os.environ["BINPKG_RESIGN_CARD"]
        self.process = subprocess.Popen(
            [program, str(self.folder), str(self.number)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return self

    def pull(self):
        """Out of the reader."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


def ask(home, *commands):
    """What scdaemon answers."""
    words = ["gpg-connect-agent", "--homedir", home.path, *commands, "/bye"]
    return run(words, environment(home.path), check=None).out


def wait_for(home, card):
    """Until scdaemon sees this card."""
    for _ in range(100):
        if f"{card.number:08X}" in ask(home, "SCD SERIALNO openpgp"):
            return
        time.sleep(0.2)
    raise AssertionError(ask(home, "SCD SERIALNO openpgp"))


def tries_left(home):
    """The counter of the card's PIN."""
    line = next(line for line in ask(home, "SCD SERIALNO openpgp", "SCD GETATTR CHV-STATUS").splitlines() if "CHV-STATUS" in line)
    return int(line.replace("+", " ").split()[6])


def person(home, pin=PIN):
    """Somebody sits at the home's pinentry, and types this PIN."""
    program = home.path / "pinentry"
    program.write_text(PINENTRY.format(python=sys.executable, pin=pin, admin=ADMIN_PIN))
    program.chmod(0o755)
    home.configure(f"pinentry-program {program}")
    home.kill_agent()


def ask_once(home, once=True):
    """Whether one PIN is good for many signatures, set as `forcesig` does."""
    said = ask(home, "SCD SERIALNO openpgp", f"SCD SETATTR CHV-STATUS-1 %{int(once):02d}")
    assert "ERR" not in said, said


def make(path, algorithm):
    """A home whose key is on a card, and the card's state beside it."""
    home = Home(path / "home")
    (home.path / "scdaemon.conf").write_text("disable-ccid\n")
    key = home.add("ours", algorithm=algorithm)
    (path / "public").write_text(key)
    person(home)
    card = Card(path / "card").insert()
    try:
        wait_for(home, card)
        # to the slot for signatures; the secret half on disk gives way to a stub
        words = ["gpg", "--homedir", home.path, "--no-tty", "--quiet", "--command-fd", "0", "--status-fd", "2"]
        run([*words, "--edit-key", key], environment(home.path), stdin=b"keytocard\ny\n1\nsave\n")
        ask_once(home)
        listing = home.gpg("--with-colons", "--list-secret-keys").out
        assert "D276000124" in listing, listing
    finally:
        home.kill_agent()
        card.pull()


def end_all(home):
    """Agent, scdaemon and pinentry of this home, at once: an agent that waits for a pinentry obeys nobody, and its
    scdaemon keeps the card to itself."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.startswith(str(home.path).encode()) for word in words):
            os.kill(int(process.name), signal.SIGKILL)


def copy(template, where):
    """The home and the card, for one test."""
    ignored = shutil.ignore_patterns("S.*", ".#lk*", "*.lock")
    shutil.copytree(template / "home", where / "h", ignore=ignored)
    (where / "h").chmod(0o700)
    shutil.copytree(template / "card", where / "card")
    return Home(where / "h"), Card(where / "card")
