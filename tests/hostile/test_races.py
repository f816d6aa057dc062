"""Files and folders that are swapped while the program works: the signing command is the attacker's moment."""

import subprocess

import pytest

from tests.lab.bounds import run_in_bounds
from tests.lab.moment import while_signing
from tests.lab.promise import Builds

from .scene import ATTACKER, both_layouts, ground, only_root

pytestmark = only_root

TIMES = 4

# Every file that is no package: what waits to become one.
WAITING = "$(find app-misc dev-libs dev-util dev-debug . -maxdepth 3 -type f ! -name '*.gpkg.tar' ! -path '*/Packages*' 2>/dev/null)"

SWAPS = {
    "the temporary file, for a link": f'for f in {WAITING}; do mv "$f" "$f.mine"; ln -s $T/secret "$f"; done',
    "the temporary file, for a hard link": f'for f in {WAITING}; do mv "$f" "$f.mine"; ln app-misc/plain-1.gpkg.tar "$f" || ln app-misc/plain/plain-1-1.gpkg.tar "$f"; done',
    "the temporary file, for another package": f'for f in {WAITING}; do mv "$f" "$f.mine"; cp $(find app-misc -name "plain*.tar") "$f"; done',
    "the temporary file, for nothing": f'for f in {WAITING}; do rm "$f"; done',
    "the package, for a link": 'for f in $(find . -name "one-1*.gpkg.tar"); do mv "$f" "$f.mine"; ln -s $T/secret "$f"; done',
    "the package, for another package": 'for f in $(find . -name "one-1*.gpkg.tar"); do cp $(find app-misc -name "two*.tar") x; mv x "$f"; done',
    "the bytes of the package": 'for f in $(find . -name "one-1*.gpkg.tar"); do cat $(find app-misc -name "two*.tar") >"$f"; done',
    "some bytes of the package": 'for f in $(find . -name "one-1*.gpkg.tar"); do printf evil | dd of="$f" bs=1 seek=5000 conv=notrunc; done',
    "the category, for a link": "[ -L app-misc ] || { mv app-misc mine; ln -s $T/app-misc app-misc; }",
    "the category, for a link to all": "[ -L app-misc ] || { mv app-misc mine; ln -s $T app-misc; }",
    "the new category, for a link": "[ -L dev-debug ] || { mv dev-debug mine || true; ln -s $T dev-debug; }",
    "the folder of the new package, for a link": "mkdir -p dev-debug; [ -L dev-debug/strace ] || { mv dev-debug/strace mine || true; ln -s $T dev-debug/strace; }",
    "our folder, for a link": "[ -L .binpkg-resign ] || { mv .binpkg-resign mine; ln -s $T .binpkg-resign; }",
    "our folder, for one with links": "[ -d mine ] || { mv .binpkg-resign mine; mkdir -m 0777 .binpkg-resign; ln -s $T .binpkg-resign/held; ln -s $T/secret .binpkg-resign/journal; }",
    "the index, for a link": "mv Packages mine; ln -s $T/Packages Packages",
    "the index, for a pipe": "mv Packages mine; mkfifo Packages",
    "the index, for one of his": 'sed -i "s/^CPV: app-misc.one-1/CPV: app-evil\\/backdoor-1/; s/^BUILD_ID: 1/BUILD_ID: 666/" Packages',
    "the compressed index, for a link": "rm -f Packages.gz; ln -s $T/Packages Packages.gz",
    "the lock, for a link": "rm -f .Packages.portage_lockfile; ln -s $T/new .Packages.portage_lockfile",
    "the folder of the index": "rm -rf idx; ln -s $T idx",
}


@both_layouts
@pytest.mark.parametrize("swap", SWAPS)
def test_swapped_while_it_signs(lab, layout, swap):
    """Nothing is written, removed or given another mode where the link leads, and nothing of his is signed."""
    stage = ground(lab, layout)
    if swap == "the folder of the index":
        stage.attack("mkdir idx; mv Packages idx/Packages; ln -s idx/Packages Packages")
    while_signing(stage.prefix, stage.command(SWAPS[swap]), times=TIMES)
    stage.run("apply")


