"""Growth: with the number of packages that an update concerns, and with the number of entries in the index."""

import subprocess

from tests.lab import Prefix, files_of
from tests.lab.packages import package

from benches.measure import measured, repeated, row
from benches.unsigned import unsigned_prefix

QUIET = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def part_growth(lab, options):
    growth_of_packages(lab, options)
    growth_of_index(lab, options)


def growth_of_packages(lab, options):
    print(f"Growth with the number of packages, all concerned (ed25519), to {options.concerned}")
    template = unsigned_prefix(lab, lab.key("ed25519"), options.concerned, [2_000])
    _, _, status = measured(["binpkg-resign", "--prefix", template.path, "sign", "--all"], template.environment(), **QUIET)
    assert status == 0, status
    first = None
    for count in (options.concerned // 50, options.concerned // 12, options.concerned // 3, options.concerned):

        def ours():
            prefix = template.clone()
            for path in files_of(prefix.pkgdir)[count:]:
                (prefix.pkgdir / path).unlink()
            prefix.run("binpkg-resign", "--prefix", prefix.path, "index", "--all")
            prefix.updates("1Q-2024", "move app-misc/other app-misc/another")
            seconds, memory, status = measured(["binpkg-resign", "--prefix", prefix.path, "apply"], prefix.environment(), **QUIET)
            assert status == 0, status
            assert [entry["RDEPEND"] for entry in prefix.index()[1]] == ["app-misc/another"] * count
            return seconds, memory

        seconds, memory = repeated(options.repeat if count < 5000 else 1, ours)
        first = first or seconds / count
        each = seconds / count
        row("growth", f"{count} packages", seconds, f"{each * 1000:.1f} ms a package, {each / first:.2f} of the first; {memory / 1e6:.0f} MB")


def growth_of_index(lab, options):
    print("Growth with the number of entries in the index: one package concerned")
    first = None
    for count in (20_000, 60_000, 200_000):
        template = Prefix.create(lab, key=lab.key("ed25519"))
        template.sync()
        template.make(package("app-misc/p-1", RDEPEND="dev-util/strace"))
        synthetic_index(template, count)
        template.updates("1Q-2024", "move dev-util/strace dev-debug/strace")

        def ours():
            prefix = template.clone()
            seconds, memory, status = measured(["binpkg-resign", "--prefix", prefix.path, "apply"], prefix.environment(), **QUIET)
            assert status == 0, status
            entries = prefix.index()[1]
            assert len(entries) == count + 1 and [e["CPV"] for e in entries if "dev-debug/strace" in e["RDEPEND"]] == ["app-misc/p-1"]
            return seconds, memory

        seconds, memory = repeated(options.repeat, ours)
        first = first or seconds / count
        row("growth", f"one package, {count} entries", seconds, f"{seconds / count / first:.2f} of the first, an entry; {memory / 1e6:.0f} MB")


def synthetic_index(prefix, count):
    """Entries of many packages that no update concerns, in the size of real ones, behind those of the index."""
    header, blocks = (prefix.pkgdir / "Packages").read_text().split("\n\n", 1)
    total = count + blocks.count("CPV: ")
    lines = [f"PACKAGES: {total}" if line.startswith("PACKAGES:") else line for line in header.splitlines()]
    depend = " ".join(f">=dev-libs/library{n}-1.{n}:0/{n}=[abi_x86_64(-)]" for n in range(25))
    with open(prefix.pkgdir / "Packages", "w") as file:
        file.write("\n".join(lines) + "\n\n" + blocks)
        for number in range(count):
            file.write(
                f"BDEPEND: app-arch/unzip virtual/pkgconfig >=dev-build/ninja-1.8\nBUILD_ID: 1\nBUILD_TIME: 1700000000\n"
                f"CPV: app-misc/pkg{number:06}-1.2.3\nDEFINED_PHASES: compile configure install\nDEPEND: {depend}\nEAPI: 8\n"
                f"IUSE: abi_x86_64 doc test +ssl\nKEYWORDS: amd64\nLICENSE: GPL-2\nMD5: {number:032x}\n"
                f"PATH: app-misc/pkg{number:06}/pkg{number:06}-1.2.3-1.gpkg.tar\nRDEPEND: {depend}\nSHA1: {number:040x}\n"
                f"SIZE: 20480\nUSE: abi_x86_64 ssl\nMTIME: 1700000000\nREPO: gentoo\n\n"
            )
