#!/usr/bin/env python3
"""The real Portage's gpkg code as an oracle: one JSON request a line on stdin, one JSON answer a line on stdout.

Runs with the Python of a virtual environment that has Portage. Makes a small prefix below /tmp (gpg homes need short paths),
with a throw-away key, and removes it at the end. Bytes travel as hex.
"""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile

WORK = tempfile.mkdtemp(prefix="gpkg-", dir="/tmp")
PREFIX = os.path.join(WORK, "p")
HOME = os.path.join(WORK, "g")
USER = "nobody" if os.getuid() != 0 else "root"


def make_prefix():
    """A prefix in which Portage finds a configuration."""
    share = os.path.join(os.path.dirname(os.path.dirname(sys.executable)), "share/portage/config")
    shutil.copytree(share, os.path.join(PREFIX, "share/portage/config"))
    for folder in ("etc/portage/repos.conf", "var/db/pkg", "var/cache/edb", "var/tmp", "var/lib/portage"):
        os.makedirs(os.path.join(PREFIX, folder))
    repository = os.path.join(PREFIX, "var/db/repos/gentoo")
    profile = os.path.join(repository, "profiles/default")
    for folder in ("metadata", "profiles/default"):
        os.makedirs(os.path.join(repository, folder))

    def write(path, text):
        with open(path, "w") as file:
            file.write(text)

    write(f"{repository}/profiles/repo_name", "gentoo\n")
    write(f"{repository}/profiles/arch.list", "amd64\n")
    write(f"{repository}/profiles/profiles.desc", "amd64 default stable\n")
    write(f"{repository}/metadata/layout.conf", "masters =\nthin-manifests = true\n")
    write(f"{profile}/eapi", "8\n")
    write(f"{profile}/make.defaults", 'ARCH="amd64"\nACCEPT_KEYWORDS="amd64"\nCHOST="x86_64-pc-linux-gnu"\n')
    write(f"{PREFIX}/etc/portage/repos.conf/gentoo.conf", f"[gentoo]\nlocation = {repository}\nauto-sync = no\n")
    os.symlink(profile, f"{PREFIX}/etc/portage/make.profile")
    write(f"{PREFIX}/etc/portage/make.conf", f'PORTAGE_TMPDIR="{PREFIX}/var/tmp"\nPKGDIR="{PREFIX}/pkg"\n')


make_prefix()
os.environ.update(
    PORTAGE_OVERRIDE_EPREFIX=PREFIX, PORTAGE_USERNAME="root", PORTAGE_GRPNAME="root", NOCOLOR="true", GNUPGHOME=HOME
)

import portage  # noqa: E402
from portage.gpkg import gpkg  # noqa: E402

KEY = None
SETTINGS = {}


def key():
    """Makes the throw-away key at first use; returns its fingerprint."""
    global KEY
    if KEY is None:
        os.mkdir(HOME, 0o700)
        quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        subprocess.run(
            ["gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", "", "--quick-generate-key",
             "Binhost <binhost@example.org>", "ed25519", "sign", "never"], **quiet)
        listing = subprocess.run(["gpg", "--with-colons", "--list-keys"], capture_output=True, check=True).stdout.decode()
        KEY = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))
    return KEY


def settings(request):
    """Portage's configuration with the request's settings on top."""
    wanted = json.dumps([request.get("settings"), request.get("signed")])
    if wanted not in SETTINGS:
        SETTINGS[wanted] = new_settings(request)
    return SETTINGS[wanted]


