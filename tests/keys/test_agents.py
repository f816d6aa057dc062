"""Keys with a passphrase, with the agent in every state of the table, with and without a person at a terminal."""

import fcntl
import json
import os
import pty
import shutil
import subprocess
import termios

import pytest

from tests.lab.terminal import Terminal

from .homes import PASSPHRASE, ring
from .scene import Answer, Scene
from .table import AGENTS, HELD, RESIGNED, outcome

KINDS = ("ours", "outside", "unsigned", "stranger", "two-signatures", "image", "metadata")
AT_A_TERMINAL = ("terminal", "cancelled", "mistyped")
TIMEOUT = 20

# Which pinentry there is, in each state of the table.
PINENTRY = {
    "cached": None,
    "terminal": "types",
    "running": "has no terminal",
    "killed": "has no terminal",
    "no-pinentry": None,
    "silent": "waits",
    "cancelled": "cancels",
    "mistyped": "mistypes",
}


def in_state(keys, agent):
    """Puts the ring's agent into a state of the table; gives the pinentry's log."""
    home = keys.home
    log = home.pinentry(PINENTRY[agent])
    if agent == "running":
        home.start_agent()
    if agent == "cached":
        home.gpg("--local-user", keys.ours.key, "--detach-sig", stdin=b"x", passphrase=PASSPHRASE)
    return log


def at_a_terminal(scene, *words):
    """Runs the program with all three streams on a terminal; gives its exit status and what stood there."""
    ours, theirs = pty.openpty()
    environment = {key: str(value) for key, value in scene.prefix.environment().items()}

    def controlling():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    argv = ["binpkg-resign", "--prefix", str(scene.prefix.path), *words]
    child = subprocess.Popen(
        argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True, preexec_fn=controlling
    )
    name = os.ttyname(theirs)
    os.close(theirs)
    seen = b""
    try:
        while True:
            data = os.read(ours, 65536)
            if not data:
                break
            seen += data
    except OSError:
        pass  # Linux says EIO when nobody has the other end any more
    finally:
        os.close(ours)
    return child.wait(60), seen.decode().replace("\r\n", "\n"), name


def cases():
    """All agents for the quick algorithm; for the slow one those where something is signed."""
    for agent, kind in AGENTS.items():
        yield "ed25519-locked", agent
        if not kind.locked and agent not in AT_A_TERMINAL:
            yield "rsa4096-locked", agent


@pytest.mark.parametrize(("key", "agent"), cases())
def test_a_key_with_a_passphrase(lab, key, agent):
    """One run, and where the key was locked, another one when it is not any more."""
    keys = ring(lab, key)
    scene = Scene(lab, keys, KINDS)
    if agent == "silent":
        scene.variables(BINPKG_RESIGN_TIMEOUT=TIMEOUT)
    log = in_state(keys, agent)
    before = {name: scene.read(name) for name in scene.paths}
    state = keys.home.state()
    expected = {name: outcome(key, name, agent) for name in KINDS}

    if agent in AT_A_TERMINAL:
        status, seen, terminal = at_a_terminal(scene, "apply", "--verbose")
        assert status == int(any(wanted.kind == HELD for wanted in expected.values())), seen
        asked = log.read_text().splitlines()
        assert asked.count("GETPIN") == (3 if agent == "mistyped" else 1), "a person is asked once"
        assert f"OPTION ttyname={terminal}" in asked, "and at this terminal"
        for name, wanted in expected.items():
            assert (scene.held(name) == before[name]) == (wanted.kind == HELD), f"{name}\n{seen}"
            assert (scene.read(name) == before[name]) == (wanted.kind != RESIGNED), f"{name}\n{seen}"
            assert wanted.says == "" or scene.named(wanted.says) in seen.replace("\n", " "), f"{name}: {wanted.says}\n{seen}"
    else:
        scene.check(scene.apply(), expected, before)
    assert keys.home.state() == state, "the keys were changed"

    held = [name for name, wanted in expected.items() if wanted.kind == HELD]
    if AGENTS[agent].locked:
        in_state(keys, "cached")
        scene.variables(BINPKG_RESIGN_TIMEOUT=60)
        expected = {name: outcome(key, name, "cached") for name in held}
        answer = Answer(*_retry(scene))
        kinds = {name: record["outcome"] for name, record in answer.records.items()}
        assert {name: kinds.get(name) for name in held} == {name: expected[name].kind for name in held}, answer.result
    signed = [name for name in KINDS if outcome(key, name, "cached").kind == RESIGNED]
    scene.trusts()
    assert scene.accepted(signed) == dict.fromkeys(signed)


def _retry(scene):
    result = scene.prefix.resign("--json", "held", "retry", check=None)
    answer = json.loads(result.out)
    names = {path: name for name, path in scene.paths.items()}
    return result, answer, {names[record["path"]]: record for record in answer["packages"]}


