"""doc/json.md has every name and word that the commands use."""

import re

import pytest

from tests.e2e.small import small
from tests.lab import package
from tests.lab.session import TOP

COMMANDS = [
    ("apply", "--pretend"),
    ("apply",),
    ("held",),
    ("held", "retry"),
    ("verify",),
    ("status",),
    ("doctor",),
    ("index", "--pretend"),
    ("sign", "--all", "--pretend"),
    ("rekey", "--pretend"),
    ("apply", "nonsense"),
]


@pytest.fixture(scope="module")
def words():
    """What the page has between marks."""
    text = (TOP / "doc/json.md").read_text()
    return set(re.findall(r"`([a-z_-]+)`", text)) | set(re.findall(r'"([a-z_-]+)"', text))


def names(value):
    """Every name, and every value that is a word and no text, but not keys and names of checks."""
    if isinstance(value, list):
        for inner in value:
            yield from names(inner)
    if isinstance(value, dict):
        for name, inner in value.items():
            if not re.fullmatch("[0-9A-F]{16,}", name):
                yield name
            if name in ("status", "outcome", "fault", "code", "owner", "state") and inner is not None:
                yield inner
            yield from names(inner)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_page_has_what_is_printed(lab, words, command):
    """With packages to be signed, to be held and to be left alone."""
    prefix = small(lab)
    prefix.make(package("app-misc/nobodys-1", signer="nobody"))
    if command == ("held",):
        prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "/bin/false [PORTAGE_CONFIG]"
        prefix.configure()
        prefix.resign("apply", check=1)
    found = set(names(prefix.resign_json(*command, check=None)))
    assert len(found) > 5 and found <= words, found - words


def test_the_page_has_every_code(words):
    """Of those that no test brings about here as well."""
    source = (TOP / "src/outcome.rs").read_text()
    codes = set(re.findall(r'=> "([a-z-]+)"', source[source.index("fn code") : source.index("fn is_interruption")]))
    source = (TOP / "src/commands/index.rs").read_text()
    codes |= set(re.findall(r'(?:Stray|Wrong)::[A-Za-z(_)]+ => "([a-z-]+)"', source))
    codes |= set(re.findall('code: "([a-z-]+)"', source))
    assert len(codes) >= 32 and codes <= words, codes - words
