"""A random walk: whatever users, Portage and machines do to a PKGDIR, one thing after another, and what must hold after each."""

import copy
import os
import random
import subprocess
import time

from tests.e2e.world import LAYOUTS
from tests.lab import Prefix, files_of, package
from tests.lab.disk import fill
from tests.lab.moment import sign_with
from tests.lab.promise import digest, held_files, image_of, run_to_its_end

#: Update files come one after the other, seconds apart for Portage, whatever the clock says.
FIRST_UPDATE = 1_700_000_000
NAMES = ("one", "two", "three", "four", "five", "six")
LIBRARIES = ("liba", "libb", "libc")


def two_keys(lab):
    """One signing home with the key of today and the one that it has replaced."""

    def fill_home(home):
        from tests.lab.session import _generate

        _generate(home, "ed25519", "old", "")
        made = Key(home)
        made.gpg(*("--pinentry-mode", "loopback", "--passphrase", "", "--quick-generate-key"), *NEW_KEY)

    from tests.lab.session import Key

    home = lab.once("keys", "walk", fill_home)
    old = Key(home)
    listing = old.gpg("--list-secret-keys", "--with-colons").out.splitlines()
    new = copy.copy(old)
    new.fingerprint = [line.split(":")[9] for line in listing if line.startswith("fpr:")][-1]
    assert old.fingerprint != new.fingerprint
    return old, new


NEW_KEY = ("New <new@example.org>", "ed25519", "sign", "never")


