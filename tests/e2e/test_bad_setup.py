"""Update files, keys, signing commands and directories that are not as they should be."""

import os
import stat

import pytest

from tests.lab import Snapshot, package

from .small import GOOD_PATH, VICTIM_PATH, assert_good_went_on, assert_kept, digest, small

BOTH = (GOOD_PATH, VICTIM_PATH)


def assert_nothing_lost(prefix, before):
    """After Portage's pass too, both packages are in their place or held."""
    prefix.update_pass(check=None)
    for path in BOTH:
        assert_kept(prefix, path, before[path])


def digests(prefix):
    """What both packages are before the run."""
    return {path: digest(prefix.pkgdir / path) for path in BOTH}


# Update files


def test_broken_lines_are_named_and_skipped(lab):
    """File and line of each; the good lines apply, and since Portage does the same, nothing is lost."""
    prefix = small(lab)
    bad = [
        "mov dev-util/strace dev-debug/strace",
        "move dev-util/strace",
        "move dev-util/strace dev-debug/strace # a comment",
        "move dev-util/strace-6 dev-debug/strace",
        "slotmove dev-libs/slotted 0/1 2",
        "slotmove !dev-libs/slotted 0 2",
        "# a comment",
    ]
    file = prefix.updates("2Q-2024", *bad)
    result = prefix.resign("apply")
    for number in range(1, len(bad) + 1):
        assert f"{file}, line {number}" in result.text or f"{file}:{number}" in result.text, f"line {number}:\n{result}"
    assert_good_went_on(prefix)
    before = digests(prefix)
    prefix.update_pass()
    assert digests(prefix) == before


def test_only_broken_lines(lab):
    """Nothing to do, but said."""
    prefix = small(lab)
    prefix.updates("1Q-2024", "move nonsense")
    before = digests(prefix)
    result = prefix.resign("apply")
    assert "1Q-2024" in result.text
    assert digests(prefix) == before


def test_an_update_file_that_cannot_be_read(lab):
    """Portage's pass stops at it, so nothing is lost; it is named."""
    prefix = small(lab)
    (prefix.repository_path("gentoo") / "profiles/updates/3Q-2024").symlink_to("/proc/self/mem")
    result = prefix.resign("apply", check=None)
    assert "3Q-2024" in result.text, result
    assert result.status in (0, 1), result
    stopped = prefix.update_pass(check=None)
    assert stopped.status != 0 and "3Q-2024" in stopped.err or "Input/output" in stopped.err, "the control: Portage stops there"
    assert prefix.verify() == dict.fromkeys(sorted(BOTH))


def test_a_broken_mtimedb(lab):
    """Not JSON: Portage starts anew, and so do we or it is said."""
    prefix = small(lab)
    prefix.write("var/cache/edb/mtimedb", "{ not json")
    before = digests(prefix)
    result = prefix.resign("apply", check=None)
    assert "panicked" not in result.err
    if result.status == 0:
        assert_good_went_on(prefix)
    else:
        assert "mtimedb" in result.err
        assert_nothing_lost(prefix, before)


def test_files_that_portage_has_processed_are_left(lab):
    """What mtimedb remembers is not read again, but with --all it is."""
    prefix = small(lab)
    control = prefix.clone()
    control.make(package("app-misc/late-1", RDEPEND="dev-util/strace"))
    control.update_pass()
    # A package that came later from somewhere else: only --all finds it.
    control.make(package("app-misc/later-1", RDEPEND="dev-util/strace"))
    assert control.resign_json("apply")["status"] == "nothing-to-do"
    answer = control.resign_json("apply", "--all")
    assert [record["cpv"] for record in answer["packages"]] == ["app-misc/later-1"]
    before = Snapshot(control.pkgdir).packages()
    control.movebin()
    assert Snapshot(control.pkgdir).packages() == before


# Keys


def no_home(prefix):
    """The gpg home is not there."""
    prefix.variables["BINPKG_GPG_SIGNING_GPG_HOME"] = prefix.path / "nowhere"
    return "nowhere"


