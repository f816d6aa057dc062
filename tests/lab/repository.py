"""An ebuild repository with a git upstream: what `emerge --sync` fetches."""

from pathlib import Path

from .command import base_environment, run

PROFILE = """\
ARCH="amd64"
ACCEPT_KEYWORDS="amd64"
CHOST="x86_64-pc-linux-gnu"
IUSE_IMPLICIT="prefix"
USE_EXPAND=""
USE_EXPAND_IMPLICIT="ARCH"
USE_EXPAND_VALUES_ARCH="amd64"
USE_EXPAND_UNPREFIXED="ARCH"
"""

CATEGORIES = "app-alt app-misc app-old dev-debug dev-lang dev-libs dev-python dev-util net-misc sys-apps sys-libs virtual"


def ebuild(**variables):
    """The text of a tiny ebuild that installs one file; variables as in an ebuild."""
    values = {
        "EAPI": "8",
        "DESCRIPTION": "A tiny package",
        "HOMEPAGE": "https://example.org/",
        "LICENSE": "GPL-2",
        "SLOT": "0",
        "KEYWORDS": "amd64",
    } | variables
    lines = [f'{key}="{value}"' for key, value in values.items()]
    return (
        "\n".join(lines)
        + '\nS="${WORKDIR}"\n\nsrc_install() {\n'
        + '\techo "${CATEGORY}/${PF}" > "${T}/${PN}" || die\n\tinsinto /usr/share/lab\n\tdoins "${T}/${PN}"\n}\n'
    )


class Repository:
    """The upstream of a repository: a work tree with git below `path`.

    Write into it, then `commit()`; a prefix sees it after its next sync.
    """

    def __init__(self, path, name):
        self.path = Path(path)
        self.name = name

    @classmethod
    def create(cls, path, name, masters="", categories=CATEGORIES):
        """A new repository with what Portage needs to take it for one."""
        repository = cls(path, name)
        repository.write("profiles/repo_name", f"{name}\n")
        repository.write(
            "metadata/layout.conf",
            f"masters = {masters}\nthin-manifests = true\nsign-manifests = false\nprofile-formats = portage-2\ncache-formats = md5-dict\n",
        )
        repository.write("profiles/categories", "\n".join(categories.split()) + "\n")
        if not masters:
            repository.write("profiles/arch.list", "amd64\n")
            repository.write("profiles/profiles.desc", "amd64 default stable\n")
            repository.write("profiles/default/eapi", "8\n")
            repository.write("profiles/default/make.defaults", PROFILE)
            repository.write("licenses/GPL-2", "The text of the licence.\n")
        repository.git("init", "--quiet", "--initial-branch=master")
        repository.commit("Begin")
        return repository

    def git(self, *words):
        """Runs git in the work tree."""
        return run(["git", "-c", "safe.directory=*", *words], base_environment(_system_path()), cwd=self.path)

    def write(self, path, text):
        """Writes one file."""
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)
        return target

    def add(self, cpv, **variables):
        """Adds an ebuild: `add("dev-util/strace-6.6", RDEPEND="…")`."""
        category, pf = cpv.split("/")
        return self.write(f"{category}/{_name(pf)}/{pf}.ebuild", ebuild(**variables))

    def updates(self, name, *lines):
        """Adds `profiles/updates/NAME`; without lines, only the directory with an empty file."""
        return self.write(f"profiles/updates/{name}", "".join(f"{line}\n" for line in lines))

    def commit(self, message="Change"):
        """Publishes what was written."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)


def _name(pf):
    """PN of a PF that has no hyphen followed by a digit in its name."""
    words = pf.split("-")
    while words and words[-1][:1] == "r" and words[-1][1:].isdigit():
        words.pop()
    return "-".join(words[:-1])


def _system_path():
    import os

    return os.environ["PATH"]
