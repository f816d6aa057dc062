"""What must hold after every run: the index agrees with the files."""

import gzip
import hashlib
from pathlib import Path

from .snapshot import Snapshot


def files_of(pkgdir):
    """All packages below PKGDIR, as paths below it, sorted."""
    pkgdir = Path(pkgdir)
    return sorted(str(path.relative_to(pkgdir)) for path in pkgdir.rglob("*.gpkg.tar"))


def read_index(path):
    """The index as (header, list of entries), each a dict."""
    text = Path(path).read_text()
    blocks = [block for block in text.split("\n\n") if block.strip()]
    parsed = [dict(line.split(": ", 1) if ": " in line else (line.rstrip(":"), "") for line in block.splitlines()) for block in blocks]
    return (parsed[0], parsed[1:]) if parsed else ({}, [])


def raw_entries(path):
    """The index's entries as they stand, by PATH: for byte for byte comparisons."""
    blocks = Path(path).read_text().split("\n\n")[1:]
    entries = {}
    for block in blocks:
        if block.strip():
            where = next((line[6:] for line in block.splitlines() if line.startswith("PATH: ")), None)
            entries[where] = block
    return entries


# Index key → metadata entry, for those that stand in the index as they are in the file.
PLAIN_KEYS = {"SLOT": "SLOT", "EAPI": "EAPI", "IUSE": "IUSE", "USE": "USE", "BUILD_TIME": "BUILD_TIME", "BUILD_ID": "BUILD_ID", "REPO": "repository"}
REDUCED_KEYS = ("BDEPEND", "DEPEND", "IDEPEND", "PDEPEND", "RDEPEND", "LICENSE", "PROPERTIES", "RESTRICT")
DEFAULTS = {"SLOT": "0", "EAPI": "0"}


def index_disagreements(prefix):
    """Every way in which the index and the files of a prefix disagree, as lines."""
    header, entries = prefix.index()
    lines = []
    paths = [entry.get("PATH", "") for entry in entries]
    present = files_of(prefix.pkgdir)
    lines += [f"{path}: two entries" for path in sorted({path for path in paths if paths.count(path) > 1})]
    lines += [f"{path}: no entry" for path in present if path not in paths]
    lines += [f"{path}: an entry but no file" for path in paths if path not in present]
    if header.get("PACKAGES") != str(len(entries)):
        lines.append(f"PACKAGES: {header.get('PACKAGES')}, but {len(entries)} entries")
    if [entry["CPV"] for entry in entries] != sorted(entry["CPV"] for entry in entries):
        lines.append("the entries are not sorted by CPV")
    entries = [entry for entry in entries if entry.get("PATH") in present]
    metadata = prefix.metadata([entry["PATH"] for entry in entries])
    strings, wanted = [], []
    for entry in entries:
        path, inside = entry["PATH"], metadata[entry["PATH"]]
        file = prefix.pkgdir / path
        data, status = file.read_bytes(), file.stat()
        facts = {
            "CPV": inside["CATEGORY"].strip() + "/" + inside["PF"].strip(),
            "SIZE": str(status.st_size),
            "MTIME": str(int(status.st_mtime)),
            "MD5": hashlib.md5(data).hexdigest(),
            "SHA1": hashlib.sha1(data).hexdigest(),
        }
        for key, name in PLAIN_KEYS.items():
            value = " ".join(inside.get(name, "").split())
            facts[key] = value or DEFAULTS.get(key, "")
        for key, value in facts.items():
            found = entry.get(key, header.get(key) if key == "REPO" else DEFAULTS.get(key, ""))
            if key == "USE":
                # The index keeps only what IUSE or the profile knows.
                if not set(found.split()) <= set(value.split()):
                    lines.append(f"{path}: USE in the index {found!r}, in the file {value!r}")
            elif found != value:
                lines.append(f"{path}: {key} in the index {found!r}, in fact {value!r}")
        for key in REDUCED_KEYS:
            if inside.get(key, "").strip():
                strings.append((key, inside[key], entry.get("USE", "")))
                wanted.append((path, key, entry.get(key, "")))
            elif entry.get(key):
                lines.append(f"{path}: {key} in the index {entry[key]!r}, none in the file")
    reduced = prefix.inside("reduce", {"strings": strings}).answer
    for (path, key, found), value in zip(wanted, reduced):
        if found.split() != value.split():
            lines.append(f"{path}: {key} in the index {found!r}, in the file {value!r}")
    compressed = prefix.pkgdir / "Packages.gz"
    if compressed.exists():
        if gzip.decompress(compressed.read_bytes()) != (prefix.pkgdir / "Packages").read_bytes():
            lines.append("Packages.gz is not Packages")
        if int(compressed.stat().st_mtime) != int((prefix.pkgdir / "Packages").stat().st_mtime):
            lines.append("Packages.gz and Packages have different times")
    if int((prefix.pkgdir / "Packages").stat().st_mtime) != int(header.get("TIMESTAMP", "0")):
        lines.append("the time of Packages is not its TIMESTAMP")
    return lines


def assert_index_agrees(prefix):
    """The index says of every file what is true, and of no other."""
    lines = index_disagreements(prefix)
    assert not lines, "\n".join(lines)


REMOVED = "the file will be removed"
IGNORED = "Binpkg update ignored for signed package"


def assert_portage_finds_nothing(prefix):
    """Portage's update pass, the usual one and the one over every file, touches no package."""
    before = Snapshot(prefix.pkgdir)
    entries = raw_entries(prefix.pkgdir / "Packages")
    said = ""
    for run_pass in (prefix.update_pass, lambda: prefix.update_pass(every_file=True), prefix.movebin):
        said += run_pass().text
    changed = [line for line in before.difference(Snapshot(prefix.pkgdir)) if line.endswith(".gpkg.tar")]
    assert not changed, "\n".join([*changed, said])
    assert REMOVED not in said and IGNORED not in said, said
    assert raw_entries(prefix.pkgdir / "Packages") == entries, "Portage changed the index"


def assert_all_verify(prefix, paths=None):
    """Portage accepts every package, asking for signatures."""
    bad = {path: error for path, error in prefix.verify(paths).items() if error}
    assert not bad, bad