@both_layouts
@pytest.mark.parametrize("swap", ["the temporary file, for a link", "the package, for a link", "the index, for a link"])
def test_what_is_left_after_a_swap(lab, layout, swap):
    """Packages that nobody has swapped are there, whole, or held; no link has become a package."""
    stage = ground(lab, layout)
    mine = stage.where("app-misc/one-1")
    spoiled = {mine} if swap == "the package, for a link" else set()
    builds = Builds(stage.prefix)
    while_signing(stage.prefix, stage.command(SWAPS[swap]), times=1)
    result = stage.run("apply")
    links = [path for path in stage.pkgdir.rglob("*.gpkg.tar") if path.is_symlink()]
    assert [str(path.relative_to(stage.pkgdir)) for path in links] == sorted(spoiled), result
    assert builds.missing(stage.prefix) <= spoiled, result
    if swap != "the index, for a link":
        stage.prefix.update_pass(check=None)
        assert builds.missing(stage.prefix) <= spoiled, result


# Links that are there before the run


LINKS = {
    "the new category": "ln -s $T dev-debug",
    "the new category, to nowhere": "ln -s $T/new dev-debug",
    "a category": "mv app-misc mine; ln -s $T app-misc",
    "a category, to one like it": "mv app-misc mine; ln -s mine app-misc",
    "a package": 'for f in $(find . -name "one-1*.gpkg.tar"); do mv "$f" "$f.mine"; ln -s $T/secret "$f"; done',
    "the index": "mv Packages mine; ln -s $T/Packages Packages",
    "the index, to nowhere": "mv Packages mine; ln -s $T/new Packages",
    "the index, to one of his": "mkdir idx; mv Packages idx/; ln -s idx/Packages Packages",
    "the compressed index": "rm -f Packages.gz; ln -s $T/Packages Packages.gz",
    "the lock": "ln -s $T/secret .Packages.portage_lockfile",
    "the lock, to nowhere": "ln -s $T/new .Packages.portage_lockfile",
    "the lock, a pipe": "mkfifo .Packages.portage_lockfile",
    "a temporary file": 'for d in $(find app-misc -type d); do for n in one-1 one-1-1; do ln -s $T/secret "$d/.$n.gpkg.tar.resign"; done; done',
    "a temporary file of the index": "ln -s $T/secret .Packages.resign; ln -s $T/secret .Packages.gz.resign",
}


@both_layouts
@pytest.mark.parametrize("link", LINKS)
def test_links_that_lie_in_wait(lab, layout, link):
    """No folder is made, no file written behind any of them."""
    stage = ground(lab, layout)
    stage.attack(LINKS[link])
    stage.run("apply")
    stage.run("apply", "--all")


RESTLESS = """
import os, random, sys
pkgdir, treasure, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.setgid({attacker}); os.setuid({attacker}); os.chdir(pkgdir)
chance = random.Random(seed)
aside = []
def swap(name, target):
    if os.path.islink(name):
        os.unlink(name)
        if aside and aside[-1][1] == name:
            os.rename(*aside.pop())
    elif os.path.lexists(name):
        os.rename(name, f"mine{{len(aside)}}")
        aside.append((f"mine{{len(aside)}}", name))
        os.symlink(target, name)
while True:
    names = [".binpkg-resign", "Packages", "app-misc", "dev-debug", "dev-libs"]
    for folder in ("app-misc", "dev-libs", "dev-debug", "."):
        try:
            names += [f"{{folder}}/{{name}}" for name in os.listdir(folder) if name.startswith(".")]
        except OSError:
            pass
    name = chance.choice(names)
    try:
        swap(name, chance.choice([treasure, treasure + "/secret", treasure + "/Packages"]))
        swap(name, treasure)
    except OSError:
        pass
"""


@pytest.mark.parametrize("number", range(6))
def test_somebody_restless(lab, number):
    """He swaps whatever he finds for links and back, as fast as he can, all through a run."""
    stage = ground(lab, "flat" if number % 2 else "multi-instance")
    while_signing(stage.prefix, "sleep 0.03", times=1000)
    stage.watch()
    script = stage.prefix.write("var/tmp/restless.py", RESTLESS.format(attacker=ATTACKER))
    argv = ["python3", script, stage.pkgdir, stage.treasure, str(number)]
    child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        result = run_in_bounds(stage.prefix, "apply")
    finally:
        child.kill()
        child.wait()
    stage.check(result)
