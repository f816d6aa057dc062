"""What is signed is what its own signed metadata says it is, not what an index or a file name says."""

import os
import pty
import select
import subprocess
import time

import pytest

from tests.lab import files_of
from tests.lab.bounds import LIMIT
from tests.lab.container import Container

from .planted import plant, record
from .scene import both_layouts, ground, only_root

pytestmark = only_root


def add_block(stage, **values):
    """The attacker puts one more block into the index."""
    block = "".join(f"{key}: {value}\n" for key, value in sorted(values.items()))
    file = stage.prefix.write("var/tmp/block", block + "\n")
    file.chmod(0o644)
    stage.attack(f"cat {file} >>Packages")


def edit_entry(stage, path, key, value):
    """The attacker changes one line of one entry."""
    index = stage.pkgdir / "Packages"
    blocks = index.read_text().split("\n\n")
    number = next(number for number, block in enumerate(blocks) if f"\nPATH: {path}" in f"\n{block}\n")
    lines = [line for line in blocks[number].splitlines() if not line.startswith(f"{key}: ")]
    blocks[number] = "\n".join([*lines, f"{key}: {value}"])
    file = stage.prefix.write("var/tmp/index", "\n\n".join(blocks))
    file.chmod(0o644)
    stage.attack(f"cat {file} >Packages")


@both_layouts
@pytest.mark.parametrize("dependent", ["in place", "moved", "both"])
def test_another_packages_container_under_a_name_of_his(lab, layout, dependent):
    """A validly signed container, planted under another name with an index entry: that name is never signed."""
    stage = ground(lab, layout)
    name = "dev-util/strace-9.9" if dependent == "moved" else "app-misc/ksnip-9.9"
    if dependent == "both":
        stage.prefix.updates("2Q-2024", "move app-misc/ksnip x11-apps/ksnip")
    path = stage.where(name, 7)
    stage.attack(f"mkdir -p {path.rsplit('/', 1)[0]}; cp {stage.where('app-misc/two-1')} {path}")
    size = (stage.pkgdir / path).stat().st_size
    add_block(stage, CPV=name, PATH=path, BUILD_ID="7", SIZE=size, RDEPEND="dev-util/strace", REPO="gentoo", BUILD_TIME="1700000000")
    result = stage.run("apply")
    assert result.status == 1 and name.split("/")[1] in result.text, f"it is not named\n{result}"
    stage.assert_others_saved("app-misc/one-1", "app-misc/two-1", "dev-libs/three-1")
    assert not [path for path in files_of(stage.pkgdir) if "x11-apps" in path or "dev-debug/strace-9.9" in path]


@both_layouts
def test_two_packages_that_were_exchanged(lab, layout):
    """Each lies under the other's name: neither is signed there."""
    stage = ground(lab, layout)
    one, two = stage.where("app-misc/one-1"), stage.where("app-misc/two-1")
    stage.attack(f"mv {one} x; mv {two} {one}; mv x {two}")
    result = stage.run("apply")
    assert result.status == 1, result


@both_layouts
def test_the_prefix_folder_counts_as_well(lab, layout):
    """Portage accepts any; what we sign has the one of its own name."""
    stage = ground(lab, layout)
    stage.run("apply")
    for path in ("app-misc/one-1", "dev-debug/strace-6"):
        where = stage.where(path)
        prefix = Container.read(stage.pkgdir / where).members[0].name.split("/")[0]
        assert prefix == where.split("/")[-1].removesuffix(".gpkg.tar")


LIES = {
    "BUILD_ID": ["99", "1\x1b[2J", "../../x", "", "-1", "9" * 400, "01"],
    "CPV": ["app-misc/other-1", "app-evil/backdoor-1", "app-misc/one-2", "app-misc/one-1\x1b[2J", "../x-1", "one-1"],
    "SLOT": ["666", "0/evil"],
    "REPO": ["evil"],
    "EAPI": ["99", "7"],
    "USE": ["evil"],
    "IUSE": ["evil"],
    "BUILD_TIME": ["1"],
    "RDEPEND": ["dev-util/strace app-evil/backdoor", "dev-util/strace[evil]"],
    "BDEPEND": ["dev-util/strace app-evil/backdoor"],
    "LICENSE": ["evil"],
    "PROVIDES": ["x86_64: evil.so"],
}


