"""`sync-rcu = yes`: the hook is told the old snapshot, the pass sees the new one."""

from tests.lab import Snapshot, assert_portage_finds_nothing
from tests.lab.checks import REMOVED

from .scene import DOOMED, assert_all_done, lost, publish, scene, stamp, use_rcu


def test_without_the_hook(lab, portage):
    """The control."""
    prefix = scene(lab, portage)
    use_rcu(prefix)
    publish(prefix)
    prefix.sync()
    assert lost(prefix) == sorted(DOOMED)


def test_with_the_hook(lab, portage):
    """The updates are read where Portage will find them."""
    prefix = scene(lab, portage)
    use_rcu(prefix)
    prefix.install_hook()
    publish(prefix)
    result = prefix.sync()
    assert REMOVED not in result.text, result
    assert_all_done(prefix)
    assert_portage_finds_nothing(prefix)


def test_the_first_sync_makes_the_store(lab, portage):
    """A plain directory becomes a link to the first snapshot while the updates come."""
    prefix = scene(lab, portage)
    prefix.install_hook()
    publish(prefix)
    use_rcu(prefix)
    assert prefix.repository_path("gentoo").is_symlink()
    assert_all_done(prefix)
    assert_portage_finds_nothing(prefix)


def test_a_sync_that_brings_nothing(lab, portage):
    """Each snapshot has all update files anew; packages that are at rest stay as they are."""
    prefix = scene(lab, portage)
    use_rcu(prefix)
    prefix.install_hook()
    publish(prefix)
    prefix.sync()
    assert_all_done(prefix)
    before = Snapshot(prefix.pkgdir)
    prefix.gentoo.updates("2Q-2024", "move app-misc/never app-misc/was")
    stamp(prefix)
    prefix.sync()
    assert before.packages() == Snapshot(prefix.pkgdir).packages()
    assert_portage_finds_nothing(prefix)