class Walk:
    """One PKGDIR and everything that is known of it. `seed` says what happens."""

    def __init__(self, lab, seed, layout, *, net):
        self.dice = random.Random(seed)
        self.old, self.new = two_keys(lab)
        migration = {"BINPKG_GPG_SIGNING_KEY_MIGRATION": f"{self.old.fingerprint}={self.new.fingerprint}"}
        words = {"features": LAYOUTS[layout], "variables": migration | {"BINPKG_RESIGN_NET": net}}
        self.prefix = Prefix.create(lab, key=self.new, trusted=[self.old, self.new], **words)
        self.layout = layout
        self.history = []
        self.counts = {}
        #: image → what its build is called; every one of them must be somewhere
        self.expected = {}
        #: digest → image of all bytes that Portage has accepted
        self.accepted = {}
        self.exposed = set()
        self.lines = {}
        self.builds = 0
        self.updates = 0
        self.names = {name: name for name in LIBRARIES}
        self.filler = None
        self.locked = False

    # What must hold

    def say(self, words):
        """For whoever has to find out what went wrong."""
        self.history.append(words)

    def fail(self, words, *results):
        """Ends the walk."""
        told = "\n".join([*self.history, *map(str, results)])
        raise AssertionError(f"{words}\n{told}")

    def check(self, *results):
        """Every build is somewhere, its bytes are its own, and Portage accepts what is in PKGDIR."""
        pkgdir = self.prefix.pkgdir
        packages = {path: digest(pkgdir / path) for path in files_of(pkgdir)}
        fresh = [path for path, found in packages.items() if found not in self.accepted]
        for path, error in (self.prefix.verify(fresh) if fresh else {}).items():
            if error:
                self.fail(f"Portage does not accept {path}: {error}", *results)
            self.accepted[packages[path]] = image_of(pkgdir / path)
        there = {self.accepted[found] for found in packages.values()}
        for path in held_files(self.prefix):
            found = digest(pkgdir / path)
            if found not in self.accepted:
                self.fail(f"{path} is held, and no build had these bytes", *results)
            there.add(self.accepted[found])
        lost = {name for image, name in self.expected.items() if image not in there}
        if lost:
            self.fail(f"lost: {sorted(lost)}", *results)
        unknown = there - set(self.expected) - self.given_up
        if unknown:
            self.fail(f"{len(unknown)} images that no build had", *results)

    # What happens

    STEPS = (
        (5, "build"),
        (5, "sync"),
        (3, "killed_sync"),
        (2, "apply"),
        (2, "retry"),
        (1, "killed_retry"),
        (1, "rekey"),
        (1, "remove"),
        (2, "touch"),
        (2, "lock_or_unlock"),
        (2, "fill_or_free"),
    )

    given_up = frozenset()

    def step(self):
        """One random thing, and the look at everything after it."""
        weights, names = zip(*self.STEPS)
        name = self.dice.choices(names, weights)[0]
        self.say(f"-- {name}")
        getattr(self, name)()
        self.counts[name] = self.counts.get(name, 0) + 1
        self.check()

    def build(self):
        """New packages, by the key of today or the one before; in the flat layout some replace older builds."""
        if self.filler is not None:
            return self.say("the disk is full")
        made = []
        for _ in range(self.dice.randint(1, 3)):
            self.builds += 1
            version = self.dice.randint(1, 2)
            cpv = f"app-misc/{self.dice.choice(NAMES)}-{version}"
            if any(other.cpv == cpv for other in made):
                continue
            signer = self.dice.choice(["configured", f"{self.old.home} {self.old.fingerprint}"])
            # a new one may still need what has been moved away: its ebuild is an overlay's
            needs = " ".join(self.dice.sample([*self.names.values(), *LIBRARIES], 2))
            needs = " ".join(f"dev-libs/{name}" for name in needs.split())
            made.append(
                package(
                    cpv,
                    build_id=self.builds if self.layout == "multi-instance" else 1,
                    build_time=FIRST_UPDATE + self.builds,
                    payload=f"build {self.builds}\n",
                    signer=signer,
                    RDEPEND=needs,
                )
            )
        before = self.images()
        # its user is there while it is built, and gone again afterwards
        sign_with(self.prefix, None)
        paths = self.prefix.make(*made)
        sign_with(self.prefix, "/bin/false" if self.locked else None)
        self.say(f"made {paths}")
        self.forget(before)
        for path in paths:
            self.expected[image_of(self.prefix.pkgdir / path)] = path

    def images(self):
        """Images in PKGDIR."""
        return {image_of(self.prefix.pkgdir / path) for path in files_of(self.prefix.pkgdir)}

    def forget(self, before):
        """Builds that somebody has removed, or replaced, are not missed."""
        gone = before - self.images()
        self.given_up = self.given_up | gone
        for image in gone:
            self.expected.pop(image, None)

    def publish(self):
        """A sync brings update files: a library is called otherwise, or a package itself."""
        self.updates += 1
        lines = []
        for _ in range(self.dice.randint(1, 2)):
            if self.dice.random() < 0.75:
                library = self.dice.choice(LIBRARIES)
                name = f"{library}{self.updates}x{len(lines)}"
                lines.append(f"move dev-libs/{self.names[library]} dev-libs/{name}")
                self.names[library] = name
            else:
                lines.append(f"slotmove app-misc/{self.dice.choice(NAMES)} {self.dice.choice('01')} {self.dice.choice('12')}")
        # Portage takes one quarter after the other by its name
        name = f"{1 + self.updates % 4}Q-{2010 + self.updates // 4}"
        path = self.prefix.updates(name, *lines)
        os.utime(path, (FIRST_UPDATE + 10 * self.updates,) * 2)
        self.say(f"{name}: {lines}")

    def program(self, *words):
        """A run of ours to its end."""
        ended = run_to_its_end(self.prefix, *words, timeout=300)
        self.say(f"{' '.join(words)}: {ended.status} {ended.answer['counts']}")
        if ended.status not in (0, 1):
            self.fail(f"exit status {ended.status}", ended.result)
        if ended.status == 0 and ended.exposed:
            self.fail("exposed, and exit status 0", ended.result)
        self.check(ended.result)
        return ended

    def apply(self):
        """By hand, over the pending updates or over all."""
        self.program("apply", *self.dice.choice([(), ("--all",)]))

    def hook_and_pass(self):
        """What every `emerge --sync` ends with."""
        ended = self.program("apply")
        self.pass_after(ended)

    def pass_after(self, ended=None):
        """Portage's update pass. What a run has named as exposed may be lost then, and nothing else."""
        pkgdir = self.prefix.pkgdir
        exposed = ended.exposed if ended else set()
        images = {image_of(pkgdir / path) for path in exposed if (pkgdir / path).exists()}
        before = {path: digest(pkgdir / path) for path in files_of(pkgdir)}
        passed = self.prefix.update_pass(check=None)
        after = {path: digest(pkgdir / path) for path in files_of(pkgdir)}
        self.say(f"pass: {passed.status}, {len(before) - len(after)} removed")
        if ended and ended.status == 0 and before != after:
            self.fail("exit status 0, and Portage's pass has touched packages", ended.result, passed)
        left = {image_of(pkgdir / path) for path in [*after, *held_files(self.prefix)]}
        for image in images - left:
            self.say(f"lost, as it was said: {self.expected.pop(image, None)}")
            self.given_up = self.given_up | {image}
        self.check(passed)

    def sync(self):
        """Update files, the hook, the pass."""
        self.publish()
        self.hook_and_pass()

    def killed(self, *words):
        """Starts a run and kills it at a random moment."""
        argv = ["binpkg-resign", "--prefix", str(self.prefix.path), *words]
        environment = {key: str(value) for key, value in self.prefix.environment().items()}
        child = subprocess.Popen(
            argv, env=environment, cwd=self.prefix.path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        moment = self.dice.choice([0.01, 0.05, 0.1, 0.2, 0.4, 0.8]) * (0.5 + self.dice.random())
        time.sleep(moment)
        child.kill()
        child.wait()
        self.say(f"{' '.join(words)} killed after {moment:.3f} s: {child.returncode}")
        self.check()

    def killed_sync(self):
        """The hook is killed, and the pass comes nevertheless: where it had come to give every package a backup."""
        self.publish()
        at_risk = {path for path, _ in run_to_its_end(self.prefix, "apply", "--pretend").outcomes}
        pkgdir = self.prefix.pkgdir
        before = {path: digest(pkgdir / path) for path in at_risk if (pkgdir / path).exists()}
        self.killed("apply")
        held = {digest(pkgdir / path) for path in held_files(self.prefix)}
        if all(old in held or digest(pkgdir / path) != old for path, old in before.items()):
            self.pass_after()
        else:
            self.say("killed before the backups were there: no pass")
            self.hook_and_pass()

    def retry(self):
        """`held retry`."""
        self.program("held", "retry")

    def killed_retry(self):
        """`held retry`, killed."""
        self.killed("held", "retry")

    def rekey(self):
        """`rekey`."""
        self.program("rekey")

    def remove(self):
        """Packages are removed, as by eclean-pkg or by hand: then the index may say otherwise for a while."""
        files = files_of(self.prefix.pkgdir)
        before = self.images()
        for path in self.dice.sample(files, min(len(files), 2)):
            (self.prefix.pkgdir / path).unlink()
            self.say(f"removed {path}")
        self.forget(before)
        if self.dice.random() < 0.5 and self.filler is None:
            self.prefix.reindex()

    def touch(self):
        """A package gets another time of change."""
        for path in self.dice.sample(files_of(self.prefix.pkgdir), min(2, len(files_of(self.prefix.pkgdir)))):
            os.utime(self.prefix.pkgdir / path, (FIRST_UPDATE + self.dice.randint(0, 1000),) * 2)
            self.say(f"touched {path}")

    def lock_or_unlock(self):
        """Nothing can be signed, or again."""
        self.locked = not self.locked
        sign_with(self.prefix, "/bin/false" if self.locked else None)
        self.say(f"locked: {self.locked}")

    def fill_or_free(self):
        """The disk is full, or has room again; only where it is a disk of its own."""
        if not os.path.ismount(self.prefix.pkgdir):
            return self.say("no disk of its own")
        if self.filler is None:
            self.filler = fill(self.prefix.pkgdir, self.dice.choice([0, 4, 16, 64]))
        else:
            self.filler.unlink()
            self.filler = None
        self.say(f"full: {self.filler is not None}")

    def end(self):
        """With a key, room and a whole index again, everything comes to rest."""
        self.say("-- the end")
        if self.filler is not None:
            self.fill_or_free()
        if self.locked:
            self.lock_or_unlock()
        self.program("apply")
        self.prefix.reindex()
        self.publish()
        self.hook_and_pass()
        self.program("held", "retry")
