"""What the real Portage makes of many configurations, for tests/settings.rs to compare with.

Usage: python settings.py DIRECTORY [written [PROFILES]]

Builds config roots below DIRECTORY, asks Portage about each, all in this process, and prints one JSON object a line:
with `written` those of settings_cases.py and null behind them; then those that are asked for, a JSON object with what
a case there has (`name`, `files` …) in a line; or a JSON string, which is split as a command line is.
PROFILES is a directory that holds ::gentoo's profiles, where there is one.
"""

import contextlib
import grp
import itertools
import json
import os
import pwd
import re
import shutil
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = Path(os.path.realpath(sys.argv[1]))
BROOT = TOP / "broot"
PATH = "/usr/local/bin:/usr/bin:/bin"
USER = {
    "PORTAGE_USERNAME": pwd.getpwuid(os.getuid()).pw_name,
    "PORTAGE_GRPNAME": grp.getgrgid(os.getgid()).gr_name,
}

for _name in list(os.environ):
    if _name.startswith("PORTAGE_") or _name in ("ROOT", "EPREFIX", "SYSROOT", "PKGDIR", "FEATURES"):
        del os.environ[_name]
os.environ.update(USER, PORTAGE_OVERRIDE_EPREFIX=str(BROOT), PATH=PATH)
os.environ["PORTAGE_CONFIGROOT"] = str(TOP)

import portage  # noqa: E402
from portage.util import normalize_path, varexpand  # noqa: E402

sys.path.insert(0, str(HERE))
import settings_cases  # noqa: E402

# What we leave to Portage: USE and what follows from it, and what only its own processes need.
NOT_OURS = {
    "ACCEPT_LICENSE", "ACCEPT_PROPERTIES", "ACCEPT_RESTRICT", "USE", "PORTAGE_ARCHLIST", "PORTAGE_BIN_PATH",
    "PORTAGE_GID", "PORTAGE_PYM_PATH", "PORTAGE_PYTHONPATH", "PORTAGE_INST_GID", "PORTAGE_INST_UID",
    "PORTAGE_USERNAME", "PORTAGE_GRPNAME", "PORTAGE_OVERRIDE_EPREFIX", "PORTAGE_REPOSITORIES",
    "PORTAGE_INTERNAL_CALLER", "PORTAGE_RSYNC_EXTRA_OPTS", "SYNC", "PORTAGE_LOGDIR", "PORTAGE_LOGDIR_CLEAN",
}  # fmt: skip
# What only newer releases keep from the commands they run.
KEPT_BACK_LATER = {"FETCHCOMMAND_SSH", "FETCH_WRAPPER", "GLOBSORT", "PYTHONUTF8", "RESUMECOMMAND_SSH"}
LEADER = re.compile(r'"([^"]+)", line (\d+): ')


def build_base():
    """The repository that the cases share which have nothing to change in it: many files less."""
    shared = {name: text for name, text in settings_cases.BASE.items() if name.startswith(settings_cases.GENTOO)}
    build(TOP / "base", shared)


def files_of(case):
    """What a case's config root has in it."""
    files = dict(case.get("files", {}))
    if not case.get("base", True):
        return files
    base = dict(settings_cases.BASE)
    if not case.get("real") and not any(name.startswith("var/") for name in files):
        base = {name: text for name, text in base.items() if not name.startswith("var/")}
        base["var"] = f"->{TOP}/base/var"
    return {**base, **files}


def build(root, files):
    """Makes a file, directory (None) or link (starting with ->) of each entry below `root`."""
    for name, content in files.items():
        path = root / name
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content.startswith("->"):
            if path.is_symlink():
                path.unlink()
            path.symlink_to(content[2:].replace("@", str(root)))
        else:
            # no translation of line ends
            path.write_bytes(content.replace("@ROOT@", str(root)).encode("utf-8", "surrogateescape"))


def environment(root, case):
    """The environment that the case is about."""
    env = {"PORTAGE_OVERRIDE_EPREFIX": str(BROOT), "PORTAGE_CONFIGROOT": str(root), "PATH": PATH}
    for name, value in case.get("env", {}).items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = value.replace("@ROOT@", str(root))
    return env


