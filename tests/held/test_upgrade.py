"""What 0.1.0 has held, and what it was killed in, is finished by this version: its journal is read.

The journal is written here as 0.1.0 wrote it. Where 0.1.0 itself is there (`make first-release`), it writes its own, and the
two are compared.
"""

import json
import os
import signal
import subprocess
import time

import pytest

from tests.e2e.world import LAYOUTS, path_of, publish, pull, world
from tests.lab import NEWEST, assert_all_verify, assert_index_agrees, assert_portage_finds_nothing, files_of, raw_entries
from tests.lab.session import TOP

from .test_held import ALL, paths

FIRST = TOP / "target/release-0.1.0/debug/binpkg-resign"
SAID = "the signing command /bin/false failed (exit status: 1): it printed nothing"

STRACE, SLOTTED, OLDNAME = "move dev-util/strace dev-debug/strace", "slotmove dev-libs/slotted 0 2", "move app-misc/oldname app-misc/newname"
# what it holds, and the updates that each still needs
HELD = {
    "app-misc/oldname-1.0-r1": [STRACE, OLDNAME],
    "app-misc/user-1": [STRACE, SLOTTED, OLDNAME],
    "dev-libs/slotted-2.0": [SLOTTED],
    "dev-util/strace-6.6": [STRACE],
}


@pytest.fixture(params=LAYOUTS)
def layout(request):
    """Both layouts."""
    return request.param


@pytest.fixture(params=["as 0.1.0 wrote it", "by 0.1.0 itself"])
def by(request):
    """Who makes the state."""
    if request.param == "by 0.1.0 itself" and not FIRST.exists():
        pytest.skip("0.1.0 is not there: `make first-release`")
    return request.param


def waiting(lab, layout):
    """A prefix in which updates wait, with a signing command that fails."""
    prefix = world(lab, NEWEST, layout).clone()
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "/bin/false [PORTAGE_CONFIG]"
    prefix.configure()
    publish(prefix)
    pull(prefix)
    return prefix


def mended(prefix):
    """The same once Portage's pass has been there, and the key can sign again."""
    prefix.update_pass()
    lost = {cpv for cpv in HELD if not cpv.startswith("dev-util/strace")}
    assert len(files_of(prefix.pkgdir)) < len(prefix.index()[1]) + len(lost), "the control: Portage has removed some"
    prefix.variables.pop("BINPKG_GPG_SIGNING_BASE_COMMAND")
    prefix.configure()


def journal(prefix, layout, said):
    """The journal of 0.1.0: one object, reasons as bare sentences."""
    entries = raw_entries(prefix.pkgdir / "Packages")
    records = []
    for path in paths(layout, HELD):
        cpv = next(cpv for cpv in HELD if f"{path.split('/')[0]}/{path.split('/')[-1]}".startswith(cpv))
        if not (prefix.pkgdir / path).exists():
            continue
        entry = entries[path].rstrip("\n") + "\n"
        records.append(
            {
                "path": path,
                "held": f"{path}.held",
                "cpv": cpv,
                "build_id": None if layout == "flat" else path.split("-")[-1].removesuffix(".gpkg.tar"),
                "size": (prefix.pkgdir / path).stat().st_size,
                "since": 1_700_000_000,
                "reason": said,
                "updates": HELD[cpv],
                "entry": entry,
            }
        )
    return {"records": records, "staged": []}


def write(prefix, state):
    """Its folder: the journal, and a hard link for each package."""
    folder = prefix.pkgdir / ".binpkg-resign"
    folder.mkdir(mode=0o700)
    for record in state["records"]:
        held = folder / "held" / record["held"]
        held.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.link(prefix.pkgdir / record["path"], held)
    for made in (folder / "held").rglob("*"):
        if made.is_dir():
            made.chmod(0o700)
    (folder / "held").chmod(0o700)
    (folder / "journal").write_text(json.dumps(state, separators=(",", ":")))
    (folder / "journal").chmod(0o600)


def assert_finished(prefix, layout):
    """Nothing is lost, nothing is left over, and Portage has nothing to do."""
    assert files_of(prefix.pkgdir) == paths(layout, ALL)
    assert not (prefix.pkgdir / ".binpkg-resign").exists()
    assert not [path for path in prefix.pkgdir.rglob(".*.resign")]
    assert_all_verify(prefix)
    assert_index_agrees(prefix)
    assert_portage_finds_nothing(prefix)


@pytest.mark.parametrize("words", [("apply",), ("held", "retry")], ids=" ".join)
def test_what_it_held_comes_back(lab, layout, by, words):
    prefix = waiting(lab, layout)
    expected = journal(prefix, layout, SAID)
    if by == "by 0.1.0 itself":
        prefix.run(FIRST, "--prefix", prefix.path, "apply", check=1)
        real = json.loads((prefix.pkgdir / ".binpkg-resign/journal").read_text())
        for record in real["records"]:
            record["since"] = 1_700_000_000
        assert real == expected
    else:
        write(prefix, expected)
    mended(prefix)
    listed = prefix.resign_json("held")["packages"]
    assert {record["path"] for record in listed} == {record["path"] for record in expected["records"]}
    assert {record["reason"]["text"] for record in listed} == {SAID}
    answer = prefix.resign_json(*words)
    assert answer["status"] == "done", answer
    assert_finished(prefix, layout)


def test_what_it_was_killed_in_is_finished(lab, layout, by):
    """In the middle of signing: no reason yet, and files that wait beside their places."""
    prefix = waiting(lab, layout)
    user = prefix.pkgdir / path_of(layout, "app-misc/user-1")
    waits = user.with_name(f".{user.name}.resign")
    if by == "by 0.1.0 itself":
        begun = prefix.path / "var/tmp/begun"
        script = prefix.write("var/tmp/endless-gpg", f"#!/bin/sh\ntouch {begun}\nsleep 1000\n")
        script.chmod(0o755)
        prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = f"{script} [PORTAGE_CONFIG]"
        prefix.configure()
        environment = {key: str(value) for key, value in prefix.environment().items()}
        child = subprocess.Popen([FIRST, "--prefix", prefix.path, "apply"], env=environment, start_new_session=True)
        end = time.monotonic() + 60
        while not begun.exists() and time.monotonic() < end:
            time.sleep(0.05)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        real = json.loads((prefix.pkgdir / ".binpkg-resign/journal").read_text())
        assert {record["reason"] for record in real["records"]} == {None}
    else:
        state = journal(prefix, layout, None)
        state["staged"] = [record["path"] for record in state["records"]]
        write(prefix, state)
        waits.write_bytes(user.read_bytes()[:5000])
    mended(prefix)
    assert prefix.resign_json("apply")["status"] == "done"
    # Portage's pass has left strace where it was, under its old name, so that its backup was not needed
    assert set(paths(layout, ALL)) - set(files_of(prefix.pkgdir)) == set(paths(layout, ["dev-debug/strace-6.6"]))
    prefix.resign("apply", "--all")
    assert_finished(prefix, layout)
