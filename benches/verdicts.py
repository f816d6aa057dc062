"""`verify` beside the plain loop over Portage's own verification: the same verdicts, and how long they take."""

import base64
import json
import random

from tests.lab import Prefix, files_of
from tests.lab.packages import package

from benches.measure import measured, repeated, row, timed

# Bytes of each package, about, and how many have a byte changed.
SIZE, SPOILT = 450_000, 5


def part_verify(lab, options):
    count = options.packages
    print(f"{count} signed packages of {SIZE} bytes, verified")
    prefix = Prefix.create(lab, key=lab.key("ed25519"))
    noise = random.Random(1)
    payload = base64.b64encode(noise.randbytes(SIZE)).decode()
    prefix.make(*[package(f"app-misc/p{number}-1", payload=payload) for number in range(count)])
    paths = files_of(prefix.pkgdir)
    for path in paths[:: max(1, count // SPOILT)]:
        with open(prefix.pkgdir / path, "r+b") as file:
            file.seek(-SIZE // 2, 2)
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte[0] ^ 1]))
    answer = prefix.path / "verdicts.json"

    def ours():
        with open(answer, "w") as out:
            seconds, memory, status = measured(["binpkg-resign", "--prefix", prefix.path, "--json", "verify"], prefix.environment(), stdout=out)
        assert status == 1, status
        return seconds, memory

    seconds, memory = repeated(options.repeat, ours)
    row("verify", f"binpkg-resign verify, {count} packages", seconds, f"{seconds / count * 1000:.1f} ms a package, {memory / 1e6:.0f} MB")
    loop, theirs = timed(lambda: prefix.verify(paths))
    good = {one["path"] for one in json.loads(answer.read_text())["packages"] if one["outcome"] == "ours"}
    assert good == {path for path, error in theirs.items() if not error} and 0 < len(good) < count
    row("verify", "a loop over Portage's gpkg._verify_binpkg", loop, f"{loop / seconds:.1f} times ours; goal 4")
