"""`doctor` and `verify`: each thing that can be wrong is found, named, and nothing is changed."""

import json
import re
import shutil

import pytest

from tests.e2e.world import path_of, publish, pull, world
from tests.lab import NEWEST, Prefix, Snapshot, package
from tests.lab.terminal import Terminal

STRACE = path_of("multi-instance", "dev-util/strace-6.6")
USER = path_of("multi-instance", "app-misc/user-1")


def healthy(lab):
    prefix = world(lab, NEWEST).clone()
    prefix.install_hook_with_place()
    return prefix


def checks(prefix, status):
    """Name → (state, text)."""
    answer = prefix.resign_json("doctor", check=status)
    assert answer["command"] == "doctor"
    return {check["name"]: (check["state"], check["text"]) for check in answer["checks"]}


def test_a_healthy_host(lab):
    prefix = healthy(lab)
    before = Snapshot(prefix.path)
    found = checks(prefix, 0)
    assert {state for state, _ in found.values()} == {"ok"}, found
    assert before.difference(Snapshot(prefix.path)) == []
    text = prefix.resign("doctor").out
    assert text.count(" * ok ") == len(found)


def test_every_fault_has_its_line(lab):
    prefix = healthy(lab)
    hook = prefix.path / "etc/portage/postsync.d/50-binpkg-resign"

    hook.chmod(0o644)
    assert checks(prefix, 1)["hook"][0] == "problem"
    hook.chmod(0o755)
    hook.write_text(hook.read_text() + "# mine\n")
    assert checks(prefix, 0)["hook"][0] == "warning"
    hook.unlink()
    assert checks(prefix, 1)["hook"][0] == "problem"
    prefix.install_hook_with_place()

    publish(prefix)
    pull(prefix)
    state, text = checks(prefix, 1)["pending"]
    # oldname and user have dependencies on what is moved, slotted is moved to another slot, strace stays where it is, twice
    assert state == "problem" and "removes 3 signed packages" in text and "leaves 2 under" in text, text

    (prefix.pkgdir / USER).write_bytes((prefix.pkgdir / USER).read_bytes() + b"\0")
    state, text = checks(prefix, 1)["index"]
    assert state == "problem" and USER in text

    shutil.rmtree(prefix.keyring)
    assert checks(prefix, 1)["trust"][0] == "warning"

    prefix.variables["EMERGE_DEFAULT_OPTS"] = "--package-moves=n"
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "/bin/false [PORTAGE_CONFIG]"
    prefix.configure()
    found = checks(prefix, 1)
    assert found["moves"][0] == "warning" and found["command"][0] == "problem"

    conf = prefix.path / "etc/portage/repos.conf/gentoo.conf"
    conf.write_text(conf.read_text() + "sync-hooks-only-on-change = true\n")
    assert checks(prefix, 1)["hooks"][0] == "problem"

    prefix.variables["BINPKG_GPG_SIGNING_KEY"] = "nobody@example.org"
    prefix.configure()
    state, text = checks(prefix, 1)["key"]
    assert state == "problem" and "nobody@example.org" in text


def test_a_keyring_without_trust(lab):
    prefix = healthy(lab)
    (prefix.keyring / "trustdb.gpg").unlink()
    state, text = checks(prefix, 0)["trust"]
    assert (state, "does not trust" in text) == ("warning", True), text
    assert not (prefix.keyring / "trustdb.gpg").exists()


def test_signing_not_configured(lab):
    prefix = world(lab, NEWEST, signed=False).clone()
    prefix.install_hook_with_place()
    assert checks(prefix, 0)["signing"][0] == "warning"


