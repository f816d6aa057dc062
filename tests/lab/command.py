"""Running commands: a scrubbed environment, a time limit, nothing left running."""

import os
import signal
import subprocess
from dataclasses import dataclass


@dataclass
class Result:
    """What a command left: its exit status and both streams as text."""

    argv: list
    status: int
    out: str
    err: str

    @property
    def text(self):
        """Both streams, one after the other."""
        return self.out + self.err

    def __str__(self):
        argv = " ".join(map(str, self.argv))
        return f"$ {argv}\nexit status {self.status}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class CommandFailed(AssertionError):
    """A command did not end with the exit status that was expected."""


def run(argv, env, *, cwd=None, stdin=None, timeout=300, check=0):
    """Runs `argv` in its own process group, which is ended when the time is up.

    `check` is the exit status asked for; None takes any.
    """
    child = subprocess.Popen(
        [str(word) for word in argv],
        env={key: str(value) for key, value in env.items()},
        cwd=cwd,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = child.communicate(stdin, timeout=timeout)
    except BaseException as error:
        os.killpg(child.pid, signal.SIGKILL)
        out, err = child.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            result = Result(argv, -1, _text(out), _text(err))
            raise CommandFailed(f"no end within {timeout} s\n{result}") from error
        raise
    result = Result(argv, child.returncode, _text(out), _text(err))
    if check is not None and result.status != check:
        raise CommandFailed(f"expected exit status {check}\n{result}")
    return result


def _text(data):
    return data.decode("utf-8", "replace")


def base_environment(path):
    """The environment every command starts from: nothing of the caller's but PATH."""
    return {
        "PATH": path,
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        "TZ": "UTC",
        "NOCOLOR": "true",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Lab",
        "GIT_AUTHOR_EMAIL": "lab@example.org",
        "GIT_COMMITTER_NAME": "Lab",
        "GIT_COMMITTER_EMAIL": "lab@example.org",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
