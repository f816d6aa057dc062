"""The controls: what these tests are about really happens, and the checks see it."""

import pytest

from tests.lab.command import Result
from tests.lab.promise import Builds, Ended, assert_promised, assert_saved

from .scene import both_layouts, five


@both_layouts
def test_without_us_all_five_are_lost(lab, layout):
    prefix = five(lab, layout)
    builds = Builds(prefix)
    nothing = Ended(0, {"packages": []}, Result(["nothing"], 0, "", ""))
    with pytest.raises(AssertionError, match="has removed"):
        assert_promised(prefix, builds, nothing)
    assert len(builds.missing(prefix)) == 5


@both_layouts
def test_with_us_all_five_are_saved(lab, layout):
    prefix = five(lab, layout)
    assert_saved(prefix, Builds(prefix), "apply")
