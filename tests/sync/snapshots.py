"""What `emerge-webrsync` fetches: a snapshot of a repository, signed, as a mirror has it."""

import hashlib
import shutil
import tarfile
import time

from tests.lab.command import base_environment, run
from tests.lab.session import Key

SIGNER = "Infrastructure <infrastructure@gentoo.org>"
"""The user id that emerge-webrsync looks for."""


def snapshot_key(lab):
    """The key that signs snapshots."""

    def make(home):
        home.mkdir(mode=0o700, parents=True)
        words = ["--batch", "--pinentry-mode", "loopback", "--passphrase", "", "--quick-generate-key", SIGNER, "ed25519", "sign", "never"]
        run(["gpg", "--homedir", home, *words], base_environment("/usr/local/bin:/usr/bin:/bin") | {"HOME": home})

    return Key(lab.once("keys", "snapshots", make))


def trust_snapshots(prefix, key):
    """What sec-keys/openpgp-keys-gentoo-release installs."""
    prefix.write("usr/share/openpgp-keys/gentoo-release.asc", key.public())


def write_snapshot(repository, mirror, key):
    """Puts a snapshot of the repository into the mirror's folder, as the one of the day before yesterday.

    That is never the newest that there could be, so that it is found by going back, at whatever time of day this runs.
    """
    shutil.rmtree(mirror, ignore_errors=True)
    folder = mirror / "snapshots"
    folder.mkdir(parents=True)
    day = time.strftime("%Y%m%d", time.gmtime(time.time() - 2 * 86400))
    file = folder / f"portage-{day}.tar.bz2"
    with tarfile.open(file, "w:bz2") as tar:
        tar.add(repository.path, "portage", filter=lambda member: None if member.name == "portage/.git" else member)
    data = file.read_bytes()
    (folder / f"{file.name}.md5sum").write_text(f"{hashlib.md5(data).hexdigest()}  {file.name}\n")
    (folder / f"{file.name}.gpgsig").write_bytes(key.sign("--detach-sign", data))