def test_a_key_without_a_passphrase_needs_no_agent_before(lab):
    """The agent is ended; gpg starts it, and nobody is asked."""
    keys = ring(lab, "ed25519")
    scene = Scene(lab, keys, KINDS)
    log = keys.home.pinentry("types")
    before = {name: scene.read(name) for name in scene.paths}
    scene.check(scene.apply(), {name: outcome("ed25519", name) for name in KINDS}, before)
    assert not log.exists()


def test_the_passphrase_is_lost_on_the_way(lab):
    """What was signed until then is saved, the rest held; a later run does it."""
    keys = ring(lab, "ed25519-locked")
    scene = Scene(lab, keys, ["ours"], copies=6)
    in_state(keys, "cached")
    count = scene.prefix.path / "count"
    script = scene.prefix.write(
        "sign",
        f"#!/bin/sh\nexec 9>{count}.lock; flock 9; echo >> {count}\n"
        f'[ "$(wc -l < {count})" -ne 10 ] || gpgconf --homedir {keys.home.path} --kill gpg-agent\n'
        'exec /usr/bin/gpg --sign --armor "$@"\n',
    )
    script.chmod(0o755)
    scene.variables(BINPKG_GPG_SIGNING_BASE_COMMAND=f"{script} [PORTAGE_CONFIG]")
    before = {name: scene.read(name) for name in scene.paths}
    # three packages at a time: two at least are finished by then, and two at least are not
    answer = scene.apply("--jobs", "1", check=1)
    held = [name for name, record in answer.records.items() if record["outcome"] == HELD]
    assert 0 < len(held) < 6, answer.result
    assert all(scene.held(name) == before[name] for name in held)
    in_state(keys, "cached")
    scene.prefix.resign("held", "retry", check=0)
    assert not any(scene.held(name) for name in scene.paths)
    scene.trusts()
    assert scene.accepted(scene.paths) == dict.fromkeys(scene.paths)


def test_the_person_is_told_why(lab):
    """One line before the passphrase is asked for says what for."""
    keys = ring(lab, "ed25519-locked")
    scene = Scene(lab, keys, ["ours"])
    in_state(keys, "terminal")
    _, seen, _ = at_a_terminal(scene, "apply")
    assert "passphrase" in seen.splitlines()[0], seen


def test_a_person_who_refuses_is_somebody(lab):
    """What the person did is said, not that nobody is there."""
    keys = ring(lab, "ed25519-locked")
    scene = Scene(lab, keys, ["ours"])
    in_state(keys, "cancelled")
    status, seen, _ = at_a_terminal(scene, "apply")
    assert status == 1 and "the passphrase was asked for and not given (gpg: Operation cancelled)" in seen, seen
    assert "nobody is there" not in seen


def test_a_terminal_that_the_pinentry_cannot_use(lab):
    """Somebody is there, and is told what to do about it."""
    keys = ring(lab, "ed25519-locked")
    scene = Scene(lab, keys, ["ours"])
    in_state(keys, "killed")
    status, seen, _ = at_a_terminal(scene, "apply")
    assert status == 1 and "could not be asked for on this terminal (gpg: Inappropriate ioctl" in seen, seen
    assert "nobody is there" not in seen and seen.count("Inappropriate ioctl") == 1


@pytest.mark.parametrize("agent", ["running", "killed"])
def test_nobody_is_warned_of_a_passphrase_that_there_is_none_of(lab, agent):
    """Whether the agent runs and tells, or only the file of the key does."""
    keys = ring(lab, "ed25519")
    scene = Scene(lab, keys, ["ours"])
    in_state(keys, agent)
    status, seen, _ = at_a_terminal(scene, "apply")
    assert status == 0 and "passphrase" not in seen, seen


def test_a_passphrase_that_the_agent_knows(lab):
    """Nobody is asked, so nobody is warned."""
    keys = ring(lab, "ed25519-locked")
    scene = Scene(lab, keys, ["ours"])
    in_state(keys, "cached")
    status, seen, _ = at_a_terminal(scene, "apply")
    assert status == 0 and "passphrase" not in seen, seen


@pytest.mark.parametrize("key", ["\t\t\r", "\x03"], ids=["the button", "Ctrl-C"])
def test_a_person_cancels_a_real_pinentry(lab, key):
    """pinentry-curses on the terminal; not in `homes`, whose pinentries answer by themselves."""
    program = shutil.which("pinentry-curses")
    if not program:
        pytest.skip("skipped: there is no pinentry-curses")
    keys = ring(lab, "ed25519-locked")
    scene = Scene(lab, keys, ["ours"])
    keys.home.kill_agent()
    # it takes Ctrl-C for a letter, and gives up after a while
    keys.home.configure(f"pinentry-program {program}\npinentry-timeout 10")
    argv = ["binpkg-resign", "--prefix", scene.prefix.path, "apply"]
    environment = scene.prefix.environment() | {"TERM": "xterm"}
    with Terminal(argv, environment, scene.prefix.path) as terminal:
        terminal.until(lambda seen: "Cancel" in seen)
        terminal.type(key)
        status = terminal.end(60)
    assert status in (1, 130) and "nobody is there" not in terminal.seen, terminal.seen
    assert scene.held("ours"), terminal.seen