def new_settings(request):
    """The same, not made before."""
    clone = portage.config(clone=portage.settings)
    clone.unlock()
    for name, value in request.get("settings", {}).items():
        clone[name] = value
    if request.get("signed"):
        fingerprint = key()
        clone["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "gpg --sign --armor [PORTAGE_CONFIG]"
        clone["BINPKG_GPG_SIGNING_DIGEST"] = "SHA512"
        clone["BINPKG_GPG_SIGNING_GPG_HOME"] = clone["BINPKG_GPG_VERIFY_GPG_HOME"] = HOME
        clone["BINPKG_GPG_SIGNING_KEY"] = fingerprint
        clone["GPG_VERIFY_USER_DROP"] = clone["GPG_VERIFY_GROUP_DROP"] = ""
        clone.features.add("binpkg-signing")
        clone.features.add("binpkg-request-signature")
    return clone


def encode(data):
    return data.hex()


def decode(text):
    return bytes.fromhex(text)


def make(request):
    """Makes a package with Portage."""
    image = os.path.join(WORK, "image")
    shutil.rmtree(image, ignore_errors=True)
    os.makedirs(os.path.join(image, "usr"))
    for name, data in request["image"].items():
        with open(os.path.join(image, name), "wb") as file:
            file.write(decode(data))
    metadata = {name: decode(data) for name, data in request["metadata"].items()}
    gpkg(settings(request), request["basename"], request["file"]).compress(image, metadata)
    return {}


def rewrite(request):
    """Has Portage itself put new metadata into a package, signed or not."""
    metadata = {name: decode(data) for name, data in request["metadata"].items()}
    gpkg(settings(request), None, request["file"]).update_metadata(metadata, request.get("basename"), force=True)
    return {}


def content(path):
    """Path of the file that a request is about: one that is there, or one made of the bytes that came along."""
    if "bytes" not in path:
        return path["file"]
    file_name = os.path.join(WORK, "x.gpkg.tar")
    with open(file_name, "wb") as file:
        file.write(decode(path["bytes"]))
    return file_name


def verify(request):
    """Whether Portage takes the package."""
    gpkg(settings(request), None, content(request))._verify_binpkg()
    return {}


def listing(container):
    """The members with everything that matters in their headers."""
    return [
        [m.name, m.size, m.offset_data, m.mode, m.uid, m.gid, int(m.mtime), os.fsencode(m.uname).hex(),
         os.fsencode(m.gname).hex()]
        for m in container.getmembers()
    ]


def members(request):
    """The members of a container, that may be too large to read."""
    with tarfile.open(request["file"]) as container:
        return {"members": listing(container)}


def zeros(request):
    """The digests of a number of zeros."""
    chunk = bytes(1 << 20)
    pair = [hashlib.blake2b(), hashlib.sha512()]
    for _ in range(request["megabytes"]):
        for digest in pair:
            digest.update(chunk)
    return {"blake2b": pair[0].hexdigest(), "sha512": pair[1].hexdigest()}


def read(request):
    """What Portage reads out of the package."""
    file = content(request)
    package = gpkg(settings(request), None, file)
    package._verify_binpkg()
    with open(file, "rb") as container:
        tar_format = package._get_tar_format(container)
    metadata = package.get_metadata()
    answer = {"metadata": {name: encode(data) for name, data in metadata.items()}, "prefix": package.prefix}
    answer["format"] = {tarfile.USTAR_FORMAT: "ustar", tarfile.GNU_FORMAT: "gnu", tarfile.PAX_FORMAT: "pax"}[tar_format]
    with tarfile.open(file) as container:
        info, _ = package._get_inner_tarinfo(container, "image")
        answer["image"] = hashlib.sha256(container.extractfile(info).read()).hexdigest()
        answer["members"] = listing(container)
    if request.get("unpack"):
        target = os.path.join(WORK, "unpacked")
        shutil.rmtree(target, ignore_errors=True)
        package.decompress(target)
        answer["files"] = {}
        for folder, _, files in os.walk(target):
            for name in files:
                path = os.path.join(folder, name)
                with open(path, "rb") as data:
                    answer["files"][os.path.relpath(path, target)] = encode(data.read())
    return answer


def retar(request):
    """What Python's tarfile makes of the members of an archive, with its dialect and headers."""
    source = io.BytesIO(decode(request["bytes"]))
    magic = source.getvalue()[0x101:0x109]
    tar_format = tarfile.GNU_FORMAT if magic == b"ustar  \0" else tarfile.USTAR_FORMAT
    target = io.BytesIO()
    with tarfile.open(fileobj=source, mode="r:") as old, tarfile.open(fileobj=target, mode="w", format=tar_format) as new:
        for member in old.getmembers():
            new.addfile(member, old.extractfile(member))
    return {"bytes": encode(target.getvalue())}


def tar(request):
    """An archive made by Python's tarfile, in the dialect asked for."""
    formats = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=formats[request["format"]]) as new:
        for name, data, facts in request["members"]:
            info = tarfile.TarInfo(name)
            for key_, value in facts.items():
                setattr(info, key_, value)
            data = decode(data)
            info.size = len(data)
            new.addfile(info, io.BytesIO(data))
    return {"bytes": encode(target.getvalue())}


def sign(request):
    """A detached or a clear signature by the throw-away key, of bytes or of a number of zeros."""
    mode = {"detached": "--detach-sig", "clear": "--clear-sign"}[request["mode"]]
    command = ["gpg", "--sign", "--armor", "--homedir", HOME, "--digest-algo", "SHA512", "--local-user", key(), mode,
               "--batch", "--no-tty"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for _ in range(request.get("megabytes", 0)):
        process.stdin.write(bytes(1 << 20))
    signature, _ = process.communicate(decode(request.get("bytes", "")))
    return {"bytes": encode(signature)}


def signed_text(request):
    """What gpg says was signed in a clear-signed text."""
    done = subprocess.run(["gpg", "--homedir", HOME, "--output", "-", "--verify", "-"], input=decode(request["bytes"]),
                          capture_output=True, check=True)
    return {"bytes": encode(done.stdout)}


def commands(request):
    """The command lines with which Portage packs and unpacks."""
    answer = {}
    # Portage changes its own table for good, so it is put back
    import portage.util.compression_probe as probe
    saved = {name: dict(value) for name, value in probe._compressors.items()}
    portage.gpkg.find_binary = lambda name: name
    for name in ("bzip2", "gzip", "lz4", "lzip", "lzop", "xz", "zstd"):
        package = gpkg(settings(request), "x-1", "/nonexistent")
        answer[name] = []
        for mode in ("compress", "decompress"):
            try:
                answer[name].append(package._get_binary_cmd(name, mode))
            except Exception:
                answer[name].append([])
    for name, value in saved.items():
        probe._compressors[name].update(value)
    return answer


OPERATIONS = {f.__name__: f for f in (make, rewrite, verify, read, members, zeros, retar, tar, sign, signed_text, commands)}


def too_slow(_signal, _frame):
    raise TimeoutError("no answer within 20 s")


def main():
    signal.signal(signal.SIGALRM, too_slow)
    # what Portage prints must not get among the answers
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    for line in sys.stdin:
        request = json.loads(line)
        # a size below zero makes Python's tarfile go in circles
        signal.alarm(0 if "megabytes" in request or "file" in request else 20)
        try:
            answer = OPERATIONS[request["do"]](request)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            answer = {"error": text.encode("utf-8", "backslashreplace").decode()}
        signal.alarm(0)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


try:
    main()
finally:
    if KEY is not None:
        subprocess.run(["gpgconf", "--homedir", HOME, "--kill", "all"], check=False)
    shutil.rmtree(WORK, ignore_errors=True)
