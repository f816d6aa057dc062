"""The bare limits: what the agent, and the default signing command, take by themselves."""

import hashlib
import subprocess
import time


def agent_limit(lab, algorithm, count=60):
    """Signatures of the bare agent, two gpg at a time."""
    key = lab.key(algorithm)
    argv = ["gpg", "--homedir", key.home, "--batch", "--no-tty", "--digest-algo", "SHA512", "-u", key.fingerprint]
    argv += ["--detach-sign", "--output", "-", "/dev/null"]
    # gpg-agent itself, without starting gpg: the command that gpg sends, many times over one connection
    grip = [line.split(":")[9] for line in key.gpg("--with-keygrip", "--with-colons", "-K").out.splitlines() if line.startswith("grp")][0]
    digest = hashlib.sha512(b"").hexdigest()
    text = "".join(f"SIGKEY {grip}\nSETHASH 10 {digest}\nPKSIGN\n" for _ in range(count)) + "/bye\n"
    began = time.perf_counter()
    subprocess.run(["gpg-connect-agent", "--homedir", str(key.home)], input=text.encode(), stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) / count


def bare_command(lab, algorithm, count=60):
    """The default signing command by itself, one after the other, as its lock has them: seconds a signature."""
    key = lab.key(algorithm)
    lock = key.home / "bench.lock"
    gpg = ["/usr/bin/gpg", "--sign", "--armor", "--homedir", key.home, "--digest-algo", "SHA512", "--local-user", key.fingerprint]
    argv = [str(word) for word in ["/usr/bin/flock", lock, *gpg, "--detach-sig", "--batch", "--no-tty"]]
    began = time.perf_counter()
    for _ in range(count):
        subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) / count
