"""`ROOT=/elsewhere emerge --sync`: the pass runs for the target and for the running root, each with its own mtimedb."""

import shutil

import pytest

from tests.lab import assert_portage_finds_nothing, files_of
from tests.lab.checks import REMOVED

from .scene import DOOMED, assert_all_done, lost, publish, scene


def half_processed(lab):
    """A prefix, and a root whose mtimedb knows the new update file, while the running root's does not."""
    prefix = scene(lab)
    root, packages = lab.directory("root"), lab.directory("packages")
    mtimedb = prefix.path / "var/cache/edb/mtimedb"
    theirs = root / str(mtimedb).lstrip("/")
    # Portage does not make it, and then remembers nothing
    theirs.parent.mkdir(parents=True)
    remembered = mtimedb.read_bytes()
    publish(prefix)
    shutil.copytree(prefix.pkgdir, packages, dirs_exist_ok=True)
    prefix.sync(env={"ROOT": root})
    shutil.copytree(packages, prefix.pkgdir, dirs_exist_ok=True)
    mtimedb.write_bytes(remembered)
    assert lost(prefix) == []
    assert "1Q-2024" in theirs.read_text() and "1Q-2024" not in mtimedb.read_text()
    return prefix, root


def test_without_the_hook(lab):
    """The control: the running root's pass removes what the target's has nothing against."""
    prefix, root = half_processed(lab)
    prefix.sync(env={"ROOT": root})
    assert lost(prefix) == sorted(DOOMED)


def test_with_the_hook(lab):
    """An update file that only one of the two has yet to process is pending."""
    prefix, root = half_processed(lab)
    prefix.install_hook()
    result = prefix.sync(env={"ROOT": root})
    assert REMOVED not in result.text, result
    assert_all_done(prefix)
    assert_portage_finds_nothing(prefix)


@pytest.mark.parametrize("how", ["option", "environment"])
def test_from_a_shell(lab, how):
    """`apply --pretend` sees them, too."""
    prefix, root = half_processed(lab)
    words, environment = (["--root", root], {}) if how == "option" else ([], {"ROOT": root})
    answer = prefix.resign_json(*words, "apply", "--pretend", env=environment)
    assert DOOMED <= {record["path"] for record in answer["packages"]}, answer


@pytest.mark.xfail(reason="apply has yet to walk through every PKGDIR of `Settings::other_pkgdirs`", strict=True)
def test_a_pkgdir_for_each(lab):
    """PKGDIR in the environment is for the target alone; the running root's pass is over that of make.conf."""
    prefix = scene(lab)
    prefix.install_hook()
    publish(prefix)
    pkgdir = lab.directory("pkgdir")
    result = prefix.sync(env={"ROOT": lab.directory("root"), "PKGDIR": pkgdir})
    assert files_of(pkgdir) == []
    assert REMOVED not in result.text, result
    assert_all_done(prefix)
