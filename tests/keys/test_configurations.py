"""gpg as careful people configure it, and as machines leave it: never foreign by mistake, never a hang."""

import os
import shutil
import signal
import subprocess
import time

import pytest

from tests.lab.command import run
from tests.lab.session import KEYBOXD

from . import homes
from .homes import PASSPHRASE, Home, ring
from .scene import Scene
from .table import FOREIGN, HELD, RESIGNED

FULL = bool(os.environ.get("BINPKG_RESIGN_FULL"))
KINDS = ("ours", "stranger", "unsigned")
# longer than GnuPG 2.5 waits for a daemon of its that does not start (8 s; 5 before)
LIMIT = 12
# a run has several talks with gpg, each with its limit
IN_TIME = 8 * LIMIT
NO_KEYBOXD = "skipped: there is no keyboxd in the signing home"


@pytest.fixture
def scene(lab):
    """Two packages of ours, a stranger's and an unsigned one; gpg is not waited for long."""
    made = Scene(lab, ring(lab, "ed25519"), KINDS, copies=2, BINPKG_RESIGN_TIMEOUT=LIMIT)
    made.before = {name: made.read(name) for name in made.paths}
    return made


def ours(scene):
    """The names of our packages."""
    return [name for name in scene.paths if name.startswith("ours")]


def checked(scene, answer, kind, says=""):
    """Every package of ours came to this end; the others are as they were."""
    for name in ours(scene):
        record = answer.records[name]
        assert record["outcome"] == kind and says in (record["reason"] or ""), answer.result
    assert answer.records["stranger"]["outcome"] in (FOREIGN, HELD), answer.result
    assert answer.result.status == int(any(record["outcome"] == HELD for record in answer.records.values()))
    for name in scene.paths:
        if kind == HELD or not name.startswith("ours"):
            assert scene.read(name) == scene.before[name], name
        if answer.records.get(name, {}).get("outcome") == HELD:
            assert scene.held(name) == scene.before[name], name
    if kind == RESIGNED:
        scene.trusts()
        assert scene.accepted(ours(scene)) == dict.fromkeys(ours(scene))


def machine(name, text):
    """Words before a command that give it another /etc/gnupg with this file; skips where the machine does not let us."""
    script = 'mount -t tmpfs none /etc/gnupg && printf "%s\\n" "$1" > "/etc/gnupg/$0" && shift && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", script, name, text]
    os.makedirs("/etc/gnupg", exist_ok=True)
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("skipped: /etc/gnupg cannot be replaced here")
    return words


def apply_on(scene, words, *more):
    """`apply --json` on a machine with other settings."""
    result = scene.prefix.run(*words, "binpkg-resign", "--prefix", scene.prefix.path, "--json", "apply", *more, check=None)
    return scene.answer(result)


# Hangs


def stop_agents(home):
    """Stops the agent of a home, and another one where that answers in its stead; their process ids."""
    stopped = []
    for _ in range(5):
        words = ["gpg-connect-agent", "--no-autostart", "--homedir", home.path, "GETINFO pid", "/bye"]
        try:
            said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=2)
        except subprocess.TimeoutExpired:
            return stopped
        stopped.append(int(said.stdout.split()[1]))
        os.kill(stopped[-1], signal.SIGSTOP)
    pytest.fail(f"the agents {stopped} answer although they are stopped")


def test_a_stopped_agent(scene):
    """An agent that answers nobody: whose a package is can be told without it."""
    home = scene.ring.home
    home.start_agent()
    stopped = stop_agents(home)
    try:
        began = time.monotonic()
        answer = scene.apply()
        assert time.monotonic() - began < IN_TIME
        checked(scene, answer, HELD, "BINPKG_RESIGN_TIMEOUT")
        assert answer.records["stranger"]["outcome"] == FOREIGN
        for words in (["verify"], ["doctor"], ["apply", "--pretend"])[: 3 if FULL else 1]:
            began = time.monotonic()
            scene.prefix.resign(*words, check=None)
            assert time.monotonic() - began < IN_TIME, words
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    scene.prefix.resign("held", "retry", check=0)


