"""Packages that another program renews, or only touches, while they are being signed."""

import signal

import pytest

from tests.lab import assert_all_verify, assert_index_agrees, package
from tests.lab.moment import sign_with, while_signing
from tests.lab.promise import Builds, assert_promised, assert_saved, run_to_its_end

from .scene import NAMES, both_layouts, five, where


@both_layouts
@pytest.mark.parametrize("times", [1, 3])
def test_touched_while_they_are_signed(lab, layout, times):
    """Their bytes are what they were, and Portage would still remove them: taken up again in the same run."""
    prefix = five(lab, layout)
    builds = Builds(prefix)
    all_of_them = " ".join(str(prefix.pkgdir / where(layout, name)) for name in NAMES)
    while_signing(prefix, f"sleep 0.02; touch {all_of_them}", times=times)
    assert_saved(prefix, builds, "apply")


@both_layouts
def test_touched_whenever_it_is_signed(lab, layout):
    """It is not tried for ever: held, and the others are signed."""
    prefix = five(lab, layout)
    builds = Builds(prefix)
    while_signing(prefix, f"sleep 0.02; touch {prefix.pkgdir / where(layout, 'three')}", times=10_000)
    ended = run_to_its_end(prefix, "apply", timeout=90)
    assert ended.status in (0, 1), ended.result
    assert_promised(prefix, builds, ended)
    signed = {path for path, outcome in ended.outcomes if outcome == "resigned"}
    assert {where(layout, name) for name in NAMES if name != "three"} <= signed, ended.result


@both_layouts
@pytest.mark.parametrize("times", [3, 10_000], ids=["at first", "whenever"])
def test_renewed_while_it_is_signed(lab, layout, times):
    """Another build has taken its place, index included, as `emerge --buildpkg` does: it needs the update as well."""
    prefix = five(lab, layout)
    # the first in the index: it is under way when the first package is signed
    path = where(layout, "five")
    newer = prefix.clone()
    newer.make(package("app-misc/five-1", RDEPEND="dev-util/strace", build_time=1_700_000_777, payload="newer\n"))
    others = [where(layout, name) for name in NAMES if name != "five"]
    builds, fresh = Builds(prefix, others), Builds(newer, [path])
    # the first time nothing has been put in place yet: the index of the newer build fits all the others
    script = (
        f"cp -p {newer.pkgdir / path} {prefix.pkgdir / path}.new && mv {prefix.pkgdir / path}.new {prefix.pkgdir / path}\n"
        f"[ -e {newer.pkgdir / 'Packages'} ] && mv {newer.pkgdir / 'Packages'} {prefix.pkgdir / 'Packages'}"
    )
    while_signing(prefix, script, times=times)
    ended = run_to_its_end(prefix, "apply", timeout=90)
    assert ended.status in (0, 1), ended.result
    assert_promised(prefix, fresh, ended)
    assert not builds.missing(prefix), ended.result
    if times == 3:
        assert ended.status == 0, ended.result
        assert_all_verify(prefix)
        assert_index_agrees(prefix)


@both_layouts
def test_removed_while_it_is_signed(lab, layout):
    """eclean-pkg has removed it: it does not come back as a package, and nothing else is lost."""
    prefix = five(lab, layout)
    path = where(layout, "three")
    builds = Builds(prefix)
    while_signing(prefix, f"rm -f {prefix.pkgdir / path}")
    ended = run_to_its_end(prefix, "apply")
    assert ended.status in (0, 1), ended.result
    assert builds.missing(prefix) <= {path}, ended.result
    prefix.update_pass(check=None)
    assert builds.missing(prefix) <= {path}, ended.result


@both_layouts
def test_interrupted_between_two_rounds(lab, layout):
    """One package is touched whenever it is signed; the signal comes while the second round signs it. It is held."""
    prefix = five(lab, layout)
    builds = Builds(prefix)
    # the key is unlocked by one call, and each package has two
    first_round = 1 + 2 * len(NAMES)
    script = f"sleep 0.02; touch {prefix.pkgdir / where(layout, 'three')}; [ $calls -le {first_round} ] || kill -TERM $PPID"
    while_signing(prefix, script, times=10_000)
    ended = run_to_its_end(prefix, "apply", timeout=90)
    assert ended.status == 128 + signal.SIGTERM, ended.result
    assert dict(ended.outcomes)[where(layout, "three")] == "held", ended.result
    assert {where(layout, name) for name in NAMES if name != "three"} == {
        path for path, outcome in ended.outcomes if outcome == "resigned"
    }, ended.result
    assert_promised(prefix, builds, ended)


@both_layouts
def test_touched_while_it_is_brought_back(lab, layout):
    """`held retry` has one round: what is changed in it is told of, and stays held."""
    prefix = five(lab, layout)
    builds = Builds(prefix)
    sign_with(prefix, "/bin/false")
    prefix.resign("apply", check=1)
    while_signing(prefix, f"sleep 0.02; touch {prefix.pkgdir / where(layout, 'three')}", times=10_000)
    ended = run_to_its_end(prefix, "held", "retry")
    assert ended.status == 1 and (where(layout, "three"), "held") in ended.outcomes, ended.result
    assert not builds.missing(prefix), ended.result
    sign_with(prefix, None)
    assert_saved(prefix, builds, "apply")


@both_layouts
def test_touched_while_it_is_signed_with_a_new_key(lab, layout):
    """`rekey` has one round: what is changed in it is told of."""
    prefix = five(lab, layout)
    old, new = prefix.key, lab.new_key(who="new")
    new.gpg("--import", stdin=old.public().encode())
    prefix.key = new
    prefix.variables["BINPKG_GPG_SIGNING_KEY_MIGRATION"] = f"{old.fingerprint}={new.fingerprint}"
    path = where(layout, "three")
    while_signing(prefix, f"sleep 0.02; touch {prefix.pkgdir / path}", times=10_000)
    ended = run_to_its_end(prefix, "rekey")
    told = {package["path"]: package.get("reason") for package in ended.answer["packages"]}
    assert ended.status == 1 and "while it was being signed" in (told[path] or {}).get("text", ""), ended.result
    assert set(told) == {where(layout, name) for name in NAMES}, ended.result
