"""Every kind of container that Portage takes for a good one: by other tools, with odd but allowed contents."""

import io
import re
import subprocess
import tarfile

import pytest

from tests.lab import NEWEST, Prefix, assert_all_verify, assert_index_agrees, assert_portage_finds_nothing, package
from tests.lab.container import Container

from .small import MOVE, VICTIM_PATH, small
from .world import path_of, publish, world


def image_of(path):
    """The image and its signature: what an update must carry over byte for byte."""
    container = Container.read(path)
    name = container.name("image.tar")
    return name.split("/")[-1], container.data(name), container.data(f"{name}.sig")


def assert_saved(prefix, path):
    """Portage accepts the package before, we rewrite it, and nothing but its metadata is new."""
    assert prefix.verify([path]) == {path: None}, "the control: Portage takes it for a good package"
    file = prefix.pkgdir / path
    before = image_of(file)
    answer = prefix.resign_json("apply")
    assert [record["outcome"] for record in answer["packages"] if record["path"] == path] == ["resigned"], answer
    assert image_of(file) == before
    entries = prefix.metadata([path])[path]
    assert "dev-util/strace" not in entries["RDEPEND"] and "dev-debug/strace" in entries["RDEPEND"]
    assert_all_verify(prefix)
    assert_index_agrees(prefix)
    assert_portage_finds_nothing(prefix)
    return entries


def metadata_bytes(container):
    """The metadata archive, unpacked."""
    return subprocess.run(["zstd", "-dcq"], input=container.data(container.name("metadata.tar")), capture_output=True, check=True).stdout


def with_metadata(container, key, change):
    """Changes the list of metadata entries, (name, bytes) each, and signs everything again."""
    with tarfile.open(fileobj=io.BytesIO(metadata_bytes(container))) as tar:
        entries = [(member.name, tar.extractfile(member).read()) for member in tar]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in change(entries):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    packed = subprocess.run(["zstd", "-cq"], input=buffer.getvalue(), capture_output=True, check=True).stdout
    container.replace(container.name("metadata.tar"), packed)
    container.sign(key)


def gpkg_1_with_text(container, key):
    """gpkg-1 may hold something."""
    container.replace("victim-1-1/gpkg-1", b"of some other tool\n")
    container.sign(key)


def other_prefix(container, key):
    """Portage takes any one prefix directory."""
    for member in container.members:
        member.name = "something/" + member.name.split("/")[-1]
    container.sign(key)


def another_order(container, key):
    """The Manifest first, then everything the wrong way round, but each signature after its file, as Portage wants it."""

    def rank(entry):
        name = entry[0].name.split("/")[-1]
        return ["Manifest", "image", "metadata", "gpkg-1"].index(name.split(".")[0]), name.endswith(".sig")

    container.entries.sort(key=rank)


def digests_in_another_order(container, key):
    """BLAKE2B before SHA512, in capitals, and one algorithm more."""

    def edit(text):
        text = re.sub(r"(SHA512 \w+) (BLAKE2B \w+)", r"\2 \1", text)
        text = re.sub(r"(BLAKE2B|SHA512) (\w+)", lambda match: f"{match[1]} {match[2].upper()}", text)
        return text.replace("\n", " WHIRLPOOL 00\n")

    container.sign_manifest(key, edit=edit)


def not_utf8(container, key):
    """Bytes in the metadata that are no UTF-8 stay as they are."""
    with_metadata(container, key, lambda entries: [*entries, ("metadata/STRANGE", b"\xff\xfe dev-util/strace\n")])


def text_around_the_manifest(container, key):
    """Portage reads only the signed part, and so do we."""
    name = "victim-1-1/Manifest"
    container.replace(name, b"DATA image.tar.zst 1 SHA512 00 BLAKE2B 00\n\n" + container.data(name))


ODD = [gpkg_1_with_text, other_prefix, another_order, digests_in_another_order, not_utf8, text_around_the_manifest]


@pytest.mark.parametrize("change", ODD, ids=lambda change: change.__name__)
def test_odd_but_good(lab, change):
    """A package that Portage accepts is one that we save."""
    prefix = small(lab)
    file = prefix.pkgdir / VICTIM_PATH
    container = Container.read(file)
    change(container, prefix.key)
    container.write(file)
    prefix.reindex()
    entries = assert_saved(prefix, VICTIM_PATH)
    if change is not_utf8:
        assert entries["STRANGE"] == "\xff\xfe dev-util/strace\n"


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
def test_other_tar_formats(lab, form):
    """Containers written as PAX (with headers of their own for times) and as GNU."""
    prefix = small(lab)
    file = prefix.pkgdir / VICTIM_PATH
    container = Container.read(file)
    for member in container.members:
        member.mtime = 1_700_000_000.5 if form == tarfile.PAX_FORMAT else 1_700_000_000
    container.write(file, form)
    prefix.reindex()
    assert_saved(prefix, VICTIM_PATH)


def test_bytes_after_the_end(lab):
    """What follows the end of the archive is nobody's, for Portage and for us."""
    prefix = small(lab)
    with open(prefix.pkgdir / VICTIM_PATH, "ab") as file:
        file.write(b"junk" * 3000)
    prefix.reindex()
    assert_saved(prefix, VICTIM_PATH)


