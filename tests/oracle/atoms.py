#!/usr/bin/env python3
"""What the real Portage makes of atoms, versions, slots, update files and dependency strings.

Usage: atoms.py [DATA]

First the answers about real data, if DATA is given: the folder with the metadata of real packages and ::gentoo's
update files. Each is a JSON array in a line, and null ends them:

  real TEXT EAPI FIELDS                   the fields of an atom
  updates DIR COMMANDS ERRORS             update files; those that follow are for the texts that follow
  text CPV EAPI SLOT BEFORE AFTER         a dependency string changed by them

Then a request a line is read, a JSON array of a function's name below and its arguments, and answered in a line.
"""

import json
import os
import sys
import tarfile

sys.dont_write_bytecode = True

from portage.dbapi.virtual import fakedbapi
from portage.dep import Atom, match_from_list
from portage.exception import InvalidAtom, InvalidData
from portage.repository.config import _gen_valid_repo
from portage.update import grab_updates, parse_updates, update_dbentries
from portage.util.mtimedb import MtimeDB
from portage.versions import _pkg_str, _unknown_repo, vercmp as portage_vercmp

DEP_KEYS = ("BDEPEND", "DEPEND", "IDEPEND", "PDEPEND", "RDEPEND")


def emit(record):
    sys.stdout.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")))
    sys.stdout.write("\n")


def real_packages(data):
    """(cpv, metadata) of the real packages, or nothing."""
    path = os.path.join(data, "guru-2024-01-md5-cache.tar.xz")
    if not os.path.exists(path):
        return
    with tarfile.open(path) as archive:
        for member in archive:
            if not member.isfile():
                continue
            cpv = "/".join(member.name.split("/")[-2:])
            lines = archive.extractfile(member).read().decode("utf-8").splitlines()
            yield cpv, dict(line.split("=", 1) for line in lines if "=" in line)


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


def atom(text, eapis):
    """An atom's fields in each EAPI."""
    return [fields(text, eapi) for eapi in eapis]


def cpv(text):
    """A full name taken apart; None if it is none."""
    try:
        found = _pkg_str(text)
    except InvalidData:
        return None
    return [found.cp, found.cpv_split[0], found.cpv_split[1], found.version, text.split("/", 1)[1]]


def slot(text, eapi):
    """Slot and sub-slot of a package with this SLOT."""
    package = _pkg_str("a/b-1", slot=text, eapi=eapi)
    return [package.slot, package.sub_slot]


def repo(text):
    """The name that a repository gets."""
    return _gen_valid_repo(text) or _unknown_repo


def vercmp(one, other):
    """The order of two versions; None if one is none."""
    return portage_vercmp(one, other)


class Settings:
    """As much of the configuration as matching needs: a profile without implicit flags."""

    @staticmethod
    def _iuse_effective_match(flag):
        return False

    _iuse_implicit_match = _iuse_effective_match


packages = []
settings = Settings()
db = fakedbapi(settings=settings, exclusive_slots=False, multi_instance=True)


def built(cpv, eapi, slot, repository, build_id, iuse, use):
    """Takes a package into the database, and gives its build id as Portage reads it."""
    # The size makes each package another one to the database.
    metadata = {"EAPI": eapi, "SLOT": slot, "repository": repository, "IUSE": iuse, "USE": use, "BUILD_ID": build_id,
                "SIZE": str(len(packages))}
    package = _pkg_str(cpv, metadata=metadata, settings=settings, db=db)
    db.cpv_inject(package, metadata=metadata)
    packages.append(package)
    return package.build_id


def matched(text, some):
    """Which of some packages, by their numbers, an atom matches, and which of all it selects; None if it is none."""
    try:
        atom = Atom(text)
    except InvalidAtom:
        return None
    found = [number for number in some if match_from_list(atom, [packages[number]])]
    selected = None
    if not atom.blocker:
        selected = sorted(int(package.file_size) for package in db.match(atom))
    return [found, selected]


def rewritten(lines, text, eapi, parent):
    """A dependency string changed by update lines; None if it is not. `parent` is a package: full name, EAPI, SLOT, repository."""
    updates, errors = parse_updates("\n".join(lines))
    assert not errors, errors
    if parent:
        cpv, parent_eapi, slot, repository = parent
        parent = _pkg_str(cpv, metadata={"EAPI": parent_eapi, "SLOT": slot, "repository": repository})
    return update_dbentries(updates, {"DEPEND": text}, eapi=eapi, parent=parent).get("DEPEND")


def taken(updates, database):
    """What is taken of a directory of update files, by a file of remembered mtimes and without one: commands and faults."""
    with open(os.devnull, "w") as quiet:
        stderr, sys.stderr = sys.stderr, quiet
        prev_mtimes = MtimeDB(database)["updates"]
        sys.stderr = stderr
    answers = []
    for data in (grab_updates(updates, prev_mtimes=prev_mtimes), grab_updates(updates)):
        commands, faults = [], []
        for path, _stat, content in data:
            good, bad = parse_updates(content)
            lines = [(i + 1, parse_updates(line)) for i, line in enumerate(content.splitlines())]
            commands += [[path, i, " ".join(map(str, u))] for i, (us, _) in lines for u in us]
            faults += [[path, i] for i, (_, es) in lines for _e in es]
            assert [" ".join(map(str, u)) for u in good] == [" ".join(map(str, u)) for _, (us, _) in lines for u in us]
            assert len(bad) == sum(len(es) for _, (_, es) in lines)
        answers.append([commands, faults])
    return answers


def real(data):
    """Says what there is to say of real data."""
    found = set()
    for _cpv, metadata in real_packages(data):
        for key in DEP_KEYS:
            found.update(metadata.get(key, "").split())
    for text in sorted(found):
        for eapi in (None, "0", "1", "2", "4", "5", "8"):
            emit(["real", text, eapi, fields(text, eapi)])
    for name in ("gentoo-updates", "guru-updates"):
        updates = os.path.join(data, name)
        commands, errors = [], 0
        for _path, _stat, content in grab_updates(updates):
            good, bad = parse_updates(content)
            commands += good
            errors += len(bad)
        emit(["updates", updates, [" ".join(map(str, u)) for u in commands], errors])
        for cpv, metadata in real_packages(data):
            texts = {key: metadata[key] for key in DEP_KEYS if key in metadata}
            eapi, slot = metadata.get("EAPI", "0"), metadata.get("SLOT", "0")
            described = {"EAPI": eapi, "SLOT": slot, "repository": "gentoo"}
            for parent in (_pkg_str(cpv, metadata=described), None):
                changed = update_dbentries(commands, texts, eapi=eapi, parent=parent)
                for key, text in texts.items():
                    emit(["text", cpv, eapi, parent and slot, text, changed.get(key)])


REQUESTS = {function.__name__: function for function in (atom, cpv, slot, repo, vercmp, built, matched, rewritten, taken)}

if __name__ == "__main__":
    sys.stdin.reconfigure(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    if len(sys.argv) > 1:
        real(sys.argv[1])
        emit(None)
    for line in sys.stdin:
        function, *arguments = json.loads(line)
        emit(REQUESTS[function](*arguments))
        sys.stdout.flush()
