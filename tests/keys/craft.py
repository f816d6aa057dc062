"""Packages with every fault: takes an unsigned one apart, signs it with any key, and puts it together wrongly.

The container is GLEP 78's: a plain tar with one folder.
"""

import hashlib
import io
import tarfile
from pathlib import Path


def take_apart(path):
    """The members of a package without their folder: name → bytes, in their order."""
    with tarfile.open(path) as container:
        return {member.name.split("/", 1)[1]: container.extractfile(member).read() for member in container}


def put_together(path, members):
    """Writes a package with these members."""
    folder = Path(path).name.removesuffix(".gpkg.tar")
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as container:
        for name, data in members.items():
            facts = tarfile.TarInfo(f"{folder}/{name}")
            facts.size, facts.mtime = len(data), 1_700_000_000
            container.addfile(facts, io.BytesIO(data))


def member(members, start):
    """The name of the member that starts so (`image`, `metadata`), whatever it is packed with."""
    return next(name for name in members if name.startswith(f"{start}.tar") and not name.endswith(".sig"))


def manifest(members):
    """The Manifest's text for these members."""
    lines = []
    for name, data in members.items():
        if name != "Manifest":
            digests = f"BLAKE2B {hashlib.blake2b(data).hexdigest()} SHA512 {hashlib.sha512(data).hexdigest()}"
            lines.append(f"DATA {name} {len(data)} {digests}\n")
    return "".join(lines).encode()


def seal(members, signer, manifest_signer=None):
    """The members with signatures, and with a signed Manifest, by `signer` (see homes.Signer)."""
    sealed = {}
    for name, data in members.items():
        if name == "Manifest" or name.endswith(".sig"):
            continue
        sealed[name] = data
        if name.startswith(("image", "metadata")):
            sealed[f"{name}.sig"] = signer.detached(data)
    sealed["Manifest"] = (manifest_signer or signer).clear(manifest(sealed))
    return sealed


def changed(data):
    """The same length, one bit in the middle turned."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def faulty(kind, members, ours, stranger, friend, acquaintance):
    """The members of the package of that kind of the table."""
    match kind:
        case "unsigned":
            return members
        case "stranger":
            return seal(members, stranger)
        case "friend":
            return seal(members, friend)
        case "acquaintance":
            return seal(members, acquaintance)
        case "two-signatures":
            return seal(members, ours, ours.together_with(stranger))
        case "weak":
            return seal(members, ours, ours.weakly())
    sealed = seal(members, ours)
    image, metadata, text = member(members, "image"), member(members, "metadata"), sealed["Manifest"]
    match kind:
        case "ours" | "truncated":
            pass
        case "outside":
            sealed["Manifest"] = b"DATA image.tar 1 SHA512 00\n\n" + text + b"DATA extra 1 SHA512 00\n"
        case "two-messages":
            sealed["Manifest"] = stranger.clear(manifest(sealed)) + text
        case "borrowed":
            another = seal(members | {image: changed(members[image])}, ours)
            sealed["Manifest"] = another["Manifest"]
        case "edited":
            size = f" {len(members[image])} ".encode()
            assert size in text
            sealed["Manifest"] = text.replace(size, f" {len(members[image]) + 1} ".encode(), 1)
        case "image":
            sealed[image] = changed(sealed[image])
        case "metadata":
            sealed[metadata] = changed(sealed[metadata])
        case "swapped":
            one, other = f"{image}.sig", f"{metadata}.sig"
            sealed[one], sealed[other] = sealed[other], sealed[one]
        case "missing":
            del sealed[f"{image}.sig"]
        case "extra":
            sealed["other.tar"] = b"x" * 512
        case "stripped":
            sealed["Manifest"] = manifest({name: data for name, data in sealed.items() if name != "Manifest"})
        case _:
            raise ValueError(kind)
    return sealed
