"""The incident replayed: real packages of January 2024, and the first quarter's updates, which moved what they need."""

import random
import subprocess

from tests.lab import Prefix, files_of
from tests.oracle_pass import real

from benches.measure import TOP, measured, repeated, row, timed

UPDATES = "1Q-2024"


def part_incident(lab, options):
    if real.shared() is None:
        print("The incident: skipped, the real data is not here")
        return
    updates = real.update_files("gentoo-updates")[UPDATES]
    for algorithm in options.algorithms:
        print(f"The incident: {options.real} real packages and {UPDATES}, {algorithm}")
        template = incident_prefix(lab, lab.key(algorithm), options.real, updates)
        before = files_of(template.pkgdir)

        def ours():
            prefix = template.clone()
            argv = ["binpkg-resign", "--prefix", prefix.path, "--quiet", "apply"]
            seconds, memory, status = measured(argv, prefix.environment(), stderr=subprocess.DEVNULL)
            assert status == 0 and set(before) <= set(files_of(prefix.pkgdir))
            prefix.update_pass()
            assert set(before) <= set(files_of(prefix.pkgdir))
            return seconds, memory

        deleting = template.clone()
        deletion, _ = timed(deleting.update_pass)
        lost = len(before) - len(files_of(deleting.pkgdir))
        row(f"incident {algorithm}", f"Portage, deleting {lost} of {len(before)}", deletion)
        seconds, memory = repeated(options.repeat, ours)
        row(f"incident {algorithm}", f"binpkg-resign, of {len(before)} none is lost", seconds, f"{memory / 1e6:.0f} MB")
        scripted = template.clone()
        python = scripted.session.venv(scripted.portage) / "bin/python"
        script, result = timed(lambda: scripted.run(python, TOP / "benches/portage_script.py", stdin=updates, timeout=7200))
        done = result.out.split()[-1]
        row(f"incident {algorithm}", f"script on Portage's API, {done} packages", script, f"{script / seconds:.1f} times ours")


def incident_prefix(lab, key, count, updates):
    """A prefix with real packages, signed, and the updates that are pending."""
    prefix = Prefix.create(lab, key=key)
    prefix.sync()
    found = real.packages()
    prefix.make(*random.Random(2024).sample(found, min(count, len(found))))
    (prefix.repository_path("gentoo") / "profiles/updates").mkdir(exist_ok=True)
    (prefix.repository_path("gentoo") / "profiles/updates" / UPDATES).write_bytes(updates)
    return prefix
