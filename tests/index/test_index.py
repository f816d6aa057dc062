"""`binpkg-resign index`: the index as `emaint binhost --fix` makes it where the key is trusted, and where it is not."""

import fcntl
import gzip
import json
import os
import subprocess
import time

import pytest

from tests.lab import NEWEST, Prefix, Snapshot, assert_index_agrees, files_of, package, raw_entries
from tests.oracle_pass import real

LAYOUTS = {"multi-instance": "binpkg-multi-instance", "flat": "-binpkg-multi-instance"}
both_layouts = pytest.mark.parametrize("layout", LAYOUTS)


def packages():
    """Packages that use everything that is reduced by USE."""
    return [
        package("app-misc/plain-1.0"),
        package(
            "app-misc/user-1.0-r2",
            iuse="foo +bar baz",
            use="foo amd64",
            RDEPEND="foo? ( dev-util/strace ) !bar? ( || ( dev-libs/a ) ) || ( dev-libs/b ( dev-libs/c dev-libs/d ) )",
            BDEPEND="dev-lang/python[foo?,bar=,!baz?] baz? ( dev-libs/none )",
            LICENSE="foo? ( GPL-2 ) || ( MIT BSD )",
            RESTRICT="!foo? ( test )",
            PROPERTIES="bar? ( live )",
        ),
        package("app-misc/user-1.0-r10", slot="2/3", eapi="0", RDEPEND="dev-libs/a"),
        package("dev-libs/other-2_beta", repository="elsewhere", REQUIRES="x86_64: libc.so.6", PROVIDES="x86_64: liba.so.1"),
        package("virtual/unsigned-0", signer="nobody"),
    ]


@pytest.fixture
def prefix(lab, request):
    """A PKGDIR in the layout that the test asks for; Portage has made the index."""
    layout = request.node.callspec.params.get("layout", "multi-instance") if hasattr(request.node, "callspec") else "multi-instance"
    prefix = Prefix.create(lab, key=lab.key(), features=[LAYOUTS[layout]])
    prefix.make(*packages())
    return prefix


def index_of(prefix):
    """The text of the index."""
    return (prefix.pkgdir / "Packages").read_text()


def rewrite(prefix, change):
    """Changes the text of the index, and keeps its compressed copy in step."""
    index = prefix.pkgdir / "Packages"
    text = change(index.read_text())
    index.write_text(text)
    index.with_suffix(".gz").write_bytes(gzip.compress(text.encode()))
    status = index.stat()
    os.utime(index.with_suffix(".gz"), (status.st_mtime, status.st_mtime))


def outcomes(answer):
    """(outcome, path) of everything that was done."""
    return [(record["outcome"], record["path"]) for record in answer["packages"]]


def assert_as_portage(prefix, spoil):
    """Spoilt the same way, both come to the same blocks."""
    theirs = prefix.clone()
    for one in (prefix, theirs):
        spoil(one)
    theirs.reindex()
    answer = prefix.resign_json("index")
    ours, portages = (raw_entries(one.pkgdir / "Packages") for one in (prefix, theirs))
    assert ours == portages
    assert_index_agrees(prefix)
    return answer


@both_layouts
def test_an_index_from_nothing(prefix, layout):
    """Blocks and header as Portage writes them; USE in the header only Portage can work out."""
    theirs = prefix.clone()
    answer = assert_as_portage(prefix, lambda one: [(one.pkgdir / name).unlink() for name in ("Packages", "Packages.gz")])
    assert sorted(outcomes(answer)) == [("listed", path) for path in files_of(prefix.pkgdir)]
    theirs.reindex()
    header, wanted = prefix.index()[0], theirs.index()[0]
    for key in ("TIMESTAMP", "USE"):
        header.pop(key, None)
        wanted.pop(key, None)
    assert header == wanted


