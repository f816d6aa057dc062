"""doc/changing-keys.md, line by line, with a client that installs at every step."""

import re

from tests.lab import Prefix, assert_all_verify, assert_index_agrees, files_of, package
from tests.lab.client import client_of
from tests.lab.serve import served
from tests.lab.session import TOP

PAGE = TOP / "doc/changing-keys.md"


def blocks(language):
    """What stands between fences, in order."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def names(text, home, keyring, old, new):
    """The page's names for things, as they are here."""
    text = text.replace("/etc/portage/binhost-keys", str(home)).replace("/etc/portage/gnupg", str(keyring))
    return re.sub(r"\bOLD\b", old, re.sub(r"\bNEW\b", new, text))


def type_in(prefix, lines):
    """A shell in the prefix; there is nobody to type a passphrase."""
    return prefix.run("/bin/sh", "-ec", lines.replace("gpg --homedir", "gpg --batch --passphrase '' --pinentry-mode loopback --homedir"))


def installs(client, atom):
    """Whether the client installs a package; None for yes, else what it says."""
    done = client.emerge("--getbinpkgonly", "--oneshot", "--nodeps", "--quiet", atom, check=None)
    return None if done.status == 0 else done.text


def test_the_page(lab):
    """Create, distribute, switch, sign again, retire: the client accepts every package at every step."""
    key = lab.copy_key(lab.key())
    prefix = Prefix.create(lab, key=key)
    for name in ("one", "two", "three", "four"):
        prefix.gentoo.add(f"app-misc/{name}-1")
    prefix.gentoo.commit()
    prefix.sync()
    prefix.build("app-misc/one", "app-misc/two", "app-misc/three")
    create, distribute, sign_again, look, retire = blocks("sh")
    [switch] = blocks("make.conf")
    home, old = key.home, key.fingerprint

    first, *rest = create.splitlines()
    type_in(prefix, names(first, home, "", old, ""))
    lines = key.gpg("--list-secret-keys", "--with-colons").out.splitlines()
    [new] = {line.split(":")[9] for line in lines if line.startswith("fpr:")} - {old}
    type_in(prefix, names("\n".join(rest), home, "", old, new))

    with served(prefix.pkgdir) as address:
        client = client_of(prefix, address)
        assert installs(client, "app-misc/one") is None
        # what a client says that was forgotten, and that the order matters
        forgotten = client_of(prefix, address)
        client.run("cp", prefix.path / "binhost-2027.asc", client.path)
        for one in (client, prefix):
            type_in(one, names(distribute, home, one.keyring, old, new))
        assert installs(client, "app-misc/two") is None

        doctor = {check["state"]: check for check in prefix.resign_json("doctor", check=None)["checks"] if check["name"] == "signers"}
        assert list(doctor) == ["ok"] and old in doctor["ok"]["text"]
        settings = dict(line.split("=", 1) for line in names(switch, home, "", old, new).splitlines())
        values = {name: value.strip('"') for name, value in settings.items()}

        # half of the switch: named by doctor and rekey, with the line that the page has
        prefix.variables["BINPKG_GPG_SIGNING_KEY"] = values["BINPKG_GPG_SIGNING_KEY"]
        prefix.configure()
        found = prefix.resign_json("doctor", check=1)["checks"]
        [signers] = [check for check in found if check["name"] == "signers"]
        line = f'BINPKG_GPG_SIGNING_KEY_MIGRATION="{values["BINPKG_GPG_SIGNING_KEY_MIGRATION"]}"'
        assert signers["state"] == "problem" and line in signers["fix"] and signers["text"].startswith("3 packages")
        assert line in prefix.resign("rekey", "-p").err

        prefix.variables |= values
        prefix.configure()
        prefix.build("app-misc/four")
        warning = [check for check in prefix.resign_json("doctor", check=None)["checks"] if check["name"] == "signers" and check["state"] == "warning"]
        assert len(warning) == 1 and "3 packages" in warning[0]["text"] and "rekey" in warning[0]["fix"]
        assert prefix.resign_json("verify")["keys"] == {old: 3, new: 1}
        for atom in ("app-misc/three", "app-misc/four"):
            assert installs(client, atom) is None
        assert installs(forgotten, "app-misc/four") is not None

        type_in(prefix, sign_again.replace("binpkg-resign", f"binpkg-resign --prefix {prefix.path}"))
        said = type_in(prefix, look.replace("binpkg-resign", f"binpkg-resign --prefix {prefix.path}")).out
        assert f"4 signed by {new}" in said and old not in said
        type_in(client, names(retire, home, client.keyring, old, new))
        assert old not in listing_of(client.keyring, key)
        prefix.variables.pop("BINPKG_GPG_SIGNING_KEY_MIGRATION")
        prefix.configure()
        assert_all_verify(prefix)
        assert_index_agrees(prefix)
        for path in ("one", "two", "three", "four"):
            assert any(path in file for file in files_of(prefix.pkgdir))
            assert installs(client, f"app-misc/{path}") is None