def test_a_stopped_keyboxd(scene):
    """One that answers nobody: whose a package is cannot be told, and everything is held, in time."""
    if not KEYBOXD:
        pytest.skip(NO_KEYBOXD)
    words = ["gpg-connect-agent", "--keyboxd", "--homedir", scene.ring.home.path, "GETINFO pid", "/bye"]
    pid = int(run(words, homes.environment(scene.ring.home.path)).out.split()[1])
    os.kill(pid, signal.SIGSTOP)
    try:
        for words in (["apply"], ["verify"], ["doctor"], ["apply", "--pretend"]):
            began = time.monotonic()
            said = scene.prefix.resign(*words, check=None).text
            assert time.monotonic() - began < IN_TIME and "no answer within" in said, (words, said)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert all(scene.held(name) == scene.before[name] for name in (*ours(scene), "stranger"))
    scene.prefix.resign("held", "retry", check=0)


def test_a_signal_ends_the_waiting(scene):
    """SIGTERM while gpg is waited for; everything is held."""
    home = scene.ring.home
    home.start_agent()
    pid = int(subprocess.run(
        ["gpg-connect-agent", "--homedir", home.path, "GETINFO pid", "/bye"], capture_output=True, text=True, check=True
    ).stdout.split()[1])
    scene.variables(BINPKG_RESIGN_TIMEOUT=120)
    os.kill(pid, signal.SIGSTOP)
    try:
        environment = {key: str(value) for key, value in scene.prefix.environment().items()}
        words = ["binpkg-resign", "--prefix", str(scene.prefix.path), "apply"]
        child = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        time.sleep(2)
        began = time.monotonic()
        child.send_signal(signal.SIGTERM)
        said, _ = child.communicate(timeout=30)
        assert child.returncode == 143 and time.monotonic() - began < 10, said
    finally:
        os.kill(pid, signal.SIGCONT)
    assert all(scene.held(name) == scene.before[name] for name in ours(scene)), said
    assert "To go on, run" in said and "fixed" not in said, said


KEYBOXDS = ("gnupg_spawn_keyboxd_sentinel.lock", "public-keys.d/pubring.db.lock")


@pytest.mark.parametrize("lock", ["gnupg_spawn_agent_sentinel.lock", "pubring.kbx.lock", *KEYBOXDS])
def test_a_lock_of_another_machine(scene, lock):
    """As a container leaves it behind in a home that it shared."""
    if lock in KEYBOXDS and not KEYBOXD:
        pytest.skip(NO_KEYBOXD)
    scene.ring.home.kill_agent()
    (scene.ring.home.path / lock).write_text("      1234\nanother-machine\n")
    began = time.monotonic()
    answer = scene.apply()
    assert time.monotonic() - began < IN_TIME
    kind = answer.records["ours"]["outcome"]
    checked(scene, answer, kind, "another-machine" if kind == HELD else "")
    if kind == HELD:
        (scene.ring.home.path / lock).unlink()
        scene.prefix.resign("held", "retry", check=0)


