"""A gpkg as a list of members, to look into packages and to make broken ones. Knows no signatures."""

import hashlib
import io
import tarfile


class Container:
    """The members of a package file in their order, each a `tarfile.TarInfo` with its bytes."""

    def __init__(self, entries):
        self.entries = entries

    @classmethod
    def read(cls, package):
        """Reads a whole package, by its path or from a file that is open."""
        where = {"fileobj": package} if hasattr(package, "read") else {"name": package}
        with tarfile.open(**where, mode="r:") as tar:
            return cls([(member, tar.extractfile(member).read() if member.isreg() else b"") for member in tar])

    @property
    def members(self):
        """The headers."""
        return [member for member, _ in self.entries]

    def name(self, part):
        """The full name of the member whose last part begins with `part` (no signature)."""
        names = [member.name for member in self.members]
        return next(name for name in names if name.split("/")[-1].startswith(part) and not name.endswith(".sig"))

    def data(self, name):
        """The bytes of one member."""
        return next(data for member, data in self.entries if member.name == name)

    def replace(self, name, data):
        """Other bytes for one member, its header's size put right."""
        for number, (member, _) in enumerate(self.entries):
            if member.name == name:
                member.size = len(data)
                self.entries[number] = (member, data)
                return
        raise KeyError(name)

    def rename(self, name, new):
        """Another name for one member."""
        next(member for member in self.members if member.name == name).name = new

    def remove(self, name):
        """Takes one member out."""
        self.entries = [(member, data) for member, data in self.entries if member.name != name]

    def add(self, name, data=b"", kind=tarfile.REGTYPE, target=""):
        """Puts one member at the end."""
        member = tarfile.TarInfo(name)
        member.type, member.size, member.linkname = kind, len(data), target
        self.entries.append((member, data))

    def write(self, path, form=tarfile.USTAR_FORMAT):
        """Writes the package, as ustar unless told otherwise."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
            for member, data in self.entries:
                tar.addfile(member, io.BytesIO(data) if member.isreg() else None)
        with open(path, "wb") as file:
            file.write(buffer.getvalue())

    def sign(self, key):
        """New signatures by `key` for all members but the empty gpkg-1, and a new Manifest, as GLEP 78 has them."""
        top = self.members[0].name.split("/")[0]
        self.entries = [(member, data) for member, data in self.entries if not member.name.endswith(".sig")]
        for member, data in list(self.entries):
            if member.name.split("/")[-1] not in ("gpkg-1", "Manifest"):
                self.add(f"{member.name}.sig", key.sign("--detach-sign", data))
        self.sign_manifest(key, top)

    def sign_manifest(self, key, top=None, edit=lambda text: text):
        """A new Manifest over the members as they are; `edit` may change its text before it is signed."""
        top = top or self.members[0].name.split("/")[0]
        self.remove(f"{top}/Manifest")
        text = "".join(_manifest_line(member, data) for member, data in self.entries)
        self.add(f"{top}/Manifest", key.sign("--clear-sign", edit(text).encode()))


def _manifest_line(member, data):
    name = member.name.split("/", 1)[-1]
    sha512, blake2b = hashlib.sha512(data).hexdigest(), hashlib.blake2b(data).hexdigest()
    return f"DATA {name} {len(data)} SHA512 {sha512} BLAKE2B {blake2b}\n"
