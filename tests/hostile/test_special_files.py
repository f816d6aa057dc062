"""Pipes, devices, and files without end, put there by somebody of PKGDIR's group."""

import pytest

from .scene import both_layouts, ground, only_root

pytestmark = only_root

INDEXES = {
    "a pipe": "rm Packages; mkfifo Packages",
    "a link to a pipe": "rm Packages; mkfifo pipe; ln -s pipe Packages",
    "zeros": "rm Packages; ln -s /dev/zero Packages",
    "random bytes": "rm Packages; ln -s /dev/urandom Packages",
    "a terminal": "rm Packages; ln -s /dev/ptmx Packages",
    "a process": "rm Packages; ln -s /proc/self/mem Packages",
    "a folder": "rm Packages; mkdir Packages",
    "a loop": "rm Packages; ln -s Packages Packages",
    "huge": "truncate -s 6G Packages",
    "one long line": "head -c 100000000 /dev/zero | tr '\\0' x >>Packages",
    "very many blocks": "yes 'CPV: app-misc/x-1' | sed 's/$/\\n/' | head -c 6000000 >>Packages",
}


RUNS = [("apply", index) for index in INDEXES]
RUNS += [(words, index) for words in ("apply -p", "verify", "doctor") for index in ("a pipe", "zeros", "huge")]


@pytest.mark.parametrize(("words", "index"), RUNS)
def test_an_index(lab, words, index):
    """In time, with little memory, and named where it is of no use."""
    stage = ground(lab, "multi-instance")
    stage.attack(INDEXES[index])
    result = stage.run(*words.split())
    if index not in ("very many blocks", "one long line"):
        assert result.status in (1, 2) and "Packages" in result.text, result


PACKAGES = {
    "a pipe": "rm $F; mkfifo $F",
    "zeros": "rm $F; ln -s /dev/zero $F",
    "a folder": "rm $F; mkdir $F",
    "huge": "truncate -s 900G $F",
    "a socket": "rm $F; python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' $F",
    "a promise of much": "rm $F; python3 -c 'import sys, tarfile; t = tarfile.TarInfo(\"one-1-1/gpkg-1\"); t.size = 8 << 40; open(sys.argv[1], \"wb\").write(t.tobuf(tarfile.GNU_FORMAT))' $F; truncate -s 500G $F",
}


@both_layouts
@pytest.mark.parametrize("what", PACKAGES)
def test_a_package(lab, layout, what):
    """The others are signed as if nothing were."""
    stage = ground(lab, layout)
    stage.attack(f"F={stage.where('app-misc/one-1')}\n{PACKAGES[what]}")
    result = stage.run("apply")
    stage.assert_others_saved("app-misc/two-1", "dev-libs/three-1")
    assert result.status in (0, 1), result


@both_layouts
def test_very_many_files_that_nobody_knows(lab, layout):
    """Ten thousand files that are no packages, where Portage reads them all."""
    stage = ground(lab, layout)
    stage.prefix.features.append("-pkgdir-index-trusted")
    stage.prefix.configure()
    stage.attack("mkdir app-misc/many; cd app-misc/many; seq 10000 | sed 's/$/-1.gpkg.tar/' | xargs touch")
    stage.run("apply", limit=30)
    stage.assert_others_saved("app-misc/two-1", "dev-libs/three-1")