@both_layouts
def test_every_kind_of_disagreement(prefix, layout):
    """New files, files that are gone, other builds under a known name, other times."""

    def spoil(one):
        paths = files_of(one.pkgdir)
        index = one.pkgdir / "Packages"
        blocks = index.read_text().split("\n\n")
        index.write_text("\n\n".join(block for block in blocks if "CPV: app-misc/plain-1.0" not in block))
        [gone] = [path for path in paths if "unsigned" in path]
        (one.pkgdir / gone).unlink()
        [touched] = [path for path in paths if "1.0-r10" in path]
        os.utime(one.pkgdir / touched, (1_600_000_000, 1_600_000_000))
        [other] = [path for path in paths if "other-2_beta" in path]
        [source] = another
        (one.pkgdir / other).write_bytes(source.read_bytes())
        os.utime(one.pkgdir / other, (1_650_000_000, 1_650_000_000))

    elsewhere = prefix.clone()
    [path] = [path for path in files_of(prefix.pkgdir) if "other-2_beta" in path]
    elsewhere.make(package("dev-libs/other-2_beta", slot="7", build_time=1_800_000_000, RDEPEND="dev-libs/z"))
    another = [elsewhere.pkgdir / path]
    answer = assert_as_portage(prefix, spoil)
    assert sorted(record["outcome"] for record in answer["packages"]) == ["dropped", "listed", "renewed", "renewed"]
    assert prefix.entry(path)["SLOT"] == "7"


def test_without_a_key_that_the_keyring_trusts(lab, prefix):
    """Portage's own command empties the index; ours needs no keyring, and no key either."""
    before = raw_entries(prefix.pkgdir / "Packages")
    for item in sorted(prefix.keyring.rglob("*"), reverse=True):
        item.unlink() if not item.is_dir() else item.rmdir()
    theirs = prefix.clone()
    for one in (prefix, theirs):
        for file in one.pkgdir.glob("Packages*"):
            file.unlink()
    theirs.reindex()
    assert len(theirs.index()[1]) <= 1, "Portage has changed: the page may say so"
    prefix.features.append("-binpkg-signing")
    prefix.configure()
    prefix.resign("index")
    assert raw_entries(prefix.pkgdir / "Packages") == before


def test_what_agrees_is_not_touched(prefix):
    """Not one byte, not one time, no lock file and no folder of ours."""
    before = Snapshot(prefix.pkgdir)
    answer = prefix.resign_json("index")
    assert (answer["status"], answer["packages"]) == ("nothing-to-do", [])
    assert before.difference(Snapshot(prefix.pkgdir)) == []
    assert "agrees" in prefix.resign("index").out
    assert prefix.resign_json("index", "--all")["packages"] == []
    assert before.difference(Snapshot(prefix.pkgdir)) == []


def test_what_emerge_writes_agrees(lab):
    """The block that a real build gets is the one that we would make."""
    prefix = Prefix.create(lab, key=lab.key())
    prefix.gentoo.add("app-misc/built-1", IUSE="foo +bar", RDEPEND="bar? ( dev-libs/x[foo?] )", LICENSE="bar? ( GPL-2 )")
    prefix.gentoo.commit()
    prefix.sync()
    prefix.build("app-misc/built")
    before = Snapshot(prefix.pkgdir)
    assert prefix.resign_json("index", "--all")["packages"] == []
    assert before.difference(Snapshot(prefix.pkgdir)) == []


def test_pretend(prefix):
    """Says what would be done, and writes nothing."""
    rewrite(prefix, lambda text: text.replace("SIZE: ", "SIZE: 1", 1))
    [path] = [path for path in files_of(prefix.pkgdir) if "unsigned" in path]
    (prefix.pkgdir / path).unlink()
    before = Snapshot(prefix.pkgdir)
    answer = prefix.resign_json("index", "--pretend")
    assert sorted(record["outcome"] for record in answer["packages"]) == ["dropped", "renewed"] and answer["pretend"]
    said = prefix.resign("index", "-p").out
    assert f"would drop {path}" in said and "would renew" in said
    assert before.difference(Snapshot(prefix.pkgdir)) == []