@pytest.mark.parametrize(
    "command",
    [
        "/usr/bin/nosuch [PORTAGE_CONFIG]",
        "/usr/bin/flock /dev/null /usr/bin/nosuch --sign [PORTAGE_CONFIG]",
        "env nosuch --sign [PORTAGE_CONFIG]",
        "sh -c 'nosuch \"$@\"' sh [PORTAGE_CONFIG]",
    ],
)
def test_a_signing_command_that_is_not_there(lab, command):
    """As Portage runs it, gpg is behind flock."""
    prefix = healthy(lab)
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = command
    prefix.configure()
    [check] = [check for check in prefix.resign_json("doctor", check=1)["checks"] if check["name"] == "command"]
    assert check["state"] == "problem" and "nosuch" in check["text"] and "without a terminal" not in check["text"], check
    assert "is not there" in check["text"] or "is it installed?" in check["text"], check
    assert "passphrase" not in check["text"] + check["fix"], check


def test_held_packages_do_not_wait_as_well(lab):
    """They are safe, so the next emerge takes nothing away: one warning, and no problem."""
    prefix = healthy(lab)
    good = dict(prefix.variables)
    prefix.variables["BINPKG_GPG_SIGNING_BASE_COMMAND"] = "/bin/false [PORTAGE_CONFIG]"
    prefix.configure()
    publish(prefix)
    pull(prefix)
    assert checks(prefix, 1)["pending"][0] == "problem"
    prefix.resign("apply", check=1)
    prefix.variables = good
    prefix.configure()
    found = checks(prefix, 0)
    assert found["held"] == ("warning", "5 packages are held"), found
    assert found["pending"][0] == "ok" and found["processed"][0] == "ok", found


@pytest.mark.parametrize("option", ["--config-root", "--prefix", "--root", "--pkgdir"])
def test_a_place_that_is_not_there(lab, option):
    """The error names the option, in the text and in the JSON, and nothing is done."""
    prefix = healthy(lab)
    nowhere = prefix.path / "nowhere"
    places = {"--prefix": prefix.path, option: nowhere}
    for words in (["apply"], ["verify"], ["doctor"], ["held", "list"], ["index", "-p"]):
        argv = ["binpkg-resign", *(str(word) for pair in places.items() for word in pair), "--json", *words]
        result = prefix.run(*argv, check=2)
        answer = json.loads(result.out)
        assert (answer["status"], answer["command"], answer["pretend"]) == ("error", words[0], "-p" in words)
        assert f"{option} {nowhere}" in answer["error"] and answer["error"] in result.err, result
    assert not nowhere.exists()


def test_a_prefix_without_portage(lab):
    prefix = healthy(lab)
    result = prefix.run("binpkg-resign", "--prefix", prefix.pkgdir, "apply", check=2)
    assert "--prefix" in result.text, result


def shown(prefix, *words, status=0):
    """What stands on a terminal."""
    argv = ["binpkg-resign", "--prefix", prefix.path, *words]
    with Terminal(argv, prefix.environment() | {"TERM": "xterm"}, prefix.path) as terminal:
        assert terminal.end(60) == status, terminal.seen
        return terminal.seen


@pytest.mark.parametrize("words", [["apply"], ["apply", "-p"], ["rekey"], ["rekey", "-p"], ["held", "retry"], ["held", "retry", "-p"]])
def test_a_person_is_told_that_signing_is_not_configured(lab, words):
    """Once, and why; a script gets nothing but the status."""
    prefix = world(lab, NEWEST, signed=False).clone()
    seen = shown(prefix, *words)
    assert seen.count("binary packages are not signed here") == 1 and "FEATURES" in seen, seen
    assert shown(prefix, "-q", *words) == "" == prefix.resign(*words).text
    answer = prefix.resign_json(*words)
    assert answer["status"] == "not-configured" and answer["pretend"] == ("-p" in words), answer


def test_a_hook_is_silent_where_signing_is_not_configured(lab):
    """Also on a terminal, as emerge runs it."""
    prefix = world(lab, NEWEST, signed=False).clone()
    prefix.install_hook()
    publish(prefix)
    with Terminal(["emerge", "--color=n", "--sync"], prefix.environment() | {"TERM": "xterm"}, prefix.path) as terminal:
        assert terminal.end(120) == 0, terminal.seen
        assert "Performing Global Updates" in terminal.seen or "50-binpkg-resign" in terminal.seen, terminal.seen
        assert "not signed here" not in terminal.seen, terminal.seen


