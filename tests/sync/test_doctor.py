"""doctor knows how this host syncs, and whether the next emerge, or an earlier one, costs packages."""

import shutil

import pytest

from tests.lab import Snapshot, package
from tests.lab.session import TOP

from .scene import DOOMED, configure_sync, lost, publish, scene
from .ways import PULL


@pytest.fixture
def prefix(lab):
    """A prefix with the hook, where all is well."""
    prefix = scene(lab)
    prefix.install_hook_with_place()
    return prefix


def checks(prefix, status=0):
    """Name → (state, text) of what is not in order."""
    answer = prefix.resign_json("doctor", check=status)
    return {check["name"]: (check["state"], check["text"]) for check in answer["checks"] if check["state"] != "ok"}


def regular(prefix):
    """post_emerge, as the documentation has it."""
    prefix.write("etc/portage/bin/post_emerge", "#!/bin/sh\nbinpkg-resign --quiet apply\n").chmod(0o755)


def test_nothing_is_changed(prefix):
    """Not a byte, whatever it looks at."""
    before = Snapshot(prefix.path)
    assert checks(prefix) == {}
    assert before.difference(Snapshot(prefix.path)) == []


def test_the_next_emerge(prefix):
    """What it says is what happens: so many packages are removed, and `doctor && emerge` is safe."""
    publish(prefix)
    prefix.run("sh", "-c", PULL.replace(" /var", f" {prefix.path}/var"))
    state, text = checks(prefix, 1)["pending"]
    assert state == "problem" and "removes 2 signed packages" in text and "leaves 1 under" in text, text
    prefix.variables["EMERGE_DEFAULT_OPTS"] = "--package-moves=n"
    prefix.configure()
    assert checks(prefix)["pending"][0] == "warning"
    del prefix.variables["EMERGE_DEFAULT_OPTS"]
    prefix.configure()
    prefix.emerge("--check-news")
    assert lost(prefix) == sorted(DOOMED)
    found = checks(prefix)
    assert "pending" not in found
    state, text = found["processed"]
    assert state == "warning" and "1 signed package with" in text and "dev-util/strace-6.6" in text, text
    # what it advises helps
    prefix.resign("apply", "--all")
    assert "processed" not in checks(prefix)


def make_strangers(prefix, cpv, **words):
    """A package that somebody else has signed; where it lies."""
    stranger = prefix.session.new_key()
    [path] = prefix.make(package(cpv, signer=f"{stranger.home} {stranger.fingerprint}", **words), index=False)
    # emaint takes in only what the keyring trusts
    prefix.resign("index")
    return path


def test_somebody_elses_packages(prefix):
    """They are no problem that `apply` could help with; what helps is said, and does."""
    path = make_strangers(prefix, "app-misc/theirs-1", RDEPEND="dev-util/strace")
    publish(prefix)
    prefix.run("sh", "-c", PULL.replace(" /var", f" {prefix.path}/var"))
    found = checks(prefix, 1)
    assert "removes 2 signed packages" in found["pending"][1], found
    assert found["foreign"][0] == "warning" and "1 package signed by somebody else (app-misc/theirs-1" in found["foreign"][1], found
    prefix.resign("apply")
    found = checks(prefix)
    assert found.keys() == {"foreign"}, found
    assert "BINPKG_RESIGN_FOREIGN" in prefix.resign("doctor").out
    prefix.variables["BINPKG_RESIGN_FOREIGN"] = "hold"
    prefix.configure()
    state, text = checks(prefix, 1)["pending"]
    assert state == "problem" and "removes 1 signed package (app-misc/theirs-1" in text, text
    prefix.resign("apply", check=1)
    assert checks(prefix).keys() == {"held"}
    prefix.emerge("--check-news")
    assert not (prefix.pkgdir / path).exists() and list(prefix.held.glob(f"{path}.held*"))


def test_somebody_elses_stale_packages(prefix):
    """What Portage has left under its old name, and is not ours, no run of ours brings up to date."""
    make_strangers(prefix, "dev-util/strace-6.7")
    publish(prefix)
    prefix.run("sh", "-c", PULL.replace(" /var", f" {prefix.path}/var"))
    prefix.resign("apply")
    assert checks(prefix) == {}
    prefix.emerge("--check-news")
    assert checks(prefix) == {}


@pytest.mark.parametrize("net", ["auto", "yes"])
def test_where_nothing_is_signed(prefix, net):
    """No advice that cannot help: `apply` does nothing there, unless it is to keep the net."""
    prefix.key = None
    prefix.variables["BINPKG_RESIGN_NET"] = net
    prefix.configure()
    prefix.resign("apply")
    publish(prefix)
    prefix.run("sh", "-c", PULL.replace(" /var", f" {prefix.path}/var"))
    found = checks(prefix)
    state, text = found["pending"]
    assert state == "warning" and "removes 2 signed packages" in text, text
    said = prefix.resign("doctor").out
    assert "first" not in said and ("RESIGN_NET" in said) == (net == "auto"), said
    prefix.resign("apply")
    assert checks(prefix) == found
    prefix.emerge("--check-news")
    assert sorted(path for path in DOOMED if not (prefix.pkgdir / path).exists()) == sorted(DOOMED)
    found = checks(prefix)
    assert found["processed"][0] == "warning" and "pending" not in found, found
    said = prefix.resign("doctor").out
    assert "apply --all" not in said and "brings" not in said, said
    if net == "yes":
        assert "removed 2 signed packages" in found["processed"][1], found
        prefix.resign("apply", check=None)
        assert lost(prefix) == []


