"""Signing commands as people have them, and as nobody wants them."""

import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from .homes import PASSPHRASE, Home, Signer, ring
from .scene import Scene
from .table import FOREIGN, HELD, RESIGNED

KINDS = ("ours", "stranger", "unsigned")
COPIES = 6
GPG = "/usr/bin/gpg --sign --armor"


@pytest.fixture
def scene(lab):
    """Six packages of ours, one of a stranger, one unsigned; a script as the signing command."""
    made = Scene(lab, ring(lab, "ed25519"), KINDS, copies=COPIES)
    made.before = {name: made.read(name) for name in made.paths}
    return made


def script(scene, text, name="sign"):
    """A signing command that is a shell script: what Portage asks for is in "$@"; every start is counted."""
    path = scene.prefix.write(name, f"#!/bin/sh\nexec 9>>{scene.prefix.path}/starts; flock 9; echo start >&9; exec 9>&-\n{text}\n")
    path.chmod(0o755)
    scene.variables(BINPKG_GPG_SIGNING_BASE_COMMAND=f"{path} [PORTAGE_CONFIG]")


def starts(scene):
    """How often the script was started."""
    return (scene.prefix.path / "starts").read_text().count("start")


def ours(scene):
    """The names of our packages."""
    return [name for name in scene.paths if name.startswith("ours")]


def all_signed(scene, answer):
    """Every package of ours is signed and accepted, the others are as they were."""
    assert answer.result.status == 0, answer.result
    assert {name: record["outcome"] for name, record in answer.records.items()} == (
        dict.fromkeys(ours(scene), RESIGNED) | {"stranger": FOREIGN}
    )
    assert all(scene.read(name) == scene.before[name] for name in ("stranger", "unsigned"))
    scene.trusts()
    assert scene.accepted(ours(scene)) == dict.fromkeys(ours(scene))


def all_held(scene, answer, says):
    """Every package of ours is held as it was, each with this reason."""
    assert answer.result.status == 1, answer.result
    for name in ours(scene):
        record = answer.records[name]
        assert record["outcome"] == HELD and says in record["reason"], record
        assert scene.held(name) == scene.read(name) == scene.before[name]
    assert answer.records["stranger"]["outcome"] == FOREIGN
    assert all(scene.read(name) == scene.before[name] for name in ("stranger", "unsigned"))


def retried(scene):
    """With a good command, `held retry` finishes the work."""
    scene.variables(BINPKG_GPG_SIGNING_BASE_COMMAND=f"{GPG} [PORTAGE_CONFIG]", BINPKG_RESIGN_TIMEOUT="60")
    result = scene.prefix.resign("held", "retry", check=0)
    assert not any(scene.held(name) for name in scene.paths), result
    scene.trusts()
    assert scene.accepted(ours(scene)) == dict.fromkeys(ours(scene))


def test_the_default_with_flock(scene):
    """As make.globals has it, but for the place of the lock."""
    all_signed(scene, scene.apply())


def test_a_passphrase_file(lab):
    """Unattended hosts: the key is locked, no agent has its passphrase, there is no pinentry."""
    keys = ring(lab, "ed25519-locked")
    scene = Scene(lab, keys, KINDS, copies=2)
    scene.before = {name: scene.read(name) for name in scene.paths}
    keys.home.pinentry(None)
    secret = scene.prefix.write("passphrase", PASSPHRASE + "\n")
    options = f"--pinentry-mode loopback --passphrase-file {secret}"
    scene.variables(BINPKG_GPG_SIGNING_BASE_COMMAND=f"{GPG} {options} [PORTAGE_CONFIG]")
    all_signed(scene, scene.apply())


def test_another_machine_signs(scene):
    """The home here has public keys only; the script passes digest and kind on to a home "there"."""
    home, there = scene.ring.home, Home.fresh(scene.lab)
    there.gpg("--import", stdin=home.gpg("--armor", "--export-secret-keys", scene.ring.ours.key).out.encode())
    for secret in home.path.glob("private-keys-v1.d/*"):
        secret.unlink()
    home.kill_agent()
    script(
        scene,
        f'words=; for word in "$@"; do [ "$word" = {home.path} ] && word={there.path}; words="$words $word"; done\nexec {GPG} $words',
    )
    all_signed(scene, scene.apply())
    assert not any(home.path.glob("private-keys-v1.d/*"))


