"""The ebuild really installs, its hook works, it goes away again; and `make install` puts the same files in the same places."""

import bz2
import json
import os
import re
import stat
from pathlib import Path

import pytest

from tests.e2e.world import path_of, publish, world
from tests.lab import NEWEST, Prefix, assert_all_verify, assert_portage_finds_nothing, files_of
from tests.lab.checks import IGNORED, REMOVED
from tests.lab.command import base_environment, run
from tests.lab.session import TOP

from .gentoo import add_overlay, ebuild_file, version, without_program

HOOK = "etc/portage/postsync.d/50-binpkg-resign"
ATOM = "app-portage/binpkg-resign"
DOC = f"usr/share/doc/binpkg-resign-{version()}"

FILES = {
    "etc/portage/postsync.d/50-binpkg-resign": 0o755,
    "usr/bin/binpkg-resign": 0o755,
    "usr/share/bash-completion/completions/binpkg-resign": 0o644,
    "usr/share/fish/vendor_completions.d/binpkg-resign.fish": 0o644,
    "usr/share/man/man1/binpkg-resign.1": 0o644,
    "usr/share/zsh/site-functions/_binpkg-resign": 0o644,
    "usr/lib/systemd/system/binpkg-resign.service": 0o644,
    "usr/lib/systemd/system/binpkg-resign.timer": 0o644,
    f"{DOC}/CHANGELOG.md": 0o644,
    f"{DOC}/CONTRIBUTING.md": 0o644,
    f"{DOC}/README.md": 0o644,
    f"{DOC}/benches/README.md": 0o644,
    f"{DOC}/examples/binpkg-resign.cron": 0o644,
    f"{DOC}/examples/eix-sync.conf": 0o644,
    f"{DOC}/examples/post_emerge": 0o644,
    **{f"{DOC}/doc/{page.name}": 0o644 for page in (TOP / "doc").glob("*.md")},
}


@pytest.fixture(scope="module")
def template(lab):
    """A prefix with signed packages, our overlay, and what it needs of ::gentoo."""
    words = {"portage": NEWEST, "key": lab.key()}
    words["variables"] = {"ACCEPT_KEYWORDS": "amd64 ~amd64", "ACCEPT_LICENSE": "*", "LAB_BINARY": lab.program, "LAB_GIT": TOP}

    def fill(path):
        prefix = world(lab, NEWEST).clone(path)
        prefix.variables = words["variables"]
        prefix.configure()
        add_overlay(prefix)

    path = lab.once("templates", "packaging", fill)
    return Prefix(lab, path, **words).with_repositories("gentoo")


def tree(image):
    """Path → (mode, bytes) of every file in an image; what Portage compresses is taken apart again."""
    found = {}
    for directory, _, names in os.walk(image):
        for name in names:
            path = Path(directory) / name
            data = path.read_bytes()
            where = str(path.relative_to(image))
            if where.endswith(".bz2"):
                where, data = where.removesuffix(".bz2"), bz2.decompress(data)
            found[where] = (stat.S_IMODE(path.stat().st_mode), data)
    return found


def make_install(image, *words, target="install"):
    """`make install` for a Gentoo image."""
    binary = os.environ.get("BINPKG_RESIGN", "target/debug/binpkg-resign")
    environment = base_environment(os.environ["PATH"])
    settings = ["PREFIX=/usr", "SYSCONFDIR=/etc", f"DOCDIR=/{DOC}", f"BINARY={binary}", f"DESTDIR={image}"]
    return run(["make", "--no-print-directory", target, *settings, *words], environment, cwd=TOP)


def test_ebuild_and_make_install_agree(lab, template):
    """Same files, same places, same modes, same bytes (stripping apart)."""
    prefix = template.clone()
    prefix.run("ebuild", ebuild_file(prefix), "clean", "install")
    image = prefix.path / f"var/tmp/portage/app-portage/binpkg-resign-{version()}/image"
    from_ebuild = tree(image / str(prefix.path).lstrip("/"))
    assert {path: mode for path, (mode, _) in from_ebuild.items()} == FILES
    assert sum(1 for path in image.rglob("*") if path.is_file()) == len(FILES), "something outside EPREFIX"

    destination = lab.directory()
    make_install(destination, f"EPREFIX={prefix.path}")
    from_make = tree(destination / str(prefix.path).lstrip("/"))
    assert sum(1 for path in destination.rglob("*") if path.is_file()) == len(FILES)
    assert {path: mode for path, (mode, _) in from_make.items()} == FILES
    for path in FILES:
        if path != "usr/bin/binpkg-resign":
            assert from_ebuild[path] == from_make[path], path

    make_install(destination, f"EPREFIX={prefix.path}", target="uninstall")
    assert not [path for path in destination.rglob("*") if path.is_file()]


