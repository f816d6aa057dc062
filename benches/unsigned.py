"""Hosts that never signed: `sign --all` and `index`, beside the recipe of the wiki."""

import base64
import random
import subprocess

from tests.lab import Prefix, assert_index_agrees, files_of
from tests.lab.packages import package

from benches.limits import agent_limit
from benches.measure import measured, repeated, row, timed

# Sizes of packages, in bytes: most are small.
SIZES = [2_000] * 7 + [60_000] * 2 + [600_000]

PORTION = 1000


def unsigned_prefix(lab, key, count, sizes):
    """A prefix that trusts its key and has `count` packages that nobody has signed."""
    prefix = Prefix.create(lab, key=key)
    prefix.sync()
    noise = random.Random(count)
    payload = [base64.b64encode(noise.randbytes(size * 3 // 4)).decode() for size in sizes]
    packages = [
        package(f"app-misc/p{number}-1", RDEPEND="app-misc/other", signer="nobody", payload=payload[number % len(payload)])
        for number in range(count)
    ]
    # Portage is given a quarter of an hour for each portion
    for first in range(0, count, PORTION):
        prefix.make(*packages[first : first + PORTION], index=False)
    prefix.run("binpkg-resign", "--prefix", prefix.path, "index")
    return prefix


def part_unsigned(lab, options):
    count = options.unsigned
    for algorithm in options.algorithms:
        limit = 3 * agent_limit(lab, algorithm) * count
        print(f"{count} packages that nobody has signed, {algorithm}")
        row(f"sign {algorithm}", "bare agent, three signatures a package", limit)
        template = unsigned_prefix(lab, lab.key(algorithm), count, SIZES)

        def ours():
            prefix = template.clone()
            argv = ["binpkg-resign", "--prefix", prefix.path, "--quiet", "sign", "--all"]
            seconds, memory, status = measured(argv, prefix.environment(), stderr=subprocess.DEVNULL)
            assert status == 0
            check(prefix, count)
            return seconds, memory

        seconds, memory = repeated(options.repeat, ours)
        row(f"sign {algorithm}", "binpkg-resign sign --all", seconds, f"{limit / seconds:.0%} of the agent, {memory / 1e6:.0f} MB")
        some = min(count, options.script_packages)
        theirs = template.clone() if some == count else unsigned_prefix(lab, lab.key(algorithm), some, SIZES)
        files = "\n".join(str(theirs.pkgdir / path) for path in files_of(theirs.pkgdir)).encode()
        signing, _ = timed(lambda: theirs.run("xargs", "-n1", "gpkg-sign", "--allow-unsigned", stdin=files, timeout=7200))
        fixing, _ = timed(lambda: theirs.run("emaint", "--fix", "binhost", timeout=7200))
        check(theirs, some)
        recipe = (signing + fixing) * count / some
        part = "" if some == count else f", scaled up from {some}"
        row(f"sign {algorithm}", f"xargs -n1 gpkg-sign; emaint binhost --fix{part}", recipe, f"{recipe / seconds:.1f} times ours")


def check(prefix, count):
    """Whatever it took: every package is there, signed, and the index is right."""
    paths = files_of(prefix.pkgdir)
    assert len(paths) == count == len(prefix.index()[1])
    assert_index_agrees(prefix)
    wrong = {path: error for path, error in prefix.verify(paths[:: max(1, count // 50)]).items() if error}
    assert not wrong, wrong


def part_index(lab, options):
    count = options.listed
    print(f"Making the index of {count} packages")
    prefix = unsigned_prefix(lab, lab.key("ed25519"), count, [2_000])
    index = prefix.pkgdir / "Packages"

    def run(*argv):
        index.unlink(missing_ok=True)
        seconds, memory, status = measured(argv, prefix.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert status == 0, argv
        return seconds, memory

    def entries():
        return [{key: value for key, value in entry.items() if key != "MTIME"} for entry in prefix.index()[1]]

    seconds, memory = repeated(options.repeat, lambda: run("binpkg-resign", "--prefix", prefix.path, "index"))
    row("index", f"binpkg-resign index, {count} packages", seconds, f"{memory / 1e6:.0f} MB")
    ours = entries()
    theirs, peak = run("emaint", "--fix", "binhost")
    assert ours == entries() and len(ours) == count
    row("index", "emaint binhost --fix", theirs, f"{theirs / seconds:.1f} times ours, {peak / 1e6:.0f} MB")
