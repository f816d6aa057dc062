"""`binpkg-resign sign`: the first signatures of a host that never signed."""

import os
import shutil

import pytest

from tests.lab import NEWEST, Prefix, Snapshot, assert_all_verify, assert_index_agrees, files_of, package, raw_entries
from tests.lab.client import client_of
from tests.lab.container import Container
from tests.lab.serve import served

LAYOUTS = {"multi-instance": "binpkg-multi-instance", "flat": "-binpkg-multi-instance"}
both_layouts = pytest.mark.parametrize("layout", LAYOUTS)
# what a signature changes of a block
NEW = ("SIZE: ", "MTIME: ", "MD5: ", "SHA1: ")


def unsigned(cpv, **words):
    """A package that nobody has signed."""
    return package(cpv, signer="nobody", **words)


def world(lab, layout="multi-instance", portage=NEWEST):
    """Three unsigned packages, one of ours and one of somebody else's."""

    def fill(path):
        prefix = Prefix.create(lab, path, portage=portage, key=lab.key(), features=[LAYOUTS[layout]])
        other = lab.key(who="other")
        prefix.trusted.append(other)
        prefix.make(
            unsigned("app-misc/one-1.0", iuse="foo", RDEPEND="foo? ( dev-util/strace ) dev-libs/a"),
            unsigned("app-misc/two-2.0-r1", build_time=1_704_100_000, payload="x" * 3_000_000),
            unsigned("dev-libs/three-3", repository="guru", build_time=1_600_000_000),
            package("app-misc/ours-1"),
            package("app-misc/theirs-1", signer=f"{other.home} {other.fingerprint}"),
            index=False,
        )
        shutil.rmtree(prefix.keyring, ignore_errors=True)
        prefix.configure()
        prefix.reindex()

    path = lab.once("templates", f"sign-{layout}-{portage}", fill)
    prefix = Prefix(lab, path, portage=portage, key=lab.key(), features=[LAYOUTS[layout]], trusted=[lab.key(), lab.key(who="other")])
    return prefix.with_repositories("gentoo").clone()


def path_of(prefix, name):
    """The file of a package, by a part of its name."""
    [path] = [path for path in files_of(prefix.pkgdir) if name in path]
    return path


UNSIGNED = ("one", "two", "three")


def outcomes(answer):
    """Path → outcome, or its reason's code where it was skipped."""
    return {one["path"]: one["reason"]["code"] if one["outcome"] == "skipped" else one["outcome"] for one in answer["packages"]}


def without_what_is_new(block):
    """A block without what a signature changes."""
    return [line for line in block.splitlines() if not line.startswith(NEW)]


@both_layouts
def test_all(lab, portage, layout):
    """Portage accepts them, the index agrees, nothing else is touched, and a second run has nothing to do."""
    prefix = world(lab, layout, portage)
    before, blocks = Snapshot(prefix.pkgdir), raw_entries(prefix.pkgdir / "Packages")
    paths = {path_of(prefix, name) for name in UNSIGNED}
    answer = prefix.resign_json("sign", "--all")
    assert outcomes(answer) == dict.fromkeys(paths, "signed")
    assert answer["counts"]["signed"] == 3 and answer["status"] == "done"
    assert_all_verify(prefix)
    assert_index_agrees(prefix)
    after = raw_entries(prefix.pkgdir / "Packages")
    for path, block in blocks.items():
        assert after[path] == block if path not in paths else without_what_is_new(after[path]) == without_what_is_new(block)
    changed = {line.split(": ")[1] for line in before.difference(Snapshot(prefix.pkgdir)) if line.endswith(".gpkg.tar")}
    assert changed == paths
    assert not (prefix.pkgdir / ".binpkg-resign").exists()
    again = prefix.resign_json("sign", "--all")
    assert (again["status"], again["packages"]) == ("nothing-to-do", [])
    counts = prefix.resign_json("verify")["counts"]
    assert (counts["ours"], counts["foreign"], counts["unsigned"], counts["bad"]) == (4, 1, 0, 0)


def members(path):
    """Name → (header without time, bytes); of signatures and the Manifest only that they are there."""
    found = {}
    for member, data in Container.read(path).entries:
        facts = (member.mode, member.uid, member.gid, member.uname, member.gname, member.type)
        time = None if member.name.endswith((".sig", "Manifest", "gpkg-1")) else member.mtime
        found[member.name] = (facts, time, None if member.name.endswith((".sig", "Manifest")) else data)
    return found