def test_defaults_of_make_install(lab):
    """Without words, a place for programs that no package manager knows; the hook where Portage looks for it."""
    destination = lab.directory()
    binary = os.environ.get("BINPKG_RESIGN", "target/debug/binpkg-resign")
    run(["make", "install", f"DESTDIR={destination}", f"BINARY={binary}"], base_environment(os.environ["PATH"]), cwd=TOP)
    found = tree(destination)
    assert {"usr/local/bin/binpkg-resign", HOOK, "usr/local/share/man/man1/binpkg-resign.1"} <= set(found)
    assert "usr/local/share/doc/binpkg-resign/README.md" in found
    place = b"/usr/local/bin/binpkg-resign"
    assert b"\nprogram=" + place + b"\n" in found[HOOK][1]
    assert b"\nExecStart=" + place + b" " in found["usr/local/lib/systemd/system/binpkg-resign.service"][1]


def broken_links(image, folder):
    """Links between the documents below a folder of an image, and files that the manual page names, that are not there."""
    broken = []
    for page in (image / folder).rglob("*.md"):
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in link and not (page.parent / link).is_file():
                broken.append(f"{page.name}: {link}")
    page = (TOP / "man/binpkg-resign.1").read_text().replace("\\-", "-")
    for name in re.findall(r"\\fI([a-z_/-]+\.(?:md|conf|cron))\\fR", page):
        if not name.startswith("/") and not (image / folder / name).is_file():
            broken.append(f"manual page: {name}")
    return broken


def test_links_work_once_installed(template, lab):
    """In an image of `make install`, whose files test_ebuild_and_make_install_agree compares with the ebuild's."""
    image = lab.directory()
    make_install(image, "EPREFIX=")
    assert broken_links(image, DOC) == []
    (image / DOC / "doc/syncing.md").unlink()
    found = broken_links(image, DOC)
    assert "README.md: doc/syncing.md" in found and "manual page: doc/syncing.md" in found


def test_installed_hook_saves_packages(template):
    """A real merge, a real sync with the hook as installed and a PATH like cron's, a real unmerge."""
    prefix = template.clone()
    without = {"PATH": without_program(prefix)}
    merged = prefix.emerge("--oneshot", "--nodeps", ATOM, env=without)
    assert "binpkg-resign doctor" in merged.text and HOOK in merged.text, "pkg_postinst says nothing"
    for name in FILES:
        assert any((prefix.path / (name + end)).is_file() for end in ("", ".bz2")), name
    assert broken_links(prefix.path, DOC) == []
    program = prefix.path / "usr/bin/binpkg-resign"
    assert prefix.run(program, "--version", env=without).out.split()[1] == version()
    found = {check["name"]: check for check in json.loads(prefix.run(program, "--json", "doctor", env=without, check=None).out)["checks"]}
    assert found["hook"]["state"] == "ok", found["hook"]

    before = files_of(prefix.pkgdir)
    publish(prefix)
    result = prefix.sync(env=without)
    assert REMOVED not in result.text and IGNORED not in result.text, result
    assert set(before) < set(files_of(prefix.pkgdir)), result
    assert path_of("multi-instance", "dev-debug/strace-6.6") in files_of(prefix.pkgdir)
    assert_all_verify(prefix)
    assert_portage_finds_nothing(prefix)

    unmerged = prefix.emerge("--unmerge", ATOM, env=without)
    assert "PKGDIR/.binpkg-resign" in unmerged.text and "binpkg-resign-net" in unmerged.text, "pkg_postrm says nothing"
    left = sorted(str(file.relative_to(prefix.path)) for file in prefix.path.rglob("*binpkg-resign*") if file.is_file())
    assert [name for name in left if name.split("/")[0] in ("usr", "etc") and "repos.conf" not in name] == []
    prefix.sync(env=without)


