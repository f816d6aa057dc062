"""What becomes of a package: one place that says it for every key, agent and package.

The rule. A package has a *standing*, which the keys do not change (`PACKAGES`): it is not signed, it is ours and
whole, somebody else has (also) signed it, or something about it is wrong. A key has a *state* (`KEYS`): it can sign;
it cannot, but still tells whose packages are whose; it is revoked, so that nothing it signed counts; or it is not
there, so that nobody knows whose anything is. A passphrase is at hand or not (`AGENTS`; keys without one do not
care). `outcome` makes one answer of the three.
"""

from dataclasses import dataclass
from enum import Enum

# What `apply --json` says; unsigned packages do not appear there.
RESIGNED, HELD, FOREIGN, UNMENTIONED = "resigned", "held", "foreign", None


class Standing(Enum):
    """What a package is, whatever becomes of the keys."""

    UNSIGNED = "not signed at all: Portage updates it by itself"
    OURS = "signed by us, and whole"
    FOREIGN = "signed by somebody else, or by us and somebody else"
    FORMER = "signed with a key that we have, and that is not the configured one: it may have been"
    WRONG = "claims to be ours, but something about it is wrong"
    UNREADABLE = "no package at all, so that nobody knows whether it was signed"


@dataclass(frozen=True)
class PackageKind:
    """One way in which a package can be.

    `portage` says whether Portage accepts it as it is, from a client that trusts everybody who signed anything here;
    `says` stands in the reason that is given for not signing it. A `late` fault is in the image, which is read when
    it is copied: where nothing can be signed, it is not read, and the key is the reason.
    """

    what: str
    standing: Standing
    portage: bool
    says: str = ""
    late: bool = False


PACKAGES = {
    "ours": PackageKind("signed with the configured key", Standing.OURS, True),
    "outside": PackageKind("ours, with text before and after the signed part of its Manifest", Standing.OURS, True),
    "unsigned": PackageKind("not signed", Standing.UNSIGNED, False),
    "stranger": PackageKind("signed with a key that is not in the signing home", Standing.FOREIGN, True, "STRANGER"),
    "friend": PackageKind("signed with a key whose public half is in the signing home", Standing.FOREIGN, True, "FRIEND"),
    "acquaintance": PackageKind("signed with another secret key of the signing home", Standing.FORMER, True, "ACQUAINTANCE"),
    "two-signatures": PackageKind("its Manifest is signed by us and a stranger", Standing.FOREIGN, True, "STRANGER"),
    "two-messages": PackageKind("its Manifest is a stranger's signed text before ours", Standing.WRONG, False),
    "borrowed": PackageKind("has the Manifest, well signed, of another package of ours", Standing.WRONG, False),
    "edited": PackageKind("a size in its Manifest was changed after signing", Standing.WRONG, False, "not good"),
    "image": PackageKind("its image was changed after signing", Standing.WRONG, False, "image.tar", late=True),
    "metadata": PackageKind("its metadata was changed after signing", Standing.WRONG, False, "metadata.tar"),
    "swapped": PackageKind("the signatures of its image and its metadata have changed places", Standing.WRONG, False, ".sig"),
    "missing": PackageKind("the image's signature is in the Manifest, and gone", Standing.WRONG, False, "no signature"),
    "extra": PackageKind("has a member that its Manifest does not know", Standing.WRONG, False),
    "stripped": PackageKind("its Manifest was replaced by an unsigned one, its members are signed", Standing.WRONG, False),
    "weak": PackageKind("signed by us with MD5, which gpg does not accept", Standing.WRONG, False),
    "truncated": PackageKind("breaks off in its image", Standing.UNREADABLE, False),
}


@dataclass(frozen=True)
class KeyKind:
    """One state of the configured key, after the packages were signed.

    `cannot` stands in the reason why it cannot sign; `refused` stands in the reason why what it signed counts for
    nothing; `unknown` stands in the reason why nobody knows whose a package is. `fixable` says that the test can make
    it usable, and then the held packages are signed.
    """

    what: str
    cannot: str = ""
    refused: str = ""
    unknown: str = ""
    fixable: bool = False
    passphrase: bool = False


