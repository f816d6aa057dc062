"""What somebody may put into a folder `.binpkg-resign` of his own, in the form that 0.1.0 writes."""

import json

from tests.lab import raw_entries


def record(stage, path, held, **more):
    """A record of a held package, as 0.1.0 writes them."""
    entry = raw_entries(stage.pkgdir / "Packages")[stage.where("app-misc/one-1")]
    cpv = more.pop("cpv", "app-misc/one-1")
    return {
        "path": path,
        "held": held,
        "cpv": cpv,
        "build_id": "1",
        "size": 1,
        "since": 0,
        "reason": "it could not be signed",
        "updates": [],
        "entry": entry,
    } | more


def plant(stage, journal=None, commit=None, held=None, files=()):
    """The attacker makes the folder with a journal, a commit note, and held files (name → package that is copied)."""
    place = stage.prefix.path / "var/tmp"
    script = "mkdir -p .binpkg-resign/held\n"
    for name, value in (("journal", journal), ("commit", commit)):
        if value is not None:
            file = place / name
            file.write_text(json.dumps(value))
            file.chmod(0o644)
            script += f"cp {file} .binpkg-resign/{name}\n"
    for name, source in (held or {}).items():
        script += f"mkdir -p $(dirname .binpkg-resign/held/{name}); cp {source} .binpkg-resign/held/{name}\n"
    for name, source in files:
        script += f"mkdir -p $(dirname {name}); cp {source} {name}\n"
    stage.prefix.path.joinpath("var/tmp").chmod(0o755)
    stage.attack(script)