@pytest.mark.parametrize("lock", ["", "/usr/bin/flock LOCK "], ids=["plain", "flock"])
def test_another_machine_signs_over_ssh(scene, lock):
    """`ssh signer gpg …` as the signing command, with a real ssh and a real sshd; the home here has no secret key."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if not sshd or not shutil.which("ssh"):
        pytest.skip("skipped: there is no ssh, or no sshd")
    home, there = scene.ring.home, Home.fresh(scene.lab)
    there.gpg("--import", stdin=home.gpg("--armor", "--export-secret-keys", scene.ring.ours.key).out.encode())
    for secret in home.path.glob("private-keys-v1.d/*"):
        secret.unlink()
    home.kill_agent()
    place = scene.lab.directory("ssh")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / name], check=True)
    # what comes in names the home here; no shell of that account is asked
    gpg = f'case "$SSH_ORIGINAL_COMMAND" in "gpg "*) exec sh -c "$(echo "$SSH_ORIGINAL_COMMAND" | sed "s,{home.path},{there.path},g")";; esac'
    signer = scene.prefix.write("signer", f"#!/bin/sh\n{gpg}\n")
    signer.chmod(0o755)
    (place / "keys").write_text(f'command="{signer}" {(place / "user.pub").read_text()}')
    (place / "config").write_text(
        f"HostKey {place}/host\nAuthorizedKeysFile {place}/keys\nStrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\n"
    )
    # sshd on a pipe: no port, and nothing that outlives the test
    proxy = scene.prefix.write("proxy", f"#!/bin/sh\nexec unshare --mount sh -c 'mount -t tmpfs none /run && mkdir /run/sshd && exec {sshd} -i -f {place}/config'\n")
    proxy.chmod(0o755)
    options = f"-F none -i {place}/user -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ProxyCommand={proxy}"
    command = f"ssh {options} root@signer gpg --sign --armor [PORTAGE_CONFIG]"
    if os.getuid() != 0 or subprocess.run([*command.split()[:-3], "--version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("skipped: sshd cannot be run here")
    scene.variables(BINPKG_GPG_SIGNING_BASE_COMMAND=lock.replace("LOCK", f"{scene.prefix.path}/gpg.lock") + command)
    diagnosis = scene.prefix.resign("doctor", check=None).text
    assert "the signing command works" in diagnosis, diagnosis
    all_signed(scene, scene.apply())
    assert not any(home.path.glob("private-keys-v1.d/*"))
    there.kill_agent()


def test_every_third_call_fails(scene):
    """What could be signed is, the rest is held with the command's own words."""
    script(
        scene,
        f'[ $(( $(wc -l < {scene.prefix.path}/starts) % 3 )) -ne 0 ] || {{ cat > /dev/null; echo "the card is busy today" >&2; exit 7; }}\n'
        f'exec {GPG} "$@"',
    )
    answer = scene.apply()
    assert answer.result.status == 1
    outcomes = {name: answer.records[name]["outcome"] for name in ours(scene)}
    held = [name for name, kind in outcomes.items() if kind == HELD]
    signed = [name for name, kind in outcomes.items() if kind == RESIGNED]
    assert held and len(held) + len(signed) == COPIES, answer.result
    for name in held:
        assert "the card is busy today" in answer.records[name]["reason"]
        assert scene.held(name) == scene.before[name]
    retried(scene)


def test_the_first_call_hangs(scene):
    """One timeout for all of them, nothing left running, and the others are not tried."""
    scene.variables(BINPKG_RESIGN_TIMEOUT="12")
    script(scene, f"echo $$ > {scene.prefix.path}/hung; sleep 600 & wait")
    began = time.monotonic()
    answer = scene.apply()
    assert time.monotonic() - began < 60
    all_held(scene, answer, "BINPKG_RESIGN_TIMEOUT")
    assert starts(scene) == 1
    _gone(scene)
    retried(scene)