def ask(root, case):
    """Portage's answers."""
    env = environment(root, case)
    record = {"name": case["name"], "root": str(root), "env": env, "hook": case.get("hook", False)}
    broot = env.get("PORTAGE_OVERRIDE_EPREFIX", "")
    portage.const.EPREFIX = os.path.normpath(broot) if broot else ""
    if portage.const.EPREFIX == "/":
        portage.const.EPREFIX = ""
    try:
        settings = portage.config(
            config_root=env.get("PORTAGE_CONFIGROOT"),
            target_root=env.get("ROOT"),
            sysroot=env.get("SYSROOT"),
            eprefix=env.get("EPREFIX"),
            env=env,
        )
    except Exception as error:
        record["error"] = f"{type(error).__name__}: {error}"
        leader = LEADER.match(str(error))
        if leader and type(error).__name__ == "ParseError":
            record["where"] = [leader[1], int(leader[2])]
        return record
    flags = set(settings.get("USE_EXPAND", "").split()) | set(settings.get("USE_EXPAND_UNPREFIXED", "").split())
    ours = lambda name: name not in NOT_OURS and name not in flags  # noqa: E731
    names = set(settings.keys()) | set(env) | set(case.get("names", ()))
    record["values"] = {name: settings.get(name) for name in sorted(names) if ours(name)}
    record["features"] = sorted(settings.features)
    record["pkgdir"] = normalize_path(settings["PKGDIR"])
    record["environ"] = {k: v for k, v in settings.environ().items() if ours(k) and k not in KEPT_BACK_LATER}
    portdb = portage.portdbapi(mysettings=settings)
    record["repositories"] = [
        {
            "name": name,
            "location": portdb.getRepositoryPath(name),
            "masters": [master.name for master in settings.repositories[name].masters],
            "priority": settings.repositories[name].priority or 0,
        }
        for name in portdb.getRepositories()
    ]
    main = settings.repositories.mainRepo()
    record["main"] = main and main.name
    if "expand" in case:
        record["expand"] = [[text, varexpand(text, mydict=settings)] for text in case["expand"]]
    if case.get("hook"):
        record["hook_env"] = settings.environ()
    return record


def words(text):
    """What shlex.split makes of a text; None where it refuses."""
    try:
        return shlex.split(text)
    except ValueError:
        return None


def real_hooks(root, case):
    """What the hooks of a real `emerge --sync` get for an environment; None where there is no git."""
    if not shutil.which("git"):
        return None
    upstream = root / "upstream"
    shutil.copytree(root / "var/db/repos/gentoo", upstream)
    shutil.rmtree(root / "var/db/repos/gentoo")
    git = ["git", "-C", str(upstream), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["git", "clone", "-q", f"file://{upstream}", str(root / "var/db/repos/gentoo")], check=True)
    hook = root / "etc/portage/postsync.d/environment"
    hook.parent.mkdir(parents=True)
    hook.write_text(f"#!/bin/sh\ncat /proc/self/environ > {root}/hook.environ\n")
    hook.chmod(0o755)
    for folder in ("var/db/pkg", "var/cache/edb", "var/lib/portage", "var/tmp", "tmp"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    env = dict(environment(root, case), HOME=str(root), **USER)
    emerge = Path(sys.executable).parent / "emerge"
    command = [sys.executable, str(emerge), "--sync"]
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if not (root / "hook.environ").exists():
        raise RuntimeError(done.stdout.decode())
    pairs = (root / "hook.environ").read_text().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


def record_of(number, case):
    """What Portage makes of a case, in a config root of its own."""
    root = TOP / f"{number}"
    build(root, {name: content for name, content in files_of(case).items() if content is not False})
    if case.get("real"):
        shutil.copytree(BROOT / "share/portage/config", root / "share/portage/config")
        shutil.rmtree(root / "share/portage/config/repo.postsync.d", ignore_errors=True)
        env = real_hooks(root, case)
    with open(os.devnull, "w") as quiet, contextlib.redirect_stderr(quiet):
        record = ask(root, case)
    if case.get("real"):
        record["hook_env"] = env
    return record


def main():
    """Prints a line for every case."""
    shutil.copytree(Path(sys.prefix) / "share/portage/config", BROOT / "share/portage/config")
    build_base()
    numbers = itertools.count()
    if sys.argv[2:3] == ["written"]:
        profiles = Path(sys.argv[3]) if len(sys.argv) > 3 else None
        for case in settings_cases.all_cases(profiles):
            print(json.dumps(record_of(next(numbers), case)))
        print("null", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = words(request) if isinstance(request, str) else record_of(next(numbers), request)
        print(json.dumps(answer), flush=True)


main()
