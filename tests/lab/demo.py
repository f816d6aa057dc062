"""`make demo`: what happens to signed packages in a sync, without and with binpkg-resign, and without a hook. Everything is
thrown away at the end.

It ends with a transcript, which README.md quotes between two marks; `make readme` writes it there.
"""

import re
import sys
import textwrap
import time

from . import Prefix, Session, files_of
from .checks import IGNORED, REMOVED
from .client import client_of
from .serve import served
from .session import TOP

README = TOP / "README.md"
MARKS = ("<!-- from here on `make readme` writes -->\n", "<!-- up to here -->\n")
TRANSCRIPT = "The transcript"

UPDATES = (
    "move dev-util/strace dev-debug/strace",
    "slotmove dev-libs/slotted 0 2",
)
LATER = "slotmove dev-libs/slotted 2 3"


def say(text=""):
    """A paragraph."""
    indent = " " * (len(text) - len(text.lstrip()))
    print(textwrap.fill(text, 96, subsequent_indent=indent), flush=True)


def head(number, text):
    """A heading."""
    print(f"\n{number}. {text}\n", flush=True)


def shown(text):
    """What a program said, set off."""
    for line in text.strip("\n").splitlines():
        print(f"      {line}", flush=True)


def command(text):
    """What is run."""
    print(f"   # {text}", flush=True)


class Transcript:
    """What was typed and what was said, plain, as on a host whose PKGDIR is where Portage has it."""

    def __init__(self):
        self.lines = []

    def remark(self, text):
        """A line that the shell would pass over."""
        self.lines += ["", f"# {text}"] if self.lines else [f"# {text}"]

    def typed(self, words, said, prefix):
        """A command, and what it said."""
        said = said.replace(str(prefix.pkgdir), "/var/cache/binpkgs").replace(str(prefix.pkgdir.parent), "/var/cache")
        said = said.replace(str(prefix.path), "")
        self.lines += [f"$ {words}", *(line.rstrip() for line in said.strip("\n").splitlines())]

    def __str__(self):
        return "".join(f"    {line}".rstrip() + "\n" for line in self.lines)


def quoted():
    """What README.md has between the marks."""
    _, _, rest = README.read_text().partition(MARKS[0])
    return rest.partition(MARKS[1])[0].strip("\n") + "\n"


def quote(transcript):
    """Writes it there."""
    before, first, rest = README.read_text().partition(MARKS[0])
    _, last, after = rest.partition(MARKS[1])
    README.write_text(f"{before}{first}\n{transcript}\n{last}{after}")


def settled(transcript):
    """A transcript without what differs from one run to the next: fingerprints, sizes and times."""
    transcript = re.sub(r"\b[0-9A-F]{40}\b", "FINGERPRINT", transcript)
    transcript = re.sub(r"\b\d+(\.\d+)? [KM]?i?B\b", "SIZE", transcript)
    transcript = re.sub(r" {2,}", "  ", transcript)
    return re.sub(r"\b\d+ (second|minute)s? ago", "AGE ago", transcript)


def listing(prefix, before=()):
    """The packages that are there, the lost ones marked."""
    now = files_of(prefix.pkgdir)
    for path in sorted(set(now) | set(before)):
        mark = "lost " if path not in now else "     " if path in before or not before else "new  "
        print(f"      {mark} {path}", flush=True)
    return now


def spoken(result, prefix):
    """Portage's words about packages, and ours, without the noise of git."""
    lines = []
    for line in result.text.replace(", the file will be removed.", ", the file will be removed.\n").splitlines():
        if IGNORED in line or REMOVED in line or line.startswith(" * ") or "Performing Global Updates" in line:
            lines.append(line.rstrip())
    return "\n".join(lines)


def main():
    """The whole demonstration; the exit status says whether it showed what it says."""
    session = Session()
    try:
        good, transcript = show(session)
    finally:
        session.close()
    if good and "--quote" in sys.argv:
        quote(transcript)
    return 0 if good else 1


