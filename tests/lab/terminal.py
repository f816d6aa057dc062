"""A terminal with a program in it, to type into and to read from."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time


class Terminal:
    """A program on a terminal of its own, 100 columns wide. Use it with `with`: it ends the program."""

    def __init__(self, argv, env, cwd):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
        self.child = subprocess.Popen(
            [str(word) for word in argv],
            env={key: str(value) for key, value in env.items()},
            cwd=cwd,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.seen = ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()
        os.close(self.master)

    def type(self, text):
        """Types; what was seen before is forgotten."""
        self.read(0.05)
        self.seen = ""
        os.write(self.master, text.encode())

    def read(self, seconds):
        """Reads whatever comes within so many seconds; False at the end of it all."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.master], [], [], left)[0]:
                try:
                    self.seen += os.read(self.master, 65536).decode("utf-8", "replace")
                except OSError:
                    return False
                return True
        return True

    def until(self, wanted, seconds=60):
        """Reads until `wanted(seen)` is true; returns what was seen."""
        end = time.monotonic() + seconds
        while not wanted(self.seen):
            if time.monotonic() > end or not self.read(0.2):
                raise AssertionError(f"not seen on the terminal:\n{self.seen!r}")
        return self.seen

    def end(self, seconds):
        """Reads until the program has ended; returns its exit status."""
        end = time.monotonic() + seconds
        while self.read(1):
            assert time.monotonic() < end, f"no end within {seconds} s:\n{self.seen}"
        return self.child.wait()
