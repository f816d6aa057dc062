"""How it looks on a terminal, beside the real emerge on another one."""

import json
import re

import pytest

from tests.e2e.world import path_of, publish, pull, world
from tests.lab import NEWEST, Prefix, package
from tests.lab.terminal import Terminal

ESCAPE = "\x1b["


def on_a_terminal(prefix, *words, **environment):
    """What a command shows on a terminal; None takes a variable away."""
    values = prefix.environment() | {"TERM": "xterm"} | environment
    for name in ("NOCOLOR",):
        if name not in environment:
            values.pop(name)
    with Terminal(words, values, prefix.path) as terminal:
        terminal.end(120)
        return terminal.seen.replace("\r\n", "\n")


def pending(lab):
    """A prefix with packages that updates concern."""
    prefix = world(lab, NEWEST).clone()
    publish(prefix)
    pull(prefix)
    return prefix


def resign(prefix, *words, **environment):
    """The program on a terminal."""
    return on_a_terminal(prefix, "binpkg-resign", "--prefix", prefix.path, *words, **environment)


WAYS = (
    {},
    {"TERM": "dumb"},
    {"NOCOLOR": "true"},
    {"NOCOLOR": "Yes"},
    {"NOCOLOR": "1"},
    {"NO_COLOR": "1"},
    {"NO_COLOR": ""},
    {"NO_COLOR": "", "NOCOLOR": "true"},
)


def test_colours_where_emerge_has_them(lab):
    """A terminal, TERM, NO_COLOR and NOCOLOR decide as for emerge, in make.conf as well."""
    prefix = pending(lab)
    emerge = ("emerge", "--package-moves=n", "--pretend", "--usepkgonly", "--nodeps", "--oneshot", "app-misc/plain")
    seen = {}
    for way in WAYS:
        theirs, ours = on_a_terminal(prefix, *emerge, **way), resign(prefix, "apply", "--pretend", **way)
        assert "app-misc/plain" in theirs and "app-misc/user" in ours
        assert (ESCAPE in theirs) == (ESCAPE in ours), (way, theirs, ours)
        seen[json.dumps(way)] = ESCAPE in ours
    assert set(seen.values()) == {True, False}
    prefix.variables["NOCOLOR"] = "true"
    prefix.configure()
    assert ESCAPE not in on_a_terminal(prefix, *emerge) and ESCAPE not in resign(prefix, "apply", "--pretend")
    assert ESCAPE in resign(prefix, "--color=y", "apply", "--pretend")
    # no terminal, no colours
    assert ESCAPE not in prefix.resign("apply", "--pretend", env={"TERM": "xterm", "NOCOLOR": "false"}).text


def test_package_names_have_emerges_colour(lab):
    """The very bytes that emerge puts around the name of a binary package."""
    prefix = pending(lab)
    theirs = on_a_terminal(prefix, "emerge", "--package-moves=n", "--pretend", "--usepkgonly", "--nodeps", "--oneshot", "app-misc/plain")
    before, after = re.search(r"(\x1b\[[0-9;]*m)app-misc/plain-1\S*?(\x1b\[[0-9;]*m)", theirs).groups()
    ours = resign(prefix, "apply", "--pretend")
    assert f"would sign again {before}app-misc/user-1-1{after}\n" in ours
    assert f"would move {before}dev-util/strace-6.6-1{after} to dev-debug/" in ours
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "/bin/false [PORTAGE_CONFIG]"
    prefix.configure()
    ours = resign(prefix, "apply")
    assert f"        {before}app-misc/user-1-1{after}\n" in ours
    assert f"        {before}app-misc/user-1-1{after} (" in resign(prefix, "held")


def test_errors_go_to_standard_error(lab):
    """What went wrong, marked as Portage marks it, wrong usage as well; what was asked for does not."""
    prefix = pending(lab)
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "/bin/false [PORTAGE_CONFIG]"
    prefix.configure()
    pretended = prefix.resign("apply", "-p")
    assert "would sign again" in pretended.out
    done = prefix.resign("apply", check=1)
    assert "packages are kept safe" in done.err and "/bin/false" in done.err and "kept safe" not in done.out, done
    listed = prefix.resign("held")
    assert path_of("multi-instance", "app-misc/user-1") in listed.out and listed.err == "", listed
    again = prefix.resign("held", "retry", check=1)
    assert "kept safe" in again.err and "kept safe" not in again.out

    for words in (["nonsense"], ["apply", "--nonsense\x1b[2J"], ["sign"], ["held", "drop"], ["-q", "-v", "doctor"]):
        wrong = prefix.resign(*words, check=2)
        assert wrong.out == "" and wrong.err, wrong
        assert all(line.startswith(" * ") for line in wrong.err.splitlines()), wrong
        assert "error:" not in wrong.err and ESCAPE not in wrong.err and "Usage" in wrong.err
    assert "Usage" in prefix.resign("--help").out and "0." in prefix.resign("--version").out
    # red on a terminal
    assert resign(prefix, "nonsense").startswith(" \x1b[31;01m*\x1b[39;49;00m unrecognized subcommand 'nonsense'\n")


def slow(prefix, seconds):
    """A signing command that takes its time."""
    script = prefix.write("var/tmp/slow-gpg", f'#!/bin/sh\nsleep {seconds}\nexec /usr/bin/gpg --sign --armor "$@"\n')
    script.chmod(0o755)
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = f"{script} [PORTAGE_CONFIG]"
    prefix.configure()
    return prefix


def test_a_bar_for_what_takes_its_time(lab):
    """Packages and the time that is left; none on a dumb terminal, with -q or --json."""
    prefix = slow(pending(lab), 0.5)
    for words, environment in ((["-q", "apply"], {}), (["--json", "apply"], {}), (["apply"], {"TERM": "dumb"})):
        assert " of 5 packages" not in resign(prefix.clone(), *words, **environment)
    seen = resign(prefix.clone(), "apply", LC_ALL="C.UTF-8")
    assert re.search(r" \* [█░]{30} [0-5] of 5 packages, \S+ left", seen), seen
    assert " saved from removal: 3 updated in place, 3 copied to a new name\n" in seen


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_bar_with_bytes_where_packages_are_large(lab, locale):
    """ASCII where the locale has no other letters."""
    prefix = Prefix.create(lab, key=lab.key(), variables={"BINPKG_COMPRESS": "none"})
    payload = "0123456789abcde\n" * (24 << 16)
    prefix.make(*(package(f"app-misc/large-{number}", RDEPEND="dev-util/strace", payload=payload) for number in range(3)))
    prefix.updates("1Q-2024", "move dev-util/strace dev-debug/strace")
    seen = resign(slow(prefix, 0.8), "apply", LC_ALL=locale)
    letters = r"[█░]{30}" if locale == "C.UTF-8" else r"\[=*>? *\]"
    bars = re.findall(rf" \* {letters} (\S+) MiB of (\S+) MiB, \S+ \S*B/s, ([0-3]) of 3 packages, \S+ left", seen)
    assert bars and all(72 < float(whole) < 80 for _, whole, _ in bars), seen
    # as it is written, not only where a package is done
    assert any(done == "0" and float(written) > 0 for written, _, done in bars), bars
    assert seen.isascii() == (locale == "C")
    assert " saved from removal: 3 updated in place, 0 copied to a new name\n" in seen