def manifest_lines(path):
    """The names in the Manifest, in order, and what its lines say that are about no signature.

    Portage writes the two digests in the order that a set has them: in another one each time."""
    container = Container.read(path)
    text = container.data(container.name("Manifest")).decode()
    lines = [line.split() for line in text.splitlines() if line.startswith("DATA ")]
    plain = [(words[1:3], dict(zip(words[3::2], words[4::2]))) for words in lines if not words[1].endswith(".sig")]
    return [words[1] for words in lines], plain


@both_layouts
def test_the_same_as_gpkg_sign(lab, portage, layout):
    """Byte for byte what Portage's own command makes of the same package, but for signatures and times."""
    ours, theirs = world(lab, layout, portage), world(lab, layout, portage)
    ours.resign("sign", "--all")
    for name in UNSIGNED:
        path = path_of(theirs, name)
        theirs.run("gpkg-sign", "--allow-unsigned", theirs.pkgdir / path)
        one, other = ours.pkgdir / path, theirs.pkgdir / path
        assert one.stat().st_size == other.stat().st_size
        assert one.stat().st_mode == other.stat().st_mode
        assert list(members(one)) == list(members(other))
        assert members(one) == members(other)
        assert manifest_lines(one) == manifest_lines(other)
        digests = {member.name: data for member, data in Container.read(one).entries if member.name.endswith(".sig")}
        assert len(digests) == 2 and all(b"BEGIN PGP SIGNATURE" in data for data in digests.values())
    assert_all_verify(theirs)


def test_a_client_installs_what_was_signed(lab, portage):
    """Over HTTP, with only the public key."""
    prefix = Prefix.create(lab, portage=portage, key=lab.key(), features=["-binpkg-signing"])
    prefix.gentoo.add("app-misc/built-1")
    prefix.gentoo.commit()
    prefix.sync()
    prefix.build("app-misc/built")
    [path] = files_of(prefix.pkgdir)
    assert prefix.verify([path])[path]
    prefix.features.remove("-binpkg-signing")
    prefix.configure()
    assert outcomes(prefix.resign_json("sign", "app-misc/built-1")) == {path: "signed"}
    with served(prefix.pkgdir) as address:
        client = client_of(prefix, address)
        client.emerge("--getbinpkgonly", "--oneshot", "--nodeps", "app-misc/built")
    assert (client.path / "usr/share/lab/built").is_file()


def test_it_says_what_it_vouches_for(lab):
    """How many, from which repositories, built when; before anything is signed."""
    prefix = world(lab)
    said = prefix.resign("sign", "--all").err
    assert "3 packages" in said and "Binhost <binhost@example.org>" in said
    assert "2 packages from the repository gentoo, built from 2023-11-14 to 2024-01-01" in said
    assert "1 package from the repository guru, built on 2020-09-13" in said


@pytest.mark.parametrize("how", ["name", "name and build id", "path", "file", "absolute file"])
def test_by_name(lab, how):
    """Only what is named."""
    prefix = world(lab)
    path = path_of(prefix, "two")
    word = {
        "name": "app-misc/two-2.0-r1",
        "name and build id": "app-misc/two-2.0-r1-1",
        "path": path,
        "file": os.path.relpath(prefix.pkgdir / path, prefix.path),
        "absolute file": prefix.pkgdir / path,
    }[how]
    assert outcomes(prefix.resign_json("sign", word, word)) == {path: "signed"}
    assert [one for one, error in prefix.verify().items() if not error] == sorted(path_of(prefix, name) for name in ("ours", "theirs", "two"))


def test_names_that_are_none(lab):
    """Nothing is signed, not even what is named rightly beside them; neither a word nor --all is wrong usage."""
    prefix = world(lab)
    before = Snapshot(prefix.pkgdir)
    for words in (["app-misc/two-2.0-r1", "app-misc/nobody-1"], ["/etc/passwd"], ["../x.gpkg.tar"], [], ["--all", "app-misc/two-2.0-r1"]):
        result = prefix.resign("sign", *words, check=2)
        assert "panicked" not in result.err
    assert before.difference(Snapshot(prefix.pkgdir)) == []


