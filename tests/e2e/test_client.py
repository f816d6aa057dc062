"""What clients are for: they fetch over HTTP what we signed again, and their Portage accepts it."""

import pytest

from tests.lab.client import client_of
from tests.lab.serve import served

from .world import LAYOUTS, path_of, publish, world


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_client_installs_what_was_signed_again(lab, portage, layout):
    """A moved and a rewritten package; the client knows only the public key and asks for signatures."""
    prefix = world(lab, portage, layout).clone()
    prefix.install_hook()
    publish(prefix)
    prefix.sync()
    with served(prefix.pkgdir) as address:
        client = client_of(prefix, address)
        client.emerge("--getbinpkgonly", "--oneshot", "--nodeps", "=dev-debug/strace-6.6", "app-misc/user")
    installed = {f"{path.parent.name}/{path.name}" for path in (client.path / "var/db/pkg").glob("*/*/")}
    assert installed == {"dev-debug/strace-6.6", "app-misc/user-1"}
    assert (client.path / "usr/share/lab/strace").is_file()
    assert "dev-debug/strace" in (client.path / "var/db/pkg/app-misc/user-1/BDEPEND").read_text()


def test_a_client_refuses_what_was_changed(lab, portage):
    """The control: one other byte in the image, and the client refuses it."""
    prefix = world(lab, portage).clone()
    file = prefix.pkgdir / path_of("multi-instance", "app-misc/user-1")
    from tests.lab.container import Container

    container = Container.read(file)
    name = next(member.name for member in container.members if "image.tar" in member.name and not member.name.endswith(".sig"))
    data = container.data(name)
    container.replace(name, data[:-1] + bytes([data[-1] ^ 1]))
    container.write(file)
    prefix.reindex()
    with served(prefix.pkgdir) as address:
        client = client_of(prefix, address)
        result = client.emerge("--getbinpkgonly", "--oneshot", "--nodeps", "app-misc/user", check=None)
    assert result.status != 0
    assert not (client.path / "var/db/pkg/app-misc/user-1").exists(), result


def test_a_client_refuses_another_key(lab, portage):
    """The control: the client's keyring is what decides."""
    prefix = world(lab, portage).clone()
    with served(prefix.pkgdir) as address:
        stranger = prefix.clone()
        stranger.key = lab.key(who="foreign")
        client = client_of(stranger, address)
        result = client.emerge("--getbinpkgonly", "--oneshot", "--nodeps", "app-misc/user", check=None)
    assert result.status != 0
    assert not (client.path / "var/db/pkg/app-misc/user-1").exists(), result