KEYS = {
    "ed25519": KeyKind("one ed25519 key that signs, named by its fingerprint"),
    "rsa4096": KeyKind("one rsa4096 key that signs, named by its fingerprint"),
    "ed25519-locked": KeyKind("the same with a passphrase", passphrase=True),
    "rsa4096-locked": KeyKind("the same with a passphrase", passphrase=True),
    "key-id": KeyKind("named as 0xKEYID"),
    "mail": KeyKind("named by its mail address"),
    "subkey": KeyKind("a certifying primary key with a signing subkey"),
    "offline-primary": KeyKind("the same, with the primary key's secret half elsewhere"),
    "superseded": KeyKind("a newer signing subkey has come after packages were signed with the first"),
    "exact": KeyKind("two signing subkeys, the older one chosen by `!`"),
    "exact-primary": KeyKind("a primary key that signs and a signing subkey; the primary one chosen by `!`"),
    "expired-subkey": KeyKind("the subkey that signed the packages has expired, and a new one has come", refused="MIGRATION"),
    "expired-subkey-named": KeyKind("the same, and BINPKG_GPG_SIGNING_KEY_MIGRATION names the expired one"),
    "revoked-subkey": KeyKind("the subkey that signed the packages is revoked, and a new one has come", refused="revoked"),
    "expired": KeyKind("the key has expired", cannot="quick-set-expire", fixable=True),
    "expired-exact": KeyKind("the subkey chosen by `!` has expired; a newer one does not count", cannot="quick-set-expire", fixable=True),
    "late": KeyKind("the key had expired before the packages were signed", cannot="expired", refused="expired"),
    "revoked": KeyKind("the key is revoked", cannot="revoked", refused="revoked"),
    "no-secret": KeyKind("its secret half is not in the home", cannot="secret key", fixable=True),
    "no-ownertrust": KeyKind("imported, with no trust given to it"),
    "two-keys": KeyKind("two secret keys of one owner, the second one named by its fingerprint"),
    "other-home": KeyKind("the home holds other keys only", unknown="has no key"),
    "no-home": KeyKind("the home does not exist", unknown="cannot be read"),
}


@dataclass(frozen=True)
class AgentKind:
    """One state of the gpg-agent, for keys with a passphrase; `locked` stands in the reason why it cannot sign."""

    what: str
    locked: str = ""
    fixable: bool = True


AGENTS = {
    "cached": AgentKind("running, and the passphrase was typed before"),
    "terminal": AgentKind("started by us; a person at the terminal types the passphrase"),
    "running": AgentKind("running, the passphrase not typed, no terminal, a pinentry for terminals", locked="unlock"),
    "killed": AgentKind("not running, no terminal, a pinentry for terminals", locked="unlock"),
    "no-pinentry": AgentKind("not running, and there is no pinentry at all", locked="unlock"),
    "silent": AgentKind("not running, no terminal, a pinentry that waits for ever", locked="BINPKG_RESIGN_TIMEOUT"),
    "cancelled": AgentKind("started by us; the person at the terminal refuses", locked="unlock"),
    "mistyped": AgentKind("started by us; the person at the terminal types something else", locked="unlock"),
}


@dataclass(frozen=True)
class Outcome:
    """What `apply` says of a package: the outcome, and what stands in its reason."""

    kind: str | None
    says: str = ""


def outcome(key, package, agent=None, foreign="leave"):
    """The answer of the table for one combination (`foreign` is BINPKG_RESIGN_FOREIGN)."""
    key, package = KEYS[key], PACKAGES[package]
    locked = AGENTS[agent].locked if agent and key.passphrase else ""
    match package.standing:
        case Standing.UNSIGNED:
            return Outcome(UNMENTIONED)
        case Standing.UNREADABLE:
            return Outcome(HELD)
        case _ if key.unknown:
            return Outcome(HELD, key.unknown)
        case Standing.FORMER:
            return Outcome(HELD, package.says)
        case Standing.FOREIGN:
            return Outcome(HELD if foreign == "hold" else FOREIGN, package.says)
        case Standing.WRONG if key.refused:
            return Outcome(HELD)  # either reason is true
        case Standing.WRONG if package.late and (key.cannot or locked):
            return Outcome(HELD, key.cannot or locked)
        case Standing.WRONG:
            return Outcome(HELD, package.says)
        case Standing.OURS if key.refused:
            return Outcome(HELD, key.refused)
        case Standing.OURS if key.cannot or locked:
            return Outcome(HELD, key.cannot or locked)
        case Standing.OURS:
            return Outcome(RESIGNED)


def exit_status(outcomes):
    """1 where something was held, or else 0."""
    return int(any(answer.kind == HELD for answer in outcomes))
