"""The oracle: the same packages signed in one prefix and unsigned in another.

In the first binpkg-resign runs, and then Portage's update pass, which must touch nothing. In the
second Portage's pass runs alone, until it finds nothing more to do: unsigned packages it updates.
What both then say must agree, field by field.
"""

import re

from tests.lab import OLDEST, Prefix, Snapshot, assert_all_verify, assert_index_agrees, files_of
from tests.lab.packages import DEPENDENCIES

# More passes than any of the histories needs to come to rest.
MOST_PASSES = 10

DIGESTS = {"SIZE", "MTIME", "MD5", "SHA1"}


class Twins:
    """Two prefixes with the same repositories, on the same paths, so that update files come in the same order."""

    def __init__(self, lab, *, portage, features=(), variables=None):
        self.signed = Prefix.create(lab, portage=portage, key=lab.key(), features=features, variables=variables)
        self.plain = self.signed.clone()
        self.plain.key, self.plain.trusted = None, []
        self.plain.configure()

    def share_repositories(self):
        """The second prefix reads the first one's repositories; call it once they are all there."""
        for name in self.signed.repositories:
            conf = f"etc/portage/repos.conf/{name}.conf"
            (self.plain.path / conf).write_text((self.signed.path / conf).read_text())

    def make(self, *packages):
        """The same packages in both."""
        self.paths = self.signed.make(*packages)
        assert self.plain.make(*packages) == self.paths

    def run(self, check=0):
        """Us in the first prefix, Portage in the second. Returns our answer in JSON."""
        answer = self.signed.resign_json("apply", check=check, timeout=1800)
        self.passes = self.unstable = None
        contents = Snapshot(self.plain.pkgdir).packages()
        for number in range(1, MOST_PASSES + 1):
            self.plain.update_pass(every_file=True)
            now = Snapshot(self.plain.pkgdir).packages()
            self.unstable = {path for path in contents.keys() | now.keys() if contents.get(path) != now.get(path)}
            contents = now
            self.passes = number
            if not self.unstable:
                break
        return answer

    def assert_portage_touches_nothing(self, but_for=()):
        """Portage's pass in the first prefix leaves every package and every index entry alone.

        `but_for` are packages that may go (they are held).
        """
        for every_file in (False, True):
            before = Snapshot(self.signed.pkgdir).packages()
            entries = comparable_index(self.signed)
            said = self.signed.update_pass(every_file=every_file).err
            after = Snapshot(self.signed.pkgdir).packages()
            changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
            changed = [path for path in changed if path not in but_for]
            assert not changed, f"Portage touched {changed}:\n{said}"
            but_for = set(but_for) | self._confused()
            lines = [line for line in index_changes(entries, comparable_index(self.signed)) if line.split(":")[0] not in but_for]
            assert not lines, "Portage changed the index:\n" + "\n".join(lines[:40])

    def _confused(self):
        """Files that Portage 3.0.60 takes for one another, with or without us, where it does not trust the index:
        it knows them by base name, size and whole-second mtime only, and loses entries of copies in other categories."""
        if self.signed.portage != OLDEST or "-pkgdir-index-trusted" not in self.signed.features:
            return set()
        paths = {*files_of(self.signed.pkgdir), *files_of(self.plain.pkgdir)}
        categories = {}
        for path in paths:
            categories.setdefault(_without_build_id(path), set()).add(path.split("/")[0])
        return {path for path in paths if len(categories[_without_build_id(path)]) > 1}

    def differences(self, leave_out=lambda path: False):
        """Every field in which the two prefixes disagree, as lines."""
        confused = self._confused()
        ours = [path for path in files_of(self.signed.pkgdir) if not leave_out(path) and path not in confused]
        theirs = [path for path in files_of(self.plain.pkgdir) if not leave_out(path) and path not in confused]
        lines = [f"{path}: only with us" for path in ours if path not in theirs]
        lines += [f"{path}: only with Portage" for path in theirs if path not in ours]
        both = [path for path in ours if path in theirs]
        lines += self._index_differences(both)
        lines += self._metadata_differences(both)
        return lines

    def _index_differences(self, paths):
        ours, theirs = comparable_index(self.signed), comparable_index(self.plain)
        mine = {path: ours.get(path, {}) for path in paths}
        its = {path: _with_honest_build_id(path, theirs.get(path, {})) for path in paths}
        return index_changes(mine, its, "with us", "with Portage")

    def _metadata_differences(self, paths):
        ours, theirs = self.signed.metadata(paths), self.plain.metadata(paths)
        lines, strings, places = [], [], []
        for path in paths:
            mine, its = ours[path], _with_ebuild_of_its_name(_with_honest_build_id(path, theirs[path]))
            for key in sorted(mine.keys() | its.keys()):
                one, other = mine.get(key), its.get(key)
                if one == other or (one or "").split() == (other or "").split() and key not in ("CONTENTS", "environment.bz2"):
                    continue
                if key in DEPENDENCIES and one is not None and other is not None:
                    use = mine.get("USE", "").strip()
                    strings += [(key, one, use), (key, other, use)]
                    places.append((path, key))
                else:
                    lines.append(f"{path}: {key}: with us {one!r}, with Portage {other!r}")
        reduced = self.signed.inside("reduce", {"strings": strings}).answer
        for (path, key), one, other in zip(places, reduced[::2], reduced[1::2]):
            if one.split() != other.split():
                lines.append(f"{path}: {key}, reduced: with us {one!r}, with Portage {other!r}")
        return lines

    def assert_the_same(self, leave_out=lambda path: False):
        """No difference but the deviations of the contract, which are taken out here and have tests of their own."""
        lines = self.differences(leave_out)
        assert not lines, f"{len(lines)} differences (Portage took {self.passes} passes):\n" + "\n".join(lines[:40])

    def assert_sound(self, paths=None):
        """What we left verifies, and the index agrees with it."""
        assert_all_verify(self.signed, paths)
        assert_index_agrees(self.signed)


def comparable_index(prefix):
    """PATH → entry without digests, sizes and times."""
    return {entry["PATH"]: {key: value for key, value in entry.items() if key not in DIGESTS} for entry in prefix.index()[1]}


def index_changes(before, after, one="before", other="after"):
    """What differs between two indexes, as lines."""
    return [
        f"{path}: index {key}: {one} {before.get(path, {}).get(key)!r}, {other} {after.get(path, {}).get(key)!r}"
        for path in sorted(before.keys() | after.keys())
        for key in sorted(before.get(path, {}).keys() | after.get(path, {}).keys())
        if before.get(path, {}).get(key) != after.get(path, {}).get(key)
    ]


def _without_build_id(path):
    return re.sub(r"(-[0-9]+)?\.gpkg\.tar$", "", path.split("/")[-1])


def _with_honest_build_id(path, fields):
    """Promise 6: a copy that needs another build id has it inside and in the index too; Portage's has the old one."""
    match = re.search(r"-([0-9]+)\.gpkg\.tar$", path)
    if match and "BUILD_ID" in fields and fields["BUILD_ID"].strip() != match[1]:
        return fields | {"BUILD_ID": match[1] + ("\n" if fields["BUILD_ID"].endswith("\n") else "")}
    return fields


def _with_ebuild_of_its_name(entries):
    """Portage 3.0.60 leaves the entry PF.ebuild of a renamed package under its old name."""
    ebuilds = [key for key in entries if key.endswith(".ebuild")]
    entries = {key: value for key, value in entries.items() if key not in ebuilds} | {
        f"{entries['PF'].strip()}.ebuild": entries[key] for key in ebuilds[:1]
    }
    assert len(ebuilds) <= 1
    return entries
