"""Packages that are held and lie in their places as well, since no pass has come between two runs."""

import shutil

import pytest

from tests.lab import files_of
from tests.lab.moment import sign_with, while_signing
from tests.lab.promise import Builds, assert_promised, held_files, run_to_its_end

from .scene import both_layouts, five, where


@both_layouts
def test_the_second_run_says_so_too(lab, layout):
    """The update is still pending, nothing can be signed, and Portage's pass would remove them: no exit status 0."""
    prefix = five(lab, layout)
    builds = Builds(prefix)
    sign_with(prefix, "/bin/false")
    for _ in range(2):
        ended = run_to_its_end(prefix, "apply")
        assert ended.status == 1, ended.result
        assert [outcome for _, outcome in ended.outcomes] == ["held"] * 5, ended.result
    assert len(held_files(prefix)) == 5
    assert_promised(prefix, builds, ended)
    assert not files_of(prefix.pkgdir)
    # now they are out of reach, which is not told of at each sync
    ended = run_to_its_end(prefix, "apply")
    assert ended.status == 0 and not ended.outcomes, ended.result
    sign_with(prefix, None)
    assert run_to_its_end(prefix, "held", "retry").status == 0
    assert not builds.missing(prefix)


@both_layouts
def test_an_update_comes_for_one_that_was_held_by_hand(lab, layout):
    """`apply --all` has held what no pending update concerned; then one does."""
    prefix = five(lab, layout)
    builds = Builds(prefix)
    sign_with(prefix, "/bin/false")
    # Portage has processed it, and has not seen the packages
    prefix.pkgdir.rename(prefix.path / "aside")
    prefix.pkgdir.mkdir()
    prefix.update_pass()
    shutil.rmtree(prefix.pkgdir)
    (prefix.path / "aside").rename(prefix.pkgdir)
    assert run_to_its_end(prefix, "apply").status == 0, "nothing is pending"
    assert run_to_its_end(prefix, "apply", "--all").status == 1
    assert len(held_files(prefix)) == 5
    prefix.updates("2Q-2024", "move dev-util/ltrace dev-debug/ltrace")
    ended = run_to_its_end(prefix, "apply")
    assert ended.status == 1, ended.result
    assert_promised(prefix, builds, ended)


@both_layouts
@pytest.mark.parametrize("times", [1, 10_000], ids=["once", "whenever"])
def test_touched_while_it_is_signed_at_last(lab, layout, times):
    """Held, in its place, and touched in the next run: signed in another round, or told of as still within reach."""
    prefix = five(lab, layout)
    builds = Builds(prefix)
    sign_with(prefix, "/bin/false")
    prefix.resign("apply", check=1)
    while_signing(prefix, f"sleep 0.02; touch {prefix.pkgdir / where(layout, 'three')}", times=times)
    ended = run_to_its_end(prefix, "apply", timeout=90)
    assert_promised(prefix, builds, ended)