MEMORY = "var/lib/binpkg-resign/signed-with"


def of_one_and_two(lab, key):
    """A prefix with two signed packages, of which an update concerns one."""
    prefix = Prefix.create(lab, key=key)
    prefix.make(package("app-misc/one-1", RDEPEND="app-misc/a"), package("app-misc/two-1", RDEPEND="app-misc/b"))
    prefix.updates("1Q-2026", "move app-misc/a app-misc/c")
    return prefix


def test_a_key_that_an_earlier_run_signed_with(lab):
    """A new key, no migration entry, and the old secret half gone from the home: what the old one signed is held."""
    old, new = lab.copy_key(lab.key()), lab.new_key(who="new")
    prefix = of_one_and_two(lab, old)
    prefix.resign("apply")
    memory = prefix.path / MEMORY
    assert memory.read_text() == f"{old.fingerprint}\n"

    prefix.key = new
    prefix.configure()
    doctor = {check["state"]: check for check in prefix.resign_json("doctor", check=1)["checks"] if check["name"] == "signers"}
    assert list(doctor) == ["problem"]
    line = f'BINPKG_GPG_SIGNING_KEY_MIGRATION="{old.fingerprint}={new.fingerprint}"'
    assert doctor["problem"]["text"].startswith("2 packages are signed by") and line in doctor["problem"]["fix"]
    assert line in prefix.resign("rekey", "-p").err
    found = prefix.resign_json("verify", check=1)["packages"]
    assert {one["outcome"] for one in found} == {"bad"} and all("MIGRATION" in one["reason"] for one in found)

    prefix.updates("2Q-2026", "move app-misc/b app-misc/d")
    [held] = [one for one in prefix.resign_json("apply", check=1)["packages"] if "two" in one["path"]]
    assert held["outcome"] == "held" and all(word in held["reason"]["text"] for word in (old.fingerprint, "MIGRATION"))
    assert memory.read_text() == f"{old.fingerprint}\n"

    # what the advice says makes them ours again
    new.gpg("--import", stdin=old.public().encode())
    prefix.variables["BINPKG_GPG_SIGNING_KEY_MIGRATION"] = f"{old.fingerprint}={new.fingerprint}"
    prefix.configure()
    prefix.resign("held", "retry")
    prefix.resign("rekey")
    assert prefix.resign_json("verify")["keys"] == {new.fingerprint: 2}
    assert memory.read_text() == f"{old.fingerprint}\n{new.fingerprint}\n"


def test_without_the_memory_it_is_somebody_elses(lab):
    """What no run here has signed with stays foreign, as do keys of which only the end is the same."""
    old, new = lab.copy_key(lab.key()), lab.new_key(who="new")
    prefix = of_one_and_two(lab, old)
    prefix.key = new
    prefix.configure()
    other = ("0" if old.fingerprint[0] != "0" else "1") + old.fingerprint[1:]
    prefix.write(MEMORY, f"{other}\n{old.fingerprint[-16:]}\n")
    [left] = prefix.resign_json("apply")["packages"]
    assert left["outcome"] == "foreign"


def test_a_memory_that_is_rubbish_holds_nothing_up(lab):
    """Lines that are no fingerprints are passed over, and a file without end is not read to its end."""
    prefix = of_one_and_two(lab, lab.key())
    memory = prefix.write(MEMORY, "rubbish\n")
    with memory.open("ab") as file:
        file.truncate(1 << 40)
    assert prefix.resign_json("apply")["counts"]["resigned"] == 1
    assert memory.read_text() == f"{lab.key().fingerprint}\n"


def listing_of(home, key):
    """The fingerprints in a keyring."""
    return key.gpg("--homedir", home, "--list-keys", "--with-colons").out
