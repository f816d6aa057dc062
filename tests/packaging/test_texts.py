"""What is written by hand is in step with the program: manual page, eix-sync line, ebuilds, documentation."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.lab.command import base_environment, run
from tests.lab.session import TOP

from .gentoo import version

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "doc/syncing.md", "doc/changing-keys.md", "doc/held-packages.md", "doc/reliability.md")


@pytest.fixture(scope="module")
def shown(program):
    """Command (as words) → what its --help says, for all commands but hidden ones."""
    found = {}
    todo = [()]
    while todo:
        words = todo.pop()
        text = run([program, *words, "--help"], base_environment(os.environ["PATH"])).out
        found[words] = text
        section = re.search(r"^Commands:\n((?:  .*\n|\n)*)", text, re.MULTILINE)
        names = re.findall(r"^  ([a-z]+)", section[1], re.MULTILINE) if section else []
        todo += [(*words, name) for name in names if name != "help"]
    return found


def options(text):
    """Every option in a help text: `-p`, `--pretend`."""
    lines = re.findall(r"^ +(-[^ ].*)$", text, re.MULTILINE)
    return {name for line in lines for name in re.findall(r"(?:^|, )(--?[a-zA-Z][a-z-]*)", line)}


@pytest.fixture(scope="module")
def page():
    """The manual page without its markup: a list of (section, indented heading, text)."""
    text = (TOP / "man/binpkg-resign.1").read_text()
    text = re.sub(r"\\f[RBIP]", "", text).replace("\\-", "-").replace("\\(dq", '"')
    return re.sub(r'^(\.(?:BR?|I)) (.*)$', lambda m: m[1] + " " + m[2].replace(' ", " ', ", ").replace('"', ""), text, flags=re.MULTILINE)


def headings(page, *sections):
    """The headings (what follows .TP) of some sections."""
    found = []
    for part in re.split(r"^\.SH ", page, flags=re.MULTILINE)[1:]:
        if part.splitlines()[0].strip('"') in sections:
            found += re.findall(r"^\.TP\n(?:\.BR? )?(.*)$", part, re.MULTILINE)
    return found


def test_manual_page_has_every_option(shown, page):
    """And no other."""
    in_program = {name for text in shown.values() for name in options(text)}
    in_page = {name for heading in headings(page, "COMMANDS", "OPTIONS") for name in re.findall(r"(?<![\w-])--?[a-zA-Z][a-z-]*", heading)}
    assert in_program == in_page
    assert "--pretend" in in_program and "-j" in in_program


def test_manual_page_has_every_command(shown, page):
    """And no other; `held` alone is `held list`."""
    in_program = {" ".join(words) for words in shown if words}
    in_page = set()
    for heading in headings(page, "COMMANDS"):
        if not heading.startswith("-"):
            names = re.findall(r"[a-z]+", re.sub(r"PATH|FILE|COMMAND|\.\.\.", "", heading).replace("[", "").replace("]", ""))
            in_page |= {" ".join(names), names[0]}
    assert in_page == in_program | {"help"}
    assert {"apply", "held retry"} <= in_program


def test_manual_page_is_of_this_version(page):
    """Its heading names the version in Cargo.toml."""
    assert f'"binpkg-resign {version()}"' in page.splitlines()[0]


def test_manual_page_is_in_order():
    """groff has nothing to say about it."""
    if not shutil.which("groff"):
        pytest.skip("groff is not there")
    words = ["groff", "-man", "-ww", "-z", "-Tutf8", TOP / "man/binpkg-resign.1"]
    assert run(words, base_environment(os.environ["PATH"])).text == ""


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_name_what_there_is(document, shown):
    """Commands, options, make targets and links in the documents exist."""
    text = (TOP / document).read_text()
    known = {name for help_text in shown.values() for name in options(help_text)}
    commands = {words[0] for words in shown if words}
    for command, rest in re.findall(r"binpkg-resign ([a-z]+)((?: -[-a-z]+)*)", text):
        if "`binpkg-resign " + command in text or "    binpkg-resign " + command in text:
            assert command in commands, command
            assert set(rest.split()) <= known, rest
    makefile = (TOP / "Makefile").read_text() + (TOP / "packaging.mk").read_text()
    for target in re.findall(r"(?:^ {4}(?:sudo )?|`)make ([a-z-]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in link:
            assert ((TOP / document).parent / link).exists(), link


def copy_of_the_tree(lab):
    """The files that check-crates looks at."""
    where = lab.directory()
    for name in ("Cargo.toml", "Cargo.lock", "README.md", "CHANGELOG.md"):
        shutil.copy(TOP / name, where)
    shutil.copytree(TOP / "ebuild", where / "ebuild")
    return where


def check_crates(tree):
    """Runs `ebuild/check-crates` on a tree: (status, words)."""
    done = subprocess.run([sys.executable, TOP / "ebuild/check-crates", tree], capture_output=True, text=True)
    return done.returncode, done.stderr


def test_ebuilds_are_in_step_with_cargo(lab):
    """CRATES, Manifest, RUST_MIN_VER, version, README."""
    assert check_crates(copy_of_the_tree(lab)) == (0, "")


# file, what is changed in it, what must be named
PARTINGS = {
    "a crate more": ("Cargo.lock", "\n[[package]]\n", '\n[[package]]\nname = "new"\nversion = "1.0.0"\nsource = "s"\n\n[[package]]\n', "lacks new@1.0.0"),
    "a crate less": ("Cargo.lock", 'name = "clap"\n', 'name = "clop"\n', "CRATES has clap@"),
    "another Rust": ("Cargo.toml", 'rust-version = "1.', 'rust-version = "1.9', "RUST_MIN_VER is"),
    "another version": ("Cargo.toml", '\nversion = "', '\nversion = "7', "is missing"),
    "the live ebuild": ("ebuild/app-portage/binpkg-resign/binpkg-resign-9999.ebuild", 'SLOT="0"', 'SLOT="1"', "is not binpkg-resign-"),
    "no digest": ("ebuild/app-portage/binpkg-resign/Manifest", "DIST clap-", "DIST clop-", "Manifest lacks clap-"),
    "the README": ("README.md", "Rust 1.", "Rust 2.", "README.md does not name Rust"),
}


@pytest.mark.parametrize("parting", PARTINGS)
def test_check_crates_sees(lab, parting):
    """The check fails, and names what has parted."""
    name, old, new, expected = PARTINGS[parting]
    tree = copy_of_the_tree(lab)
    text = (tree / name).read_text()
    assert old in text
    (tree / name).write_text(text.replace(old, new, 1))
    status, words = check_crates(tree)
    assert status == 1 and expected in words, words


def eix_sync(lab, path):
    """Does with the lines what eix-sync does with a `@` hook: strip the `@`, eval the rest in sh."""
    lines = [line.strip() for line in (TOP / "hooks/eix-sync.conf").read_text().splitlines()]
    hooks = [line for line in lines if line.startswith("@") and not line.startswith("@@")]
    assert len(hooks) == 1
    words = ["/bin/sh", "-c", 'set -u; eval "$1" || echo "Something went wrong with $1"', "eix-sync", hooks[0][1:]]
    return run(words, base_environment(path))


def test_eix_sync_line(lab):
    """It runs `apply`, tells eix-sync of a failure, and does nothing where the program is not installed."""
    bin_directory = lab.directory()
    stub = bin_directory / "binpkg-resign"
    for status, expected in ((0, "ran apply\n"), (1, "ran apply\nSomething went wrong")):
        stub.write_text(f'#!/bin/sh\necho "ran $*"\nexit {status}\n')
        stub.chmod(0o755)
        assert eix_sync(lab, f"{bin_directory}:/usr/bin:/bin").text.startswith(expected)
    stub.unlink()
    assert eix_sync(lab, f"{bin_directory}:/usr/bin:/bin").text == ""
