"""However the tree is updated, no package is lost: ways of updating times ways of using this program, as a table."""

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

from tests.lab.checks import index_disagreements
from tests.lab.session import TOP

from .scene import CLEANED, DUE, MOVED, PATHS, clean, lost, publish, scene
from .ways import WAYS, NotHere

EIX_CONF = TOP / "hooks/eix-sync.conf"
POST_EMERGE = TOP / "hooks/post_emerge"


def documented(way, prefix):
    """The hook, and what doc/syncing.md says for this way."""
    prefix.install_hook_with_place()
    (prefix.path / "etc/portage/bin").mkdir()
    if way.eix_conf:
        shutil.copy(EIX_CONF, prefix.path / "etc/eix-sync.conf")
    if way.setup:
        way.run(prefix, way.setup)
    prefix.resign("apply")
    clean(prefix)
    publish(prefix)
    result = way.run(prefix, way.recipe)
    prefix.emerge("--check-news")
    return result


def post_emerge(way, prefix):
    """No hook; post_emerge alone, at the end of each emerge that has installed something."""
    target = prefix.path / "etc/portage/bin/post_emerge"
    target.parent.mkdir()
    shutil.copy(POST_EMERGE, target)
    prefix.build("app-misc/tool")
    clean(prefix)
    publish(prefix)
    result = way.run(prefix, way.bare)
    prefix.build("app-misc/tool")
    return result


def timer(way, prefix):
    """No hook; `apply` now and then."""
    prefix.resign("apply")
    clean(prefix)
    publish(prefix)
    result = way.run(prefix, way.bare)
    prefix.emerge("--check-news")
    prefix.resign("apply")
    return result


def nothing(way, prefix):
    """The control: what is lost without us."""
    publish(prefix)
    result = way.run(prefix, way.bare)
    prefix.emerge("--check-news")
    return result


def outcome(lab, way, column):
    """What a cell of the table says, and what is wrong, if anything."""
    prefix = scene(lab)
    try:
        way.prepare(prefix)
        result = column(way, prefix)
    except NotHere as program:
        return f"not tried: no {program}", None
    gone = lost(prefix)
    if column is nothing:
        return f"{len(gone)} of {len(PATHS)}", None if gone else f"the pass has removed nothing:\n{result}"
    faults = [f"lost: {path}" for path in gone]
    faults += [f"{path}: {error}" for path, error in prefix.verify().items() if error]
    faults += index_disagreements(prefix)
    faults += [f"{CLEANED} is back"] if (prefix.pkgdir / CLEANED).exists() else []
    faults += [f"{path} lacks {update}" for path, key, value, update in DUE if not gone and prefix.entry(path)[key] != value]
    if column is documented and not (prefix.pkgdir / MOVED).exists():
        faults.append(f"{MOVED} was not made")
    return f"{len(gone)}", "\n".join([*faults, str(result)]) if faults else None


def fill(lab, columns):
    """Runs every way under every column, and prints what came out."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        cells = {(way.name, name): pool.submit(outcome, lab, way, column) for name, column in columns.items() for way in WAYS}
    cells = {place: cell.result() for place, cell in cells.items()}
    width = max(len(way.name) for way in WAYS)
    lines = ["packages lost".ljust(width) + "".join(f" | {name}" for name in columns)]
    for way in WAYS:
        lines.append(way.name.ljust(width) + "".join(f" | {cells[way.name, name][0].ljust(len(name))}" for name in columns))
    return "\n".join(lines), [f"{' / '.join(place)}\n{fault}" for place, (_, fault) in cells.items() if fault]


COLUMNS = {
    "without us": nothing,
    "hook and recipe": documented,
    "net and post_emerge": post_emerge,
    "net and timer": timer,
}


def test_no_package_is_lost(lab, capsys):
    """The table."""
    table, faults = fill(lab, COLUMNS)
    with capsys.disabled():
        print(f"\n{table}")
    assert not faults, "\n\n".join(faults)


def code(text):
    """The lines of a document that are code."""
    return {line.strip() for line in text.splitlines() if line.startswith("    ")}


def test_the_documentation_says_what_is_tried():
    """Each line of code in doc/syncing.md, and each example of the man page that has to do with a sync, is one of the table."""
    tried = {line for way in WAYS for line in (way.recipe, way.setup) if line}
    lines = code((TOP / "doc/syncing.md").read_text())
    assert lines <= tried, lines - tried
    special = {line for way in WAYS for line in (way.recipe, way.setup) if line and line != way.bare}
    assert special <= lines, special - lines
    examples = (TOP / "man/binpkg-resign.1").read_text().split(".SH EXAMPLES")[1].split(".SH")[0].replace("\\-", "-")
    shown = {line for line in re.findall(r"^\.B (.*)$", examples, re.M) if not line.startswith("binpkg-resign")}
    assert shown <= tried, shown - tried
