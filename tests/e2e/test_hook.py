"""The hook script itself: little logic, silence when all is well, one line when the program is gone."""

import os

from tests.lab import HOOK
from tests.lab.checks import REMOVED
from tests.lab.command import base_environment, run
from tests.lab.session import TOP

from .small import small


def stub(directory, status):
    """A program under the name of ours that notes how it was called."""
    program = directory / "binpkg-resign"
    program.write_text(f'#!/bin/sh\necho "called: $*"\nexit {status}\n')
    program.chmod(0o755)


def filled_in(program, folder):
    """The hook as it is installed for a program."""
    run([TOP / "hooks/fill-in", program, folder], base_environment("/usr/bin:/bin"))
    return folder / "postsync.d" / HOOK.name


def test_it_passes_the_exit_status_on(tmp_path):
    """Each status of the contract, and nothing but `apply` asked for; silent where that was silent and good."""
    for status in (0, 1, 2, 130):
        stub(tmp_path, status)
        result = run([HOOK], base_environment(f"{tmp_path}:/usr/bin:/bin"), check=status)
        assert result.out == "called: apply\n"
        assert ("safe all the same" in result.err) == (status != 0), result
    assert result.err.count("\n") == 2


def test_without_the_program_it_says_so_in_a_line():
    """Files in /etc outlive packages; the sync goes on."""
    result = run([HOOK], base_environment("/usr/bin:/bin"))
    assert result.out == "" and result.err.count("\n") == 1
    assert "binpkg-resign is not installed" in result.err and str(HOOK) in result.err


def test_it_finds_the_program_where_it_was_installed(tmp_path):
    """With the PATH of cron, which lacks that place: the one filled in is run, and it is the one named when missing."""
    program = tmp_path / "binpkg-resign"
    hook = filled_in(program, tmp_path / "filled")
    assert os.access(hook, os.X_OK)
    stub(tmp_path, 0)
    cron = base_environment("/usr/sbin:/usr/bin:/sbin:/bin")
    assert run([hook], cron).text == "called: apply\n"
    program.unlink()
    assert str(program) in run([hook], cron).err


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


def test_it_says_beforehand_what_portage_will_print(lab):
    """With packages held, in a real sync: both phrases come from Portage as well, after ours."""
    prefix = small(lab)
    prefix.install_hook()
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "/bin/false [PORTAGE_CONFIG]"
    prefix.configure()
    result = prefix.sync(check=None)
    assert result.status != 0
    for phrase in ("Spawn failed", REMOVED):
        # what Portage says goes to both streams, the hook's to one
        assert f'"{phrase}"' in result.err, result
        assert result.text.count(phrase) > 1, result
    ours, _, rest = result.err.partition("see what is said above")
    assert "Spawn failed for" not in ours and REMOVED not in ours.replace(f'"{REMOVED}"', ""), result


def test_it_is_silent_when_there_is_nothing_to_do(lab):
    """A sync that brings no updates shows no word of ours."""
    prefix = small(lab)
    (prefix.repository_path("gentoo") / "profiles/updates/1Q-2024").unlink()
    result = prefix.run(HOOK)
    assert (result.out, result.err) == ("", "")


def test_doctor_knows_it_with_any_place_filled_in(lab):
    """Another place is no other hook; another line is."""
    prefix = small(lab)
    hook = prefix.install_hook()
    installed = filled_in("/opt/bin/binpkg-resign", prefix.path / "filled").read_text()
    for text, expected in ((installed, "ok"), (installed + "# mine\n", "warning")):
        hook.write_text(text)
        found = {check["name"]: check["state"] for check in prefix.resign_json("doctor", check=None)["checks"]}
        assert found["hook"] == expected


def test_doctor_knows_that_it_is_switched_off(lab):
    """As the manual page has it, or by its mode; a second one that is on counts."""
    prefix = small(lab)
    hook = prefix.install_hook_with_place()
    good = hook.read_text()

    def hook_check():
        answer = prefix.resign_json("doctor", check=None)
        return next((check["state"], check["text"], check.get("fix", "")) for check in answer["checks"] if check["name"] == "hook")

    top, *rest = good.splitlines(keepends=True)
    for line in ("exit 0\n", "exit\n", "# for now\n\n  exit 0 # not here\n", "exit;\n"):
        hook.write_text("".join([top, line, *rest]))
        assert prefix.run(hook).text == ""
        state, text, fix = hook_check()
        assert state == "problem" and "is switched off" in text and "this version" not in text, text
        assert line.strip().splitlines()[-1].strip() in fix, fix
    hook.with_name("60-binpkg-resign").write_text(good)
    hook.with_name("60-binpkg-resign").chmod(0o755)
    state, text, _ = hook_check()
    assert (state, "60-binpkg-resign is installed" in text) == ("ok", True), text
    hook.with_name("60-binpkg-resign").unlink()
    hook.write_text(good)
    hook.chmod(0o644)
    state, text, fix = hook_check()
    assert state == "problem" and "is switched off" in text and fix.endswith(f"chmod +x {hook}"), text
    hook.chmod(0o755)
    hook.write_text("".join([top, "exitcode=0\n", *rest]))
    assert hook_check()[:1] == ("warning",)
