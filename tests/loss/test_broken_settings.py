"""A setting that is wrong is no reason to let Portage's pass remove what can be kept."""

import pytest

from tests.lab.promise import Builds, assert_promised, held_files, run_to_its_end

from .scene import both_layouts, five

WRONG = {
    "BINPKG_RESIGN_FOREIGN": "keep",
    "BINPKG_RESIGN_TIMEOUT": "a minute",
    "BINPKG_GPG_SIGNING_KEY_MIGRATION": "whatever",
    "BINPKG_RESIGN_NET": "perhaps",
    "BINPKG_GPG_SIGNING_BASE_COMMAND": "/usr/bin/gpg '--sign [PORTAGE_CONFIG]",
    "BINPKG_GPG_SIGNING_DIGEST": "NONE256",
    "BINPKG_COMPRESS": "nonsense",
}
# Portage's own are for the signing command to judge.
OURS = [name for name in WRONG if "RESIGN" in name or "MIGRATION" in name]


@both_layouts
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value(lab, layout, name):
    """2 or 1, the variable is named, and all five have their backups; or it does not matter, and they are saved."""
    prefix = five(lab, layout)
    builds = Builds(prefix)
    prefix.variables[name] = WRONG[name]
    prefix.configure()
    run = run_to_its_end(prefix, "apply")
    if run.status != 0:
        if name in OURS:
            assert name in run.result.text, f"the variable is not named\n{run.result}"
        assert len(held_files(prefix)) == 5, f"no backups\n{run.result}"
        assert "held" in run.result.text, f"it does not say that they are safe\n{run.result}"
    assert_promised(prefix, builds, run)
    assert not builds.missing(prefix)
    # put right, everything comes back
    prefix.variables.pop(name)
    prefix.configure()
    run = run_to_its_end(prefix, "apply")
    assert run.status == 0 and not builds.missing(prefix) and held_files(prefix) == [], run.result


@pytest.mark.parametrize("name", ["BINPKG_RESIGN_FOREIGN", "BINPKG_GPG_SIGNING_KEY_MIGRATION"])
def test_the_same_from_a_sync(lab, name):
    """With the hook, in a real `emerge --sync`."""
    prefix = five(lab, "multi-instance")
    prefix.install_hook()
    prefix.variables[name] = WRONG[name]
    prefix.configure()
    builds = Builds(prefix)
    said = prefix.sync(check=None)
    assert said.status != 0 and name in said.text, said
    assert not builds.missing(prefix), said


@both_layouts
def test_pretend_with_a_wrong_value_changes_nothing(lab, layout):
    """`-p` makes no backups."""
    prefix = five(lab, layout)
    prefix.variables["BINPKG_RESIGN_FOREIGN"] = "keep"
    prefix.configure()
    run = run_to_its_end(prefix, "apply", "-p")
    assert run.status == 2, run.result
    assert not (prefix.pkgdir / ".binpkg-resign").exists()