def test_pretend(lab):
    """Says what would be signed; signs and writes nothing."""
    prefix = world(lab)
    before = Snapshot(prefix.pkgdir)
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "/bin/false [PORTAGE_CONFIG]"
    prefix.configure()
    answer = prefix.resign_json("sign", "--all", "--pretend")
    assert set(outcomes(answer).values()) == {"signed"} and answer["pretend"] and len(answer["packages"]) == 3
    result = prefix.resign("sign", "--all", "-p")
    assert "would sign app-misc/one-1.0-1" in result.out and "built from" in result.err
    assert before.difference(Snapshot(prefix.pkgdir)) == []


def test_what_is_signed_is_never_touched(lab):
    """Not ours, not others', not what is signed in part, not one with a bad signature: also where they are named."""
    prefix = world(lab)
    ours, theirs, one, two = (path_of(prefix, name) for name in ("ours", "theirs", "one", "two"))
    for path in (one, two):
        container = Container.read(prefix.pkgdir / path)
        top = container.members[0].name.split("/")[0]
        if path == one:
            container.sign(prefix.key)
            container.remove(container.name("image") + ".sig")
            container.sign_manifest(prefix.key, top)
        else:
            container.add(container.name("metadata") + ".sig", b"of somebody")
        container.write(prefix.pkgdir / path)
    prefix.resign("index", check=None)
    refresh(prefix, one, two)
    before = Snapshot(prefix.pkgdir)
    answer = prefix.resign_json("sign", ours, theirs, one, two, check=1)
    assert outcomes(answer) == {ours: "signed", theirs: "signed", one: "half-signed", two: "half-signed"}
    assert all(record["outcome"] == "skipped" for record in answer["packages"])
    assert "half-signed" not in prefix.resign("sign", ours, theirs).text
    assert before.difference(Snapshot(prefix.pkgdir)) == []
    whole = prefix.resign_json("sign", "--all", check=1)
    assert outcomes(whole) == {one: "half-signed", two: "half-signed", path_of(prefix, "three"): "signed"}


def refresh(prefix, *paths):
    """Makes the index agree with files that are no packages any more: somebody has written it so."""
    import hashlib

    text = (prefix.pkgdir / "Packages").read_text()
    header, *blocks = text.rstrip("\n").split("\n\n")
    known = {path: block for path, block in raw_entries(prefix.pkgdir / "Packages").items()}
    for path in paths:
        data, status = (prefix.pkgdir / path).read_bytes(), (prefix.pkgdir / path).stat()
        facts = {"SIZE": len(data), "MTIME": int(status.st_mtime), "MD5": hashlib.md5(data).hexdigest(), "SHA1": hashlib.sha1(data).hexdigest()}
        block = known.get(path) or raw_entries(world(prefix.session).pkgdir / "Packages")[path]
        lines = [line for line in block.splitlines() if not line.startswith(NEW)]
        new = "\n".join(lines + [f"{key}: {value}" for key, value in facts.items()])
        blocks = [one for one in blocks if f"PATH: {path}\n" not in one + "\n"] + [new]
    (prefix.pkgdir / "Packages").write_text("\n\n".join([header, *blocks]) + "\n\n")


def flip(prefix, path, part):
    """One other bit in a member, and the index made to agree."""
    container = Container.read(prefix.pkgdir / path)
    name = container.name(part)
    data = container.data(name)
    container.replace(name, data[:-1] + bytes([data[-1] ^ 1]))
    container.write(prefix.pkgdir / path)
    refresh(prefix, path)


@pytest.mark.parametrize("part", ["image", "metadata"])
def test_what_disagrees_with_its_manifest(lab, part):
    """Refused and named, whatever the index says of it; the others are signed."""
    prefix = world(lab)
    path = path_of(prefix, "one")
    flip(prefix, path, part)
    before = (prefix.pkgdir / path).read_bytes()
    answer = prefix.resign_json("sign", "--all", check=1)
    found = outcomes(answer)
    assert found.pop(path) in ("damaged", "container") and set(found.values()) == {"signed"} and len(found) == 2
    assert (prefix.pkgdir / path).read_bytes() == before
    said = prefix.resign("sign", "--all", check=1).err
    assert "app-misc/one-1.0-1" in said and "digest" in said


