"""Speed, both sides in one go: binpkg-resign, Portage's deletion, a script on Portage's API, and the bare limits.

    make bench                      everything
    … benches/bench.py noop sign    only these parts; --packages N for another size

Figures depend on the machine; what counts are the ratios of one run.
"""

import argparse
import hashlib
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP))

from benches.growth import part_growth, synthetic_index  # noqa: E402
from benches.incident import part_incident  # noqa: E402
from benches.limits import agent_limit, bare_command  # noqa: E402
from benches.measure import ROWS, SHARED, measured, row, timed  # noqa: E402
from benches.protect import part_protect  # noqa: E402
from benches.unsigned import part_index, part_unsigned  # noqa: E402
from benches.verdicts import part_verify  # noqa: E402
from tests.lab import Prefix, Session, files_of  # noqa: E402
from tests.lab.packages import package  # noqa: E402


def make_prefix(lab, count, algorithm="ed25519", flock=True, payload=2000, moved="dev-util/strace"):
    """A prefix with `count` signed packages that depend on a moved one, and the pending update."""
    key = lab.key(algorithm)
    variables = {}
    if not flock:
        variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "/usr/bin/gpg --sign --armor [PORTAGE_CONFIG]"
    prefix = Prefix.create(lab, key=key, variables=variables)
    prefix.sync()
    prefix.make(*[
        package(f"app-misc/p{number}-1", RDEPEND=f">={moved}-6 app-misc/other", BDEPEND=moved, payload="x" * payload)
        for number in range(count)
    ])
    prefix.updates("1Q-2024", f"move {moved} dev-debug/strace")
    return prefix


def hook_environment(prefix):
    """The environment of a hook, as Portage makes it."""
    code = "import portage,json,sys; json.dump(dict(portage.settings.environ()), sys.stdout)"
    out = prefix.run(prefix.session.venv(prefix.portage) / "bin/python", "-c", code).out
    return prefix.environment() | json.loads(out)


def part_noop(lab, options):
    print(f"A sync with no new updates, and planning with nothing to do: {options.index} packages in the index")
    prefix = make_prefix(lab, 1)
    prefix.update_pass()  # Portage remembers the update file
    synthetic_index(prefix, options.index)
    env = hook_environment(prefix)
    times = [measured(["binpkg-resign", "apply"], env)[0] for _ in range(20)]
    row("no-op", "apply, nothing new (median of 20)", statistics.median(times), f"max {max(times) * 1000:.1f} ms; goal 10 ms")
    if not (SHARED / "data/gentoo-updates").is_dir():
        print("  skipped: no real update files")
        return
    folder = prefix.repository_path("gentoo") / "profiles/updates"
    for file in (SHARED / "data/gentoo-updates").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    seconds, memory, status = measured(["binpkg-resign", "apply"], env)
    assert status == 0
    row("plan", "apply, all of ::gentoo's updates", seconds, f"{memory / 1e6:.0f} MB; goal 500 ms, 250 MB")
    if options.portage_plan:
        seconds, _ = timed(lambda: prefix.run("emaint", "--check", "movebin", check=None, timeout=1200))
        row("plan", "Portage (emaint movebin --check)", seconds)


def part_sign(lab, options):
    count = options.packages
    for algorithm in options.algorithms:
        limit = agent_limit(lab, algorithm)
        print(f"{count} packages concerned, {algorithm}; bare agent {limit * 1000:.1f} ms a signature, two a package")
        row(algorithm, "bare agent, two signatures a package", 2 * limit * count)
        command = 2 * bare_command(lab, algorithm) * count
        row(algorithm, "bare default command, two a package, serial", command)
        for flock in (True, False):
            prefix = make_prefix(lab, count, algorithm, flock=flock)
            seconds, memory, status = measured(["binpkg-resign", "--prefix", prefix.path, "apply"], prefix.environment())
            assert status == 0 and len(files_of(prefix.pkgdir)) == count
            share = 2 * limit * count / seconds
            name = "default command (flock, gpg)" if flock else "without flock"
            row(algorithm, f"binpkg-resign, {name}", seconds, f"{share:.0%} of the agent, {command / seconds:.0%} of the command, {memory / 1e6:.0f} MB")
        prefix = make_prefix(lab, count, algorithm)
        python = prefix.session.venv(prefix.portage) / "bin/python"
        words = b"move dev-util/strace dev-debug/strace\n"
        some = min(count, options.script_packages)
        if some < count:
            prefix = make_prefix(lab, some, algorithm)
        script, result = timed(lambda: prefix.run(python, TOP / "benches/portage_script.py", stdin=words, timeout=3600))
        assert int(result.out.split()[-1]) == some, result
        script *= count / some
        ours = [r for r in ROWS if r[0] == algorithm and "flock, gpg" in r[1]][-1][2]
        row(algorithm, "script on Portage's API" + (f" (from {some})" if some < count else ""), script, f"{script / ours:.1f} times ours")
        prefix = make_prefix(lab, some, algorithm)
        deletion, _ = timed(lambda: prefix.update_pass(every_file=True))
        deletion *= count / some
        assert not files_of(prefix.pkgdir)
        row(algorithm, "Portage, deleting them" + (f" (from {some})" if some < count else ""), deletion)