def home_is_a_file(prefix):
    """The gpg home is a file, so it cannot be read even by root."""
    prefix.write("file", "no home")
    prefix.variables["BINPKG_GPG_SIGNING_GPG_HOME"] = prefix.path / "file"
    return str(prefix.path / "file")


def no_such_key(prefix):
    """The key does not exist in the home."""
    prefix.variables["BINPKG_GPG_SIGNING_KEY"] = "0xDEADBEEFDEADBEEF"
    return "0xDEADBEEFDEADBEEF"


def public_half_only(prefix):
    """The home holds the certificate but not the secret key."""
    home = prefix.session.directory("k")
    home.chmod(0o700)
    environment = {"PATH": "/usr/bin:/bin", "HOME": home}
    from tests.lab.command import run

    run(["gpg", "--homedir", home, "--batch", "--import"], environment, stdin=prefix.key.public().encode())
    prefix.variables["BINPKG_GPG_SIGNING_GPG_HOME"] = home
    return prefix.key.fingerprint[-8:]


def wrapper(prefix, script):
    """A signing command of one's own."""
    command = prefix.write("bin/sign", f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = f"{command} [PORTAGE_CONFIG]"
    return command


def command_fails(prefix):
    """The signing command ends with an error and says why."""
    wrapper(prefix, "echo 'the card is not in the reader' >&2; exit 2")
    return "the card is not in the reader"


def command_is_missing(prefix):
    """The signing command is not there."""
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "/nowhere/gpg [PORTAGE_CONFIG]"
    return "/nowhere/gpg"


def command_prints_rubbish(prefix):
    """The signing command succeeds and prints no signature."""
    wrapper(prefix, "cat >/dev/null; echo rubbish")
    return ""


def command_prints_nothing(prefix):
    """The signing command succeeds and prints nothing."""
    wrapper(prefix, "cat >/dev/null")
    return ""


def command_signs_something_else(prefix):
    """A good signature by the right key, of other bytes."""
    wrapper(prefix, 'cat >/dev/null; echo other | /usr/bin/gpg --sign --armor "$@"')
    return ""


def command_signs_with_another_key(prefix):
    """A good signature by a key that is not the configured one."""
    other = prefix.session.key(who="foreign")
    wrapper(prefix, f'exec /usr/bin/gpg --homedir {other.home} --armor --digest-algo SHA512 --batch $(for w; do case $w in --detach-sig|--clear-sign) echo $w;; esac; done)')
    return ""


def command_uses_another_digest(prefix):
    """SHA256 where BINPKG_GPG_SIGNING_DIGEST says SHA512."""
    wrapper(prefix, 'exec /usr/bin/gpg --sign --armor "$@" --digest-algo SHA256')
    return ""


def command_takes_for_ever(prefix):
    """The signing command never ends; there is no terminal."""
    wrapper(prefix, "exec sleep 600")
    prefix.variables["BINPKG_RESIGN_TIMEOUT"] = "6"
    return ""


SETUPS = [
    no_home,
    home_is_a_file,
    no_such_key,
    public_half_only,
    command_fails,
    command_is_missing,
    command_prints_rubbish,
    command_prints_nothing,
    command_signs_something_else,
    command_signs_with_another_key,
    command_uses_another_digest,
    command_takes_for_ever,
]


@pytest.mark.parametrize("spoil", SETUPS, ids=lambda spoil: spoil.__name__)
def test_when_signing_fails_packages_are_held(lab, spoil):
    """Exit status 1, a reason, both packages kept as they were, and both saved once it is repaired."""
    prefix = small(lab)
    named = spoil(prefix)
    prefix.configure()
    before = digests(prefix)
    entries = (prefix.pkgdir / "Packages").read_bytes()
    result = prefix.resign("apply", check=1, timeout=120)
    assert named in result.text, result
    assert "good-1" in result.text and "victim-1" in result.text, result
    assert digests(prefix) == before
    assert (prefix.pkgdir / "Packages").read_bytes() == entries
    assert_nothing_lost(prefix, before)


@pytest.mark.parametrize("spoil", SETUPS[:4] + [command_fails], ids=lambda spoil: spoil.__name__)
def test_packages_held_for_the_setup_are_found_again(lab, spoil):
    """Repaired before Portage's pass, the next run saves them all."""
    prefix = small(lab)
    sound = dict(prefix.variables)
    spoil(prefix)
    prefix.configure()
    prefix.resign("apply", check=1, timeout=120)
    prefix.variables = sound
    prefix.configure()
    prefix.resign("apply")
    assert_good_went_on(prefix)
    assert not list(prefix.held.rglob("*.held*")) if prefix.held.exists() else True


def test_a_setup_that_portage_refuses(lab):
    """A make.conf that cannot be read: 2, with file and line, and nothing changed."""
    prefix = small(lab)
    make_conf = prefix.path / "etc/portage/make.conf"
    make_conf.write_text(make_conf.read_text() + 'BROKEN="no end\n')
    before = Snapshot(prefix.path)
    result = prefix.resign("apply", check=2)
    assert str(make_conf) in result.err
    assert before.difference(Snapshot(prefix.path)) == []


@pytest.mark.parametrize("words", [["aply"], ["apply", "--nonsense"], ["apply", "--jobs", "0"], []])
def test_wrong_usage(lab, words):
    """2, with a word of help on stderr."""
    prefix = small(lab)
    result = prefix.resign(*words, check=2)
    assert result.err and not result.out


# Directories


def test_a_read_only_pkgdir(lab):
    """Nothing can be written, nothing can be held; it is said, nothing is changed."""
    prefix = small(lab)
    before = Snapshot(prefix.pkgdir)
    if os.getuid() == 0:
        # Root writes anywhere, so somebody else runs the program; the key is theirs.
        key = lab.copy_key(prefix.key)
        for item in [key.home, *key.home.rglob("*")]:
            os.chown(item, 65534, 65534)
        prefix.variables["BINPKG_GPG_SIGNING_GPG_HOME"] = key.home
        prefix.configure()
        drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    else:
        for item in [prefix.pkgdir, *prefix.pkgdir.rglob("*")]:
            item.chmod(stat.S_IMODE(item.stat().st_mode) & ~0o222)
        drop = []
    result = prefix.run(*drop, "binpkg-resign", "--prefix", prefix.path, "apply", check=None)
    assert result.status in (1, 2), result
    assert str(prefix.pkgdir) in result.text, result
    assert before.difference(Snapshot(prefix.pkgdir)) == []


def test_group_and_mode_are_as_portage_sets_them(lab):
    """Files take PKGDIR's group and its group bits, directories the setgid bit."""
    if os.getuid() != 0:
        pytest.skip("only root gives PKGDIR another group")
    prefix = small(lab)
    prefix.make(package("dev-util/strace-6"))
    group = 65534
    os.chown(prefix.pkgdir, 0, group)
    prefix.pkgdir.chmod(0o2775)
    prefix.resign("apply")
    new = prefix.pkgdir / "dev-debug/strace/strace-6-1.gpkg.tar"
    for path in (prefix.pkgdir / GOOD_PATH, new, prefix.pkgdir / "Packages", prefix.pkgdir / "Packages.gz"):
        status = path.stat()
        assert status.st_gid == group, path
        assert stat.S_IMODE(status.st_mode) & 0o060 == 0o060, path
    for path in (new.parent, new.parent.parent):
        status = path.stat()
        assert (status.st_gid, stat.S_IMODE(status.st_mode) & 0o2070) == (group, 0o2070), path


def test_left_overs_of_a_lock_do_not_stop_us(lab):
    """A lock file that nobody holds."""
    prefix = small(lab)
    (prefix.pkgdir / ".Packages.portage_lockfile").touch()
    prefix.resign("apply", timeout=60)
    assert_good_went_on(prefix)


def test_held_packages_are_no_packages_to_portage(lab):
    """`emaint binhost --fix` takes none of them into the index."""
    prefix = small(lab)
    command_fails(prefix)
    prefix.configure()
    prefix.resign("apply", check=1)
    assert len(list(prefix.held.rglob("*.held"))) == 2
    prefix.reindex()
    assert {entry["PATH"] for entry in prefix.index()[1]} == set(BOTH)