@pytest.mark.parametrize("length", [80, 101, 120, 153])
def test_long_names(lab, length, portage):
    """Names that do not fit into a tar header's first field (from 154 on Portage's own packing fails)."""
    prefix = Prefix.create(lab, portage=portage, key=lab.key())
    name = "a" * (length - len("-1-1"))
    prefix.make(package(f"app-misc/{name}-1", RDEPEND="dev-util/strace"))
    prefix.updates("1Q-2024", MOVE)
    assert_saved(prefix, path_of("multi-instance", f"app-misc/{name}-1"))


def test_a_long_prefix_directory(lab):
    """A prefix directory that needs GNU's long names, which Portage reads."""
    prefix = small(lab)
    file = prefix.pkgdir / VICTIM_PATH
    container = Container.read(file)
    for member in container.members:
        member.name = "p" * 180 + "/" + member.name.split("/")[-1]
    container.write(file, tarfile.GNU_FORMAT)
    prefix.reindex()
    assert_saved(prefix, VICTIM_PATH)


@pytest.mark.parametrize("length", [101, 153, 154, 155, 156, 200])
def test_moved_to_a_long_name(lab, length):
    """A new name that fits into a tar header's fields only just, or not at all."""
    prefix = Prefix.create(lab, key=lab.key())
    name = "b" * (length - len("-1-1"))
    prefix.make(package("app-misc/short-1"))
    prefix.updates("1Q-2024", f"move app-misc/short app-alt/{name}")
    prefix.resign("apply")
    path = path_of("multi-instance", f"app-alt/{name}-1")
    assert prefix.verify([path]) == {path: None}
    assert_index_agrees(prefix)
    assert_portage_finds_nothing(prefix)


@pytest.mark.parametrize("compression", ["zstd", "xz", "gzip", "bzip2", "lz4", "lzip", "lzop", "none"])
def test_compressions(lab, compression):
    """A package of each compression, and make.conf meanwhile asking for another: the image's stays."""
    prefix = Prefix.create(lab, key=lab.key(), variables={"BINPKG_COMPRESS": compression})
    prefix.make(package("app-misc/one-1", RDEPEND="dev-util/strace"))
    prefix.updates("1Q-2024", MOVE)
    other = prefix.clone()
    other.variables["BINPKG_COMPRESS"] = "xz" if compression != "xz" else "zstd"
    other.configure()
    for one in (prefix, other):
        assert_saved(one, path_of("multi-instance", "app-misc/one-1"))


def test_made_by_quickpkg(lab, portage):
    """Packages that quickpkg made of what is installed."""
    prefix = world(lab, portage).clone()
    prefix.run("rm", "-r", prefix.pkgdir)
    prefix.pkgdir.mkdir()
    prefix.run("quickpkg", "--include-config=y", "=app-misc/user-1", "=dev-util/strace-6.6")
    publish_here(prefix)
    assert_all_verify(prefix)
    prefix.resign("apply")
    assert "dev-debug/strace" in prefix.entry(path_of("multi-instance", "app-misc/user-1"))["BDEPEND"]
    assert_all_verify(prefix)
    assert_index_agrees(prefix)
    assert_portage_finds_nothing(prefix)


def test_made_by_ebuild_package(lab, portage):
    """Packages that `ebuild … package` made."""
    prefix = world(lab, portage).clone()
    prefix.run("rm", "-r", prefix.pkgdir)
    prefix.pkgdir.mkdir()
    prefix.run("ebuild", prefix.repository_path("gentoo") / "app-misc/user/user-1.ebuild", "clean", "package")
    publish_here(prefix)
    prefix.resign("apply")
    assert "dev-debug/strace" in prefix.entry(path_of("multi-instance", "app-misc/user-1"))["BDEPEND"]
    assert_all_verify(prefix)
    assert_index_agrees(prefix)
    assert_portage_finds_nothing(prefix)


def test_made_by_the_older_portage(lab):
    """A PKGDIR that 3.0.60 filled, and 3.0.83 syncs."""
    from tests.lab import OLDEST

    prefix = world(lab, OLDEST).clone()
    prefix.portage = NEWEST
    prefix.install_hook()
    publish(prefix)
    result = prefix.sync()
    assert "the file will be removed" not in result.text
    assert_all_verify(prefix)
    assert_index_agrees(prefix)
    assert_portage_finds_nothing(prefix)


def publish_here(prefix):
    """The updates, without a sync."""
    from .world import UPDATES

    prefix.updates("1Q-2024", *UPDATES)


def test_a_large_image(lab):
    """Larger than what goes through the page cache, and no whole number of blocks."""
    prefix = Prefix.create(lab, key=lab.key(), variables={"BINPKG_COMPRESS": "none"})
    prefix.make(package("app-misc/large-1", RDEPEND="dev-util/strace", payload="0123456789abcdef\n" * (5 << 20)))
    prefix.updates("1Q-2024", MOVE)
    path = path_of("multi-instance", "app-misc/large-1")
    assert (prefix.pkgdir / path).stat().st_size > 64 << 20
    assert_saved(prefix, path)
