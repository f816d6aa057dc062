"""The line for cron and the timer, run by a real cron and a real systemd: at full size only, since each takes a minute."""

import contextlib
import os
import shutil
import subprocess
import time

import pytest

from tests.e2e.small import GOOD_PATH, small

from .test_triggers import BARE, assert_went_on, filled  # noqa: F401  (a fixture)

pytestmark = [
    pytest.mark.skipif(not os.environ.get("BINPKG_RESIGN_FULL"), reason="a minute each: only in `make test-full`"),
    pytest.mark.skipif(os.getuid() != 0, reason="only root can make the namespaces that they run in"),
]

#: What a daemon may take until it has done what it does every minute, in seconds.
PATIENCE = 180


@contextlib.contextmanager
def running(words, log):
    """A daemon that ends with the test, and everything that it has started with it: it leads a namespace of processes."""
    with open(log, "wb") as said, subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said) as child:
        try:
            yield child
        finally:
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()


def wait_for_the_run(prefix, before, child, log):
    """Until the package is another one; its old bytes are `before`."""
    deadline = time.monotonic() + PATIENCE
    while (prefix.pkgdir / GOOD_PATH).read_bytes() == before and time.monotonic() < deadline:
        assert child.poll() is None, log.read_text(errors="replace")
        time.sleep(0.5)
    # the index follows within the same transaction
    while (prefix.pkgdir / ".binpkg-resign").exists() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert (prefix.pkgdir / GOOD_PATH).read_bytes() != before, log.read_text(errors="replace")


def environment(prefix):
    """What tells the program where the prefix of the lab is, and cron's PATH."""
    return {**{key: str(value) for key, value in prefix.environment().items()}, "PATH": BARE}


def test_a_real_cron(lab, filled):  # noqa: F811
    """The line of the installed file in /etc/cron.d, every minute instead of every ten."""
    if not shutil.which("cron"):
        pytest.skip("cron is not there")
    prefix = small(lab)
    before = (prefix.pkgdir / GOOD_PATH).read_bytes()
    line = (filled / "binpkg-resign.cron").read_text()
    assert line.count("*/10 ") == 1
    place = lab.directory("cron")
    for name in ("cron.d", "spool", "run"):
        (place / name).mkdir()
    (place / "crontab").write_text("")
    told = "".join(f'{key}="{value}"\n' for key, value in environment(prefix).items())
    (place / "cron.d/binpkg-resign").write_text(told + line.replace("*/10 ", "* "))
    script = (
        f"mount --bind {place}/run /run && mount --bind {place}/cron.d /etc/cron.d && touch /etc/crontab && "
        f"mount --bind {place}/crontab /etc/crontab && mount --bind {place}/spool /var/spool/cron && exec cron -f"
    )
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script]
    with running(words, place / "log") as child:
        wait_for_the_run(prefix, before, child, place / "log")
    assert_went_on(prefix)


def test_a_real_timer(lab, filled):  # noqa: F811
    """Both units as installed, switched on as they say, in a system of its own that is booted."""
    if not shutil.which("systemd-nspawn"):
        pytest.skip("systemd-nspawn is not there")
    prefix = small(lab)
    before = (prefix.pkgdir / GOOD_PATH).read_bytes()
    place = lab.directory("systemd")
    root = place / "root"
    for name in ("upper", "work", "root"):
        (place / name).mkdir()
    units = place / "upper/etc/systemd/system"
    (units / "binpkg-resign.service.d").mkdir(parents=True)
    for name in ("binpkg-resign.service", "binpkg-resign.timer"):
        shutil.copy(filled / name, units)
    told = "".join(f'Environment="{key}={value}"\n' for key, value in environment(prefix).items())
    (units / "binpkg-resign.service.d/lab.conf").write_text("[Service]\n" + told)
    subprocess.run(["systemctl", f"--root={place}/upper", "enable", "binpkg-resign.timer"], check=True, capture_output=True)
    script = (
        f"mount -t overlay overlay -o lowerdir=/,upperdir={place}/upper,workdir={place}/work {root} && "
        f"exec systemd-nspawn --quiet --directory={root} --register=no --keep-unit --bind={lab.path} "
        "--console=pipe --boot systemd.unit=basic.target"
    )
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script]
    with running(words, place / "log") as child:
        wait_for_the_run(prefix, before, child, place / "log")
    assert_went_on(prefix)
