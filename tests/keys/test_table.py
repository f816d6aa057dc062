"""The table, run: every state of the key, each with one package of every kind."""

import pytest

from tests.lab import assert_portage_finds_nothing

from .homes import ring, running_dirmngr
from .scene import Scene
from .table import HELD, KEYS, PACKAGES, RESIGNED, outcome


def held_retry(scene):
    """`held retry`, with what it says in JSON; None where this program has no such command."""
    if scene.prefix.resign("held", "--help", check=None).status == 2:
        return None
    return scene.prefix.resign("--json", "held", "retry", check=None)


@pytest.mark.parametrize("key", [name for name, kind in KEYS.items() if not kind.passphrase])
def test_every_package_comes_to_its_end(lab, key):
    """One run over all kinds, then Portage's word on what was signed, and the keys as they were."""
    keys = ring(lab, key)
    scene = Scene(lab, keys, PACKAGES)
    before = {name: scene.read(name) for name in scene.paths}
    state = keys.home.state()
    expected = {name: outcome(key, name) for name in PACKAGES}

    answer = scene.apply()

    scene.check(answer, expected, before)
    assert keys.home.state() == state, "the keys were changed"
    assert running_dirmngr([keys.home.path]) == []
    signed = [name for name, wanted in expected.items() if wanted.kind == RESIGNED]
    for name in signed:
        signers = scene.signers(name)
        image = next(member for member in signers if member.startswith("image"))
        assert {by for member, by in signers.items() if member != image} == {keys.signs}, name
    if signed:
        scene.trusts()
        assert scene.accepted(signed) == dict.fromkeys(signed)

    if KEYS[key].fixable:
        keys.fix(answer.records["ours"]["reason"])
        retried = held_retry(scene)
        if retried is None:
            pytest.skip("this program has no `held retry`")
        assert retried.status == 1, f"the faulty ones are still held\n{retried}"
        ours = [name for name in PACKAGES if expected[name].kind == HELD and outcome("ed25519", name).kind == RESIGNED]
        assert all(scene.read(name) not in (None, before[name]) and scene.held(name) is None for name in ours), retried
        scene.trusts()
        assert scene.accepted(ours) == dict.fromkeys(ours)


def test_portage_agrees_on_what_is_whole(lab):
    """The column `portage` of the table, so that no fault is one by our word only."""
    keys = ring(lab, "ed25519")
    scene = Scene(lab, keys, PACKAGES)
    scene.trusts(scene.stranger.home)
    accepted = {name: error is None for name, error in scene.accepted(PACKAGES).items()}
    assert accepted == {name: kind.portage for name, kind in PACKAGES.items()}


def test_portage_has_nothing_left_to_do(lab):
    """After a run, Portage's own pass touches no package of ours; what is held stays held."""
    scene = Scene(lab, ring(lab, "ed25519"), ["ours", "outside"], copies=3)
    scene.apply(check=0)
    assert_portage_finds_nothing(scene.prefix)
