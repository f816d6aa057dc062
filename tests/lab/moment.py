"""Something that happens while the program signs: the signing command does it."""

import shlex


def while_signing(prefix, script, *, times=1, skip=1):
    """A signing command that first runs the shell text `script`, then signs as the configured one does.

    The first `skip` calls only sign (the very first unlocks the key); the `times` calls after them run the script.
    """
    count = prefix.write("var/tmp/calls", "")
    lock = prefix.path / "var/tmp/calls.lock"
    command = prefix.write(
        "bin/sign-at-a-moment",
        "#!/bin/sh\n"
        f"exec 9>{shlex.quote(str(lock))}; flock 9\n"
        f"echo >>{shlex.quote(str(count))}\n"
        f"calls=$(wc -l <{shlex.quote(str(count))})\n"
        f"if [ $calls -gt {skip} ] && [ $calls -le {skip + times} ]; then\n{script}\nfi </dev/null >/dev/null 2>&1\n"
        "exec 9>&-\n"
        'exec /usr/bin/gpg --sign --armor "$@"\n',
    )
    command.chmod(0o755)
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = f"{command} [PORTAGE_CONFIG]"
    prefix.configure()


def sign_with(prefix, command):
    """Another signing command; None for the lab's own."""
    prefix.variables.pop("BINPKG_GPG_SIGNING_BASE_COMMAND", None)
    if command is not None:
        prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = f"{command} [PORTAGE_CONFIG]"
    prefix.configure()
