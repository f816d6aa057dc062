"""Runs inside Portage's own Python, with the prefix in the environment: `inside.py JOB`, JSON in, JSON out.

Only this file imports Portage. It is run by the Python of either release.
"""

import json
import os
import sys
import tempfile
import traceback


def make(job):
    """Writes packages with Portage's gpkg and has `emaint binhost` write the index."""
    portage, settings = _portage()
    multi = "binpkg-multi-instance" in settings.features
    todo = job["packages"]
    workers = min(len(todo), int(job.get("workers", 1))) or 1
    made = _paths(todo, settings["PKGDIR"], multi)
    children = []
    for number in range(workers):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for package, path in list(zip(todo, made))[number::workers]:
                    _make_one(portage, settings, package, path, multi)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        children.append(child)
    failed = [child for child in children if os.waitpid(child, 0)[1] != 0]
    if failed:
        raise RuntimeError("a worker could not make its packages")
    if job.get("index", True):
        reindex({})
    return [os.path.relpath(path, settings["PKGDIR"]) for path in made]


def _paths(todo, pkgdir, multi):
    paths = []
    for package in todo:
        category, pf = package["cpv"].split("/")
        if multi:
            from portage.versions import catpkgsplit

            name = catpkgsplit(package["cpv"])[1]
            paths.append(f"{pkgdir}/{category}/{name}/{pf}-{package['build_id']}.gpkg.tar")
        else:
            paths.append(f"{pkgdir}/{category}/{pf}.gpkg.tar")
    return paths


def _make_one(portage, settings, package, path, multi):
    from portage.gpkg import gpkg

    settings = portage.config(clone=settings)
    if package["signer"] == "nobody":
        settings.features.discard("binpkg-signing")
    elif package["signer"] != "configured":
        home, key = package["signer"].split()
        settings["BINPKG_GPG_SIGNING_GPG_HOME"] = home
        settings["BINPKG_GPG_SIGNING_KEY"] = key
    category, pf = package["cpv"].split("/")
    metadata = {
        "BUILD_TIME": str(package["build_time"]),
        "CATEGORY": category,
        "CHOST": settings["CHOST"],
        "DEFINED_PHASES": "install",
        "DESCRIPTION": "A package of the lab",
        "EAPI": package["eapi"],
        "IUSE": package["iuse"],
        "KEYWORDS": "amd64",
        "LICENSE": "GPL-2",
        "PF": pf,
        "SLOT": package["slot"],
        "USE": package["use"],
        "repository": package["repository"],
    }
    if multi:
        metadata["BUILD_ID"] = str(package["build_id"])
    metadata.update(package["dependencies"])
    metadata.update(package["metadata"])
    entries = {key: value + "\n" for key, value in metadata.items() if value}
    entries["CONTENTS"] = f"obj /usr/share/lab/{pf} 321c3cf486ed509164edec1e1981fec8 1\ndir /dev-util/strace\n"
    entries["environment.bz2"] = b"BZh9 not really: dev-util/strace\n"
    deps = "".join(f'{key}="{value}"\n' for key, value in package["dependencies"].items())
    if len(pf) <= 80:  # else Portage cannot write it: the inner archive is ustar
        entries[f"{pf}.ebuild"] = f'EAPI={package["eapi"]}\n{deps}inherit lab\nhas_version dev-util/strace || die\n'
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tempfile.TemporaryDirectory() as image:
        os.makedirs(f"{image}/usr/share/lab")
        with open(f"{image}/usr/share/lab/{pf[:80]}", "w") as payload:
            payload.write(package["payload"])
        stem = os.path.basename(path)[: -len(".gpkg.tar")]
        # ustar has no room for a longer folder; Portage reads a package with any
        gpkg(settings, stem if len(stem) <= 150 else stem[:80], path).compress(image, entries)


def reindex(_job):
    """`emaint binhost --fix`."""
    import portage
    from portage.emaint.modules.binhost.binhost import BinhostHandler

    portage.settings.features  # the lazy configuration is read now
    return BinhostHandler().fix()[0]


def global_pass(job):
    """The update pass as the start of any emerge action runs it; `all` takes every update file."""
    target, done = _pass_once(every_file=bool(job.get("all")))
    if done:
        target.mtimedb.commit()
    return bool(done)