def test_other_blocks_stay_as_they_are(prefix):
    """Keys that nobody knows, in blocks that agree and in one that does not; the header; what stands behind it all."""
    paths = files_of(prefix.pkgdir)

    def change(text):
        text = text.replace("VERSION: 0\n", "VERSION: 0\nX-HEADER: of somebody\n", 1)
        for path in paths:
            text = text.replace(f"PATH: {path}\n", f"PATH: {path}\nX-ENTRY: of somebody else\n")
        return text.replace("RDEPEND: dev-libs/a\n", "RDEPEND:  dev-libs/a \n")

    rewrite(prefix, change)
    touched = next(path for path in paths if "plain" in path)
    os.utime(prefix.pkgdir / touched, (1_600_000_000, 1_600_000_000))
    before = raw_entries(prefix.pkgdir / "Packages")
    answer = prefix.resign_json("index")
    assert outcomes(answer) == [("renewed", touched)]
    after = raw_entries(prefix.pkgdir / "Packages")
    assert {path: after[path] for path in paths if path != touched} == {path: before[path] for path in paths if path != touched}
    assert after[touched] == before[touched].replace(f"MTIME: {mtime(before[touched])}", "MTIME: 1600000000")
    assert "X-HEADER: of somebody\n" in index_of(prefix)


def mtime(block):
    """The MTIME of a block."""
    return next(line[7:] for line in block.splitlines() if line.startswith("MTIME: "))


BAD_PATHS = ["../x.gpkg.tar", "/nonexistent/x.gpkg.tar", ".binpkg-resign/held/x.gpkg.tar", "app-misc/../x.gpkg.tar", "gone-1.tbz2"]


def test_paths_that_are_none(prefix):
    """Blocks that lead out of PKGDIR, or nowhere, are dropped and named; what means a package is put right."""
    before = raw_entries(prefix.pkgdir / "Packages")
    path = next(path for path in files_of(prefix.pkgdir) if "plain" in path)
    odd = path.replace("/", "//", 1)
    blocks = "".join(f"CPV: app-misc/bad-{number}\nPATH: {bad}\n\n" for number, bad in enumerate(BAD_PATHS))
    rewrite(prefix, lambda text: text.replace(f"PATH: {path}\n", f"PATH: {odd}\n") + blocks + "CPV: app-misc/nowhere-1\n\n")
    answer = prefix.resign_json("index")
    assert sorted(outcomes(answer)) == sorted(
        [("dropped", bad) for bad in [*BAD_PATHS, "app-misc/nowhere-1.tbz2"]] + [("renewed", path)]
    )
    assert raw_entries(prefix.pkgdir / "Packages") == before
    assert_index_agrees(prefix)


def test_one_path_twice(prefix):
    """One block stays: that of the file, wherever it stands."""
    before = raw_entries(prefix.pkgdir / "Packages")
    path = next(path for path in files_of(prefix.pkgdir) if "plain" in path)
    wrong = before[path].replace("SIZE: ", "SIZE: 1")
    header, rest = index_of(prefix).split("\n\n", 1)
    rewrite(prefix, lambda text: f"{header}\n\n{wrong}\n\n{rest}{before[path]}\n\n")
    answer = prefix.resign_json("index")
    assert outcomes(answer) == [("dropped", path)] * 2
    assert raw_entries(prefix.pkgdir / "Packages") == before
    assert_index_agrees(prefix)