def test_unsigned_packages_do_not_count(prefix):
    """Portage updates those itself."""
    prefix.key, key = None, prefix.key
    prefix.configure()
    shutil.rmtree(prefix.pkgdir)
    prefix.make(package("app-misc/user-1", RDEPEND="dev-util/strace"))
    prefix.key = key
    prefix.configure()
    prefix.updates("1Q-2024", "move dev-util/strace dev-debug/strace")
    assert "pending" not in checks(prefix)


def test_webrsync_delta(prefix):
    """The pass runs before the hook, unless post_sync is there."""
    options = ("sync-type = webrsync", "sync-webrsync-delta = yes")
    configure_sync(prefix, *options)
    state, text = checks(prefix, 1)["delta"]
    assert state == "problem" and "gentoo" in text
    prefix.write("etc/portage/make.conf", (prefix.path / "etc/portage/make.conf").read_text() + f'PORTDIR="{prefix.repository_path("gentoo")}"\n')
    assert checks(prefix, 1)["delta"][0] == "problem", "PORTDIR hides how it is synced"
    regular(prefix)
    assert checks(prefix)["delta"][0] == "warning"
    (prefix.path / "etc/portage/bin/post_sync").symlink_to("../postsync.d/50-binpkg-resign")
    assert checks(prefix) == {}
    (prefix.path / "etc/portage/bin/post_sync").unlink()
    prefix.features.append("-news")
    prefix.configure()
    assert checks(prefix) == {}


@pytest.mark.parametrize("options", [("sync-type =",), ("sync-type = git", "auto-sync = no")])
def test_a_tree_from_outside(prefix, options):
    """No hook runs when it changes."""
    configure_sync(prefix, *options)
    assert checks(prefix)["outside"][0] == "warning"
    timer = prefix.path / "etc/systemd/system/timers.target.wants/binpkg-resign.timer"
    timer.parent.mkdir(parents=True)
    timer.symlink_to("/usr/lib/systemd/system/binpkg-resign.timer")
    assert checks(prefix) == {}


def test_eix_sync(prefix):
    """Options that run no hook want our lines."""
    ours = (TOP / "hooks/eix-sync.conf").read_text()
    apply = ours.splitlines()[-1]
    assert apply.startswith("@")
    for text, wrong in (
        ("-w\n", True),
        ("# -w\n", False),
        ("*\n-a -c emaint\n", True),
        (f"-w\n{apply}\n", True),
        (f"-s server\n{apply}\n", False),
        (f"-W\n{ours}", False),
        (f"-w\n@{apply}\n", True),
        ("-a\n", False),
    ):
        prefix.write("etc/eix-sync.conf", text)
        assert ("eix" in checks(prefix, int(wrong))) == wrong, text


@pytest.mark.parametrize(
    "file, line, word",
    [
        ("etc/cron.d/sync", "0 4 * * * root emerge-webrsync", "ends with an emerge"),
        ("etc/cron.daily/sync", "emerge-webrsync && binpkg-resign apply", "ends with an emerge"),
        ("etc/crontab", "0 4 * * * root git -C {tree} pull", "changes a repository"),
        ("var/spool/cron/crontabs/root", "0 4 * * * EMERGE_DEFAULT_OPTS=--package-moves=n emerge-webrsync", "without `binpkg-resign apply`"),
        ("etc/systemd/system/sync.service", "ExecStart=rsync -a rsync://mirror/x/ {tree}/", "changes a repository"),
    ],
)
def test_schedules(prefix, file, line, word):
    """What changes a repository without us, or with us too late."""
    prefix.write(file, line.format(tree=prefix.repository_path("gentoo")) + "\n")
    state, text = checks(prefix)["schedule"]
    assert state == "warning" and word in text and file in text, text


@pytest.mark.parametrize(
    "line",
    [
        "0 4 * * * root git -C {tree} pull && binpkg-resign apply",
        "0 4 * * * root EMERGE_DEFAULT_OPTS=--package-moves=n emerge-webrsync && binpkg-resign apply",
        "# emerge-webrsync",
        "0 4 * * * root git -C /home/me/other pull",
    ],
)
def test_schedules_in_order(prefix, line):
    """Recipes of ours, and what is no business of ours."""
    prefix.write("etc/cron.d/sync", line.format(tree=prefix.repository_path("gentoo")) + "\n")
    assert checks(prefix) == {}


def test_own_settings(prefix):
    """Names that nobody knows, and values that cannot be; both are said, and everything else as well."""
    prefix.variables["BINPKG_RESIGN_FORIEGN"] = "hold"
    prefix.configure()
    state, text = checks(prefix)["settings"]
    assert state == "warning" and "BINPKG_RESIGN_FORIEGN" in text
    for name, value in (("BINPKG_RESIGN_FOREIGN", "keep"), ("BINPKG_RESIGN_NET", "maybe"), ("BINPKG_RESIGN_TIMEOUT", "1m"), ("BINPKG_GPG_SIGNING_KEY_MIGRATION", "x")):
        prefix.variables = {name: value}
        prefix.configure()
        state, text = checks(prefix, 1)["settings"]
        assert state == "problem" and name in text and value in text, text


def test_the_place_of_the_program(prefix):
    """A hook that names its program is asked whether that is there, also under cron."""
    hook = prefix.path / "etc/portage/postsync.d/50-binpkg-resign"
    text = hook.read_text()
    if "program=" not in text:
        text = text.replace("#!/bin/sh\n", "#!/bin/sh\nprogram=binpkg-resign\n")
    rest = [line for line in text.splitlines() if not line.startswith("program=")]
    for program, state in (("no-such-program", "warning"), ("/nowhere/binpkg-resign", "problem"), (prefix.session.path / "bin/binpkg-resign", None), ("sh", None)):
        hook.write_text("\n".join([rest[0], f"program={program}", *rest[1:], ""]))
        found = checks(prefix, int(state == "problem"))
        assert found.get("program", (None,))[0] == state, program
