"""`doctor`: what cannot be looked at is a problem of its own, and everything else is looked at all the same."""

import json
import os
import shutil
import sys

import pytest

from tests.e2e.world import world
from tests.lab import NEWEST

AS_ANOTHER = "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); os.execvp(sys.argv[1], sys.argv[1:])"


@pytest.fixture
def prefix(lab):
    """A healthy host with a folder of ours in PKGDIR."""
    prefix = world(lab, NEWEST).clone()
    prefix.install_hook_with_place()
    prefix.resign("apply")
    prefix.held.mkdir(parents=True)
    prefix.held.parent.chmod(0o700)
    return prefix


def found(said):
    """Name → (state, text, fix)."""
    checks = json.loads(said.out)["checks"]
    return {check["name"]: (check["state"], check["text"], check.get("fix", "")) for check in checks}


@pytest.mark.skipif(os.getuid() != 0, reason="takes two users")
def test_as_somebody_who_may_not(prefix):
    """The same checks as root's but for those of the keys; where a right is lacking, it says to be root."""
    everything = found(prefix.resign("--json", "doctor")).keys()
    prefix.path.chmod(0o755)
    program = shutil.which("binpkg-resign", path=prefix.environment()["PATH"])
    said = prefix.run(sys.executable, "-c", AS_ANOTHER, program, "--prefix", prefix.path, "--json", "doctor", check=1)
    checks = found(said)
    assert everything - checks.keys() == {"expiry", "command", "signers", "trust", "processed"}
    for name in ("key", "pkgdir", "held", "pending"):
        state, text, fix = checks[name]
        assert (state, fix) == ("problem", "run this as root") and "Permission denied" in text, checks[name]
    assert "move" not in checks["net"][2], checks["net"]
    assert checks["hook"][0] == checks["index"][0] == "ok"


@pytest.mark.parametrize("broken", ["mtimedb of the other root", "mtimedb"])
def test_what_cannot_be_read(prefix, lab, broken):
    """The check says so, with the file, and every other one is there."""
    everything = found(prefix.resign("--json", "doctor")).keys()
    words, top = [], prefix.path
    if broken == "mtimedb of the other root":
        root = lab.directory("root")
        words, top = ["--root", root], root / str(prefix.path).lstrip("/")
    file = top / "var/cache/edb/mtimedb"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("[")
    said = prefix.run("binpkg-resign", "--prefix", prefix.path, *words, "--json", "doctor", check=1)
    checks = found(said)
    assert everything - checks.keys() == {"processed"}, said
    state, text, fix = checks["pending"]
    assert state == "problem" and str(file) in text and fix, text
    assert [name for name, check in checks.items() if check[0] == "problem"] == ["pending"], checks


def test_a_pkgdir_that_is_none(prefix):
    """What lies in it cannot be looked at, the rest can."""
    everything = found(prefix.resign("--json", "doctor")).keys()
    prefix.variables["PKGDIR"] = file = prefix.write("etc/a-file", "")
    prefix.configure()
    checks = found(prefix.resign("--json", "doctor", check=1))
    assert everything - checks.keys() == {"signers", "index", "held", "net", "pending", "processed"}
    assert checks["pkgdir"][0] == "problem" and str(file) in checks["pkgdir"][1], checks
