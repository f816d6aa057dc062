"""What may run `apply` beside the hook, each as it is installed: a systemd unit, a line for cron, post_emerge."""

import configparser
import os
import shutil

import pytest

from tests.e2e.small import GOOD_PATH, small
from tests.lab.command import base_environment, run
from tests.lab.session import TOP

# A PATH as they have it: without the place where the program is.
BARE = "/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture
def filled(lab, program, tmp_path):
    """The files as `make install` and the ebuild install them, for the program under test."""
    run([TOP / "hooks/fill-in", program, tmp_path / "filled"], base_environment("/usr/bin:/bin"))
    return tmp_path / "filled"


def assert_went_on(prefix):
    """The package knows the new name and is signed."""
    assert prefix.metadata([GOOD_PATH])[GOOD_PATH]["RDEPEND"].split() == ["dev-debug/strace"]
    assert prefix.verify([GOOD_PATH]) == {GOOD_PATH: None}


def unit(path):
    """A unit as sections of settings."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str
    parser.read_string(path.read_text())
    return parser


def test_service(lab, filled):
    """What its ExecStart runs, with nothing in the environment but the lab's prefix."""
    prefix = small(lab)
    words = unit(filled / "binpkg-resign.service")["Service"]["ExecStart"].split()
    assert os.path.isabs(words[0])
    said = prefix.run(*words, env={"PATH": BARE})
    assert said.text == "", said
    assert_went_on(prefix)


def test_units_as_systemd_reads_them(filled):
    """Not a word from systemd; the timer starts the service of the same name, and nothing starts the timer by itself."""
    timer = unit(filled / "binpkg-resign.timer")
    assert "Unit" not in timer["Timer"] and timer["Install"]["WantedBy"] == "timers.target"
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not there")
    units = [filled / "binpkg-resign.service", filled / "binpkg-resign.timer"]
    words = ["systemd-analyze", "--man=no", "verify", *units]
    said = run(words, base_environment(os.environ["PATH"]), check=None)
    assert (said.status, said.text) == (0, "")
    units[1].write_text(units[1].read_text().replace("[Timer]", "[Timer]\nOnBrewSec=1"))
    assert "OnBrewSec" in run(words, base_environment(os.environ["PATH"]), check=None).text


def test_cron_line(lab, filled):
    """Five times, the user, and what cron gives to sh."""
    prefix = small(lab)
    lines = [line for line in (filled / "binpkg-resign.cron").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == 1 and "%" not in lines[0]
    times, user, command = lines[0].split()[:5], lines[0].split()[5], lines[0].split(None, 6)[6]
    assert times == ["*/10", "*", "*", "*", "*"] and user == "root"
    assert prefix.run("/bin/sh", "-c", command, env={"PATH": BARE}).text == ""
    assert_went_on(prefix)


def with_post_emerge(lab, filled):
    """A prefix with post_emerge in its place and a tiny ebuild to install."""
    prefix = small(lab)
    target = prefix.path / "etc/portage/bin/post_emerge"
    target.parent.mkdir()
    shutil.copy(filled / "post_emerge", target)
    prefix.gentoo.add("app-misc/tiny-1")
    prefix.gentoo.commit("Add an ebuild")
    prefix.run("git", "-c", "safe.directory=*", "-C", prefix.repository_path("gentoo"), "pull", "--quiet")
    return prefix


def test_post_emerge(lab, filled):
    """A real emerge runs it. The pass is switched off here, so that what is seen is the work of this file alone."""
    prefix = with_post_emerge(lab, filled)
    path = {"PATH": prefix.environment()["PATH"].replace(f"{lab.path}/bin:", "")}
    said = prefix.emerge("--oneshot", "--package-moves=n", "app-misc/tiny", env=path)
    assert "spawn failed" not in said.text, said
    assert_went_on(prefix)


def test_post_emerge_without_the_program(lab, filled):
    """What Portage says then; the emerge is none the worse for it."""
    prefix = with_post_emerge(lab, filled)
    target = prefix.path / "etc/portage/bin/post_emerge"
    target.write_text(target.read_text().replace("program=", "program=/nowhere"))
    said = prefix.emerge("--oneshot", "--package-moves=n", "app-misc/tiny")
    assert "spawn failed of" in said.text and "not found" in said.text, said
