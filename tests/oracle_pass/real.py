"""Real packages and real update files, where they are: BINPKG_RESIGN_SHARED, else ../shared/data. None is ours to copy."""

import os
import random
import tarfile
from pathlib import Path

from tests.lab.packages import DEPENDENCIES, package
from tests.lab.session import TOP


def shared():
    """The directory of the data, or None."""
    where = Path(os.environ.get("BINPKG_RESIGN_SHARED", TOP.parent / "shared/data"))
    return where if (where / "guru-2024-01-md5-cache.tar.xz").is_file() else None


def update_files(which):
    """Name → bytes of `gentoo-updates` or `guru-updates`."""
    return {path.name: path.read_bytes() for path in sorted((shared() / which).iterdir()) if path.is_file()}


def moved_names():
    """Every name or slotmove's package that the real files speak of."""
    names = set()
    for which in ("gentoo-updates", "guru-updates"):
        for data in update_files(which).values():
            for line in data.decode().splitlines():
                words = line.split()
                if len(words) >= 3:
                    names.add(words[1].lstrip("<>=~!"))
    return names


def packages(number=None, seed=0):
    """Real packages with a random choice of USE; `number` of them, those first that some update concerns."""
    choose = random.Random(seed)
    found = sorted(_read(), key=lambda item: item[0])
    if number is not None:
        moved = moved_names()

        def concerned(item):
            text = " ".join(item[1].get(key, "") for key in DEPENDENCIES)
            return any(name in moved for name in text.split()) or any(f"{name}-" in item[0] for name in moved)

        yes = [item for item in found if concerned(item)]
        no = [item for item in found if not concerned(item)]
        part = min(len(yes), number * 3 // 4)
        found = choose.sample(yes, part) + choose.sample(no, number - part)
    return [_package(cpv, values, choose) for cpv, values in sorted(found, key=lambda item: item[0])]


def _read():
    with tarfile.open(shared() / "guru-2024-01-md5-cache.tar.xz") as tar:
        for member in tar:
            if member.isreg():
                lines = tar.extractfile(member).read().decode().splitlines()
                yield "/".join(member.name.split("/")[-2:]), dict(line.split("=", 1) for line in lines)


def _package(cpv, values, choose):
    flags = [flag.lstrip("+-") for flag in values.get("IUSE", "").split()]
    use = sorted(flag for flag in flags if choose.random() < 0.5)
    dependencies = {key: values[key] for key in DEPENDENCIES if values.get(key)}
    metadata = {key: values[key] for key in ("LICENSE", "RESTRICT", "PROPERTIES", "DESCRIPTION", "KEYWORDS") if values.get(key)}
    return package(
        cpv,
        slot=values.get("SLOT", "0"),
        eapi=values.get("EAPI", "0"),
        repository="guru",
        iuse=values.get("IUSE", ""),
        use=" ".join(use),
        **dependencies,
        **metadata,
    )
