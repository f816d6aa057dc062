"""A disposable Gentoo prefix with the real Portage, for tests and the demo.

`Session` owns a directory, the keys and every agent started in it; `Prefix` is one
Gentoo inside it; `Repository` is an ebuild repository with a git upstream.
The Portage releases are virtual environments under target/ (`make setup`).
"""

from .checks import assert_all_verify, assert_index_agrees, assert_portage_finds_nothing, files_of, raw_entries, read_index
from .packages import Package, package
from .prefix import HOOK, Prefix
from .repository import Repository, ebuild
from .session import NEWEST, OLDEST, Session
from .snapshot import Snapshot

__all__ = [
    "HOOK",
    "NEWEST",
    "OLDEST",
    "Package",
    "Prefix",
    "Repository",
    "Session",
    "Snapshot",
    "assert_all_verify",
    "assert_index_agrees",
    "assert_portage_finds_nothing",
    "ebuild",
    "files_of",
    "package",
    "raw_entries",
    "read_index",
]
