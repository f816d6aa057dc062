"""A machine whose gpg cannot be run, while signing is configured: everything is kept, and it is said why."""

import subprocess

import pytest

from tests.e2e.small import GOOD_PATH, VICTIM_PATH, assert_kept, digest, small
from tests.lab import assert_all_verify, assert_index_agrees, assert_portage_finds_nothing


@pytest.fixture
def without_gpg():
    """Words before a command that hide gpg from it, where the machine lets us."""
    words = ["unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /usr/bin/gpg && exec "$@"', "sh"]
    tried = subprocess.run([*words, "/usr/bin/gpg", "--version"], capture_output=True, check=False)
    # 126: it was found, and could not be run
    if tried.returncode not in (126, 127):
        pytest.skip("skipped: gpg cannot be hidden here")
    return words


def test_everything_is_kept(lab, without_gpg):
    prefix = small(lab)
    before = {path: digest(prefix.pkgdir / path) for path in (GOOD_PATH, VICTIM_PATH)}
    ours = [*without_gpg, "binpkg-resign", "--prefix", prefix.path]
    result = prefix.run(*ours, "apply", check=1)
    assert "gpg cannot be used" in result.text and "app-crypt/gnupg" in result.text, result
    assert "gpg cannot be used" in prefix.run(*ours, "verify", check=2).text
    assert "gpg cannot be used" in prefix.run(*ours, "doctor", check=1).text
    prefix.update_pass()
    for path, bytes_before in before.items():
        assert_kept(prefix, path, bytes_before)
    prefix.resign("held", "retry")
    assert_all_verify(prefix)
    assert_index_agrees(prefix)
    assert_portage_finds_nothing(prefix)
