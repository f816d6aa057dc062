"""`.binpkg-resign` is ours or it is nothing: whatever somebody else has put there is moved aside, and nothing in it believed."""

import json

import pytest

from tests.lab.promise import digest

from .planted import plant, record
from .scene import ATTACKER, both_layouts, ground, only_root

pytestmark = only_root

COMMANDS = [("apply",), ("held",), ("held", "retry"), ("held", "drop", "app-misc/x"), ("doctor",)]

FOLDERS = {
    "held is a link": "mkdir .binpkg-resign; ln -s $T .binpkg-resign/held",
    "held is a link to a folder of files": "mkdir .binpkg-resign; ln -s $T/held .binpkg-resign/held",
    "a folder below held is a link": "mkdir -p .binpkg-resign/held; ln -s $T/app-misc .binpkg-resign/held/app-misc",
    "the folder is a link": "ln -s $T .binpkg-resign",
    "the folder is a link to our own": "mkdir x; ln -s x .binpkg-resign; echo mine >x/marker",
    "the folder is a file": "echo mine >.binpkg-resign",
    "the folder is a pipe": "mkfifo .binpkg-resign",
    "the folder is somebody's": "mkdir -m 0700 .binpkg-resign; echo mine >.binpkg-resign/marker",
    "the folder is for everybody": "mkdir -m 0777 .binpkg-resign; echo mine >.binpkg-resign/marker",
    "the journal is a link": "mkdir .binpkg-resign; ln -s $T/secret .binpkg-resign/journal",
    "the journal is a pipe": "mkdir .binpkg-resign; mkfifo .binpkg-resign/journal",
    "the journal is endless": "mkdir .binpkg-resign; ln -s /dev/zero .binpkg-resign/journal",
    "the journal is huge": "mkdir .binpkg-resign; truncate -s 5G .binpkg-resign/journal",
    "the lock is a link": "mkdir .binpkg-resign; ln -s $T/secret .binpkg-resign/lock",
    "the lock is a dangling link": "mkdir .binpkg-resign; ln -s $T/new .binpkg-resign/lock",
    "the lock is a pipe": "mkdir .binpkg-resign; mkfifo .binpkg-resign/lock",
    "the commit note is a pipe": "mkdir .binpkg-resign; mkfifo .binpkg-resign/commit",
    "very deep": "mkdir .binpkg-resign; cd .binpkg-resign; mkdir held; cd held; i=0; while [ $i -lt 380 ]; do mkdir dddddddd; cd dddddddd; i=$((i+1)); done; touch x",
}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_that_is_not_ours(lab, folder):
    """With an update pending: nothing outside is touched, it is said, and the packages are saved all the same."""
    stage = ground(lab, "multi-instance")
    stage.attack(FOLDERS[folder])
    result = stage.run("apply")
    assert ".binpkg-resign" in result.err, f"nothing is said of it\n{result}"
    stage.assert_others_saved("app-misc/one-1", "app-misc/two-1", "dev-libs/three-1")
    stage.run("held", "retry")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("folder", ["held is a link", "the folder is a link", "the journal is a pipe"])
def test_every_command_where_nothing_is_pending(lab, folder, words):
    """The same where there is nothing to do at all."""
    stage = ground(lab, "multi-instance", pending=False)
    stage.attack(FOLDERS[folder])
    stage.run(*words)


@pytest.mark.parametrize("folder", ["the folder is somebody's", "the folder is for everybody", "the folder is a file"])
def test_it_is_moved_aside_and_not_deleted(lab, folder):
    """What was there may be somebody's only copy."""
    stage = ground(lab, "multi-instance")
    stage.attack(FOLDERS[folder])
    stage.run("apply")
    kept = [path for path in stage.pkgdir.rglob("*") if path.is_file() and path.read_bytes() == b"mine\n"]
    assert kept, "it is gone"
    ours = stage.pkgdir / ".binpkg-resign"
    assert not ours.exists() or (ours.stat().st_uid == 0 and ours.stat().st_mode & 0o7777 == 0o700)


@both_layouts
def test_a_folder_of_root_that_others_may_write(lab, layout):
    """0777 and root's, by whatever slip: what is in it root alone could not have put there."""
    stage = ground(lab, layout)
    folder = stage.pkgdir / ".binpkg-resign"
    folder.mkdir()
    folder.chmod(0o777)
    stage.attack("mkdir .binpkg-resign/held; ln -s $T .binpkg-resign/held/app-misc")
    stage.run("apply")
    stage.assert_others_saved("app-misc/one-1", "app-misc/two-1", "dev-libs/three-1")


# What is planted there


EVIL = ["move dev-util/strace app-evil/backdoor", "slotmove app-misc/one 0 666", "move app-misc/other app-evil/backdoor"]


@both_layouts
@pytest.mark.parametrize("words", [("apply",), ("held", "retry")], ids=" ".join)
@pytest.mark.parametrize("removed", [False, True], ids=["in place", "removed"])
def test_updates_that_stand_in_a_planted_journal(lab, layout, words, removed):
    """They are nobody's updates: root signs no RDEPEND of the attacker's."""
    stage = ground(lab, layout)
    path = stage.where("app-misc/one-1")
    plant(stage, journal={"records": [record(stage, path, f"{path}.held", updates=EVIL)]}, held={f"{path}.held": path})
    if removed:
        stage.attack(f"rm {path}")
    stage.run(*words)
    stage.run("apply", "--all")


