"""A prefix whose PKGDIR holds one package of every kind of the table, and an update that concerns them all."""

import hashlib
import json
import os

from tests.lab import Prefix, package

from . import craft, homes
from .table import HELD, PACKAGES

UPDATE = "move dev-util/strace dev-debug/strace"
DEPENDENCY = "dev-util/strace"


class Scene:
    """A prefix, the ring of keys that it signs with, and what there was at the beginning."""

    def __init__(self, lab, ring, kinds, copies=1, **variables):
        self.lab, self.ring = lab, ring
        self.prefix = _unsigned(lab, copies).clone()
        self.prefix.features.append("binpkg-signing")
        self.mark = self.prefix.path / "trust-helper-was-run"
        helper = self.prefix.write("trust-helper", f"#!/bin/sh\ntouch {self.mark}\n")
        helper.chmod(0o755)
        if ring.replaced:
            variables["BINPKG_GPG_SIGNING_KEY_MIGRATION"] = f"{ring.replaced}={ring.setting}"
        self.variables(
            BINPKG_GPG_SIGNING_GPG_HOME=ring.gpg_home,
            BINPKG_GPG_SIGNING_KEY=ring.setting,
            BINPKG_GPG_SIGNING_BASE_COMMAND=f"/usr/bin/flock {self.prefix.path}/gpg.lock /usr/bin/gpg --sign --armor [PORTAGE_CONFIG]",
            PORTAGE_TRUST_HELPER=helper,
            **variables,
        )
        self.stranger, self.friend = homes.stranger(lab), homes.friend(lab)
        self.paths = {}
        for kind in kinds:
            for number in range(1, copies + 1 if kind == "ours" else 2):
                self.paths[kind if number == 1 else f"{kind} {number}"] = f"app-misc/{kind}/{kind}-{number}-1.gpkg.tar"
        self._craft()
        ring.change()
        self.prefix.updates("1Q-2024", UPDATE)

    def variables(self, **variables):
        """Sets variables in make.conf."""
        self.prefix.variables |= variables
        self.prefix.configure()

    def _craft(self):
        """Signs, spoils, and removes what the scene is without; the index says what is then there."""
        changed, pkgdir = {}, self.prefix.pkgdir
        for name, path in self.paths.items():
            kind, file = name.split()[0], pkgdir / path
            signers = (self.ring.ours, self.stranger, self.friend, self.ring.acquaintance)
            members = craft.faulty(kind, craft.take_apart(file), *signers)
            craft.put_together(file, members)
            if kind == "truncated":
                os.truncate(file, file.stat().st_size // 3)
            changed[path] = file
        head, *blocks = (pkgdir / "Packages").read_text().split("\n\n")
        kept = []
        for block in blocks:
            path = next((line[6:] for line in block.splitlines() if line.startswith("PATH: ")), None)
            if path in changed:
                kept.append(_renewed(block, changed[path]))
            elif path:
                (pkgdir / path).unlink()
        head = "\n".join(f"PACKAGES: {len(kept)}" if line.startswith("PACKAGES:") else line for line in head.splitlines())
        (pkgdir / "Packages").write_text("\n\n".join([head, *kept]) + "\n\n")

    # Looking

    def read(self, name):
        """The bytes of a package, or None where it is gone."""
        file = self.prefix.pkgdir / self.paths[name]
        return file.read_bytes() if file.exists() else None

    def held(self, name):
        """The bytes that are held of a package, or None."""
        file = self.prefix.held / f"{self.paths[name]}.held"
        return file.read_bytes() if file.exists() else None

    def trusts(self, *more):
        """Gives the clients a keyring that trusts these homes and the ring's."""
        homes.trusting(self.prefix.keyring, self.ring.home, *more)

    def accepted(self, names):
        """Whether Portage accepts each package, asking for signatures."""
        answer = self.prefix.verify([self.paths[name] for name in names])
        return {name: answer[self.paths[name]] for name in names}

    def signers(self, name):
        """Member → fingerprint of the key that made its signature, as gpg says; a bad one is an error."""
        members = craft.take_apart(self.prefix.pkgdir / self.paths[name])
        signers = {}
        keyring = homes.Home(self.lab.directory("v"))
        keyring.gpg("--import", stdin=self.ring.home.certificates().encode())
        for member, data in members.items():
            if member == "Manifest":
                words, stdin = ["--verify"], data
            elif f"{member}.sig" in members:
                signature = keyring.path / "signature"
                signature.write_bytes(members[f"{member}.sig"])
                words, stdin = ["--verify", signature, "-"], data
            else:
                continue
            status = keyring.gpg("--status-fd", "1", "--trust-model", "always", *words, stdin=stdin).out
            valid = [line.split()[2:] for line in status.splitlines() if line.startswith("[GNUPG:] VALIDSIG")]
            assert len(valid) == 1, status
            assert valid[0][7] == "10", f"digest {valid[0][7]} instead of SHA512 (10)"
            signers[member] = valid[0][0]
        return signers

    # Doing

    def apply(self, *words, check=None, env=None):
        """`apply --json`: the exit status, and the record of each package by its name in the table."""
        result = self.prefix.resign("--json", "apply", *words, check=check, env=env)
        return self.answer(result)

    def answer(self, result):
        """The exit status and the records of one run."""
        assert result.out.startswith("{"), result
        answer = json.loads(result.out)
        names = {path: name for name, path in self.paths.items()}
        records = {names[record["path"]]: record for record in answer["packages"]}
        for record in records.values():
            record["reason"] = record["reason"] and record["reason"]["text"]
        assert len(records) == len(answer["packages"]), result
        return Answer(result, answer, records)

    def check(self, answer, expected, before):
        """Everything that one run must have done: `expected` is name → Outcome, `before` name → bytes."""
        wrong = []
        for name, wanted in expected.items():
            record = answer.records.get(name)
            kind = record["outcome"] if record else None
            reason = (record or {}).get("reason") or ""
            says = self.named(wanted.says)
            if kind != wanted.kind:
                wrong.append(f"{name}: {kind} ({reason}) instead of {wanted.kind} ({says})")
                continue
            if says not in reason:
                wrong.append(f"{name}: the reason {reason!r} does not say {says!r}")
            unchanged = self.read(name) == before[name]
            if unchanged == (kind == "resigned"):
                wrong.append(f"{name}: {kind}, and its bytes are {'the same' if unchanged else 'others'}")
            if (self.held(name) == before[name]) != (kind == HELD):
                wrong.append(f"{name}: {kind}, and held is {'nothing' if self.held(name) is None else 'something'}")
        assert not wrong, "\n".join([*wrong, str(answer.result)])
        status = int(any(wanted.kind == HELD for wanted in expected.values()))
        assert answer.result.status == status, answer.result
        assert not self.mark.exists(), "PORTAGE_TRUST_HELPER was run"

    def named(self, says):
        """The key that stands for a name in the table, as gpg names unknown ones: by the end of its fingerprint."""
        known = {"STRANGER": self.stranger.key, "FRIEND": self.friend.key, "ACQUAINTANCE": self.ring.acquaintance.key}
        return known[says][-16:] if says in known else says


class Answer:
    """What one run said."""

    def __init__(self, result, answer, records):
        self.result, self.answer, self.records = result, answer, records

    def count(self, kind):
        """How many packages came to this end."""
        return sum(record["outcome"] == kind for record in self.records.values())


def _unsigned(lab, copies):
    """The template: a package of every kind, made by Portage and not signed yet."""

    def make(path):
        prefix = Prefix.create(lab, path)
        prefix.make(
            *(
                package(f"app-misc/{kind}-{number}", RDEPEND=DEPENDENCY, payload="payload\n" * 200)
                for kind in PACKAGES
                for number in range(1, copies + 1 if kind == "ours" else 2)
            )
        )

    return Prefix(lab, lab.once("templates", f"keys-{copies}", make)).with_repositories("gentoo")


def _renewed(block, file):
    data, status = file.read_bytes(), file.stat()
    facts = {
        "SIZE": len(data),
        "MTIME": int(status.st_mtime),
        "MD5": hashlib.md5(data).hexdigest(),
        "SHA1": hashlib.sha1(data).hexdigest(),
    }
    lines = [line for line in block.splitlines() if line]
    keys = [line.split(":")[0] for line in lines]
    return "\n".join(f"{key}: {facts[key]}" if key in facts else line for key, line in zip(keys, lines))