def _pass_once(every_file, config=None):
    import inspect

    from _emerge.actions import load_emerge_config
    from portage._global_updates import _global_updates

    config = config or load_emerge_config()
    target = config.target_config
    known = {"root": target.root, "trees": config.trees, "prev_mtimes": target.mtimedb["updates"]}
    words = {name: known[name] for name in inspect.signature(_global_updates).parameters if name in known}
    return target, _global_updates(**words, quiet=True, if_mtime_changed=not every_file)


def passes(job):
    """The update pass over each of several folders of packages, as if it were PKGDIR: folder → whether it went well.

    What Portage says goes into the folder's `.log`. That the updates are done is not written down.
    """
    config = _loaded_once()
    result = {}
    for pkgdir in job["pkgdirs"]:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                log = os.open(f"{pkgdir}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(log, 1)
                os.dup2(log, 2)
                _with_pkgdir(config, pkgdir)
                _pass_once(every_file=False, config=config)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        result[pkgdir] = os.waitpid(child, 0)[1] == 0
    return result


def _loaded_once():
    """The configuration of an emerge, and in memory all of Portage's modules that a pass needs."""
    import gc

    from _emerge.actions import load_emerge_config
    import portage.gpkg  # noqa: F401

    with tempfile.TemporaryDirectory() as nothing:
        os.environ["PKGDIR"] = nothing
        _pass_once(every_file=False)
    config = load_emerge_config()
    # what is there now stays; looking at it again and again would copy all of it into each child
    gc.collect()
    gc.freeze()
    return config


def _with_pkgdir(config, pkgdir):
    """Another PKGDIR, as if the environment had said so; nobody has looked into the one before."""
    from portage.dbapi.bintree import binarytree

    settings = config.target_config.settings
    settings.unlock()
    settings["PKGDIR"] = pkgdir
    settings.backup_changes("PKGDIR")
    settings.lock()
    config.trees[config.target_config.root].addLazySingleton("bintree", binarytree, pkgdir=pkgdir, settings=settings)


def verify(job):
    """Portage's own verification: path → None or what it says. `unsigned` asks for no signature."""
    portage, settings = _portage()
    from portage.gpkg import gpkg

    settings = portage.config(clone=settings)
    settings.features.add("binpkg-ignore-signature" if job.get("unsigned") else "binpkg-request-signature")
    result = {}
    for path in job["paths"]:
        try:
            gpkg(settings, None, path)._verify_binpkg()
            result[path] = None
        except Exception as error:
            result[path] = f"{type(error).__name__}: {error}"
    return result


def metadata(job):
    """Every metadata entry of every file, as latin-1 text so that no byte is lost."""
    portage, settings = _portage()
    from portage.gpkg import gpkg

    settings = portage.config(clone=settings)
    settings.features.add("binpkg-ignore-signature")
    result = {}
    for path in job["paths"]:
        entries = gpkg(settings, None, path).get_metadata()
        result[path] = {key: value.decode("latin-1") for key, value in entries.items()}
    return result


def examine(job):
    """Path → every metadata entry of the files that Portage's verification accepts, in one start of Portage."""
    accepted = [path for path, error in verify({"paths": job["paths"]}).items() if error is None]
    return metadata({"paths": accepted})


def reduce(job):
    """Dependency strings (and LICENSE and the like) reduced by USE, as Portage puts them into the index."""
    from portage.dep import Atom, paren_enclose, use_reduce

    result = []
    for key, text, use in job["strings"]:
        atoms = Atom if key.endswith("DEPEND") else None
        try:
            # without the EAPI, as `binarytree._eval_use_flags`: an empty `|| ( )` stays something that cannot be had
            reduced = use_reduce(text, uselist=use.split(), token_class=atoms)
        except Exception as error:
            result.append(f"invalid: {type(error).__name__}: {error}")
            continue
        result.append(paren_enclose(_evaluated(reduced, use.split())))
    return result


def _evaluated(tokens, use):
    """USE dependencies that depend on USE (`[foo?]`) reduced too."""
    result = []
    for token in tokens:
        if isinstance(token, list):
            result.append(_evaluated(token, use))
        elif hasattr(token, "evaluate_conditionals"):
            result.append(token.evaluate_conditionals(use))
        else:
            result.append(token)
    return result


def _portage():
    import portage

    return portage, portage.settings


def main():
    """Keeps Portage's own words on stderr; stdout carries the answer."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = json.load(sys.stdin)
    result = globals()[sys.argv[1]](job)
    sys.stdout.flush()
    json.dump(result, answer)
    answer.close()


if __name__ == "__main__":
    main()
