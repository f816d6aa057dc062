"""`doctor` on the keyring that Portage verifies with: whether Portage accepts what we sign, and lines that help."""

import os
import shutil

import pytest

from tests.e2e.world import world
from tests.lab import NEWEST
from tests.lab.command import run

FOR_CLIENTS = "if this host installs its own packages:"


@pytest.fixture
def prefix(lab):
    """A healthy host."""
    prefix = world(lab, NEWEST).clone()
    prefix.install_hook_with_place()
    return prefix


def trust(prefix):
    """What doctor says: state, text, and the commands that it advises."""
    [check] = [check for check in prefix.resign_json("doctor", check=0)["checks"] if check["name"] == "trust"]
    fix = check.get("fix", FOR_CLIENTS)
    assert fix.startswith(FOR_CLIENTS) and "\n\n" not in fix, fix
    return check["state"], check["text"], fix.removeprefix(FOR_CLIENTS).strip()


def accepted(prefix):
    """Whether Portage itself takes every package."""
    return not any(prefix.verify().values())


def absent(prefix):
    shutil.rmtree(prefix.keyring)


def empty(prefix):
    shutil.rmtree(prefix.keyring)
    prefix.keyring.mkdir(mode=0o700)


def without_trust(prefix):
    (prefix.keyring / "trustdb.gpg").unlink()


@pytest.mark.parametrize("umask", ["022", "077"])
@pytest.mark.parametrize("make, says", [(absent, "is not there"), (empty, "does not have the key"), (without_trust, "does not trust it")])
def test_the_advised_lines_help(prefix, make, says, umask):
    """As they stand, in a shell."""
    make(prefix)
    state, text, lines = trust(prefix)
    assert (state, accepted(prefix)) == ("warning", False) and says in text and "getuto" not in lines, text
    prefix.run("/bin/sh", "-ec", f"umask {umask}\n{lines}")
    assert trust(prefix)[0] == "ok" and accepted(prefix)
    run(["gpgconf", "--homedir", prefix.keyring, "--kill", "all"], prefix.environment(), check=None)


def test_getuto_goes_first(prefix):
    """It makes that folder with Gentoo's own keys only where it is not there yet."""
    if os.path.exists("/etc/portage/gnupg"):
        pytest.skip("this machine has one")
    prefix.variables["BINPKG_GPG_VERIFY_GPG_HOME"] = None
    prefix.configure()
    _, text, lines = trust(prefix)
    assert "/etc/portage/gnupg is not there" in text and lines.splitlines()[0] == "getuto", lines


@pytest.mark.skipif(os.getuid() != 0, reason="only root's Portage verifies as somebody else")
@pytest.mark.parametrize("name", ["", "pubring.kbx", "trustdb.gpg"])
def test_what_nobody_cannot_read(prefix, name):
    """Portage run by root verifies as nobody; the advice lets it, and shows nobody a secret."""
    secret = prefix.keyring / "pass"
    secret.write_text("secret")
    secret.chmod(0o600)
    path = prefix.keyring / name
    path.chmod(0o700 if path.is_dir() else 0o600)
    state, text, line = trust(prefix)
    assert (state, accepted(prefix)) == ("warning", False) and "nobody" in text and text.endswith(f" {path.resolve()}"), text
    prefix.run("/bin/sh", "-ec", line)
    assert trust(prefix)[0] == "ok" and accepted(prefix)
    assert secret.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root's Portage verifies as somebody else")
def test_who_verifies(prefix):
    """Root where it is set so, or somebody who owns the keyring; a folder above it counts as well."""
    prefix.keyring.chmod(0o700)
    prefix.variables["GPG_VERIFY_USER_DROP"] = ""
    prefix.variables["GPG_VERIFY_GROUP_DROP"] = ""
    prefix.configure()
    assert trust(prefix)[0] == "ok" and accepted(prefix)
    prefix.variables["GPG_VERIFY_USER_DROP"] = "daemon"
    prefix.configure()
    assert "verifies as daemon" in trust(prefix)[1] and not accepted(prefix)
    prefix.keyring.chmod(0o750)
    assert trust(prefix)[0] == "ok" and accepted(prefix), "root's group is kept"
    prefix.keyring.chmod(0o700)
    shutil.chown(prefix.keyring, "daemon")
    assert trust(prefix)[0] == "ok" and accepted(prefix)
    above = prefix.path / "etc/portage"
    above.chmod(0o700)
    state, text, line = trust(prefix)
    assert (state, accepted(prefix)) == ("warning", False) and text.endswith(f" {above.resolve()}") and "chmod" not in line, text