def test_a_hook_that_was_switched_off(template):
    """As pkg_postinst says: it stays off over an upgrade, which says nothing more; and left behind, it stays silent."""
    prefix = template.clone()
    without = {"PATH": without_program(prefix)}
    prefix.emerge("--oneshot", "--nodeps", ATOM, env=without)
    hook = prefix.path / HOOK
    text = hook.read_text()
    lines = text.splitlines(keepends=True)
    hook.write_text("".join([lines[0], "exit 0\n", *lines[1:]]))
    again = prefix.emerge("--oneshot", "--nodeps", ATOM, env=without)
    assert "binpkg-resign doctor" not in again.text, again
    assert hook.read_text() != text and list(hook.parent.glob("._cfg*")), "the edited hook was replaced"
    publish(prefix)
    assert REMOVED in prefix.sync(env=without).text

    for other in hook.parent.glob("._cfg*"):
        other.unlink()
    hook.write_text(text + "# mine\n")
    prefix.emerge("--unmerge", "--quiet", ATOM, env=without)
    assert hook.exists() and not (prefix.path / "usr/bin/binpkg-resign").exists()
    said = prefix.sync(env=without)
    assert said.err.count("is not installed") == 1 and str(hook) in said.err, said


def test_a_hook_without_executable_bits_stays_without(template):
    """The other way of switching it off: a new version has the same bytes, and Portage would put them in its place."""
    prefix = template.clone()
    without = {"PATH": without_program(prefix)}
    prefix.emerge("--oneshot", "--nodeps", ATOM, env=without)
    hook = prefix.path / HOOK
    assert hook.stat().st_mode & 0o777 == 0o755
    hook.chmod(0o644)
    prefix.emerge("--oneshot", "--nodeps", ATOM, env=without)
    assert hook.stat().st_mode & 0o777 == 0o644 and not list(hook.parent.glob("._cfg*"))
    publish(prefix)
    assert REMOVED in prefix.sync(env=without).text


@pytest.mark.parametrize("how", ["chmod -x", "exit 0"])
def test_make_install_leaves_a_hook_off(lab, how):
    """Whoever has switched it off is told, and finds it so."""
    destination = lab.directory()
    make_install(destination)
    hook = destination / HOOK
    hook.write_text(hook.read_text() + "# of an older version\n")
    make_install(destination)
    text = hook.read_text()
    assert "older" not in text
    if how == "chmod -x":
        hook.chmod(0o644)
    else:
        hook.write_text(text.replace("\n", "\nexit 0\n", 1))
    before = hook.read_text(), hook.stat().st_mode
    said = make_install(destination)
    assert f"{hook} is switched off, and stays as it is." in said.out.splitlines(), said
    assert (hook.read_text(), hook.stat().st_mode) == before, said
    assert "README.md" in make_install(destination, target="uninstall").text and not hook.exists()


def test_without_the_package_packages_are_lost(template):
    """The control of the test above: the same prefix, nothing installed."""
    prefix = template.clone()
    publish(prefix)
    assert REMOVED in prefix.sync(env={"PATH": without_program(prefix)}).text


def test_live_ebuild(lab, template):
    """The live ebuild installs the same files from git."""
    prefix = template.clone()
    clone = lab.directory()
    run(["cp", "-a", f"{TOP}/.git", clone], base_environment(os.environ["PATH"]))
    known = run(["git", "-c", "safe.directory=*", "-C", clone, "ls-tree", "-r", "--name-only", "HEAD"], base_environment(os.environ["PATH"]))
    if "man/binpkg-resign.1" not in known.out:
        pytest.skip("the last commit has no manual page yet")
    prefix.run("ebuild", ebuild_file(prefix, "9999"), "clean", "install", env={"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"})
    image = prefix.path / "var/tmp/portage/app-portage/binpkg-resign-9999/image" / str(prefix.path).lstrip("/")
    assert {name.replace("9999", version()): mode for name, (mode, _) in tree(image).items()} == FILES
