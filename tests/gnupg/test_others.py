"""Other programs than GnuPG's gpg, and keyboxd for the whole machine: as newer systems have them."""

import json
import os
import shutil
import subprocess

import pytest

from tests.keys.homes import Home, Ring, Signer, environment, ring
from tests.keys.scene import Scene
from tests.keys.table import FOREIGN, HELD, RESIGNED
from tests.keys.test_configurations import apply_on, checked, machine
from tests.lab.command import run
from tests.lab.session import KEYBOXD

KINDS = ("ours", "stranger", "friend", "unsigned")


def needs(*programs):
    """Skips where one of them is not installed."""
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"skipped: {program} is not installed")


def sequoias_machine():
    """Words before a command that make gpg-sq its gpg; skips where the machine does not let us."""
    words = ["unshare", "--mount", "sh", "-c", 'mount --bind /usr/bin/gpg-sq /usr/bin/gpg && exec "$@"', "sh"]
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("skipped: gpg cannot be replaced here")
    return words


@pytest.fixture
def scene(lab):
    """Two packages of ours, and those of others."""
    made = Scene(lab, ring(lab, "ed25519"), KINDS, copies=2)
    made.before = {name: made.read(name) for name in made.paths}
    return made


def test_where_the_public_keys_are(lab):
    """`BINPKG_RESIGN_KEYBOXD` itself, once: with it, keyboxd has them in every signing home, else a file."""
    homes = [ring(lab, "ed25519").home.path, ring(lab, "rsa4096").home.path, lab.key().home, lab.copy_key(lab.key()).home]
    for home in homes:
        assert (home / "public-keys.d/pubring.db").exists() == KEYBOXD, home
        assert (home / "pubring.kbx").exists() != KEYBOXD, home


def test_sequoias_gpg_signs(scene):
    """The signing command is gpg-sq, what verifies is GnuPG's."""
    needs("gpg-sq")
    scene.variables(BINPKG_GPG_SIGNING_BASE_COMMAND="/usr/bin/gpg-sq --sign --armor [PORTAGE_CONFIG]")
    diagnosis = scene.prefix.resign("doctor", check=None)
    assert "the signing command works" in diagnosis.text, str(diagnosis)
    checked(scene, scene.apply(), RESIGNED)


def test_sequoias_gpg_is_gpg(scene):
    """app-alternatives/gpg: both signing and verifying."""
    needs("gpg-sq")
    answer = apply_on(scene, sequoias_machine())
    checked(scene, answer, RESIGNED)
    assert answer.records["stranger"]["outcome"] == answer.records["friend"]["outcome"] == FOREIGN


def test_sequoias_gpg_does_not_heed_an_exact_key(lab):
    """`KEY!`: the reason names both keys."""
    needs("gpg-sq")
    keys = ring(lab, "exact")
    scene = Scene(lab, keys, ("ours", "stranger"))
    scene.before = {name: scene.read(name) for name in scene.paths}
    scene.variables(BINPKG_GPG_SIGNING_BASE_COMMAND="/usr/bin/gpg-sq --sign --armor [PORTAGE_CONFIG]")
    answer = scene.apply()
    kind = answer.records["ours"]["outcome"]
    checked(scene, answer, kind, f"instead of {keys.signs}" if kind == HELD else "")


def test_sq_signs_through_a_wrapper(scene):
    """sq has a command line of its own: the wrapper of doc/keys.md."""
    needs("sq")
    home = scene.ring.home
    secret = scene.prefix.write("secret.pgp", home.gpg("--armor", "--export-secret-keys", scene.ring.ours.key).out)
    text = open(os.path.join(os.path.dirname(__file__), "../../doc/keys.md"), encoding="utf-8").read()
    wrapper = text.split("```sh\n", 1)[1].split("```", 1)[0]
    script = scene.prefix.write("sq-sign", wrapper.replace("/etc/portage/binhost.pgp", str(secret)))
    script.chmod(0o755)
    scene.variables(BINPKG_GPG_SIGNING_BASE_COMMAND=f"{script} [PORTAGE_CONFIG]")
    diagnosis = scene.prefix.resign("doctor", check=None)
    assert "the signing command works" in diagnosis.text, str(diagnosis)
    checked(scene, scene.apply(), RESIGNED)


def test_keyboxd_for_the_whole_machine(lab):
    """`use-keyboxd` in /etc/gnupg/common.conf, which no option overrides: the private home has a keyboxd, too."""
    needs("/usr/lib/gnupg/keyboxd")
    words = machine("common.conf", "use-keyboxd")
    home = Home.fresh(lab)
    (home.path / "common.conf").write_text("use-keyboxd\n")
    key, other = home.add("ours"), home.add("acquaintance")
    scene = Scene(lab, Ring(home, key, Signer(home, key), key, Signer(home, other)), ("ours", "stranger", "unsigned"))
    scene.before = {name: scene.read(name) for name in scene.paths}
    answer = apply_on(scene, words)
    checked(scene, answer, RESIGNED)
    assert answer.records["stranger"]["outcome"] == FOREIGN
    running = subprocess.run(["pgrep", "-af", "keyboxd.*binpkg-resign"], capture_output=True, text=True, check=False).stdout
    assert running == "", "the private keyboxd has ended"


# The keyring that Portage verifies with, where gpg keeps it in another place


def trust_check(scene, *words):
    """What doctor says of that keyring: state and text."""
    argv = [*words, "binpkg-resign", "--prefix", scene.prefix.path, "--json", "doctor"]
    answer = json.loads(scene.prefix.run(*argv, check=None).out)
    return next((check["state"], check["text"]) for check in answer["checks"] if check["name"] == "trust")


def clients(scene, program="gpg"):
    """A keyring that trusts the key, filled by this gpg, and readable for nobody."""
    home = Home(scene.lab.directory("k"))
    if program == "gpg":
        (home.path / "common.conf").write_text("use-keyboxd\n")
    key = scene.ring.ours.key
    texts = {"--import": scene.ring.home.certificates(), "--import-ownertrust": f"{key}:6:\n", "--check-trustdb": ""}
    for word, text in texts.items():
        run([program, "--homedir", home.path, "--batch", word], environment(home.path), stdin=text.encode())
    home.kill_agent()
    for item in [home.path, *home.path.rglob("*")]:
        item.chmod(0o755 if item.is_dir() else 0o644)
    scene.variables(BINPKG_GPG_VERIFY_GPG_HOME=home.path)
    return home


def test_clients_with_keyboxd(scene):
    """The key is found there; doctor says what Portage, as nobody, cannot do with it, and that is so."""
    needs("/usr/lib/gnupg/keyboxd")
    home = clients(scene)
    assert (home.path / "public-keys.d/pubring.db").exists()
    state, text = trust_check(scene)
    assert state == "warning" and "trusts the key, but keeps it in keyboxd" in text, text
    assert scene.accepted(["ours"])["ours"] is not None


def test_clients_with_sequoias_gpg(scene):
    """`pubring.cert.d`, which only that program reads."""
    needs("gpg-sq")
    home = clients(scene, "gpg-sq")
    assert (home.path / "pubring.cert.d").exists()
    state, text = trust_check(scene, *sequoias_machine())
    assert "trusts the key" in text, (state, text)