def test_a_later_call_hangs(scene):
    """Those that hang at the same time are waited for together, then no more are started."""
    scene.variables(BINPKG_RESIGN_TIMEOUT="12")
    script(
        scene,
        f'[ "$(wc -l < {scene.prefix.path}/starts)" -lt 4 ] || {{ echo $$ > {scene.prefix.path}/hung; sleep 600 & wait; }}\n'
        f'exec {GPG} "$@"',
    )
    began = time.monotonic()
    answer = scene.apply("--jobs", "2")
    assert time.monotonic() - began < 4 * 12, "not one timeout for each package"
    assert answer.result.status == 1
    assert starts(scene) <= 3 + 4, "jobs + 2 threads, each of which can hang once"
    assert all(answer.records[name]["outcome"] in (HELD, RESIGNED) for name in ours(scene))
    assert answer.count(HELD) >= 4
    _gone(scene)
    retried(scene)


def _gone(scene):
    leader = int((scene.prefix.path / "hung").read_text())
    for process in Path("/proc").glob("[0-9]*/stat"):
        try:
            group = int(process.read_text().rsplit(")", 1)[1].split()[2])
            state = process.read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        assert group != leader or state == "Z", f"{process} is left of the hanging command"


@pytest.mark.parametrize(
    ("what", "text", "says"),
    [
        ("rubbish", "cat > /dev/null; echo rubbish", "no armored signature"),
        ("nothing", "cat > /dev/null", "no armored signature"),
        ("endless rubbish", "exec cat /dev/zero", ""),
        ("another key", f'exec {GPG} "$@" --local-user ACQUAINTANCE --local-user ACQUAINTANCE', "instead of one"),
        ("only another key", f"exec {GPG} --homedir HOME --digest-algo SHA512 --batch -u ACQUAINTANCE --detach-sig", "another key"),
        ("another digest", f"exec {GPG} --homedir HOME --digest-algo SHA256 --batch -u OURS --detach-sig", "SHA256"),
        ("other bytes", f"echo other | {GPG} --homedir HOME --digest-algo SHA512 --batch -u OURS --detach-sig", "not good"),
        ("no such program", None, "is it installed"),
    ],
)
def test_what_comes_back_is_not_what_was_asked_for(scene, what, text, says):
    """Nothing is written, everything is held, a repaired command finishes the work."""
    if text is None:
        scene.variables(BINPKG_GPG_SIGNING_BASE_COMMAND="/nonexistent/gpg --sign [PORTAGE_CONFIG]")
    else:
        words = {"HOME": str(scene.ring.home.path), "OURS": scene.ring.ours.key, "ACQUAINTANCE": scene.ring.acquaintance.key}
        for word, value in words.items():
            text = text.replace(word, value)
        script(scene, text)
    if what == "endless rubbish":
        # it is listened to until the time is over
        scene.variables(BINPKG_RESIGN_TIMEOUT="12")
    all_held(scene, scene.apply(), says)
    retried(scene)


def test_the_manifest_only_is_signed_wrongly(scene):
    """The test signature and the metadata's are good; the Manifest comes back with one line more."""
    script(
        scene,
        f'case " $* " in *" --clear-sign "*) {{ cat; echo "DATA more 1 SHA512 00"; }} | {GPG} "$@";; *) exec {GPG} "$@";; esac',
    )
    all_held(scene, scene.apply(), "another text")


def test_the_lock_is_held_by_somebody_else(scene):
    """A build that signs for long holds portage-binpkg-gpg.lock: waited for, but not beyond the timeout."""
    with open(scene.prefix.path / "gpg.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        scene.variables(BINPKG_RESIGN_TIMEOUT="12")
        began = time.monotonic()
        answer = scene.apply()
        assert time.monotonic() - began < 60
    all_held(scene, answer, "BINPKG_RESIGN_TIMEOUT")


def test_signers_are_who_they_should_be(scene):
    """`Signer` itself, once, so that the other tests rest on something."""
    assert isinstance(scene.ring.ours, Signer)
    scene.apply(check=0)
    assert set(scene.signers("ours").values()) == {scene.ring.signs}
