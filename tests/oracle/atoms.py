#!/usr/bin/env python3
"""What the real Portage makes of atoms, versions, slots, update files and dependency strings.

Usage: atoms.py SECTION [ARGUMENT...]

Writes one JSON array a line, which tests/atoms.rs compares with what the crate makes of the same
input. The input is generated (always the same, by a fixed seed) or real (SHARED is the folder with
the metadata of real packages and ::gentoo's update files; it may be missing).

  atoms [SHARED]        the fields of atoms, in several EAPIs
  names                 full names, slots, repository names
  versions              vercmp
  matching              match_from_list, and match of a database of built packages
  histories             dependency strings changed by made-up updates
  files DIR             made-up update files, which are written to DIR, and mtimedbs
  real SHARED           real dependency strings changed by real updates
"""

import json
import os
import random
import sys
import tarfile

sys.dont_write_bytecode = True

from portage.dbapi.virtual import fakedbapi
from portage.dep import Atom, match_from_list
from portage.exception import InvalidAtom, InvalidData
from portage.repository.config import _gen_valid_repo
from portage.update import grab_updates, parse_updates, update_dbentries
from portage.util.mtimedb import MtimeDB
from portage.versions import _pkg_str, _unknown_repo, vercmp

EAPIS = [None, "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "9-pre1", "strange"]
DEP_KEYS = ("BDEPEND", "DEPEND", "IDEPEND", "PDEPEND", "RDEPEND")

rng = random.Random(20240101)
pick = rng.choice


def emit(*record):
    sys.stdout.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")))
    sys.stdout.write("\n")


# --- Input ---------------------------------------------------------------------------------------

CATEGORIES = ["a", "dev-libs", "x11-base", "_c", "9c", "c+.-x", "virtual", "r1-1", "A.b"]
BAD_CATEGORIES = ["", "-a", ".a", "+a", "a b", "\u00e4", "a*", "a/b"]
NAMES = ["b", "foo-bar", "b-", "b--", "b-1xy", "1", "1-r1", "b-r1", "gtk+", "_", "0", "b-x-1yy", "r1",
         "b-1-", "B_c", "1-", "b-1a-c"]
BAD_NAMES = ["", "b-1", "b-1-r1", "-b", "+b", "b.c", "b-1.0", "b-1_p", "\u00e4", "b*", "b-1-2", "b c"]
VERSIONS = ["0", "1", "1.0", "1.00", "1.01", "1.2.3", "1.10", "01", "001.2", "00", "0.1", "1a", "1.2z", "1_p",
            "1_p0", "1_p1", "1_alpha", "1_alpha1_beta2", "1_pre3", "1_rc", "1-r0", "1-r1", "1-r01", "1-r00",
            "1.0-r2", "1_p1-r3", "2", "10", "1.1.0_rc2-r0", "20240101", "9" * 40, "9" * 39 + "8",
            "1." + "0" * 30 + "1", "1_p" + "7" * 30, "1-r" + "3" * 30]
BUILD_VERSIONS = ["1-2", "1-0", "1-10", "1.0-r1-2", "1-2-3", "1_p-5", "1-" + "4" * 20, "1-r0-1",
                  "1-18446744073709551616"]
BAD_VERSIONS = ["", "a", "1.", ".1", "1..2", "1aa", "1_", "1_foo", "1-r", "1-02", "1-2-r1", "1-1a", "1A", "1_P",
                "\u0661", "1\u0662", "1\u00b2", "1-r\u0663", "1_p\u0664", "v1", "1_p1a", "1-00", "1-r1-r1", "1 "]
OPERATORS = ["=", "~", ">", "<", ">=", "<="]
SLOTS = ["0", "2", "2.30", "0/1", "0/0", "0/2.3-x", "_", "5/5=", "0=", "=", "*", "a+b", "1-2", "0/1="]
BAD_SLOTS = ["", "-1", ".1", "+1", "0*", "0/", "/1", "0/1/2", "0/-", "0==", "*=", "0/1*", "/", "0=/1", "\u00e4",
             "0 ", "0\n", "0/1\n"]
REPOS = ["gentoo", "r", "my-overlay", "_x", "9"]
BAD_REPOS = ["", "-r", "r.x", "r+", "\u00e4", "r:"]
USES = ["a", "-a", "a?", "!a?", "a=", "!a=", "a(+)", "-b(-)", "c(-)?", "!c(+)=", "l10n_sr@latin", "9", "A+b", "d", "-d"]
BAD_USES = ["", "!a", "-a?", "-a=", "--a", "a(", "a(+", "a(*)", "a(+)(-)", "_a", "@a", "a b", "a??", "a=?", "\u00e4",
            "a(+)-", "!", "-", "?", "a[b", "a]", "a\n", "a(+)\n"]
HOSTILE = "!<>=~*:/[]()+-_.@,?#|'\"\\ \t\n\r\f\x1f\x85\u00a0\u00e4\u0661\u00b2\u2028\U0001d7d8aZrp019"


def mostly(good, bad, share=0.06):
    return pick(bad) if rng.random() < share else pick(good)


def an_atom():
    """An atom, often a valid one."""
    parts = [pick(["", "", "", "", "", "!", "!!"]) if rng.random() < 0.97 else pick(["!!!", "! ", "-"])]
    versioned = rng.random() < 0.6
    glob = versioned and rng.random() < 0.2
    if versioned:
        parts.append("=" if glob else mostly(OPERATORS, ["", "==", "=>", "=<", "<>", "~="], 0.03))
    parts += [mostly(CATEGORIES, BAD_CATEGORIES, 0.03), "/", mostly(NAMES, BAD_NAMES)]
    if versioned or rng.random() < 0.05:
        parts += ["-", mostly(VERSIONS, BAD_VERSIONS + BUILD_VERSIONS, 0.15)]
    if glob or rng.random() < 0.02:
        parts.append(mostly(["*"], ["**", "*.", "-*", ".*"], 0.05))
    if rng.random() < 0.4:
        parts += [":", mostly(SLOTS, BAD_SLOTS)]
    if rng.random() < 0.15:
        parts += ["::", mostly(REPOS, BAD_REPOS)]
    if rng.random() < 0.3:
        uses = ",".join(mostly(USES, BAD_USES, 0.03) for _ in range(rng.randint(1, 4)))
        parts += ["[", uses, "]"]
    return "".join(parts)


def mutated(text):
    """The text with a few characters changed."""
    chars = list(text)
    for _ in range(rng.randint(1, 3)):
        at = rng.randint(0, len(chars))
        what = rng.randint(0, 4)
        if what == 0:
            chars.insert(at, pick(HOSTILE))
        elif what == 1:
            del chars[at : at + rng.randint(1, 3)]
        elif what == 2:
            chars[at : at + 1] = pick(HOSTILE)
        elif what == 3:
            end = at + rng.randint(1, 6)
            chars[at:at] = chars[at:end]
        elif chars:
            other = rng.randrange(len(chars))
            at = rng.randrange(len(chars))
            chars[at], chars[other] = chars[other], chars[at]
    return "".join(chars)


def real_packages(shared):
    """(cpv, metadata) of the real packages, or nothing."""
    path = os.path.join(shared, "data", "guru-2024-01-md5-cache.tar.xz")
    if not os.path.exists(path):
        return
    with tarfile.open(path) as archive:
        for member in archive:
            if not member.isfile():
                continue
            cpv = "/".join(member.name.split("/")[-2:])
            lines = archive.extractfile(member).read().decode("utf-8").splitlines()
            yield cpv, dict(line.split("=", 1) for line in lines if "=" in line)


# --- Sections ------------------------------------------------------------------------------------


def fields(text, eapi):
    """An atom's fields; None if it is none."""
    try:
        atom = Atom(text, eapi=eapi)
    except InvalidAtom:
        return None
    blocker = None
    if atom.blocker:
        blocker = "!!" if atom.blocker.overlap.forbid else "!"
    use = None
    if atom.use is not None:
        use = ["[%s]" % ",".join(atom.use.tokens)]
        for flags in (atom.use.required, atom.use.enabled, atom.use.disabled,
                      atom.use.missing_enabled, atom.use.missing_disabled):
            use.append(sorted(flags))
        use.append(sorted(set().union(*atom.use.conditional.values())) if atom.use.conditional else [])
    build_id = None if atom.build_id is None else str(atom.build_id)
    return [blocker, atom.operator, atom.cp, atom.version, build_id, atom.slot, atom.sub_slot,
            atom.slot_operator, atom.repo, use, str(atom.with_slot("7/8="))]


def atoms(shared=None):
    real = set()
    if shared:
        for _cpv, metadata in real_packages(shared):
            for key in DEP_KEYS:
                real.update(metadata.get(key, "").split())
    for text in sorted(real):
        for eapi in (None, "0", "1", "2", "4", "5", "8"):
            emit("real", text, eapi, fields(text, eapi))
    made = set()
    while len(made) < 120000:
        text = an_atom()
        made.add(text)
        made.add(mutated(text))
    made.add("=a/b-1-" + "9" * 4300)
    made.add("=a/b-1-" + "9" * 4301)
    for text in sorted(made):
        for eapi in (None, pick(EAPIS[1:]), pick(EAPIS[1:])):
            emit("made", text, eapi, fields(text, eapi))


def names():
    for _ in range(40000):
        text = mostly(CATEGORIES, BAD_CATEGORIES) + "/" + mostly(NAMES, BAD_NAMES)
        text += "-" + mostly(VERSIONS, BAD_VERSIONS + BUILD_VERSIONS)
        if rng.random() < 0.4:
            text = mutated(text)
        if "/" not in text or "\n" in text:
            # The crate is stricter here, on purpose.
            continue
        try:
            cpv = _pkg_str(text)
        except InvalidData:
            emit("cpv", text, None)
        else:
            emit("cpv", text, [cpv.cp, cpv.cpv_split[0], cpv.cpv_split[1], cpv.version, text.split("/", 1)[1]])
    for _ in range(40000):
        text = mostly(SLOTS, BAD_SLOTS, 0.4)
        if rng.random() < 0.4:
            text = mutated(text)
        eapi = pick(EAPIS)
        pkg = _pkg_str("a/b-1", slot=text, eapi=eapi)
        emit("slot", text, eapi, [pkg.slot, pkg.sub_slot])
    for _ in range(20000):
        text = mostly(REPOS, BAD_REPOS, 0.4)
        if rng.random() < 0.6:
            text = mutated(text)
        if text.isascii():
            emit("repo", text, _gen_valid_repo(text) or _unknown_repo)


def versions():
    parts = ["0", "1", "2", "9", "10", "00", "01", "010", "100", "0001", "12345678901234567890123"]
    suffixes = ["_alpha", "_beta", "_pre", "_rc", "_p"]

    def a_version():
        text = pick(parts)
        while rng.random() < 0.5:
            text += "." + pick(parts)
        if rng.random() < 0.2:
            text += pick("abz")
        while rng.random() < 0.3:
            text += pick(suffixes) + pick(["", "0", "1", "01", "00", "2", "99999999999999999999"])
        if rng.random() < 0.3:
            text += "-r" + pick(["0", "1", "01", "00", "2", "18446744073709551617"])
        return text

    def near(text):
        """A version that shares its beginning with another."""
        cut = text[: rng.randint(0, len(text))]
        return cut + pick(["", ".0", ".1", ".01", "0", "1", "a", "_p", "_p0", "_rc1", "-r0", "-r1", "_alpha"])

    for _ in range(150000):
        one = mostly(VERSIONS, BAD_VERSIONS) if rng.random() < 0.3 else a_version()
        other = pick([a_version, lambda: near(one), lambda: near(one), lambda: pick(VERSIONS)])()
        if rng.random() < 0.05:
            other = mutated(other)
        if rng.random() < 0.01:
            other += "\n"
        # Decimal digits of other scripts are the one known difference.
        if all(c.isascii() or not c.isdecimal() for c in one + other):
            emit("vercmp", one, other, vercmp(one, other))


class Settings:
    """As much of the configuration as matching needs: a profile without implicit flags."""

    @staticmethod
    def _iuse_effective_match(flag):
        return False

    _iuse_implicit_match = _iuse_effective_match


def matching():
    cps = ["a/b", "a/b-1xy", "a/1", "a/b-x", "virtual/b"]
    vers = [v for v in VERSIONS if len(v) < 12] + ["1.2", "1.2.3_p1", "12", "1.2a", "1.23", "01.2", "1.2a-r1",
                                                         "1.2a_p1", "1_p-r1", "1_p_beta", "1a-r1"]

    def an_iuse():
        return " ".join(pick(["", "+", "-"]) + flag for flag in rng.sample("abcde", rng.randint(0, 4)))

    packages = []
    settings = Settings()
    db = fakedbapi(settings=settings, exclusive_slots=False, multi_instance=True)
    for index in range(400):
        metadata = {
            "EAPI": pick(["4", "5", "8", "strange"]),
            "SLOT": pick(["0", "2", "0/1", "0/2", "2/2", "1", "-"]),
            "repository": pick(["gentoo", "guru", "x y", ""]),
            "IUSE": an_iuse(),
            "USE": " ".join(rng.sample("abcdef", rng.randint(0, 4))),
            "BUILD_ID": pick(["", "1", "2", "10", "x"]),
            # Makes each package another one to the database.
            "SIZE": str(index),
        }
        cpv = f"{pick(cps)}-{pick(vers)}"
        pkg = _pkg_str(cpv, metadata=metadata, settings=settings, db=db)
        db.cpv_inject(pkg, metadata=metadata)
        packages.append(pkg)
        emit("package", cpv, metadata["EAPI"], metadata["SLOT"], metadata["repository"], pkg.build_id,
             metadata["IUSE"], metadata["USE"])

    def a_matching_atom():
        cp = pick(cps)
        text = pick(["", "", "", "!", "!!"])
        if rng.random() < 0.75:
            op = pick(OPERATORS + ["=*", "=*"])
            text += op[0] if op == "=*" else op
            text += cp + "-" + pick(vers)
            if op == "=" and rng.random() < 0.3:
                text += pick(["-1", "-2", "-10", "-1-2"])
            if op == "=*":
                text += "*"
        else:
            text += cp
        if rng.random() < 0.3:
            text += ":" + pick(["0", "2", "0/1", "0/2", "0=", "=", "*", "2/2="])
        if rng.random() < 0.2:
            text += "::" + pick(["gentoo", "guru", "x-y", "__unknown__"])
        if rng.random() < 0.3:
            uses = ["a", "-a", "b(+)", "-b(+)", "c(-)", "-c(-)", "d?", "e(+)?", "f", "-f", "!d=", "-e(+)", "g", "-g(-)"]
            text += "[" + ",".join(rng.sample(uses, rng.randint(1, 3))) + "]"
        return text

    for _ in range(4000):
        text = a_matching_atom()
        try:
            atom = Atom(text)
        except InvalidAtom:
            continue
        some = rng.sample(range(len(packages)), 40)
        found = [index for index in some if match_from_list(atom, [packages[index]])]
        selected = None
        if not atom.blocker:
            selected = sorted(int(pkg.file_size) for pkg in db.match(atom))
        emit("atom", text, some, found, selected)


def parse_update(text):
    updates, errors = parse_updates(text)
    assert not errors, errors
    return updates


def a_parent(cps):
    """A package, and its description for the other side."""
    cpv = f"{pick(cps)}-{pick(['1', '1.2', '2-r1', '10', '0.1'])}"
    slot, repo, eapi = pick(["0", "2", "0/1", "2/0"]), pick(["gentoo", "guru", ""]), pick(["0", "2", "4", "5", "7", "8", "strange"])
    pkg = _pkg_str(cpv, metadata={"EAPI": eapi, "SLOT": slot, "repository": repo})
    return pkg, [cpv, eapi, slot, repo]


def histories():
    cps = ["a/b", "a/bb", "a/b-c", "c/b", "a/1", "b/b", "c/a", "aa/b", "a/b-", "a/1-r1", "a/b-1-"]

    def a_command():
        if rng.random() < 0.6:
            return f"move {pick(cps)} {pick(cps)}"
        atom = pick(cps)
        kind = rng.random()
        if kind < 0.15:
            atom = f"{pick(OPERATORS)}{atom}-1"
        elif kind < 0.3:
            atom += pick([":0", "::gentoo", "[a]", ":=", ":0/1"])
        return f"slotmove {atom} {pick(['0', '1', '2'])} {pick(['0', '1', '2', '3'])}"

    def a_token():
        kind = rng.random()
        if kind < 0.2:
            return pick(["(", ")", "||", "a?", "!a?", "RDEPEND=\"" + pick(cps), "(" + pick(cps) + ")", "a/b/c",
                         pick(cps) + "\"", "http://" + pick(cps), "^^", "/", "a/", "!", "!!" + pick(cps) + "x"])
        text = pick(["", "", "", "", "!", "!!"])
        if rng.random() < 0.5:
            op = pick(OPERATORS)
            text += op + pick(cps) + "-" + pick(["1", "1.2", "2-r1", "0", "10", "1-2", "1-r1-3"])
            if op == "=" and rng.random() < 0.4:
                text += "*"
        else:
            text += pick(cps)
        if rng.random() < 0.6:
            text += ":" + pick(["0", "1", "2", "0/1", "0/0", "2/0", "1/1=", "0=", "2=", "0/3=", "=", "*"])
        if rng.random() < 0.1:
            text += "::" + pick(["gentoo", "guru"])
        if rng.random() < 0.2:
            text += pick(["[a]", "[a,-b]", "[a?,b(+)]", "[b=]"])
        if rng.random() < 0.05:
            text = mutated(text)
        return text

    spaces = [" ", " ", " ", "  ", "\n", "\t", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\u00a0",
              "\u1680", "\u2003", "\u2028", "\u202f", "\u3000", "\u200b", "\ufeff", "\u180e"]
    for number in range(25000):
        lines = [a_command() for _ in range(rng.randint(1, 8))]
        text = pick(["", "", " ", "\n"])
        for _ in range(rng.randint(1, 9)):
            text += a_token() + pick(spaces)
        if rng.random() < 0.5:
            text = text[:-1]
        updates = parse_update("\n".join(lines))
        if number % 3:
            parent, described = a_parent(cps)
            eapi = None
        else:
            parent, described, eapi = None, None, pick(EAPIS)
        changed = update_dbentries(updates, {"DEPEND": text}, eapi=eapi, parent=parent)
        emit("case", lines, text, eapi, described, changed.get("DEPEND"))


def files(directory):
    """Writes directories with update files and an mtimedb each."""

    def a_line():
        line = pick(["move a/b c/d", "slotmove a/b 0 1", "move a/b", "slotmove a/b 0/1 2", "move =a/b-1 c/d", "# x",
                     "slotmove =a/b-1* 0 1", "slotmove !a/b 0 1", "move a/b c/d # why", "moved a/b c/d", "", "  ",
                     "slotmove a/b::r[x] 0 _", "slotmove >=a/b-1-2 0 1", "move a/b-1 c/d", "slotmove a/b 0 -1",
                     "slotmove a/b:0 0 1", "move a/b:0 c/d", "move !a/b c/d", "move a/b c/d-1", "\ufeffmove a/b c/d",
                     "slotmove */* 0 1", "move  a/b\tc/d ", "move a/b\u00a0c/d", "slotmove a/b 0 1 2", "move a/\u00e4 c/d"])
        return mutated(line) if rng.random() < 0.3 else line

    ends = ["\n", "\n", "\n", "\r\n", "\r", "\n\r", "\x0c", "\x0b", "\x1c", "\x1e", "\x1f", "\x85", "\u2028", "\u2029", "\n\n"]
    odd_names = ["back~", ".hidden", "1Q-2024", "README", "zz z", "\u00e4"]
    mtimes = 0
    for number in range(150):
        top = os.path.join(directory, str(number))
        updates = os.path.join(top, "profiles", "updates")
        os.makedirs(updates)
        os.mkdir(os.path.join(updates, "folder"))
        os.symlink("nowhere", os.path.join(updates, "broken"))
        names = odd_names + [f"{quarter}Q-{year}" for quarter in range(1, 5) for year in (2020, 2021)]
        remembered = {}
        for name in rng.sample(names, rng.randint(0, 8)):
            path = os.path.join(updates, name)
            content = "".join(a_line() + pick(ends) for _ in range(rng.randint(0, 30))).encode()
            if rng.random() < 0.2:
                content += pick([b"\xff", b"move a/\xe4 c/d", b"move a/b c/d\xe2\x80"])
            with open(path, "wb") as f:
                f.write(content)
            mtime = pick([rng.randint(2, 2**31), rng.randint(2, 2**31), rng.randint(-1, 1)])
            os.utime(path, ns=(mtime * 10**9 + 500, mtime * 10**9 + rng.randrange(10**9)))
            if rng.random() < 0.5:
                remembered[path] = pick([mtime, mtime, mtime + 0.5, str(mtime), mtime + 1, -1, 0, True, f" {mtime} "])
            mtimes += 1
        if rng.random() < 0.3 and os.path.exists(os.path.join(updates, "1Q-2020")):
            os.symlink("1Q-2020", os.path.join(updates, "link"))
        database = os.path.join(top, "mtimedb")
        content = json.dumps({"updates": remembered, "resume": {"mergelist": [["a", 1, None, 1e3]]}, "version": "x"})
        kind = rng.random()
        if kind < 0.1:
            content = content[:-3]
        elif kind < 0.2:
            content = json.dumps({"old": remembered, "updates": {"/x": 1}, "cur": {}})
        elif kind < 0.25:
            content = pick(["", "{}", "nonsense", "\ufeff{}", "{\"updates\": {}} x"])
        if kind > 0.3 or rng.random() < 0.9:
            with open(database, "w", encoding="utf-8") as f:
                f.write(content)
        with open(os.devnull, "w") as quiet:
            stderr, sys.stderr = sys.stderr, quiet
            prev_mtimes = MtimeDB(database)["updates"]
            sys.stderr = stderr
        for selection, data in (
            ("pending", grab_updates(updates, prev_mtimes=prev_mtimes)),
            ("all", grab_updates(updates)),
        ):
            commands, faults = [], []
            for path, _stat, content in data:
                good, bad = parse_updates(content)
                lines = [(i + 1, parse_updates(line)) for i, line in enumerate(content.splitlines())]
                commands += [[path, i, " ".join(map(str, u))] for i, (us, _) in lines for u in us]
                faults += [[path, i] for i, (_, es) in lines for _e in es]
                assert [" ".join(map(str, u)) for u in good] == [
                    " ".join(map(str, u)) for _, (us, _) in lines for u in us]
                assert len(bad) == sum(len(es) for _, (_, es) in lines)
            emit("updates", updates, database, selection, commands, faults)
    assert mtimes > 300


def real(shared):
    for name in ("gentoo-updates", "guru-updates"):
        updates = os.path.join(shared, "data", name)
        commands, errors = [], 0
        for _path, _stat, content in grab_updates(updates):
            good, bad = parse_updates(content)
            commands += good
            errors += len(bad)
        emit("updates", updates, [" ".join(map(str, u)) for u in commands], errors)
        for cpv, metadata in real_packages(shared):
            texts = {key: metadata[key] for key in DEP_KEYS if key in metadata}
            eapi, slot = metadata.get("EAPI", "0"), metadata.get("SLOT", "0")
            described = {"EAPI": eapi, "SLOT": slot, "repository": "gentoo"}
            for parent in (_pkg_str(cpv, metadata=described), None):
                changed = update_dbentries(commands, texts, eapi=eapi, parent=parent)
                for key, text in texts.items():
                    emit("text", cpv, eapi, parent and slot, text, changed.get(key))


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    globals()[sys.argv[1]](*sys.argv[2:])
