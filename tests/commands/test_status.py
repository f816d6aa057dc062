"""`status`: one screen that counts right, writes nothing and verifies nothing."""

import tarfile

from tests.e2e.world import path_of, publish, pull, world
from tests.lab import NEWEST, Snapshot, files_of, package

USER = path_of("multi-instance", "app-misc/user-1")


def looked(prefix):
    """The answer, and that nothing has changed by it."""
    before = Snapshot(prefix.path)
    answer = prefix.resign_json("status")
    assert answer["command"] == "status"
    text = prefix.resign("status").out
    assert len(text.splitlines()) < 24
    assert before.difference(Snapshot(prefix.path)) == []
    return answer, text


def pile(prefix, *paths):
    """So many packages, and their bytes."""
    return {"packages": len(paths), "bytes": sum((prefix.pkgdir / path).stat().st_size for path in paths)}


def test_packages_are_counted_by_what_they_say(lab):
    prefix = world(lab, NEWEST).clone()
    ours = files_of(prefix.pkgdir)
    other = lab.key(who="other")
    prefix.make(
        package("app-misc/unsigned-1", signer="nobody"),
        package("app-misc/foreign-1", signer=f"{other.home} {other.fingerprint}"),
    )
    unsigned, foreign = "app-misc/unsigned/unsigned-1-1.gpkg.tar", "app-misc/foreign/foreign-1-1.gpkg.tar"
    answer, text = looked(prefix)
    assert answer["status"] == "done" and answer["key"] == prefix.key.fingerprint
    assert answer["signers"] == [
        {"key": prefix.key.fingerprint, "owner": "configured", **pile(prefix, *ours)},
        {"key": other.fingerprint, "owner": "foreign", **pile(prefix, foreign)},
    ]
    assert answer["unsigned"] == pile(prefix, unsigned)
    assert answer["unclear"] == answer["held"] == answer["pending"] == pile(prefix)
    assert answer["net"] is None and answer["last_run"] is None and answer["error"] is None
    assert f"say they are signed by {prefix.key.fingerprint}" in text and "`binpkg-resign verify` checks" in text

    # a byte of the image is another one: that is for `verify` to find, and what is no package is seen here
    user = bytearray((prefix.pkgdir / USER).read_bytes())
    with tarfile.open(prefix.pkgdir / USER) as container:
        [image] = [member for member in container if "/image.tar" in member.name and not member.name.endswith(".sig")]
    user[image.offset_data + image.size // 2] ^= 1
    (prefix.pkgdir / USER).write_bytes(user)
    (prefix.pkgdir / "app-misc/odd").mkdir()
    (prefix.pkgdir / "app-misc/odd/odd-1-1.gpkg.tar").write_bytes(b"no container")
    again, _ = looked(prefix)
    assert again["signers"] == answer["signers"]
    assert again["unclear"] == {"packages": 1, "bytes": len(b"no container")}


def test_what_the_next_sync_costs(lab):
    """Just the packages that `apply` then signs; those held already, the net and the last run are told of by themselves."""
    prefix = world(lab, NEWEST).clone()
    prefix.resign("apply")
    answer, _ = looked(prefix)
    files = files_of(prefix.pkgdir)
    assert answer["net"]["packages"] == len(files) and answer["net"]["bytes_alone"] == 0
    assert answer["pending"]["packages"] == 0 and answer["last_run"] > 0
    publish(prefix)
    pull(prefix)
    answer, text = looked(prefix)
    concerned = {record["path"] for record in prefix.resign_json("apply", "-p")["packages"]}
    assert answer["pending"] == pile(prefix, *concerned) and len(concerned) == 5
    assert "Next sync: 5 packages" in text

    good = dict(prefix.variables)
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "/bin/false [PORTAGE_CONFIG]"
    prefix.configure()
    prefix.resign("apply", check=1)
    answer, text = looked(prefix)
    assert answer["pending"]["packages"] == 0 and answer["held"] == pile(prefix, *concerned)
    assert "Held: 5 packages" in text
    prefix.update_pass()
    answer, _ = looked(prefix)
    assert answer["held"]["packages"] == 5 and answer["signers"][0]["packages"] == len(files) - 3
    prefix.variables = good
    prefix.configure()
    prefix.resign("held", "retry")
    answer, _ = looked(prefix)
    assert answer["held"]["packages"] == answer["pending"]["packages"] == 0
    assert answer["signers"][0]["packages"] == len(files_of(prefix.pkgdir)) == len(files) + 3


def test_where_nothing_is_signed(lab):
    prefix = world(lab, NEWEST, signed=False).clone()
    answer, text = looked(prefix)
    assert answer["status"] == "not-configured" and answer["not_configured"] and answer["key"] is None
    assert answer["unsigned"]["packages"] == len(files_of(prefix.pkgdir)) and answer["signers"] == []
    assert "not signed here" in text


def test_an_index_that_cannot_be_read(lab):
    """The packages are counted all the same."""
    prefix = world(lab, NEWEST).clone()
    files = files_of(prefix.pkgdir)
    publish(prefix)
    pull(prefix)
    (prefix.pkgdir / "Packages").unlink()
    answer, text = looked(prefix)
    assert answer["signers"][0]["packages"] == len(files)
    assert answer["pending"] is None and "Packages is missing" in answer["error"] and "cannot be foreseen" in text


def test_there_is_no_pkgdir(lab):
    prefix = world(lab, NEWEST).clone()
    prefix.run("rm", "-r", prefix.pkgdir)
    answer, text = looked(prefix)
    assert answer["pending"] is None and answer["error"] is None and "no PKGDIR yet" in text
