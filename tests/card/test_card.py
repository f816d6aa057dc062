"""A key on a card, in every state that a card has."""

import os
import shutil
import time
from pathlib import Path

import pytest

from tests.keys.homes import Home, Ring, Signer
from tests.keys.scene import Scene
from tests.keys.table import HELD, RESIGNED
from tests.keys.test_agents import at_a_terminal

from . import cards
from .cards import Card

pytestmark = pytest.mark.skipif(
    "BINPKG_RESIGN_CARD" not in os.environ, reason="skipped: no virtual card here, see `make test-card`"
)
COPIES = 4
LIMIT = 4


@pytest.fixture
def reader():
    """pcscd, a new one for each test: its virtual reader does not survive a card that is pulled while it works."""
    process = cards.start_reader()
    yield
    process.kill()
    process.wait()


@pytest.fixture(params=["ed25519"])
def algorithm(request):
    """Of the key on the card."""
    return request.param


@pytest.fixture
def scene(lab, reader, algorithm):
    """Packages signed by the card, which is in the reader, with its PIN not given."""
    template = lab.once("templates", f"card-{algorithm}", lambda path: cards.make(path, algorithm))
    home, card = cards.copy(template, lab.directory("c"))
    cards.person(home)
    card.insert()
    cards.wait_for(home, card)
    key = (template / "public").read_text()
    acquaintance = Home.fresh(lab)
    ring = Ring(home, key, Signer(home, key), key, Signer(acquaintance, acquaintance.add("acquaintance")))
    ring.ours = _Person(home, key)
    made = Scene(lab, ring, ("ours", "stranger", "unsigned"), copies=COPIES, BINPKG_RESIGN_TIMEOUT=LIMIT)
    made.before = {name: made.read(name) for name in made.paths}
    made.card = card
    home.kill_agent()
    cards.wait_for(home, card)
    yield made
    cards.end_all(home)
    card.pull()


class _Person(Signer):
    """Signs with the card: its PIN comes from the pinentry, not on the command line."""

    def sign(self, how, data):
        words = ["gpg", "--homedir", self.home.path, "--batch", "--no-tty", "--armor", "--digest-algo", "SHA512"]
        return cards.run([*words, "--local-user", self.key, how], cards.environment(self.home.path), stdin=data).out.encode()


def ours(scene):
    return [name for name in scene.paths if name.startswith("ours")]


def type_pin(scene):
    """A person signs something, which leaves the card unlocked."""
    scene.ring.ours.detached(b"x")


def all_signed(scene):
    answer = scene.apply(check=0)
    assert {answer.records[name]["outcome"] for name in ours(scene)} == {RESIGNED}, answer.result
    scene.trusts()
    assert scene.accepted(ours(scene)) == dict.fromkeys(ours(scene))


def all_held(scene, says, limit=6 * LIMIT):
    began = time.monotonic()
    answer = scene.apply()
    assert time.monotonic() - began < limit, answer.result
    for name in ours(scene):
        record = answer.records[name]
        assert record["outcome"] == HELD and scene.held(name) == scene.before[name], answer.result
    assert says in answer.records["ours"]["reason"], answer.result
    return answer


def retried(scene):
    type_pin(scene)
    scene.prefix.resign("held", "retry", check=0)
    scene.trusts()
    assert scene.accepted(ours(scene)) == dict.fromkeys(ours(scene))


def nobody(scene):
    """Nobody is there, and the PIN is not known."""
    scene.ring.home.pinentry("has no terminal")
    cards.wait_for(scene.ring.home, scene.card)


def test_the_pin_was_typed(scene):
    type_pin(scene)
    assert "is on the card" in scene.prefix.resign("doctor", check=None).text
    all_signed(scene)


@pytest.mark.parametrize("algorithm", ["rsa2048"], indirect=True)
def test_the_pin_was_typed_rsa(scene):
    type_pin(scene)
    all_signed(scene)


def test_a_person_types_the_pin(scene):
    all_signed(scene)


def test_nobody_types_the_pin(scene):
    nobody(scene)
    all_held(scene, "nobody is there to type its PIN")
    assert cards.tries_left(scene.ring.home) == 3
    cards.person(scene.ring.home)
    cards.wait_for(scene.ring.home, scene.card)
    retried(scene)


def test_a_person_refuses_to_type_the_pin(scene):
    """What the person did is said, not that nobody is there; it costs no try."""
    scene.ring.home.pinentry("cancels")
    cards.wait_for(scene.ring.home, scene.card)
    status, seen, _ = at_a_terminal(scene, "apply")
    assert status == 1 and "the PIN of the card 0000 000003E9 was asked for and not given" in seen, seen
    assert "nobody is there" not in seen
    assert all(scene.held(name) == scene.before[name] for name in ours(scene)), seen
    assert cards.tries_left(scene.ring.home) == 3
    cards.person(scene.ring.home)
    cards.wait_for(scene.ring.home, scene.card)
    retried(scene)


