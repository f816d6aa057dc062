"""What the program, and all that it starts, opens for writing or changes by name: PKGDIR, gpg's own, and the folder in which
only root can remember something."""

import os
import re
import shutil

import pytest

from .scene import both_layouts, ground, only_root

pytestmark = only_root

CALLS = (
    "open,openat,?openat2,creat,mkdir,mkdirat,mknod,mknodat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,"
    "rmdir,chmod,fchmodat,?fchmodat2,chown,lchown,fchownat,truncate,utimensat,setxattr,lsetxattr,removexattr"
)
WRITES = re.compile(r"O_(WRONLY|RDWR|CREAT|TRUNC|TMPFILE)")
CALL = re.compile(r"^\S+\s+(?P<name>\w+)\((?P<words>.*)\)\s+= (?P<result>.+)$")
# a folder by its descriptor, then a name below it; or a name alone
NAMED = re.compile(r'(?:(?:AT_FDCWD|[0-9]+)<(?P<folder>[^>]*)>, )?"(?P<name>(?:[^"\\]|\\.)*)"')


def changed_paths(log, start):
    """Every path that a call in the log of strace has written to, or tried to."""
    found = set()
    for line in log.read_text().splitlines():
        call = CALL.match(line)
        if call is None or "ENOENT" in call["result"] and "CREAT" not in line:
            continue
        if call["name"].startswith("open") and not WRITES.search(call["words"]):
            continue
        for named in NAMED.finditer(call["words"]):
            path = os.path.join(named["folder"] or str(start), named["name"])
            found.add((call["name"], os.path.normpath(path)))
    return found


def traced(stage, *words):
    """Runs the program below strace; returns what was written, but for terminals and the like."""
    if shutil.which("strace") is None:
        pytest.skip("skipped: no strace")
    prefix = stage.prefix
    log, temporary = prefix.path / "var/tmp/strace", prefix.path / "var/tmp/t"
    temporary.mkdir(exist_ok=True)
    prefix.run(
        *("strace", "-f", "--seccomp-bpf", "-qq", "-y", "-s", "4096", "-o", log, "-e", f"trace={CALLS}"),
        *("binpkg-resign", "--prefix", prefix.path, *words),
        env={"TMPDIR": temporary, "LANG": "C"},
        timeout=120,
    )
    found = changed_paths(log, prefix.path)
    ours = (prefix.pkgdir, temporary, prefix.key.home, prefix.path / "var/tmp/gpg.lock", prefix.path / "var/lib/binpkg-resign")
    ours = tuple(map(str, ours))
    harmless = ("/dev/null", "/dev/tty", "/proc/self/", "/dev/pts/")
    return found, {(call, path) for call, path in found if not path.startswith((*ours, *harmless))}


@both_layouts
def test_a_plain_run(lab, layout):
    """Everything is signed, and nothing else is so much as opened for writing; with which key, only the first run writes down."""
    stage = ground(lab, layout)
    found, elsewhere = traced(stage, "apply")
    stage.assert_others_saved("app-misc/one-1", "app-misc/two-1", "dev-libs/three-1")
    assert any(path.startswith(str(stage.pkgdir)) for _, path in found), "the control: strace sees what is written"
    assert not elsewhere, elsewhere
    remembered = str(stage.prefix.path / "var/lib/binpkg-resign")
    assert any(path.startswith(remembered) for _, path in found)
    stage.prefix.updates("4Q-2025", "move dev-debug/strace dev-debug/strace-ng")
    found, elsewhere = traced(stage, "apply")
    assert any(path.startswith(str(stage.pkgdir)) for _, path in found)
    assert not elsewhere and not [path for _, path in found if path.startswith(remembered)], found


@both_layouts
@pytest.mark.parametrize("words", [("apply",), ("held",), ("apply", "-p", "--all"), ("verify",)], ids=" ".join)
def test_a_run_with_nothing_to_do(lab, layout, words):
    """Not even PKGDIR."""
    stage = ground(lab, layout, pending=False)
    found, elsewhere = traced(stage, *words)
    assert not elsewhere, elsewhere
    assert not [path for _, path in found if path.startswith(str(stage.pkgdir))], found
