"""Whose a package is: strangers left or held, keys that were replaced, and trust that nobody touches."""

import shutil

import pytest

from . import craft, homes
from .homes import LATER, NEXT_DAY, THEN, Home, Ring, Signer, running_dirmngr
from .scene import Scene
from .table import FOREIGN, HELD, PACKAGES, RESIGNED, UNMENTIONED, Outcome, outcome


@pytest.mark.parametrize("foreign", ["leave", "hold"])
def test_foreign_packages(lab, foreign):
    """Left byte for byte and named with who signed them, or held."""
    keys = homes.ring(lab, "ed25519")
    kinds = ("ours", "unsigned", "stranger", "friend", "acquaintance", "two-signatures")
    scene = Scene(lab, keys, kinds, BINPKG_RESIGN_FOREIGN=foreign)
    before = {name: scene.read(name) for name in scene.paths}
    expected = {name: outcome("ed25519", name, foreign=foreign) for name in kinds}
    pretended = scene.prefix.resign("apply", "--pretend", check=None)
    answer = scene.apply()
    scene.check(answer, expected, before)
    said = pretended.text
    for name in ("stranger", "friend", "acquaintance", "two-signatures"):
        assert f"app-misc/{name}-1" in said and scene.named(PACKAGES[name].says) in said, said
    assert "app-misc/unsigned" not in said


def test_the_text_names_who_signed_foreign_packages(lab):
    """Exit status 0, and the packages that Portage is about to remove, with their signers."""
    scene = Scene(lab, homes.ring(lab, "ed25519"), ("stranger", "unsigned"))
    said = scene.prefix.resign("apply", check=0).text
    assert "app-misc/stranger-1" in said and scene.stranger.key[-16:] in said and "unsigned" not in said, said


# How OLD may be by the time its packages are signed anew with NEW, and what becomes of them.
OLD = {
    "there": RESIGNED,
    "secret gone": RESIGNED,
    "expired": RESIGNED,
    "expired, secret gone": RESIGNED,
    "revoked": HELD,
    "gone": FOREIGN,
    # its secret half is in the signing home
    "not named": HELD,
    "named for another key": HELD,
}


@pytest.mark.parametrize("old", OLD)
def test_a_key_that_was_replaced(lab, old):
    """BINPKG_GPG_SIGNING_KEY_MIGRATION: all three signatures are NEW's, the image is what it was."""
    home, wanted = Home.fresh(lab), OLD[old]
    first = home.add("old", *THEN, expires="1y" if "expired" in old else "never")
    second = home.add("new", *THEN)
    other = home.add("acquaintance", *THEN)

    def change():
        secret, revoked = home.secret_file(first), old == "revoked"
        if revoked:
            home.revoke(first)
        if "secret gone" in old or old == "gone":
            secret.unlink()
        if old == "gone":
            home.gpg("--delete-keys", first)

    keys = Ring(home, second, Signer(home, first, LATER), second, Signer(home, other), change)
    migration = {"not named": "", "named for another key": f"{first}={other}"}.get(old, f"{first}={second}")
    # what is tampered with is held, whoever had signed it
    kinds = ("ours", "outside", "unsigned", "stranger", "image", "metadata", "borrowed")
    scene = Scene(lab, keys, kinds, BINPKG_GPG_SIGNING_KEY_MIGRATION=migration)
    before = {name: scene.read(name) for name in kinds}
    image = _image(scene, "ours")
    state = home.state()
    expected = {name: Outcome(wanted) if outcome("ed25519", name).kind == RESIGNED else outcome("ed25519", name) for name in kinds}
    if wanted != RESIGNED:
        reason = "revoked" if old == "revoked" else first[-16:]
        faulty = {name: Outcome(wanted) for name in ("image", "metadata", "borrowed")}
        expected |= faulty | {name: Outcome(wanted, reason) for name in ("ours", "outside")}
    answer = scene.apply()
    scene.check(answer, expected, before)
    assert home.state() == state, "the keys were changed"
    if wanted == RESIGNED:
        assert set(scene.signers("ours").values()) == set(scene.signers("outside").values()) == {second}
        assert _image(scene, "ours") == image
        clients = Home.fresh(lab)
        clients.gpg("--import", stdin=home.gpg("--armor", "--export", second).out.encode())
        homes.trusting(scene.prefix.keyring, clients)
        assert scene.accepted(["ours", "outside"]) == {"ours": None, "outside": None}