def test_pretend_shows_old_and_new_texts(lab):
    """As the file has them; and nothing is written."""
    prefix = healthy(lab)
    publish(prefix)
    pull(prefix)
    before = Snapshot(prefix.path)
    [plain, verbose] = [prefix.resign(*words, "apply", "-p").out for words in ([], ["-v"])]
    assert set(plain.splitlines()) < set(verbose.splitlines()), (plain, verbose)
    for line in ("    RDEPEND", "      - >=dev-util/strace-6", "      + >=dev-debug/strace-6", "      - 0/2.30"):
        assert f" * {line}\n" in verbose and f" * {line}\n" not in plain, verbose
    coloured = shown(prefix, "-v", "--color=y", "apply", "-p")
    assert "\x1b[31m- dev-util/strace" in coloured and "\x1b[32m+ dev-debug/strace" in coloured, coloured

    packages = prefix.resign_json("apply", "-p")["packages"]
    [user] = [record for record in packages if record["path"] == USER]
    metadata = {change["key"]: (change["old"], change["new"]) for change in user["metadata"]}
    assert metadata["BDEPEND"] == (["dev-util/strace"], ["dev-debug/strace"])
    assert metadata["RDEPEND"] == ([">=dev-util/strace-6", "dev-libs/slotted:0"], [">=dev-debug/strace-6", "dev-libs/slotted:2"])
    [moved] = [record for record in packages if record["path"] == STRACE]
    assert {change["key"]: change["new"] for change in moved["metadata"]}["CATEGORY"] == ["dev-debug"]
    assert before.difference(Snapshot(prefix.path)) == []
    assert not any("metadata" in record for record in prefix.resign_json("apply")["packages"])


@pytest.mark.parametrize(
    ("words", "command"),
    [(["frobnicate"], ""), (["apply", "--nonsense"], "apply"), (["sign"], "sign"), (["--jobs", "0", "verify"], "verify"), ([], "")],
)
def test_json_where_the_command_line_is_wrong(lab, words, command):
    prefix = healthy(lab)
    answer = prefix.resign_json(*words, check=2)
    assert (answer["command"], answer["status"], answer["packages"]) == (command, "error", []), answer
    assert answer["error"]
    assert "Usage:" in prefix.run("binpkg-resign", "--json", "--help").out


def grades(prefix, *files, status=0):
    """Path → (outcome, reason)."""
    answer = prefix.resign_json("verify", *files, check=status)
    assert answer["command"] == "verify" and answer["counts"]
    return {record["path"]: (record["outcome"], record["reason"]) for record in answer["packages"]}