def part_large(lab, options):
    size = options.large << 20
    print(f"One package of {options.large} MiB (not compressible)")

    prefix = Prefix.create(lab, key=lab.key("ed25519"), variables={"BINPKG_COMPRESS": "none"})
    prefix.sync()
    path = lab.directory("img")
    path.mkdir(exist_ok=True)
    with open(path / "big", "wb") as file:
        block = os.urandom(1 << 20)
        for number in range(options.large):
            file.write(number.to_bytes(8, "little") + block[8:])
    code = (
        "import portage,sys\nfrom portage.gpkg import gpkg\n"
        "s=portage.config(clone=portage.settings)\n"
        "m={'CATEGORY':'app-misc\\n','PF':'big-1\\n','SLOT':'0\\n','EAPI':'8\\n','BUILD_ID':'1\\n','BUILD_TIME':'1700000000\\n',"
        "'RDEPEND':'dev-util/strace\\n','repository':'gentoo\\n','USE':'\\n','IUSE':'\\n','KEYWORDS':'amd64\\n','LICENSE':'GPL-2\\n'}\n"
        "import os\nos.makedirs(os.path.dirname(sys.argv[1]),exist_ok=True)\n"
        "gpkg(s,'app-misc/big-1-1',sys.argv[1]).compress(sys.argv[2],m)\n"
    )
    python = prefix.session.venv(prefix.portage) / "bin/python"
    target = prefix.pkgdir / "app-misc/big/big-1-1.gpkg.tar"
    prefix.run(python, "-c", code, target, path, timeout=1200)
    prefix.reindex()
    other = prefix.clone()
    for where in (prefix, other):
        where.updates("1Q-2024", "move dev-util/strace dev-debug/strace")
    os.sync()  # so that neither side waits for what the preparation has left to write
    ours, memory, status = measured(["binpkg-resign", "--prefix", prefix.path, "apply"], prefix.environment())
    assert status == 0
    row("large", "binpkg-resign", ours, f"{memory / 1e6:.0f} MB; {size / ours / 1e6:.0f} MB/s")
    words = b"move dev-util/strace dev-debug/strace\n"
    os.sync()
    script, _ = timed(lambda: other.run(python, TOP / "benches/portage_script.py", stdin=words, timeout=3600))
    row("large", "script on Portage's API", script, f"{script / ours:.1f} times ours")
    for names in (("sha512", "blake2b"), ("md5", "sha1")):
        row("large", f"hashing it, one thread ({' and '.join(names)})", timed(lambda: hash_file(target, names))[0])
    row("large", "writing as many bytes, and flushing them", timed(lambda: copy_file(target, target.with_suffix(".copy")))[0])


def hash_file(path, names):
    digests = [hashlib.new(name) for name in names]
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            for digest in digests:
                digest.update(block)


def copy_file(path, to):
    with open(path, "rb") as source, open(to, "wb") as sink:
        while block := source.read(1 << 20):
            sink.write(block)
        sink.flush()
        os.fsync(sink.fileno())


PARTS = {
    "incident": part_incident,
    "noop": part_noop,
    "sign": part_sign,
    "unsigned": part_unsigned,
    "index": part_index,
    "protect": part_protect,
    "verify": part_verify,
    "growth": part_growth,
    "large": part_large,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--packages", type=int, default=400)
    parser.add_argument("--script-packages", type=int, default=400)
    parser.add_argument("--unsigned", type=int, default=1000, help="packages that nobody has signed")
    parser.add_argument("--real", type=int, default=1251, help="real packages for the incident")
    parser.add_argument("--algorithms", nargs="*", default=["rsa4096", "ed25519"])
    parser.add_argument("--listed", type=int, default=10000, help="packages of which the index is made")
    parser.add_argument("--concerned", type=int, default=20000, help="packages concerned that cannot be signed")
    parser.add_argument("--repeat", type=int, default=3, help="runs of ours, of which the median counts")
    parser.add_argument("--index", type=int, default=60000)
    parser.add_argument("--large", type=int, default=2048, help="MiB")
    parser.add_argument("--portage-plan", action="store_true", help="measure Portage's planning too (minutes)")
    options = parser.parse_args()
    os.environ.setdefault("BINPKG_RESIGN", str(TOP / "target/release/binpkg-resign"))
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}")
    lab = Session()
    try:
        for name in options.parts or PARTS:
            PARTS[name](lab, options)
    finally:
        lab.close()
    print("\n| work | what | time | |\n|---|---|---|---|")
    for work, what, seconds, note in ROWS:
        print(f"| {work} | {what} | {seconds * 1000:.1f} ms | {note} |")


main()
