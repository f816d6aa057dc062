"""Packages made by Portage's own code, without building anything: about 20 ms each."""

from dataclasses import asdict, dataclass, field

DEPENDENCIES = ("BDEPEND", "DEPEND", "IDEPEND", "PDEPEND", "RDEPEND")


@dataclass
class Package:
    """What one binary package is to hold.

    `signer` is "configured" (as make.conf has it), "nobody", or the path and
    fingerprint of another gpg home ("HOME FINGERPRINT").
    """

    cpv: str
    slot: str = "0"
    eapi: str = "8"
    repository: str = "gentoo"
    build_id: int = 1
    build_time: int = 1_700_000_000
    iuse: str = ""
    use: str = ""
    signer: str = "configured"
    dependencies: dict = field(default_factory=dict)
    metadata: dict = field(default_factory=dict)
    payload: str = "payload\n"

    def job(self):
        """The package as the helper inside Portage's Python takes it."""
        unknown = set(self.dependencies) - set(DEPENDENCIES)
        assert not unknown, unknown
        return asdict(self)


def package(cpv, **words):
    """A `Package`; words in capitals are dependencies (`RDEPEND="…"`) or other metadata."""
    dependencies = {key: words.pop(key) for key in list(words) if key in DEPENDENCIES}
    metadata = {key: words.pop(key) for key in list(words) if key.isupper()}
    return Package(cpv, dependencies=dependencies, metadata=metadata, **words)
