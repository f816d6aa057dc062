"""A small filesystem of its own for a PKGDIR, with as much room as a test wants."""

import contextlib
import os
import shutil
import subprocess

import pytest

BLOCK = 1024


@contextlib.contextmanager
def small_ext4(prefix, blocks=2048):
    """Moves PKGDIR to an ext4 of so many blocks of 1 KiB, mounted at its place. Skips where nothing can be mounted."""
    image, aside = prefix.path / "disk.img", prefix.path / "aside"
    image.write_bytes(b"")
    os.truncate(image, blocks * BLOCK)
    prefix.pkgdir.rename(aside)
    prefix.pkgdir.mkdir()
    # no journal and nothing reserved: what is free can be used up to the last block
    made = ["mkfs.ext4", "-q", "-F", "-b", str(BLOCK), "-N", "256", "-m", "0", "-O", "^has_journal,^resize_inode", image]
    for command in (made, ["mount", "-o", "loop", image, prefix.pkgdir]):
        if shutil.which(command[0]) is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip(f"no small filesystem here: {command[0]} does not work")
    try:
        (prefix.pkgdir / "lost+found").rmdir()
        shutil.copytree(aside, prefix.pkgdir, copy_function=shutil.copy2, dirs_exist_ok=True, symlinks=True)
        yield prefix.pkgdir
    finally:
        subprocess.run(["umount", prefix.pkgdir], check=True)


@contextlib.contextmanager
def btrfs_subvolume(prefix):
    """Moves what PKGDIR lies in to a btrfs, and PKGDIR to a subvolume of it. Skips where that cannot be had."""
    image, parent, aside = prefix.path / "disk.img", prefix.pkgdir.parent, prefix.path / "aside"
    image.write_bytes(b"")
    os.truncate(image, 256 << 20)
    parent.rename(aside)
    parent.mkdir()
    made = ["mkfs.btrfs", "-q", image], ["mount", "-o", "loop", image, parent], ["btrfs", "subvolume", "create", prefix.pkgdir]
    for command in made:
        if shutil.which(command[0]) is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip(f"no btrfs here: {command[0]} does not work")
    try:
        shutil.copytree(aside, parent, copy_function=shutil.copy2, dirs_exist_ok=True, symlinks=True)
        yield prefix.pkgdir
    finally:
        subprocess.run(["umount", parent], check=True)


def fill(place, free):
    """Fills the filesystem but for so many blocks of 1 KiB; returns the file that does it."""
    filler = place / "filler"
    size = 0
    with open(filler, "wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                size += file.write(b"x" * BLOCK)
        os.fsync(file.fileno())
        os.truncate(filler, size - free * BLOCK)
        os.fsync(file.fileno())
    return filler


@contextlib.contextmanager
def on_a_disk_of_its_own(prefix, folder):
    """Moves a folder to a tmpfs that is mounted in its place. Skips where nothing can be mounted."""
    aside = prefix.path / "aside"
    folder.rename(aside)
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("no filesystem of its own here: mount does not work")
    try:
        shutil.copytree(aside, folder, copy_function=shutil.copy2, dirs_exist_ok=True, symlinks=True)
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