@both_layouts
def test_an_index_entry_that_stands_in_a_planted_journal(lab, layout):
    """Its block is as little worth as its updates."""
    stage = ground(lab, layout)
    path = stage.where("app-misc/one-1")
    evil = "BUILD_ID: 1\nCPV: app-misc/one-1\nRDEPEND: dev-util/strace app-evil/backdoor\nSLOT: 666\nUSE: evil\nREPO: evil\n"
    evil += f"PATH: {path}\n"
    plant(stage, journal={"records": [record(stage, path, f"{path}.held", entry=evil)]}, held={f"{path}.held": path})
    stage.attack(f"rm {path}")
    stage.run("apply")
    assert "app-evil" not in (stage.pkgdir / "Packages").read_text()


OUTSIDE = ["../x", "../../treasure/secret", "/etc/passwd", "", ".", "..", "a/../../x", "Packages", "\x1b[2J", "a\x00b", "x" * 300, "d/" * 2000]


@pytest.mark.parametrize("path", OUTSIDE, ids=range(len(OUTSIDE)))
def test_paths_that_stand_in_a_planted_journal(lab, path):
    """0.1.0 spun for ever at one, and ignored signals."""
    stage = ground(lab, "multi-instance")
    good = stage.where("app-misc/one-1")
    records = [record(stage, path, f"{good}.held"), record(stage, good, path), record(stage, path, path)]
    staged = [path, f"../../{stage.treasure.name}/secret"]
    plant(stage, journal={"records": records, "staged": staged}, held={f"{good}.held": good})
    result = stage.run("apply")
    assert "\x1b[2J" not in result.text
    stage.run("held", "retry")
    stage.run("held", "drop", path.replace("\0", "") or ".")


def test_very_many_records(lab):
    """A journal of very many records is no reason to take long."""
    stage = ground(lab, "multi-instance")
    path = stage.where("app-misc/one-1")
    one = json.dumps(record(stage, path, f"{path}.held", entry=""))
    text = '{"records": [' + ", ".join([one] * 200_000) + "]}"
    file = stage.prefix.write("var/tmp/journal", text)
    file.chmod(0o644)
    stage.attack(f"mkdir .binpkg-resign; cp {file} .binpkg-resign/journal")
    stage.run("apply")


@both_layouts
@pytest.mark.parametrize("what", ["releases outside", "goes outside", "goes over a package", "a new package"])
def test_a_planted_commit_note(lab, layout, what):
    """A batch that root never made is not finished."""
    stage = ground(lab, layout)
    path, other = stage.where("app-misc/one-1"), stage.where("app-misc/two-1")
    evil = f"BUILD_ID: 1\nCPV: app-misc/one-1\nPATH: {path}\nRDEPEND: app-evil/backdoor\nSIZE: 1\n"
    item = {"destination": path, "replaces": True, "size": 1, "mtime": 0, "entry": evil, "releases": None}
    out = "../../../../treasure/secret"
    folder, name = path.rsplit("/", 1)
    planted = [(f"{folder}/.{name}.resign", other)]
    match what:
        case "releases outside":
            item["releases"] = f"../{out}"
        case "goes outside":
            item["destination"] = out
            planted = [(f"{folder}/.secret.resign", other)]
        case "goes over a package":
            item["releases"] = f"{path}.held"
        case "a new package":
            item |= {"destination": f"{folder}/evil.gpkg.tar", "replaces": False}
            planted = [(f"{folder}/.evil.gpkg.tar.resign", other)]
    before = digest(stage.pkgdir / path)
    plant(stage, commit={"items": [item]}, files=planted, held={f"{path}.held": path})
    result = stage.run("apply")
    assert "app-evil" not in (stage.pkgdir / "Packages").read_text(), result
    assert not (stage.pkgdir / folder / "evil.gpkg.tar").exists(), result
    assert digest(stage.pkgdir / path) != before
    stage.assert_others_saved("app-misc/one-1", "app-misc/two-1", "dev-libs/three-1")


@both_layouts
@pytest.mark.parametrize("journal", [True, False], ids=["with a journal", "without"])
@pytest.mark.parametrize("number", ["", ".2"])
def test_held_files_that_are_other_packages(lab, layout, journal, number):
    """Another package's bytes, validly signed by us, as PATH.held: they are not signed under that name."""
    stage = ground(lab, layout)
    path, other = stage.where("app-misc/one-1"), stage.where("app-misc/two-1")
    held = f"{path}.held{number}"
    records = [record(stage, path, held)] if journal else []
    plant(stage, journal={"records": records} if journal else None, held={held: other})
    stage.attack(f"rm {path}")
    stage.run("apply")
    stage.run("held", "retry")
    stage.run("apply", "--all")


@both_layouts
def test_held_files_of_a_name_that_never_was(lab, layout):
    """The same under a name of the attacker's choice."""
    stage = ground(lab, layout)
    evil = stage.where("app-evil/backdoor-9.9")
    plant(stage, held={f"{evil}.held": stage.where("app-misc/two-1")})
    stage.run("apply")
    stage.run("held", "retry")
    assert not (stage.pkgdir / evil).exists()


@both_layouts
def test_our_own_folder_with_its_group(lab, layout):
    """What the program itself makes there is root's alone, although PKGDIR hands its group on."""
    stage = ground(lab, layout)
    stage.prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "/bin/false [PORTAGE_CONFIG]"
    stage.prefix.configure()
    stage.run("apply")
    folder = stage.pkgdir / ".binpkg-resign"
    assert folder.stat().st_mode & 0o077 == 0 and folder.stat().st_uid == 0
    for path in folder.rglob("*"):
        facts = path.lstat()
        assert facts.st_uid == 0, path
        if path.is_dir() or ".held" not in path.name:
            assert facts.st_mode & 0o077 == 0, (path, oct(facts.st_mode))
    assert ATTACKER == stage.pkgdir.stat().st_gid
