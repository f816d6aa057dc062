"""The EXAMPLES of the manual page, each run as it stands there, with the real Portage, where it is what is wanted."""

import contextlib
import hashlib
import json
import re
import shutil
import time

import pytest

from tests.e2e.world import path_of, publish, pull, world
from tests.lab import NEWEST, assert_all_verify, assert_index_agrees, assert_portage_finds_nothing, files_of, package
from tests.lab.checks import IGNORED, REMOVED
from tests.lab.command import base_environment, run
from tests.lab.prefix import FETCH
from tests.lab.serve import served
from tests.lab.session import TOP
from tests.sync.ways import WAYS

LAYOUT = "multi-instance"
CONCERNED = [path_of(LAYOUT, cpv) for cpv in ("dev-libs/slotted-2.0", "app-misc/oldname-1.0-r1", "app-misc/user-1")]
NEW = [path_of(LAYOUT, cpv) for cpv in ("dev-debug/strace-6.6", "app-misc/newname-1.0-r1")]


def examples():
    """The lines that are to be typed."""
    section = (TOP / "man/binpkg-resign.1").read_text().split(".SH EXAMPLES\n")[1].split("\n.SH ")[0]
    return [line.replace("\\-", "-") for line in re.findall(r"^\.TP\n.*\n\.B (.*)$", section, re.MULTILINE)]


def type_in(prefix, line, check=0, **environment):
    """Has a shell run a line, as root at a prompt would."""
    return prefix.run("/bin/sh", "-c", line, check=check, env=environment)


def assert_saved(prefix):
    """All that the updates concern is there, brought up to date and signed, and Portage leaves it alone."""
    assert {*CONCERNED, *NEW} <= set(files_of(prefix.pkgdir))
    assert_all_verify(prefix)
    assert_portage_finds_nothing(prefix)


def host(lab):
    """A prefix with packages of ours and the hook."""
    prefix = world(lab, NEWEST).clone()
    prefix.install_hook()
    return prefix


@contextlib.contextmanager
def webrsync_host(lab):
    """A host as emerge-webrsync wants it: a mirror with signed snapshots, Gentoo's key, FEATURES=news as by default."""
    if not shutil.which("rsync"):
        pytest.skip("rsync is not there: `make setup`")
    prefix = host(lab)
    publish(prefix)
    mirror = lab.directory("m")
    snapshots(lab, prefix, mirror / "snapshots")
    with served(mirror) as address:
        python = prefix.session.venv(NEWEST) / "bin/python"
        prefix.features = [*prefix.features, "news"]
        prefix.variables |= {
            "FETCHCOMMAND": f'{python} {FETCH} \\"\\${{URI}}\\" \\"\\${{DISTDIR}}/\\${{FILE}}\\"',
            "GENTOO_MIRRORS": address,
        }
        prefix.configure()
        conf = prefix.path / "etc/portage/repos.conf/gentoo.conf"
        conf.write_text(re.sub(r"sync-type = git\nsync-uri = .*", "sync-type = webrsync", conf.read_text()))
        yield prefix


def snapshots(lab, prefix, folder):
    """The upstream's tree as the mirrors have it, for every day that may be asked for; the key is installed."""
    key = lab.new_key(who="infra")
    words = ["--pinentry-mode", "loopback", "--passphrase", ""]
    key.gpg(*words, "--quick-add-uid", key.fingerprint, "Gentoo <infrastructure@gentoo.org>")
    prefix.write("usr/share/openpgp-keys/gentoo-release.asc", key.public())
    tree = lab.directory("t") / "gentoo"
    shutil.copytree(prefix.gentoo.path, tree, ignore=shutil.ignore_patterns(".git"))
    now = int(time.time())
    (tree / "metadata/timestamp.x").write_text(f"{now} now\n")
    folder.mkdir()
    tarball = folder / "tree.tar.xz"
    run(["tar", "-C", tree.parent, "-caf", tarball, "gentoo"], base_environment("/usr/bin:/bin"))
    data = tarball.read_bytes()
    signature, digest = key.sign("--detach-sign", data), hashlib.md5(data).hexdigest()
    for days in range(-3, 2):
        name = time.strftime("gentoo-%Y%m%d.tar.xz", time.gmtime(now + days * 86400))
        (folder / name).write_bytes(data)
        (folder / f"{name}.gpgsig").write_bytes(signature)
        (folder / f"{name}.md5sum").write_text(f"{digest}  {name}\n")