def test_rekey(lab):
    """Over the whole PKGDIR, without updates: what OLD has signed, the image alone too, and nothing else."""
    home = Home.fresh(lab)
    first, second, other = (home.add(who, *THEN) for who in ("old", "new", "acquaintance"))
    old, new = Signer(home, first), Signer(home, second)
    keys = Ring(home, second, old, second, Signer(home, other))
    kinds = ("ours", "outside", "unsigned", "stranger", "acquaintance", "image", "borrowed")
    scene = Scene(lab, keys, kinds, copies=3, BINPKG_GPG_SIGNING_KEY_MIGRATION=f"{first}={second}")
    (scene.prefix.repository_path("gentoo") / "profiles/updates/1Q-2024").unlink()
    # one that NEW has signed already, and one where only the image is still OLD's
    done, half = (scene.prefix.pkgdir / scene.paths[name] for name in ("ours 2", "ours 3"))
    craft.put_together(done, craft.seal(craft.take_apart(done), new))
    members = craft.take_apart(half)
    image = craft.member(members, "image")
    sealed = craft.seal(members, new) | {f"{image}.sig": members[f"{image}.sig"]}
    craft.put_together(half, sealed | {"Manifest": new.clear(craft.manifest(sealed))})
    before = {name: scene.read(name) for name in scene.paths}
    state = home.state()

    would = scene.prefix.resign("rekey", "--pretend", check=1)
    assert "To be signed again with the new key:" in would.out and "would be held" not in would.text, would
    assert {name: scene.read(name) for name in scene.paths} == before
    result = scene.prefix.resign("rekey", "--verbose", check=1)

    assert home.state() == state
    assert {name for name in scene.paths if scene.read(name) != before[name]} == {"ours", "ours 3", "outside"}, result
    assert "image-1" in result.text and "borrowed-1" in result.text, result
    assert "Signed again with the new key: 3 packages" in result.out, result
    for name in ("ours", "ours 3", "outside"):
        assert set(scene.signers(name).values()) == {second}, name
    clients = Home.fresh(lab)
    clients.gpg("--import", stdin=home.gpg("--armor", "--export", second).out.encode())
    homes.trusting(scene.prefix.keyring, clients)
    signed = ["ours", "ours 2", "ours 3", "outside"]
    assert scene.accepted(signed) == dict.fromkeys(signed)


def _image(scene, name):
    members = craft.take_apart(scene.prefix.pkgdir / scene.paths[name])
    return members[craft.member(members, "image")]


def test_trust_is_never_touched(lab):
    """Byte for byte, for every home there is: the signing one, the clients', the caller's own; and no dirmngr runs.

    The signing home's trust database is out of date, which gpg repairs whenever it lists keys.
    """
    keys = homes.ring(lab, "ed25519")
    scene = Scene(lab, keys, PACKAGES)
    keys.home.gpg("--import", stdin=scene.stranger.home.certificates().encode())
    keys.home.add("short-lived", *THEN, expires="1y")
    callers = Home(scene.prefix.path / "home/.gnupg")
    callers.add("caller")
    scene.trusts(scene.stranger.home)
    watched = [keys.home, callers, Home(scene.prefix.keyring), scene.stranger.home]
    states = [home.state() for home in watched]
    for words in (["apply", "--pretend"], ["apply"], ["held", "list"], ["held", "retry"], ["rekey", "--pretend"], ["rekey"]):
        scene.prefix.resign(*words, check=None)
        assert [home.state() for home in watched] == states, words
    assert not scene.mark.exists(), "PORTAGE_TRUST_HELPER was run"
    assert running_dirmngr(home.path for home in watched) == []


def test_unsigned_packages_are_not_mentioned(lab):
    """Nothing is said, and nothing is asked of the keys."""
    keys = homes.ring(lab, "no-home")
    scene = Scene(lab, keys, ("unsigned",))
    before = scene.read("unsigned")
    answer = scene.apply(check=0)
    scene.check(answer, {"unsigned": Outcome(UNMENTIONED)}, {"unsigned": before})


@pytest.mark.parametrize("what", ["key", "subkey"])
def test_a_revocation_that_only_the_clients_know(lab, what):
    """It stands in BINPKG_GPG_VERIFY_GPG_HOME and nowhere else: what the key signed is held, and it signs no more."""
    home = Home.fresh(lab)
    primary = home.add("ours", *THEN, usage="cert" if what == "subkey" else "sign")
    key = home.add_subkey(primary, *NEXT_DAY) if what == "subkey" else primary
    elsewhere = Home.fresh(lab)
    shutil.copytree(home.path, elsewhere.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("S.*", "*.lock", ".#*"))
    if what == "subkey":
        elsewhere.revoke_subkey(primary, 1)
        home.add_subkey(primary, *LATER)
    else:
        elsewhere.revoke(primary)
    keys = Ring(home, primary, Signer(home, f"{key}!", LATER), primary, Signer(home, home.add("acquaintance", *THEN)))
    scene = Scene(lab, keys, ("ours", "outside"))
    before = {name: scene.read(name) for name in ("ours", "outside")}
    homes.trusting(scene.prefix.keyring, elsewhere)
    state, clients = home.state(), Home(scene.prefix.keyring).state()
    answer = scene.apply()
    scene.check(answer, dict.fromkeys(before, Outcome(HELD, "revoked")), before)
    assert home.state() == state and Home(scene.prefix.keyring).state() == clients, "the keys were changed"
    if what == "key":
        assert "revoked" in scene.prefix.resign("doctor", check=1).text
