"""Completions as installed, in real shells: somebody types, presses Tab, and sees or runs what is meant."""

import os
import re
import shutil

import pytest

from tests.lab.command import base_environment, run
from tests.lab.session import TOP
from tests.lab.terminal import Terminal

PROMPT = "ready> "


@pytest.fixture(scope="module")
def installed(lab, program):
    """An image of `make install`, and beside it a program of our name that says what it was given."""
    image = lab.directory()
    words = ["make", "--no-print-directory", "install", f"DESTDIR={image}", "PREFIX=/usr", f"BINARY={program}"]
    run(words, base_environment(os.environ["PATH"]), cwd=TOP)
    (image / "work/beacons").mkdir(parents=True)
    (image / "work/package.gpkg.tar").touch()
    binary = image / "usr/bin/binpkg-resign"
    binary.unlink()
    binary.write_text('#!/bin/sh\necho "ran:$*:end"\n')
    binary.chmod(0o755)
    return image


def bash(image):
    """Bash with the loader that distributions have."""
    if not os.path.exists("/usr/share/bash-completion/bash_completion"):
        pytest.skip("bash-completion is not there: `make setup`")
    rc = image / "bashrc"
    rc.write_text(f"PS1='{PROMPT}'\nbind 'set bell-style none'\n. /usr/share/bash-completion/bash_completion\n")
    return ["bash", "--noprofile", "--rcfile", rc, "-i"]


def zsh(image):
    """Zsh with its own completion system; the folder is one of those it looks into on Gentoo."""
    dump = image / "zcompdump"
    rc = image / ".zshrc"
    rc.write_text(f"PS1='{PROMPT}'\nunsetopt beep prompt_cr\nfpath=({image}/usr/share/zsh/site-functions $fpath)\nautoload -Uz compinit\ncompinit -u -d {dump}\n")
    return ["zsh", "-d", "-i"]


def fish(image):
    """Fish, which finds the file by XDG_DATA_DIRS."""
    config = image / "config/fish"
    config.mkdir(parents=True, exist_ok=True)
    (config / "config.fish").write_text(f"set -g fish_greeting\nfunction fish_prompt\n echo -n '{PROMPT}'\nend\nset -g fish_autosuggestion_enabled 0\n")
    return ["fish", "--interactive"]


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}


@pytest.fixture(params=SHELLS)
def shell(request, installed):
    """Each shell, waiting for words."""
    if not shutil.which(request.param):
        pytest.skip(f"{request.param} is not there: `make setup`")
    argv = SHELLS[request.param](installed)
    path = f"{installed}/usr/bin:{os.path.dirname(shutil.which(request.param))}:/usr/bin:/bin"
    environment = base_environment(path) | {
        "HOME": installed,
        "ZDOTDIR": installed,
        "TERM": "xterm",
        "XDG_DATA_DIRS": f"{installed}/usr/share:/usr/share",
        "XDG_CONFIG_HOME": installed / "config",
    }
    with Terminal(argv, environment, installed / "work") as terminal:
        terminal.until(lambda seen: PROMPT in seen)
        yield terminal


# what is typed (Tab included) → what is run
TYPED = {
    "ap\t": "apply",
    "st\t": "status",
    "status --js\t": "status --json",
    "apply --pret\t": "apply --pretend",
    "held re\t": "held retry",
    "held dr\t": "held drop",
    "held retry --verb\t": "held retry --verbose",
    "verify pack\t": "verify package.gpkg.tar",
    "verify --js\t": "verify --json",
    "--pkgdir be\t": "--pkgdir beacons",
}


def test_tab_completes_what_is_meant(shell):
    """One Tab a line, then Enter: the program is given the whole words."""
    for typed, meant in TYPED.items():
        shell.type(f"binpkg-resign {typed}\r")
        seen = shell.until(lambda seen: ":end" in seen)
        ran = re.search(r"ran:(.*):end", seen)[1].rstrip(" /")
        assert ran == meant, (typed, seen)


def test_tab_shows_what_there_is(shell):
    """After `held `: what can be done about held packages, and not the commands beside `held`."""
    shell.type("binpkg-resign held \t\t")
    seen = shell.until(lambda seen: all(name in seen for name in ("list", "retry", "drop")))
    shell.read(0.3)
    assert "doctor" not in shell.seen and "rekey" not in seen
