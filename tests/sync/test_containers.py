"""A builder without a key and a host that signs for it."""

from tests.lab.command import run

from .scene import DOOMED, assert_all_done, lost, publish, scene
from .ways import NotHere, PULL, container, placed

import pytest

BUILD = "/srv/builder/run"


def split(lab):
    """A host that has processed the updates itself, for a PKGDIR of its own, and a builder with a tree as new."""
    prefix = scene(lab)
    try:
        container(prefix)
    except NotHere as what:
        pytest.skip(f"no {what}")
    publish(prefix)
    prefix.run("sh", "-c", placed(prefix, f"true && {PULL}"))
    prefix.emerge("--check-news", env={"PKGDIR": lab.directory("own")})
    assert lost(prefix) == []
    return prefix


def test_all_update_files_count(lab):
    """The builder remembers none; what the host remembers is of no use."""
    prefix = split(lab)
    builder = prefix.path / "srv/builder/binpkgs"
    assert prefix.resign_json("--pkgdir", builder, "apply", "--pretend")["status"] == "nothing-to-do"
    prefix.resign("--pkgdir", builder, "apply", "--all")
    prefix.run("sh", "-c", placed(prefix, f"true && {BUILD}"))
    assert_all_done(prefix)


def test_without_all(lab):
    """The control."""
    prefix = split(lab)
    prefix.resign("--pkgdir", prefix.path / "srv/builder/binpkgs", "apply")
    prefix.run("sh", "-c", placed(prefix, f"true && {BUILD}"))
    assert lost(prefix) == sorted(DOOMED)


def test_a_host_with_another_configuration(lab):
    """`--config-root` with a make.conf and a repos.conf is all that is needed; no Portage has to be there."""
    prefix = split(lab)
    config = lab.directory("config")
    (config / "etc/portage").mkdir(parents=True)
    (config / "etc/portage/make.conf").write_text(
        'FEATURES="binpkg-signing binpkg-multi-instance pkgdir-index-trusted compress-index"\n'
        f'BINPKG_GPG_SIGNING_GPG_HOME="{prefix.key.home}"\nBINPKG_GPG_SIGNING_KEY="{prefix.key.fingerprint}"\n'
        f'BINPKG_GPG_SIGNING_BASE_COMMAND="/usr/bin/gpg --sign --armor [PORTAGE_CONFIG]"\n'
    )
    tree = prefix.repository_path("gentoo")
    (config / "etc/portage/repos.conf").write_text(f"[DEFAULT]\nmain-repo = gentoo\n\n[gentoo]\nlocation = {tree}\n")
    environment = {name: value for name, value in prefix.environment().items() if "PORTAGE" not in name}
    words = ["--config-root", config, "--root", lab.directory("root"), "--pkgdir", prefix.path / "srv/builder/binpkgs"]
    run(["binpkg-resign", *words, "apply", "--all"], environment, cwd="/")
    prefix.run("sh", "-c", placed(prefix, f"true && {BUILD}"))
    assert_all_done(prefix)