TOLD = [("multi-instance", key, value) for key in LIES for value in LIES[key]]
TOLD += [("flat", key, LIES[key][0]) for key in ("BUILD_ID", "CPV", "RDEPEND")]


@pytest.mark.parametrize(("layout", "key", "value"), TOLD, ids=lambda value: ascii(value)[1:25])
def test_an_index_entry_that_lies(lab, layout, key, value):
    """Whatever the index says of a package of ours, nothing of it gets into what is signed."""
    stage = ground(lab, layout)
    edit_entry(stage, stage.where("app-misc/one-1"), key, value)
    result = stage.run("apply")
    assert "\x1b[2J" not in result.text, f"it reaches the terminal\n{result!r}"
    stage.assert_others_saved("app-misc/two-1", "dev-libs/three-1")


@both_layouts
@pytest.mark.parametrize("key", ["CPV", "BUILD_ID"])
def test_an_index_entry_that_lies_of_a_package_that_moves(lab, layout, key):
    """The same where a copy under a new name is made."""
    stage = ground(lab, layout)
    edit_entry(stage, stage.where("dev-util/strace-6"), key, {"CPV": "dev-util/strace-666", "BUILD_ID": "666"}[key])
    stage.run("apply")
    assert not [path for path in files_of(stage.pkgdir) if "666" in path]


# What reaches a terminal

ESCAPES = ["\x1b]0;evil\x07", "\x1b[2J", "\x9b2J", "\x1b[31m", "\r", "\x08", "\u202e"]
EVIL = "x" + "".join(ESCAPES)


def on_a_terminal(stage, *words):
    """What the program writes to a terminal."""
    leader, follower = pty.openpty()
    environment = {key: str(value) for key, value in stage.prefix.environment(TERM="xterm-256color").items()}
    environment.pop("NOCOLOR")
    argv = ["binpkg-resign", "--prefix", str(stage.prefix.path), *words]
    child = subprocess.Popen(argv, env=environment, stdin=follower, stdout=follower, stderr=follower, start_new_session=True)
    os.close(follower)
    text, deadline = b"", time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        ready, _, _ = select.select([leader], [], [], 0.1)
        try:
            text += os.read(leader, 65536) if ready else b""
        except OSError:
            break
    os.close(leader)
    if child.poll() is None and time.monotonic() >= deadline:
        child.kill()
    child.wait()
    return text.decode("utf-8", "replace")


def assert_tame(text):
    """Nothing of the attacker's controls the terminal; our own colours and the progress bar may."""
    found = [escape for escape in ("\x1b]0;evil", "\x1b[2J", "\x9b2J", "\x07", "\x08", "\u202e") if escape in text]
    assert not found, f"{found!r} reach the terminal: {text!r}"


SHOWN = [(where, words) for where in ("CPV", "PATH", "BUILD_ID", "a file", "journal") for words in ("-v apply", "apply -p")]
SHOWN += [("PATH", "verify"), ("CPV", "verify"), ("a file", "verify"), ("PATH", "doctor"), ("CPV", "doctor"), ("journal", "held")]


@pytest.mark.parametrize(("where", "words"), SHOWN)
def test_escape_sequences(lab, where, words):
    """From the index, from the names of files, from a journal: shown escaped."""
    stage = ground(lab, "multi-instance")
    match where:
        case "a file":
            stage.attack(f"cp {stage.where('app-misc/two-1')} 'app-misc/{EVIL}.gpkg.tar'")
            path = f"app-misc/{EVIL}.gpkg.tar"
            add_block(stage, CPV="app-misc/x-1", PATH=path.replace("\r", ""), RDEPEND="dev-util/strace", REPO="gentoo")
        case "journal":
            one = stage.where("app-misc/one-1")
            records = [record(stage, EVIL, f"{one}.held", cpv=EVIL, reason=EVIL, build_id=EVIL, updates=[EVIL])]
            plant(stage, journal={"records": records}, held={f"{one}.held": one})
        case "CPV":
            add_block(stage, CPV=f"app-misc/{EVIL}-1".replace("\r", ""), PATH="app-misc/x.gpkg.tar", RDEPEND="dev-util/strace", REPO="gentoo")
            stage.attack(f"cp {stage.where('app-misc/two-1')} app-misc/x.gpkg.tar; : >app-misc/x.gpkg.tar")
        case _:
            edit_entry(stage, stage.where("app-misc/one-1"), where, EVIL.replace("\r", ""))
    assert_tame(on_a_terminal(stage, *words.split()))
