"""An index that cannot be trusted stops everything: Portage would take it as empty and drop it on its next write."""

import gzip

import pytest

from tests.lab import Snapshot

from .small import MOVE, VICTIM_PATH, small


def missing(text):
    """No index at all, while there are packages."""
    return None


def empty(text):
    """A file of no bytes."""
    return ""


def cut_in_the_header(text):
    """The write was cut off early."""
    return text[: text.index("VERSION:")]


def newer_version(text):
    """From a Portage of the future."""
    return text.replace("VERSION: 0", "VERSION: 1")


def no_version(text):
    """VERSION is missing."""
    return text.replace("VERSION: 0\n", "")


def version_is_no_number(text):
    """VERSION is a word."""
    return text.replace("VERSION: 0", "VERSION: new")


@pytest.mark.parametrize(
    "spoil", [missing, empty, cut_in_the_header, newer_version, no_version, version_is_no_number], ids=lambda f: f.__name__
)
def test_a_broken_index_stops_the_run(lab, spoil):
    """Exit status 2, the file named, and not one byte changed."""
    prefix = small(lab)
    index = prefix.pkgdir / "Packages"
    text = spoil(index.read_text())
    if text is None:
        index.unlink()
        index.with_suffix(".gz").unlink()
    else:
        index.write_text(text)
    before = Snapshot(prefix.path)
    result = prefix.resign("apply", check=2)
    assert str(prefix.pkgdir) in result.err and "Packages" in result.err and "binpkg-resign index" in result.err, result
    assert before.difference(Snapshot(prefix.path)) == []
    # Portage, which takes such an index as empty, finds no package to remove.
    packages = before.packages().keys()
    prefix.update_pass(check=None)
    assert Snapshot(prefix.pkgdir).packages().keys() == {path.removeprefix("var/cache/binpkgs/") for path in packages}


def test_an_index_cut_in_an_entry(lab):
    """Cut within the last package: what is whole is saved or nothing is touched, and it is said."""
    prefix = small(lab)
    index = prefix.pkgdir / "Packages"
    text = index.read_text()
    index.write_text(text[: text.rindex("PATH:")])
    before = Snapshot(prefix.pkgdir).packages()
    result = prefix.resign("apply", check=None)
    assert result.status in (0, 1, 2) and "Traceback" not in result.err and "panicked" not in result.err, result
    prefix.update_pass(check=None)
    assert Snapshot(prefix.pkgdir).packages().keys() >= before.keys()


def test_no_packages_at_all(lab):
    """An empty PKGDIR without an index is no fault."""
    prefix = small(lab)
    for file in prefix.pkgdir.rglob("*"):
        if file.is_file():
            file.unlink()
    result = prefix.resign("apply")
    assert (result.out, result.err) == ("", "")


def test_no_pkgdir(lab):
    """A PKGDIR that is not there is no fault either, and is not made."""
    prefix = small(lab)
    prefix.run("rm", "-r", prefix.pkgdir)
    result = prefix.resign("apply")
    assert (result.out, result.err) == ("", "")
    assert not prefix.pkgdir.exists()


def test_unknown_keys_survive(lab):
    """Keys that neither we nor Portage know, in the header and in entries; the order of packages too."""
    prefix = small(lab)
    index = prefix.pkgdir / "Packages"
    text = index.read_text()
    text = text.replace("VERSION: 0\n", "VERSION: 0\nX-HEADER: of somebody\n")
    text = text.replace(f"PATH: {VICTIM_PATH}\n", f"PATH: {VICTIM_PATH}\nX-ENTRY: of somebody else\n")
    index.write_text(text)
    prefix.resign("apply")
    after = index.read_text()
    assert "X-HEADER: of somebody\n" in after and "X-ENTRY: of somebody else\n" in after
    assert gzip.decompress(index.with_suffix(".gz").read_bytes()).decode() == after


def test_a_symlinked_index_is_followed(lab):
    """The link stays a link, the file it leads to is written."""
    prefix = small(lab)
    index, elsewhere = prefix.pkgdir / "Packages", prefix.path / "var/Packages"
    index.rename(elsewhere)
    index.symlink_to(elsewhere)
    prefix.resign("apply")
    assert index.is_symlink() and "dev-debug/strace" in elsewhere.read_text()


def test_without_compress_index(lab):
    """Without FEATURES=compress-index there is no Packages.gz, and one left behind goes, as with Portage."""
    prefix = small(lab)
    prefix.features.append("-compress-index")
    prefix.configure()
    assert (prefix.pkgdir / "Packages.gz").exists()
    prefix.resign("apply")
    assert not (prefix.pkgdir / "Packages.gz").exists()
    assert MOVE.split()[2] in (prefix.pkgdir / "Packages").read_text()
