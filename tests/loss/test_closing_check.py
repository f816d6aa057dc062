"""A stage that lies: it reports a package as done, drops its backup, and has done nothing. The closing check sees it."""

from tests.lab.promise import Builds, assert_promised, run_to_its_end

from .scene import both_layouts, five, where


@both_layouts
def test_a_package_that_is_reported_as_done_and_is_not(lab, layout):
    """It is taken up again, and in the end held: exit status 1, and Portage's pass costs nothing."""
    prefix = five(lab, layout)
    builds = Builds(prefix)
    path = where(layout, "three")
    ended = run_to_its_end(prefix, "apply", env={"BINPKG_RESIGN_LIE": path})
    assert ended.status == 1, ended.result
    (record,) = [record for record in ended.answer["packages"] if record["path"] == path]
    assert (record["outcome"], record["reason"]["code"]) == ("held", "still-concerned"), record
    assert_promised(prefix, builds, ended)