def test_verify_finds_what_is_wrong(lab):
    prefix = healthy(lab)
    other = lab.key(who="other")
    prefix.make(
        package("app-misc/unsigned-1", signer="nobody"),
        package("app-misc/foreign-1", signer=f"{other.home} {other.fingerprint}"),
    )
    before = Snapshot(prefix.path)
    found = grades(prefix)
    assert before.difference(Snapshot(prefix.path)) == []
    assert found.pop("app-misc/unsigned/unsigned-1-1.gpkg.tar")[0] == "unsigned"
    assert found.pop("app-misc/foreign/foreign-1-1.gpkg.tar")[0] == "foreign"
    assert {outcome for outcome, _ in found.values()} == {"ours"} and len(found) == 6

    strace = prefix.pkgdir / STRACE
    data = bytearray(strace.read_bytes())
    data[len(data) // 2] ^= 1
    tampered = prefix.path / "tampered.gpkg.tar"
    tampered.write_bytes(data)
    shutil.copystat(strace, tampered)
    strace.unlink()
    user = prefix.pkgdir / USER
    user.write_bytes(user.read_bytes()[:-6000])
    found = grades(prefix, status=1)
    assert found[STRACE][0] == "bad" and "not there" in found[STRACE][1]
    assert found[USER][0] == "bad", found[USER]
    text = prefix.resign("verify", check=1).out
    assert STRACE in text and USER in text and "2 bad" in text
    assert list(grades(prefix, tampered, status=1).values())[0][0] == "bad"
    assert grades(prefix, prefix.pkgdir / path_of("multi-instance", "app-misc/plain-1")) != {}


def judged(prefix, *packages, status=0):
    """Path → (outcome, fault) of the packages that are asked for."""
    answer = prefix.resign_json("verify", *packages, check=status)
    return {record["path"]: (record["outcome"], record["fault"]) for record in answer["packages"]}


def test_verify_takes_names_and_paths(lab):
    """However a package of PKGDIR is named, it is PKGDIR's, and its entry in the index counts."""
    prefix = healthy(lab)
    link = prefix.path / "link"
    link.symlink_to(prefix.pkgdir / "dev-util")
    for name in (STRACE, prefix.pkgdir / STRACE, link / "strace" / "strace-6.6-1.gpkg.tar", "dev-util/strace-6.6-1"):
        assert judged(prefix, name) == {STRACE: ("ours", None)}, name
    second = STRACE.replace("-1.gpkg", "-2.gpkg")
    assert judged(prefix, STRACE, "dev-util/strace-6.6", USER).keys() == {STRACE, second, USER}
    text = prefix.resign("verify", prefix.pkgdir / STRACE).out
    assert text.count("strace-6.6-1.gpkg.tar") == 1 and f"ours        {STRACE}" in text and "1 package: 1 signed by us" in text, text

    index = prefix.pkgdir / "Packages"
    index.write_text(re.sub(r"^MD5: .*", "MD5: " + 32 * "0", index.read_text(), flags=re.M))
    assert judged(prefix, prefix.pkgdir / STRACE, status=1) == {STRACE: ("bad", "index")}

    for name in ("dev-util/strace-6.7", "dev-util/strace", prefix.path / "nowhere.gpkg.tar"):
        answer = prefix.resign_json("verify", name, check=2)
        assert answer["status"] == "error" and str(name) in answer["error"], answer


def test_verify_tells_apart_what_is_wrong(lab):
    prefix = healthy(lab)
    other = lab.key(who="other")
    prefix.make(
        package("app-misc/unsigned-1", signer="nobody"),
        package("app-misc/foreign-1", signer=f"{other.home} {other.fingerprint}"),
    )
    foreign, unsigned = (f"app-misc/{name}/{name}-1-1.gpkg.tar" for name in ("foreign", "unsigned"))
    assert judged(prefix, unsigned) == {unsigned: ("unsigned", "unsigned")}

    assert judged(prefix, foreign, status=1) == {foreign: ("foreign", "unknown-key")}
    text = prefix.resign("verify", foreign, check=1).out
    assert "unknown key" in text and "by others" not in text, text
    assert prefix.resign("verify").out.count("1 by keys not known here (not checked)") == 1

    data = bytearray((prefix.pkgdir / STRACE).read_bytes())
    data[len(data) // 2] ^= 1
    corrupt = prefix.path / "corrupt.gpkg.tar"
    corrupt.write_bytes(data)
    assert judged(prefix, corrupt, status=1) == {str(corrupt): ("bad", "corrupt")}
    text = prefix.resign("verify", corrupt, check=1)
    assert [line.count(str(corrupt)) for line in text.out.splitlines() if "corrupt.gpkg" in line] == [1], text

    xpak = prefix.path / "old-1.tbz2"
    xpak.write_bytes(3 * data + b"XPAKPACK" + bytes(8) + b"XPAKSTOP" + bytes([0, 0, 0, 24]) + b"STOP")
    assert judged(prefix, xpak, status=1) == {str(xpak): ("bad", "old-format")}

    (prefix.pkgdir / USER).unlink()
    assert judged(prefix, USER, status=1) == {USER: ("bad", "index")}
    folder = prefix.path / "folder"
    folder.mkdir()
    assert judged(prefix, folder, status=1) == {str(folder): ("bad", "unchecked")}


def test_verify_where_nothing_is_signed(lab):
    prefix: Prefix = world(lab, NEWEST, signed=False).clone()
    assert {outcome for outcome, _ in grades(prefix).values()} == {"unsigned"}
