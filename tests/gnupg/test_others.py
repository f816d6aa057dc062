"""Other programs than GnuPG's gpg, and keyboxd for the whole machine: as newer systems have them."""

import os
import shutil
import subprocess

import pytest

from tests.keys.homes import Home, Ring, Signer, ring
from tests.keys.scene import Scene
from tests.keys.table import FOREIGN, HELD, RESIGNED
from tests.keys.test_configurations import apply_on, checked, machine

KINDS = ("ours", "stranger", "friend", "unsigned")


def needs(*programs):
    """Skips where one of them is not installed."""
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"skipped: {program} is not installed")


@pytest.fixture
def scene(lab):
    """Two packages of ours, and those of others."""
    made = Scene(lab, ring(lab, "ed25519"), KINDS, copies=2)
    made.before = {name: made.read(name) for name in made.paths}
    return made


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
    script = 'mount --bind /usr/bin/gpg-sq /usr/bin/gpg && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", script, "sh"]
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("skipped: gpg cannot be replaced here")
    answer = apply_on(scene, words)
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
