"""The hook script itself: no logic, and no trace when the program is gone."""

import os

from tests.lab import HOOK
from tests.lab.command import base_environment, run

from .small import small


def stub(directory, status):
    """A program under the name of ours that notes how it was called."""
    program = directory / "binpkg-resign"
    program.write_text(f'#!/bin/sh\necho "called: $*"\nexit {status}\n')
    program.chmod(0o755)


def test_it_passes_the_exit_status_on(tmp_path):
    """Each status of the contract, and nothing but `apply` asked for."""
    for status in (0, 1, 2, 130):
        stub(tmp_path, status)
        result = run([HOOK], base_environment(f"{tmp_path}:/usr/bin:/bin"), check=status)
        assert (result.out, result.err) == ("called: apply\n", "")


def test_without_the_program_it_is_silent():
    """Files in /etc outlive packages."""
    result = run([HOOK], base_environment("/usr/bin:/bin"))
    assert (result.out, result.err) == ("", "")


def test_it_can_be_installed_as_it_is():
    """Portage runs only what is executable."""
    assert os.access(HOOK, os.X_OK)


def test_a_failing_hook_is_seen_in_the_sync(lab, tmp_path):
    """`emerge --sync` then ends with an error, as Portage does for every hook."""
    prefix = small(lab)
    prefix.install_hook()
    stub(tmp_path, 1)
    path = f"{tmp_path}:{prefix.environment()['PATH']}"
    result = prefix.sync(check=None, env={"PATH": path})
    assert "called: apply" in result.text
    assert result.status != 0


def test_it_is_silent_when_there_is_nothing_to_do(lab):
    """A sync that brings no updates shows no word of ours."""
    prefix = small(lab)
    (prefix.repository_path("gentoo") / "profiles/updates/1Q-2024").unlink()
    result = prefix.run(HOOK)
    assert (result.out, result.err) == ("", "")