def test_a_gpg_that_hangs_while_it_verifies(scene):
    """Whatever the reason: it is ended, and everything is held."""
    wrapper = scene.prefix.write("gpg", '#!/bin/sh\ncase " $* " in *" --verify"*) kill -STOP $$;; *) exec /usr/bin/gpg.real "$@";; esac\n')
    wrapper.chmod(0o755)
    script = (
        'cp /usr/bin/gpg "$0/real" && touch "$0/empty" && mount -t tmpfs none /usr/local/sbin 2>/dev/null; '
        'mkdir -p /usr/local/sbin && cp "$0/real" /usr/local/sbin/gpg.real && '
        'sed "s,/usr/bin/gpg.real,/usr/local/sbin/gpg.real," "$0/gpg" > "$0/gpg.new" && chmod 755 "$0/gpg.new" && '
        'mount --bind "$0/gpg.new" /usr/bin/gpg && exec "$@"'
    )
    words = ["unshare", "--mount", "sh", "-c", script, scene.prefix.path]
    if subprocess.run([*words, "gpg", "--version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("skipped: gpg cannot be replaced here")
    began = time.monotonic()
    answer = apply_on(scene, words, "--jobs", "1")
    assert time.monotonic() - began < IN_TIME
    checked(scene, answer, HELD, "no answer within")


# Configurations


@pytest.mark.parametrize(
    ("line", "kind", "says"),
    [
        # those that have cost packages
        ("output OUTPUT", HELD, "output"),
        ("sender other@example.org", HELD, "sender"),
        ("interactive", RESIGNED, ""),
        # those that make something else of a signature
        ("default-sig-expire 1d", HELD, "default-sig-expire"),
        ("local-user acquaintance", HELD, "local-user"),
        ("sig-policy-url https://example.org/policy", RESIGNED, ""),
        ("sig-policy-url !https://example.org/policy", RESIGNED, ""),
        ("sig-notation note@example.org=1", RESIGNED, ""),
        ("sig-notation !note@example.org=1", HELD, "sig-notation"),
        ("comment hello", RESIGNED, ""),
        ("default-key acquaintance", RESIGNED, ""),
        ("no-options", None, "HOME/gpg.conf"),
        ("no-such-option", None, "HOME/gpg.conf"),
        ("logger-fd 1", None, ""),
        ("status-fd 1", HELD, "status-fd"),
        ("digest-algo SHA256", RESIGNED, ""),
        ("compliance de-vs", HELD, "`compliance de-vs` in HOME/gpg.conf"),
        ("weak-digest SHA512", None, "`weak-digest SHA512` in HOME/gpg.conf"),
        ("disable-pubkey-algo EDDSA", HELD, "`disable-pubkey-algo EDDSA` in HOME/gpg.conf"),
        ("verify", HELD, "HOME/gpg.conf"),
        ("trust-model tofu", None, ""),
        ("max-output 10", None, ""),
        ("faked-system-time 20300101T000000!", None, ""),
        ("pinentry-mode cancel", RESIGNED, ""),
    ],
)
def test_a_line_in_the_homes_gpg_conf(scene, line, kind, says):
    """The result is accepted by Portage, or the packages are held, with the option or the file in the reason."""
    line = line.replace("OUTPUT", str(scene.prefix.path / "out"))
    (scene.ring.home.path / "gpg.conf").write_text(line + "\n")
    answer = scene.apply()
    (scene.ring.home.path / "gpg.conf").unlink()
    kind = kind or answer.records["ours"]["outcome"]
    checked(scene, answer, kind, says.replace("HOME", str(scene.ring.home.path)) if kind == HELD else "")


@pytest.mark.parametrize("line", ["interactive", "output /dev/null", "no-default-keyring", "no-such-option", "skip-verify"])
def test_a_line_in_the_machines_gpg_conf(scene, line):
    """Nobody is asked, nothing is lost; what is signed is accepted."""
    answer = apply_on(scene, machine("gpg.conf", line))
    checked(scene, answer, answer.records["ours"]["outcome"])


def test_another_language(lab):
    """The words of a failure are understood, and the run is given up after the first locked key."""
    keys = ring(lab, "ed25519-locked")
    scene = Scene(lab, keys, ["ours"], copies=3)
    keys.home.pinentry("has no terminal")
    locales = lab.directory("l")
    made = ["localedef", "-i", "de_DE", "-f", "UTF-8", locales / "de_DE.UTF-8"]
    if not shutil.which("localedef") or run(made, homes.environment(locales), check=None).status > 1:
        pytest.skip("skipped: no German locale can be made here")
    german = {"LOCPATH": locales, "LANG": "de_DE.UTF-8", "LC_ALL": "de_DE.UTF-8", "LANGUAGE": "de"}
    words = ["gpg", "--homedir", keys.home.path, "--batch", "--no-tty", "--sign", "--output", "-"]
    said = run(words, homes.environment(keys.home.path) | german, stdin=b"x", check=None).err
    if "Inappropriate ioctl" in said:
        pytest.skip(f"skipped: gpg speaks no German here: {said}")
    answer = scene.apply(env=german, check=1)
    assert "nobody is there to type its passphrase (gpg: Inappropriate ioctl" in answer.records["ours"]["reason"], answer.result
    assert "before it" in answer.records["ours 3"]["reason"] or answer.records["ours 3"]["reason"] == answer.records["ours"]["reason"]


# Kinds of keys


CURVES = ["nistp256", "nistp384", "nistp521", "brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1", "secp256k1", "ed448"]
# such a key takes minutes to make
LARGE = pytest.param("rsa8192", marks=pytest.mark.skipif(not os.environ.get("BINPKG_RESIGN_FULL"), reason="only in `make test-full`"))


@pytest.mark.parametrize("algorithm", [*CURVES, "rsa2048", "dsa2048", LARGE])
def test_a_kind_of_key(lab, algorithm):
    """Signed, and accepted by Portage."""
    home = Home.fresh(lab)
    if algorithm == "ed448" and homes.gnupg_version() < (2, 3):
        pytest.skip("skipped: this GnuPG has no Ed448")
    # without it Debian's 2.4 makes no such key
    more = {"rsa8192": ["--enable-large-rsa"], "ed448": ["--compliance=gnupg"]}.get(algorithm, [])
    key = home.add("ours", *more, algorithm=algorithm)
    other = home.add("acquaintance")
    signer = homes.Signer(home, key)
    scene = Scene(lab, homes.Ring(home, key, signer, key, homes.Signer(home, other)), ["ours"])
    answer = scene.apply(check=0)
    assert answer.records["ours"]["outcome"] == RESIGNED
    scene.trusts()
    assert scene.accepted(["ours"]) == {"ours": None}


# Wrong passphrases


def test_a_wrong_passphrase_is_not_tried_again(lab):
    """By itself; but when the file has changed, or a person asks for it."""
    keys = ring(lab, "ed25519-locked")
    scene = Scene(lab, keys, ["ours"], copies=3)
    keys.home.pinentry(None)
    secret, starts = scene.prefix.write("passphrase", "nonsense\n"), scene.prefix.path / "starts"
    script = scene.prefix.write("sign", f'#!/bin/sh\necho start >> {starts}\nexec /usr/bin/gpg --sign --armor "$@"\n')
    script.chmod(0o755)
    command = f"{script} --pinentry-mode loopback --passphrase-file {secret} [PORTAGE_CONFIG]"
    scene.variables(BINPKG_GPG_SIGNING_BASE_COMMAND=command)

    def count():
        return starts.read_text().count("start")

    answer = scene.apply(check=1)
    assert "the passphrase or PIN is wrong (gpg: Bad passphrase)" in answer.records["ours"]["reason"] and count() == 1
    # everything is done once more by the next sync, and nothing is tried
    scene.prefix.resign("apply", check=None)
    said = scene.prefix.resign("doctor", check=1).text
    assert "refused by an earlier run" in said and count() == 1, said
    scene.prefix.resign("held", "retry", check=1)
    assert count() == 2
    secret.write_text(PASSPHRASE + "\n")
    assert "signing command works" in scene.prefix.resign("doctor", check=None).text and count() == 4
    scene.prefix.resign("held", "retry", check=0)


# Diagnosis

# Which daemon is missed first; where that is keyboxd, nobody can tell whose a package is.
MISSED, STRANGERS = ("keyboxd", HELD) if KEYBOXD else ("the agent", FOREIGN)


def test_an_agent_that_cannot_start_is_not_a_missing_key(scene):
    """A home that is too deep for sockets: said so, by doctor, too."""
    home = scene.ring.home
    home.kill_agent()
    deep = scene.prefix.path / ("deep-" * 20) / "gnupg"
    ignored = shutil.ignore_patterns("S.*", ".#lk*", "*.lock")
    shutil.copytree(home.path, deep, ignore=ignored)
    deep.chmod(0o700)
    scene.variables(BINPKG_GPG_SIGNING_GPG_HOME=deep)
    answer = scene.apply()
    checked(scene, answer, HELD, f"too long for {MISSED}'s sockets")
    assert answer.records["stranger"]["outcome"] == STRANGERS
    assert f"too long for {MISSED}'s sockets" in scene.prefix.resign("doctor", check=1).text
    scene.variables(BINPKG_GPG_SIGNING_GPG_HOME=home.path)
    scene.prefix.resign("held", "retry", check=0)


@pytest.mark.parametrize("line", ["extra-socket /nonexistent/S.extra", "server"])
def test_an_agent_whose_configuration_is_broken(scene, line):
    """The agent does not start, and says why; nothing is said of a missing key."""
    home = scene.ring.home
    home.kill_agent()
    settings = home.path / "gpg-agent.conf"
    settings.write_text(line + "\n")
    answer = scene.apply()
    checked(scene, answer, HELD, "agent")
    assert answer.records["stranger"]["outcome"] == FOREIGN
    assert "import" not in answer.records["ours"]["reason"], answer.result
    said = scene.prefix.resign("doctor", check=1).text
    assert "agent" in said and "import the secret key" not in said, said
    settings.unlink()
    scene.prefix.resign("held", "retry", check=0)


def test_a_home_that_nobody_can_write_and_no_agent(scene):
    """A home on a read-only disk: signed where the agent has its sockets elsewhere, else held, and not for a missing key."""
    home = scene.ring.home
    home.kill_agent()
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", script, home.path]
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("skipped: nothing can be mounted here")
    answer = apply_on(scene, words)
    kind = answer.records["ours"]["outcome"]
    checked(scene, answer, kind, f"which {MISSED} needs for its socket" if kind == HELD else "")
    assert answer.records["stranger"]["outcome"] == (STRANGERS if kind == HELD else FOREIGN)
    if kind == HELD:
        assert "import" not in answer.records["ours"]["reason"], answer.result
        said = scene.prefix.run(*words, "binpkg-resign", "--prefix", scene.prefix.path, "doctor", check=1).text
        assert "import the secret key" not in said, said
        scene.prefix.resign("held", "retry", check=0)


# Agents elsewhere


def test_an_agent_on_another_machine(scene):
    """As with a forwarded socket: it goes, everything is held; it comes back. No agent is started in its place."""
    home, there = scene.ring.home, Home.fresh(scene.lab)
    there.gpg("--import", stdin=home.gpg("--armor", "--export-secret-keys", scene.ring.ours.key).out.encode())
    home.kill_agent()
    for secret in home.path.glob("private-keys-v1.d/*"):
        secret.unlink()
    (home.path / "gpg.conf").write_text("no-autostart\n")
    forward = home.path / "S.gpg-agent"
    forward.unlink(missing_ok=True)
    text = f"%Assuan%\nsocket={there.path}/S.gpg-agent.extra\n"
    forward.write_text(text)
    there.kill_agent()
    if KEYBOXD:
        # which no-autostart keeps away, too
        run(["gpgconf", "--homedir", home.path, "--launch", "keyboxd"], homes.environment(home.path))
    answer = scene.apply()
    checked(scene, answer, HELD, "agent")
    assert answer.records["stranger"]["outcome"] == FOREIGN
    scene.prefix.resign("doctor", check=1)
    assert forward.read_text() == text, "an agent has taken the place of the socket"
    there.start_agent()
    diagnosis = scene.prefix.resign("doctor", check=None)
    assert "the signing command works" in diagnosis.text, str(diagnosis)
    scene.prefix.resign("held", "retry", check=0)
    assert not list(home.path.glob("private-keys-v1.d/*"))


# Every option

PARTS = 4
# they give the tests nothing to look at: the agent's business, or no options at all
LEFT_OUT = ("options", "no-options", "homedir")


def options():
    """The options of the gpg that is here."""
    said = run(["gpg", "--dump-options"], homes.environment("/tmp")).out
    return [line[2:] for line in said.splitlines() if line.startswith("--") and line[2:] not in LEFT_OUT]


@pytest.mark.parametrize("part", range(PARTS))
def test_every_option_in_the_homes_gpg_conf(lab, part):
    """One after the other, without an argument: what is signed is accepted by Portage, all else is held, in time."""
    scene = Scene(lab, ring(lab, "ed25519"), ("ours", "stranger"), BINPKG_RESIGN_TIMEOUT=LIMIT)
    pkgdir, settings = scene.prefix.pkgdir, scene.ring.home.path / "gpg.conf"
    aside = lab.directory("o")
    shutil.copytree(pkgdir, aside / "pkgdir")
    signed, wrong = [], []
    for option in options()[part::PARTS]:
        shutil.rmtree(pkgdir)
        shutil.copytree(aside / "pkgdir", pkgdir)
        settings.write_text(option + "\n")
        began = time.monotonic()
        answer = scene.apply()
        took = time.monotonic() - began
        kinds = {name: record["outcome"] for name, record in answer.records.items()}
        if took > IN_TIME or kinds.get("ours") not in (RESIGNED, HELD) or kinds.get("stranger") not in (FOREIGN, HELD):
            wrong.append((option, took, kinds))
        if kinds.get("ours") == RESIGNED:
            kept = aside / option
            kept.mkdir()
            shutil.copy(pkgdir / scene.paths["ours"], kept)
            signed.append(option)
    settings.unlink()
    assert not wrong and len(signed) > 10
    scene.trusts()
    name = os.path.basename(scene.paths["ours"])
    for option in signed:
        shutil.copytree(aside / option, pkgdir / "options" / option)
    refused = {path: error for path, error in scene.prefix.verify([f"options/{option}/{name}" for option in signed]).items() if error}
    assert not refused