def show(session):
    """All steps, one after the other: whether all was as it should be, and the transcript."""
    began = time.monotonic()
    transcript = Transcript()
    say(
        "A binhost builds packages and signs them. Then Gentoo renames a package. Portage writes the new name into all "
        "binary packages that mention it; into signed ones it cannot, so it removes them. binpkg-resign runs in between: "
        "it does what Portage would do and signs the packages again."
    )

    head(1, "A throw-away Gentoo with the real Portage, and a few signed packages")
    prefix = Prefix.create(session, key=session.key())
    ebuilds(prefix)
    prefix.sync()
    command("emerge --oneshot --buildpkg dev-util/strace dev-libs/slotted app-misc/user app-misc/plain")
    prefix.build("dev-util/strace", "dev-libs/slotted", "app-misc/user", "app-misc/plain")
    before = listing(prefix)
    say()
    say("   All are signed; app-misc/user was built with strace (BDEPEND), app-misc/plain has nothing to do with it:")
    shown("\n".join(f"{key}: {prefix.entry(user_path())[key]}" for key in ("BDEPEND", "RDEPEND")))

    head(2, "Upstream renames strace and gives a library another slot")
    shown("\n".join(["profiles/updates/1Q-2024:", *(f"  {line}" for line in UPDATES)]))
    prefix.gentoo.updates("1Q-2024", *UPDATES)
    prefix.gentoo.commit("Package moves")

    head(3, "Without binpkg-resign (on a copy): what Portage says in the next sync")
    copy = prefix.clone()
    command("emerge --sync")
    said = spoken(copy.sync(), copy)
    shown(said.replace(str(copy.pkgdir), "PKGDIR"))
    transcript.remark("without binpkg-resign: strace has been renamed, and a library has another slot")
    transcript.typed("emerge --sync", said, copy)
    say()
    lost = set(before) - set(listing(copy, before))
    say()
    say(f"   {len(lost)} of {len(before)} packages are lost, and strace stays under a name that nobody asks for any more.")

    head(4, "What binpkg-resign would do")
    pulled = prefix.clone()
    pulled.run("git", "-c", "safe.directory=*", "-C", pulled.repository_path("gentoo"), "pull", "--quiet")
    command("binpkg-resign apply --pretend")
    said = pulled.run("binpkg-resign", "apply", "--pretend").out
    shown(said)
    transcript.remark("what binpkg-resign would do")
    transcript.typed("binpkg-resign apply --pretend", said, pulled)

    head(5, "With the hook in /etc/portage/postsync.d: the same sync")
    prefix.install_hook()
    command("emerge --sync")
    said = spoken(prefix.sync(), prefix)
    shown(said.replace(str(prefix.pkgdir), "PKGDIR"))
    transcript.remark("with its hook: the same sync")
    transcript.typed("emerge --sync", said, prefix)
    say()
    now = listing(prefix, before)
    say()
    say(
        "   Nothing is lost. strace is there under its new name (the old file stays until eclean-pkg takes it, as after "
        "Portage's own moves), and app-misc/user knows it:"
    )
    shown("\n".join(f"{key}: {prefix.entry(user_path())[key]}" for key in ("BDEPEND", "RDEPEND")))

    head(6, "Without the hook: a `git pull`, and an emerge before anything of ours")
    say(
        "   The run before has given every signed package a second name beside PKGDIR, the safety net. Now the library gets "
        "another slot again, and nobody runs binpkg-resign in time:"
    )
    shown(LATER)
    prefix.gentoo.updates("2Q-2024", LATER)
    prefix.gentoo.commit("Another slot")
    transcript.remark("another slot again, and no hook runs before Portage's update pass")
    pull, words = "git -C /var/db/repos/gentoo pull --quiet", "emerge --oneshot --nodeps app-misc/plain"
    prefix.run("git", "-c", "safe.directory=*", "-C", prefix.repository_path("gentoo"), "pull", "--quiet")
    transcript.typed(pull, "", prefix)
    command(pull)
    command(words)
    said = spoken(prefix.emerge("--oneshot", "--nodeps", "--quiet-build=y", "app-misc/plain"), prefix)
    said = "\n".join(line for line in said.splitlines() if REMOVED in line or IGNORED in line)
    shown(said.replace(str(prefix.pkgdir), "PKGDIR"))
    transcript.typed(words, said, prefix)
    say()
    removed = set(now) - set(listing(prefix, now))
    say()
    command("binpkg-resign apply")
    said = prefix.run("binpkg-resign", "apply").text
    shown(said)
    transcript.typed("binpkg-resign apply", said, prefix)
    say()
    listing(prefix, now)
    say()
    command("binpkg-resign status")
    said = prefix.run("binpkg-resign", "status").text
    shown(said)
    transcript.typed("binpkg-resign status", said, prefix)
    back = files_of(prefix.pkgdir) == now and LATER.split()[3] in prefix.entry(user_path())["RDEPEND"].rpartition(":")[2]

    head(7, "What Portage says about them")
    refused = {path: error for path, error in prefix.verify().items() if error}
    say(f"   Portage's own verification, with binpkg-request-signature: {len(now) - len(refused)} of {len(now)} good.")
    for path, error in refused.items():
        shown(f"{path}: {error}")
    again = prefix.movebin()
    touched = REMOVED in again.text or IGNORED in again.text
    left = files_of(prefix.pkgdir) == now
    command("emaint --fix movebin")
    say(f"   Its update pass over all update files finds {'something' if touched or not left else 'nothing'} to do.")

    head(8, "A client that has only the public key")
    with served(prefix.pkgdir) as address:
        client = client_of(prefix, address)
        command("emerge --getbinpkgonly dev-debug/strace app-misc/user     (binrepos.conf: verify-signature = true)")
        client.emerge("--getbinpkgonly", "--oneshot", "--nodeps", "=dev-debug/strace-6.6", "app-misc/user")
    installed = sorted(f"{path.parent.name}/{path.name}" for path in (client.path / "var/db/pkg").glob("*/*/"))
    shown("\n".join(f"installed: {cpv}" for cpv in installed))

    head(9, TRANSCRIPT)
    print(transcript, flush=True)
    good = not refused and not touched and left and set(before) <= set(now) and len(installed) == 2 and len(lost) == 2
    good = good and len(removed) == 2 and back
    say(f"{'That was all' if good else 'That is not what it should be'} ({time.monotonic() - began:.0f} s).")
    return good, str(transcript)


def user_path():
    """Where app-misc/user lies."""
    return "app-misc/user/user-1-1.gpkg.tar"


def ebuilds(prefix):
    """The ebuilds of the demonstration."""
    gentoo = prefix.gentoo
    gentoo.add("dev-util/strace-6.6")
    gentoo.add("dev-libs/slotted-2.0")
    gentoo.add("app-misc/user-1", BDEPEND="dev-util/strace", RDEPEND=">=dev-util/strace-6 dev-libs/slotted:0")
    gentoo.add("app-misc/plain-1", RDEPEND="app-misc/other")
    gentoo.commit("Add ebuilds")


if __name__ == "__main__":
    sys.exit(main())