def test_what_is_no_package(prefix):
    """Named, with what is wrong with it, and not listed; the exit status is 1. Portage lists none of them either."""
    before = raw_entries(prefix.pkgdir / "Packages")
    good = (prefix.pkgdir / next(path for path in files_of(prefix.pkgdir) if "plain" in path)).read_bytes()
    category = prefix.pkgdir / "app-misc/odd"
    category.mkdir()
    (category / "odd-1-1.gpkg.tar").write_bytes(b"no tar at all")
    (category / "odd-2-1.gpkg.tar").write_bytes(good[: len(good) // 2])
    (category / "odd-3-1.gpkg.tar").write_bytes(good)
    os.mkfifo(category / "odd-4-1.gpkg.tar")
    # whole, but for a word in metadata that are not packed: only the Manifest tells
    prefix.variables["BINPKG_COMPRESS"] = "none"
    prefix.configure()
    [unpacked] = prefix.make(package("app-misc/plain-1.0", build_id=2, LICENSE="GPL-2 lab-licence"), index=False)
    changed = (prefix.pkgdir / unpacked).read_bytes()
    assert changed.count(b"lab-licence") == 1
    (prefix.pkgdir / unpacked).write_bytes(changed.replace(b"lab-licence", b"lab-licenze"))
    theirs = prefix.clone()
    theirs.run("rm", theirs.pkgdir / "app-misc/odd/odd-4-1.gpkg.tar")
    theirs.reindex()
    assert raw_entries(theirs.pkgdir / "Packages").keys() == before.keys()
    answer = prefix.resign_json("index", check=1)
    refused = {record["path"]: record["reason"] for record in answer["packages"]}
    assert sorted(refused) == [f"app-misc/odd/odd-{number}-1.gpkg.tar" for number in (1, 2, 3, 4)] + ["app-misc/plain/plain-1.0-2.gpkg.tar"]
    assert "app-misc/plain-1.0" in refused["app-misc/odd/odd-3-1.gpkg.tar"]["text"]
    assert {reason["code"] for reason in refused.values()} == {"no-package", "unreadable"}
    assert raw_entries(prefix.pkgdir / "Packages") == before


def test_a_package_that_is_none_any_more(prefix):
    """Its block goes, with its size wrong it would only lead clients astray; the file stays."""
    path = next(path for path in files_of(prefix.pkgdir) if "plain" in path)
    file = prefix.pkgdir / path
    file.write_bytes(file.read_bytes()[:3000])
    answer = prefix.resign_json("index", check=1)
    assert outcomes(answer) == [("refused", path)]
    assert path not in raw_entries(prefix.pkgdir / "Packages") and file.stat().st_size == 3000
    assert "not in the index" in prefix.resign("index", check=1).out


def spoilt(name):
    """A text that Portage takes for an empty index."""
    return {
        "empty": lambda text: "",
        "cut in the header": lambda text: text[: text.index("VERSION:")],
        "newer version": lambda text: text.replace("VERSION: 0", "VERSION: 1"),
        "no version": lambda text: text.replace("VERSION: 0\n", ""),
        "bytes": lambda text: "\0\n" * 50,
    }[name]


@pytest.mark.parametrize("way", ["empty", "cut in the header", "newer version", "no version", "bytes"])
def test_a_broken_index_is_made_anew(prefix, way):
    """As Portage makes it."""

    def spoil(one):
        index = one.pkgdir / "Packages"
        index.write_text(spoilt(way)(index.read_text()))

    assert_as_portage(prefix, spoil)
    assert prefix.resign_json("index")["packages"] == []


def test_all_reads_what_the_size_does_not_tell(prefix):
    """Digests and dependencies that are wrong while size and time are right: only --all sees them, and `verify`."""
    before = raw_entries(prefix.pkgdir / "Packages")
    paths = files_of(prefix.pkgdir)
    plain, user = (next(path for path in paths if name in path) for name in ("plain", "r10"))
    md5 = prefix.entry(plain)["MD5"]
    rewrite(prefix, lambda text: text.replace(f"MD5: {md5}", "MD5: " + "0" * 32).replace("RDEPEND: dev-libs/a\n", "RDEPEND: dev-libs/evil\n"))
    assert prefix.resign_json("index")["packages"] == []
    found = [record for record in prefix.resign_json("verify", check=1)["packages"] if record["outcome"] == "bad"]
    assert [record["path"] for record in found] == [plain] and "binpkg-resign index --all" in found[0]["reason"]
    answer = prefix.resign_json("index", "--all")
    assert sorted(outcomes(answer)) == [("renewed", plain), ("renewed", user)]
    assert raw_entries(prefix.pkgdir / "Packages") == before


def test_the_compressed_copy(prefix):
    """Missing, stale, or there where none may be."""
    packed = prefix.pkgdir / "Packages.gz"
    for spoil in (packed.unlink, lambda: packed.write_bytes(gzip.compress(b"VERSION: 0\n\n")), lambda: packed.write_bytes(b"x"), lambda: os.utime(packed, (1, 1))):
        spoil()
        assert prefix.resign_json("index")["status"] == "done"
        assert_index_agrees(prefix)
        assert prefix.resign_json("index")["status"] == "nothing-to-do"
    prefix.features.append("-compress-index")
    prefix.configure()
    assert prefix.resign_json("index")["status"] == "done" and not packed.exists()


def test_a_build_that_ends_meanwhile(prefix):
    """Portage's lock is waited for, and what was written while it was held is kept."""
    path = next(path for path in files_of(prefix.pkgdir) if "plain" in path)
    before = raw_entries(prefix.pkgdir / "Packages")
    rewrite(prefix, lambda text: text.replace(f"{before[path]}\n\n", ""))
    with open(prefix.pkgdir / ".Packages.portage_lockfile", "w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        program = subprocess.Popen(
            ["binpkg-resign", "--prefix", prefix.path, "--json", "index"],
            env={key: str(value) for key, value in prefix.environment().items()},
            stdout=subprocess.PIPE,
        )
        time.sleep(0.7)
        assert program.poll() is None
        rewrite(prefix, lambda text: text.replace("VERSION: 0\n", "VERSION: 0\nX-BUILD: has ended\n", 1))
        os.unlink(prefix.pkgdir / ".Packages.portage_lockfile")
    out, _ = program.communicate(timeout=60)
    assert outcomes(json.loads(out)) == [("listed", path)]
    assert "X-BUILD: has ended\n" in index_of(prefix)
    assert raw_entries(prefix.pkgdir / "Packages") == before


@pytest.mark.parametrize("kind", ["die", "eio", "enospc"])
def test_a_fault_at_every_operation(prefix, kind):
    """The old index or the new one is there, whole; the next run puts it right, and nothing of ours is left."""
    rewrite(prefix, lambda text: text.replace("SIZE: ", "SIZE: 1", 1))
    log = prefix.path / "operations"
    prefix.clone().resign("index", env={"BINPKG_RESIGN_FAULT_LOG": log})
    count = len(log.read_text().splitlines())
    assert count > 5
    for number in range(1, count + 1):
        one = prefix.clone()
        old = raw_entries(one.pkgdir / "Packages")
        result = one.resign("index", env={"BINPKG_RESIGN_FAULT": f"{number}:{kind}"}, check=None)
        assert result.status in ((-9,) if kind == "die" else (0, 1, 2)), f"{number}: {result}"
        now = raw_entries(one.pkgdir / "Packages")
        assert now == old or one.resign_json("index", "-p")["packages"] == [], number
        one.resign("index")
        assert_index_agrees(one)
        assert not (one.pkgdir / ".binpkg-resign").exists(), number


def test_held_packages_are_left_alone(lab, prefix):
    """Our folder is there, and the index agrees: nothing is written."""
    path = next(path for path in files_of(prefix.pkgdir) if "plain" in path)
    held = prefix.held / f"{path}.held"
    held.parent.mkdir(parents=True)
    (prefix.pkgdir / ".binpkg-resign").chmod(0o700)
    held.write_bytes(b"kept")
    before = (prefix.pkgdir / "Packages").stat().st_mtime_ns, index_of(prefix)
    assert prefix.resign_json("index")["status"] == "nothing-to-do"
    assert ((prefix.pkgdir / "Packages").stat().st_mtime_ns, index_of(prefix)) == before and held.exists()


def test_nothing_there(lab):
    """No PKGDIR is no fault; an empty one gets the index that Portage would give it."""
    prefix = Prefix.create(lab, key=lab.key())
    answer = prefix.resign_json("index")
    assert answer["status"] == "done" and prefix.index()[0]["PACKAGES"] == "0"
    prefix.run("rm", "-r", prefix.pkgdir)
    assert prefix.resign_json("index")["status"] == "nothing-to-do"
    assert not prefix.pkgdir.exists()


@pytest.mark.skipif(real.shared() is None, reason="the real data (BINPKG_RESIGN_SHARED or ../shared/data) is not here")
@both_layouts
def test_real_packages(lab, layout):
    """The metadata of real packages, from nothing: the same blocks as Portage's."""
    made = real.packages(None if os.environ.get("BINPKG_RESIGN_FULL") else 120, seed=15)
    prefix = Prefix.create(lab, portage=NEWEST, features=[LAYOUTS[layout]])
    prefix.add_repository("guru")
    categories = sorted({one.cpv.split("/")[0] for one in made})
    prefix.write("etc/portage/categories", "\n".join(categories) + "\n")
    prefix.make(*made, index=False)
    answer = assert_as_portage(prefix, lambda one: None)
    assert answer["counts"]["listed"] == len(made)