def doctor(lab, line):
    assert " * ok" in type_in(host(lab), line).out


def status(lab, line):
    """What waits is counted, in a shell."""
    said = type_in(host(lab), line)
    assert "the configured key" in said.out and "Next sync:" in said.out, said


def pretend(lab, line):
    prefix = host(lab)
    publish(prefix)
    pull(prefix)
    said = type_in(prefix, line)
    assert "dev-libs/slotted" in said.out and "slotmove dev-libs/slotted 0 2" in said.out, said


def webrsync(lab, line):
    with webrsync_host(lab) as prefix:
        assert "Fetching most recent snapshot" in type_in(prefix, line).text
        assert_saved(prefix)


def movebin(lab, line):
    prefix = host(lab)
    publish(prefix)
    pull(prefix)
    # Portage has processed them; only emaint goes through all of them again.
    pkgdir = prefix.path / "elsewhere"
    shutil.copytree(prefix.pkgdir, pkgdir)
    prefix.update_pass()
    shutil.rmtree(prefix.pkgdir)
    pkgdir.rename(prefix.pkgdir)
    assert prefix.resign_json("apply")["status"] == "nothing-to-do"
    said = type_in(prefix, line)
    assert REMOVED not in said.text and IGNORED not in said.text, said
    assert_saved(prefix)


def held(lab, line):
    prefix = host(lab)
    good = dict(prefix.variables)
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "/bin/false [PORTAGE_CONFIG]"
    prefix.configure()
    publish(prefix)
    prefix.sync(check=None)
    assert not set(CONCERNED) & set(files_of(prefix.pkgdir))
    prefix.variables = good
    prefix.configure()
    type_in(prefix, line)
    assert_saved(prefix)


def wrong(result):
    """The packages that a JSON answer has a reason against."""
    return [record["path"] for record in json.loads(result.out)["packages"] if record["reason"]]


def verify(lab, line):
    prefix = host(lab)
    bad = CONCERNED[0]
    assert wrong(type_in(prefix, line)) == []
    (prefix.pkgdir / bad).write_bytes((prefix.pkgdir / bad).read_bytes()[:-2048])
    assert wrong(type_in(prefix, line, check=1)) == [bad]


def sign(lab, line):
    prefix = host(lab)
    prefix.features.append("-binpkg-signing")
    prefix.configure()
    paths = prefix.make(package("app-misc/unsigned-1", signer="nobody"), package("app-misc/another-1", signer="nobody"), index=False)
    assert all(prefix.verify(paths).values())
    prefix.features.remove("-binpkg-signing")
    prefix.configure()
    type_in(prefix, line)
    assert_all_verify(prefix)
    assert_index_agrees(prefix)


def in_the_table(lab, line):
    """Run, among all ways of syncing, by tests/sync/test_ways.py."""
    assert line in {way.recipe for way in WAYS}


SCENES = {
    "binpkg-resign doctor": doctor,
    "binpkg-resign status": status,
    "binpkg-resign apply --pretend": pretend,
    "git -C /var/db/repos/gentoo pull && binpkg-resign apply": in_the_table,
    "EMERGE_DEFAULT_OPTS=--package-moves=n emerge-webrsync && binpkg-resign apply": webrsync,
    "binpkg-resign apply --all && emaint movebin --fix": movebin,
    "binpkg-resign held retry": held,
    "binpkg-resign index && binpkg-resign sign --all": sign,
    "binpkg-resign --json verify": verify,
}


@pytest.mark.parametrize("line", examples())
def test_example(lab, line):
    """Each has a scene here, in which it does what the page says above it."""
    SCENES[line](lab, line)


def test_no_scene_is_left_over():
    """The page still has the examples that are tried here."""
    assert set(examples()) == set(SCENES)


def test_webrsync_without_the_words_before_it(lab):
    """Why the example keeps package moves from that emerge: with Gentoo's default, emerge-webrsync ends with an emerge."""
    with webrsync_host(lab) as prefix:
        type_in(prefix, "emerge-webrsync && binpkg-resign apply", check=None)
        assert not set(CONCERNED) & set(files_of(prefix.pkgdir))