def test_the_pinentry_waits_for_ever(scene):
    """The agent is busy with it in the second run, too."""
    scene.ring.home.pinentry("waits")
    cards.wait_for(scene.ring.home, scene.card)
    all_held(scene, "BINPKG_RESIGN_TIMEOUT")
    for words in (["apply"], ["held", "retry"], ["doctor"], ["verify"]):
        began = time.monotonic()
        scene.prefix.resign(*words, check=None)
        assert time.monotonic() - began < 8 * LIMIT, words


def test_a_wrong_pin_costs_one_try(scene):
    secret = scene.prefix.write("pin", "654321\n")
    options = f"--pinentry-mode loopback --passphrase-file {secret}"
    command = scene.prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"]
    scene.variables(BINPKG_GPG_SIGNING_BASE_COMMAND=f"/usr/bin/gpg --sign --armor {options} [PORTAGE_CONFIG]")
    all_held(scene, "the PIN of the card 0000 000003E9 is wrong, 2 tries are left")
    assert cards.tries_left(scene.ring.home) == 2
    for words in (["apply"], ["doctor"], ["apply"]):
        scene.prefix.resign(*words, check=None)
        assert cards.tries_left(scene.ring.home) == 2, words
    assert "2 tries are left" in scene.prefix.resign("doctor", check=1).text
    # a person asks for it
    said = scene.prefix.resign("held", "retry", check=1).text
    assert "the PIN of the card 0000 000003E9 is wrong, one try is left" in said, said
    assert "one try is left" in scene.prefix.resign("doctor", check=1).text
    assert cards.tries_left(scene.ring.home) == 1
    scene.variables(BINPKG_GPG_SIGNING_BASE_COMMAND=command)
    retried(scene)
    assert cards.tries_left(scene.ring.home) == 3


def test_the_card_is_absent(scene):
    scene.card.pull()
    all_held(scene, "the card 0000 000003E9 with the key is not there; insert it")
    assert "which is not there" in scene.prefix.resign("doctor", check=1).text
    scene.card.insert()
    cards.wait_for(scene.ring.home, scene.card)
    retried(scene)


def test_another_card_is_there(scene, lab):
    scene.card.pull()
    other = Card(lab.directory("c") / "card", 2002).insert()
    try:
        cards.wait_for(scene.ring.home, other)
        all_held(scene, "another one is (0000 000007D2)")
        assert "another one is" in scene.prefix.resign("doctor", check=1).text
    finally:
        other.pull()
    scene.card.insert()
    cards.wait_for(scene.ring.home, scene.card)
    retried(scene)


def test_the_card_is_pulled_midway(scene):
    """What was signed is saved, the rest is held."""
    type_pin(scene)
    count = scene.prefix.path / "count"
    script = scene.prefix.write(
        "sign",
        f"#!/bin/sh\nexec 9>{count}.lock; flock 9; echo >> {count}\n"
        f'[ "$(wc -l < {count})" -ne 6 ] || kill -9 {scene.card.process.pid}\n'
        'exec /usr/bin/gpg --sign --armor "$@"\n',
    )
    script.chmod(0o755)
    command = scene.prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"]
    scene.variables(BINPKG_GPG_SIGNING_BASE_COMMAND=f"{script} [PORTAGE_CONFIG]")
    answer = scene.apply("--jobs", "1")
    scene.card.pull()
    held = [name for name in ours(scene) if answer.records[name]["outcome"] == HELD]
    assert 0 < len(held) < COPIES, answer.result
    assert any("is not there" in answer.records[name]["reason"] for name in held), answer.result
    scene.variables(BINPKG_GPG_SIGNING_BASE_COMMAND=command)
    scene.card.insert()
    cards.wait_for(scene.ring.home, scene.card)
    retried(scene)


def test_each_signature_asks_for_the_pin(scene):
    cards.ask_once(scene.ring.home, once=False)
    nobody(scene)
    all_held(scene, "asks for its PIN at each signature")
    assert "asks for its PIN at each signature" in scene.prefix.resign("doctor", check=None).text


def test_nothing_but_the_public_key_is_in_the_home(scene):
    """`Scene` itself, once: the secret half is on the card alone."""
    keys = list(Path(scene.ring.home.path).glob("private-keys-v1.d/*.key"))
    assert keys and all(b"shadowed-private-key" in key.read_bytes() for key in keys)
    assert shutil.which("pcscd")