@pytest.mark.parametrize("key", ["SIZE", "MD5", "SHA1"])
def test_what_disagrees_with_its_entry(lab, key):
    """Another package was put under the name: whole, unsigned, and not the one that was built here."""
    prefix = world(lab)
    path = path_of(prefix, "one")
    index = prefix.pkgdir / "Packages"
    old = prefix.entry(path)[key]
    new = old[:-1] + ("0" if old[-1] != "0" else "1")
    block = raw_entries(index)[path]
    index.write_text(index.read_text().replace(block, block.replace(f"{key}: {old}\n", f"{key}: {new}\n")))
    before = (prefix.pkgdir / path).read_bytes()
    answer = prefix.resign_json("sign", "--all", check=1)
    assert outcomes(answer)[path] == "index" and answer["counts"]["signed"] == 2
    assert (prefix.pkgdir / path).read_bytes() == before
    prefix.resign("index", "--all")
    assert outcomes(prefix.resign_json("sign", "--all")) == {path: "signed"}


def test_what_is_not_what_its_name_says(lab):
    """Another package under this name, and an index that says so: its own metadata decide."""
    prefix = world(lab)
    one, two = path_of(prefix, "one"), path_of(prefix, "two")
    shutil.copy(prefix.pkgdir / one, prefix.pkgdir / two)
    refresh(prefix, two)
    answer = prefix.resign_json("sign", "--all", check=1)
    assert outcomes(answer)[two] == "misnamed" and outcomes(answer)[one] == "signed"


def test_what_the_index_does_not_have(lab):
    """Named, and not signed before the index has it; without an index nothing is."""
    prefix = world(lab)
    path = path_of(prefix, "one")
    index = prefix.pkgdir / "Packages"
    text = index.read_text()
    index.write_text(text.replace(raw_entries(index)[path] + "\n\n", ""))
    assert outcomes(prefix.resign_json("sign", path, check=1)) == {path: "unlisted"}
    answer = prefix.resign_json("sign", "--all", check=1)
    assert outcomes(answer)[path] == "unlisted" and answer["counts"]["signed"] == 2
    index.unlink()
    assert "binpkg-resign index" in prefix.resign("sign", "--all", check=2).err
    prefix.resign("index")
    assert outcomes(prefix.resign_json("sign", "--all")) == {path: "signed"}


def test_a_key_that_cannot_sign(lab):
    """Once said, with what to do; nothing is changed."""
    prefix = world(lab)
    before = Snapshot(prefix.pkgdir)
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "/bin/false [PORTAGE_CONFIG]"
    prefix.configure()
    result = prefix.resign("sign", "--all", check=1)
    assert "/bin/false" in result.text and result.text.count("/bin/false") == 1, result
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "/usr/bin/gpg --sign --armor [PORTAGE_CONFIG]"
    prefix.variables["BINPKG_GPG_SIGNING_KEY"] = "0" * 40
    prefix.configure()
    answer = prefix.resign_json("sign", "--all", check=2)
    assert answer["status"] == "error" and "BINPKG_GPG_SIGNING_KEY" in answer["error"]
    prefix.features.append("-binpkg-signing")
    prefix.configure()
    assert "not signed here" in prefix.resign("sign", "--all").out
    after = Snapshot(prefix.pkgdir)
    assert after.contents() == before.contents() and after.packages() == before.packages()


def test_interrupted_and_taken_up_again(lab):
    """In the middle of a batch, and between batches: what is there is whole, and the next run does the rest."""
    prefix = world(lab)
    log = prefix.path / "operations"
    prefix.clone().resign("sign", "--all", "-j1", env={"BINPKG_RESIGN_FAULT_LOG": log, "BINPKG_RESIGN_BATCH": "1"})
    count = len(log.read_text().splitlines())
    assert count > 30
    originals = {path: (prefix.pkgdir / path).read_bytes() for path in files_of(prefix.pkgdir)}
    for number in range(1, count + 1, 1 if os.environ.get("BINPKG_RESIGN_FULL") else 7):
        one = prefix.clone()
        one.resign("sign", "--all", "-j1", env={"BINPKG_RESIGN_FAULT": f"{number}:die", "BINPKG_RESIGN_BATCH": "1"}, check=None)
        verdicts = one.verify()
        for path, data in originals.items():
            assert (one.pkgdir / path).read_bytes() == data or verdicts[path] is None, f"{number}: {path}"
        one.resign("sign", "--all")
        assert not any(one.verify().values()), number
        assert_index_agrees(one)
        assert not (one.pkgdir / ".binpkg-resign").exists(), number
