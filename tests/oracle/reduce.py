"""Dependency strings reduced by USE: prints [KEY, TEXT, USE, REDUCED] a line, as JSON; REDUCED is null where Portage refuses.

`reduce.py COUNT` makes so many strings at random; `reduce.py COUNT SHARED` takes those of the real packages as well.
"""

import json
import random
import sys
import tarfile
from pathlib import Path

from portage.dep import Atom, paren_enclose, use_reduce
from portage.exception import InvalidDependString

KEYS = ("BDEPEND", "LICENSE")
REAL_KEYS = ("BDEPEND", "DEPEND", "IDEPEND", "LICENSE", "PDEPEND", "PROPERTIES", "RDEPEND", "RESTRICT")
FLAGS = ["a", "b", "c+", "d_e", "l10n_sr@latin"]
ATOMS = """x/a x/b >=x/c-1 !x/d !!<x/e-2 x/f:0 x/f:0/1= x/f:= x/f:* x/g[a] x/g[a?] x/g[!b?,c+=] x/g[!a=,-b] x/g:0[a(+)?,b(-)=]
x/g:=[!a(-)?] x/g::r[a?] x/g:0::r[b] x/g::r""".split()
NAMES = "GPL-2 MIT BSD test fetch || x".split()[:5]
BROKEN = ["||", "(", ")", "a?", "!b?", "?", "!?", "x", "x/", "||(", "(a", "_?", "x/g[!a]", "->"]


def strings(choose, count):
    """Strings of every shape; one in eight is broken."""
    for number in range(count):
        key = KEYS[number % 2]
        words = tree(choose, ATOMS if key == "BDEPEND" else NAMES, choose.choice((1, 2, 3, 4)))
        if number % 8 == 0 and words:
            for _ in range(choose.choice((1, 2))):
                place = choose.randrange(len(words))
                words[place : place + choose.choice((0, 1))] = [choose.choice(BROKEN)]
        separator = choose.choice((" ", "\n", "\t "))
        yield key, separator.join(words), [flag for flag in FLAGS if choose.random() < 0.5]


def tree(choose, leaves, depth):
    """Words of a string with brackets up to this depth."""
    words = []
    for _ in range(choose.choice((0, 1, 1, 2, 3)) if depth < 4 else choose.choice((1, 2, 4))):
        kind = choose.random()
        if depth == 0 or kind < 0.35:
            words.append(choose.choice(leaves))
            continue
        inner = tree(choose, leaves, depth - 1)
        if not inner:
            continue
        if kind < 0.65:
            words.append("||")
        elif kind < 0.9:
            words.append(choose.choice(("", "!")) + choose.choice(FLAGS) + "?")
        words += ["(", *inner, ")"]
    return words


def real(shared, choose):
    """The strings of real packages."""
    with tarfile.open(Path(shared) / "data/guru-2024-01-md5-cache.tar.xz") as tar:
        for member in tar:
            if not member.isreg():
                continue
            values = dict(line.split("=", 1) for line in tar.extractfile(member).read().decode().splitlines())
            flags = [flag.lstrip("+-") for flag in values.get("IUSE", "").split()]
            for key in REAL_KEYS:
                if values.get(key):
                    yield key, values[key], [flag for flag in flags if choose.random() < 0.5]


def reduced(key, text, use):
    """What `binarytree._eval_use_flags` makes of it."""
    try:
        return paren_enclose(use_reduce(text, uselist=frozenset(use), token_class=Atom if key.endswith("DEPEND") else None))
    except InvalidDependString:
        return None


def main():
    """Prints everything."""
    choose = random.Random(15)
    for key, text, use in strings(choose, int(sys.argv[1])):
        print(json.dumps([key, text, use, reduced(key, text, use)]))
    if len(sys.argv) > 2:
        for key, text, use in real(sys.argv[2], choose):
            print(json.dumps([key, text, use, reduced(key, text, use)]))


if __name__ == "__main__":
    main()
