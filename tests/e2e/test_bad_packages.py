"""Packages that are broken or tampered with: said so, kept, never signed; the others go on."""

import io
import os
import subprocess
import tarfile

import pytest

from tests.lab.container import Container

from .small import GOOD_PATH, VICTIM_PATH, assert_good_went_on, assert_kept, digest, small


def truncated(file, key):
    """Half of the file."""
    os.truncate(file, file.stat().st_size // 2)


def empty(file, key):
    """No byte is left."""
    os.truncate(file, 0)


def not_a_tar(file, key):
    """Something else under the name of a package."""
    file.write_bytes(b"This is no package.\n" * 1000)


def edited(change):
    """A spoiler that changes the list of members."""

    def spoil(file, key):
        container = Container.read(file)
        change(container, key)
        container.write(file)

    spoil.__name__, spoil.__doc__ = change.__name__, change.__doc__
    return spoil


@edited
def duplicate_member(container, key):
    """The metadata twice: which one is signed?"""
    name = container.name("metadata.tar")
    container.add(name, container.data(name))


@edited
def duplicate_signed_member(container, key):
    """The same, with a Manifest that lists both."""
    name = container.name("metadata.tar")
    container.add(name, container.data(name))
    container.sign_manifest(key)


@edited
def absolute_name(container, key):
    """A member that would be unpacked anywhere."""
    container.add("/etc/passwd", b"root::0:0:::\n")


@edited
def nested_name(container, key):
    """A second level."""
    container.add("victim-1-1/sub/file", b"data")
    container.sign_manifest(key, edit=lambda text: text.replace("DATA sub/file", "DATA file"))


@edited
def parent_name(container, key):
    """A name that leads out."""
    container.add("../evil", b"data")
    container.sign_manifest(key)


@edited
def two_prefixes(container, key):
    """Members under two names."""
    container.add("other-1-1/file", b"data")
    container.sign_manifest(key)


@edited
def missing_image(container, key):
    """The Manifest lists an image that is not there."""
    name = container.name("image.tar")
    container.remove(name)


@edited
def missing_manifest(container, key):
    """No Manifest at all, while the parts are signed."""
    container.remove("victim-1-1/Manifest")


@edited
def missing_metadata(container, key):
    """Signed, whole, but without metadata."""
    name = container.name("metadata.tar")
    container.remove(name)
    container.remove(f"{name}.sig")
    container.sign_manifest(key)


@edited
def extra_member(container, key):
    """A file that the Manifest does not list."""
    container.add("victim-1-1/extra", b"data")


@edited
def wrong_size(container, key):
    """The Manifest is signed but says another size."""
    size = len(container.data(container.name("image.tar")))
    container.sign_manifest(key, edit=lambda text: text.replace(f" {size} ", f" {size + 1} "))


@edited
def wrong_digest(container, key):
    """One byte of the image is another."""
    name = container.name("image.tar")
    data = container.data(name)
    container.replace(name, data[:-1] + bytes([data[-1] ^ 1]))


@edited
def wrong_metadata(container, key):
    """One byte of the metadata is another."""
    name = container.name("metadata.tar")
    data = container.data(name)
    container.replace(name, data[:-1] + bytes([data[-1] ^ 1]))


@edited
def manifest_changed(container, key):
    """One digit of the signed text is another."""
    name = "victim-1-1/Manifest"
    container.replace(name, container.data(name).replace(b"DATA", b"DATB", 1))


@edited
def one_digest_only(container, key):
    """A Manifest with one algorithm where two are required."""
    container.sign_manifest(key, edit=lambda text: "".join(line.split(" BLAKE2B")[0] + "\n" for line in text.splitlines()))


@edited
def unsigned_image(container, key):
    """A signed package with one part unsigned, the Manifest agreeing."""
    container.remove(container.name("image.tar") + ".sig")
    container.sign_manifest(key)


@edited
def unsigned_metadata(container, key):
    """The same with the metadata."""
    container.remove(container.name("metadata.tar") + ".sig")
    container.sign_manifest(key)


@edited
def unsigned_manifest(container, key):
    """The parts are signed, the Manifest is plain text."""
    name = "victim-1-1/Manifest"
    lines = [line for line in container.data(name).decode().splitlines() if line.startswith("DATA ")]
    container.replace(name, ("\n".join(lines) + "\n").encode())


@edited
def directory_member(container, key):
    """A directory entry, as plain tar makes them."""
    container.add("victim-1-1/directory", kind=tarfile.DIRTYPE)


@edited
def link_member(container, key):
    """A symbolic link inside the container."""
    container.add("victim-1-1/link", kind=tarfile.SYMTYPE, target="/etc/passwd")
    container.sign_manifest(key)


@edited
def metadata_is_no_archive(container, key):
    """Well signed rubbish."""
    container.replace(container.name("metadata.tar"), b"rubbish" * 100)
    container.sign(key)


@edited
def metadata_leads_out(container, key):
    """Metadata with a name that leads out of its directory."""
    container.replace(container.name("metadata.tar"), compressed(metadata_tar({"../../evil": b"data"})))
    container.sign(key)


def metadata_tar(entries):
    """A metadata archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in entries.items():
            member = tarfile.TarInfo(f"metadata/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def compressed(data):
    """Through zstd, as metadata is by default."""
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout


SPOILERS = [
    truncated,
    empty,
    not_a_tar,
    duplicate_member,
    duplicate_signed_member,
    absolute_name,
    nested_name,
    parent_name,
    two_prefixes,
    missing_image,
    missing_manifest,
    missing_metadata,
    extra_member,
    wrong_size,
    wrong_digest,
    wrong_metadata,
    manifest_changed,
    one_digest_only,
    unsigned_image,
    unsigned_metadata,
    unsigned_manifest,
    directory_member,
    link_member,
    metadata_is_no_archive,
    metadata_leads_out,
]


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_a_spoilt_package_is_held(lab, spoil):
    """It is kept byte for byte, named with what is wrong, and the other package goes on."""
    prefix = small(lab)
    victim = prefix.pkgdir / VICTIM_PATH
    spoil(victim, prefix.key)
    before, status = digest(victim), victim.stat()

    foretold = prefix.resign_json("apply", "--pretend", check=None)
    result = prefix.resign("apply", check=1)

    assert (digest(victim), victim.stat().st_mtime_ns) == (before, status.st_mtime_ns)
    assert str(victim) in result.text and "panicked" not in result.text, result
    records = {record["path"]: record for record in foretold["packages"]}
    assert records[GOOD_PATH]["outcome"] == "resigned"
    # --pretend does not read through images.
    if spoil is not wrong_digest:
        assert records[VICTIM_PATH]["outcome"] == "held"
        assert records[VICTIM_PATH]["reason"]["text"] in result.text
    assert_good_went_on(prefix)
    # Whatever Portage does with it then.
    prefix.update_pass(check=None)
    assert_kept(prefix, VICTIM_PATH, before)
    assert_good_went_on(prefix)


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_portage_does_not_accept_it_either(lab, spoil):
    """The control: what we refuse, Portage's verification refuses as well (but for what the list names)."""
    prefix = small(lab)
    spoil(prefix.pkgdir / VICTIM_PATH, prefix.key)
    error = prefix.verify([VICTIM_PATH])[VICTIM_PATH]
    stricter = {"missing_metadata", "metadata_is_no_archive", "metadata_leads_out"}
    assert (error is None) == (spoil.__name__ in stricter), error


def test_a_file_that_is_not_there(lab):
    """The index names a package, the file is gone: said so, and nothing else happens."""
    prefix = small(lab)
    (prefix.pkgdir / VICTIM_PATH).unlink()
    result = prefix.resign("apply", "-v")
    assert "victim-1" in result.text
    assert_good_went_on(prefix)
    answer = prefix.resign_json("apply", "-p")
    assert {record["path"]: record["outcome"] for record in answer["packages"]} == {VICTIM_PATH: "skipped"}


def test_a_link_where_a_package_should_be(lab):
    """One that root alone can have made is followed, and the new package takes its place; what it leads to stays."""
    prefix = small(lab)
    elsewhere = prefix.path / "elsewhere.gpkg.tar"
    (prefix.pkgdir / VICTIM_PATH).rename(elsewhere)
    (prefix.pkgdir / VICTIM_PATH).symlink_to(elsewhere)
    before = digest(elsewhere)
    prefix.resign("apply")
    assert not (prefix.pkgdir / VICTIM_PATH).is_symlink() and digest(elsewhere) == before
    assert prefix.verify([VICTIM_PATH]) == {VICTIM_PATH: None}
    assert_good_went_on(prefix)
    prefix.update_pass()
    assert (prefix.pkgdir / VICTIM_PATH).is_file() and digest(elsewhere) == before


def test_a_link_that_others_could_have_made(lab):
    """Where a group may write, it is not followed: the package is told of as exposed, and the others go on."""
    prefix = small(lab)
    elsewhere = prefix.path / "elsewhere.gpkg.tar"
    victim = prefix.pkgdir / VICTIM_PATH
    victim.rename(elsewhere)
    victim.symlink_to(elsewhere)
    victim.parent.chmod(0o2775)
    before = digest(elsewhere)
    answer = prefix.resign_json("apply", check=1)
    records = {record["path"]: record for record in answer["packages"]}
    assert records[VICTIM_PATH]["outcome"] == "exposed", records
    assert victim.is_symlink() and digest(elsewhere) == before
    assert_good_went_on(prefix)


def test_a_directory_where_a_package_should_be(lab):
    """A directory under the name of a package."""
    prefix = small(lab)
    (prefix.pkgdir / VICTIM_PATH).unlink()
    (prefix.pkgdir / VICTIM_PATH).mkdir()
    result = prefix.resign("apply", check=None)
    assert result.status in (0, 1) and "victim-1" in result.text, result
    assert_good_went_on(prefix)


def test_metadata_that_unpacks_to_gigabytes(lab):
    """A well signed bomb is refused with little memory, at once."""
    prefix = small(lab)
    victim = prefix.pkgdir / VICTIM_PATH
    container = Container.read(victim)
    header = tarfile.TarInfo("metadata/BOMB")
    header.size = 6 << 30
    zeros = subprocess.Popen(["head", "-c", str(header.size), "/dev/zero"], stdout=subprocess.PIPE)
    packed = subprocess.run(["zstd", "-q", "-c", "-1", "-T0"], stdin=zeros.stdout, capture_output=True, check=True).stdout
    zeros.wait()
    bomb = compressed(header.tobuf(tarfile.GNU_FORMAT)) + packed
    container.replace(container.name("metadata.tar"), bomb)
    container.sign(prefix.key)
    container.write(victim)
    before = digest(victim)
    # Address space, not only what is used: 3 GB with all threads and libraries.
    script = 'ulimit -v 3000000; exec binpkg-resign --prefix "$1" apply'
    result = prefix.run("sh", "-c", script, "sh", prefix.path, check=1, timeout=60)
    assert "victim-1" in result.text
    assert_kept(prefix, VICTIM_PATH, before)
    assert_good_went_on(prefix)


def test_an_entry_that_leads_out_of_pkgdir(lab):
    """PATH in the index is not believed."""
    prefix = small(lab)
    outside = prefix.path / "var/cache/outside.gpkg.tar"
    outside.write_bytes((prefix.pkgdir / VICTIM_PATH).read_bytes())
    index = prefix.pkgdir / "Packages"
    index.write_text(index.read_text().replace(f"PATH: {VICTIM_PATH}", "PATH: ../outside.gpkg.tar"))
    before = digest(outside)
    result = prefix.resign("apply", check=None)
    assert result.status in (1, 2), result
    assert "outside.gpkg.tar" in result.text or "victim-1" in result.text, result
    assert digest(outside) == before
