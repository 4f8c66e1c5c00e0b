"""File systems on files and on NBD exports. Whatever happens, nothing is left behind.

    file system -> loop device -> nbdfuse -> an NBD server

Needs root, FUSE and loop devices.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.model.tools import command, environment, run, stop, until, which

TOOLS = ("nbdfuse", "losetup", "mount", "umount")


def lacking_right(kind: str) -> str | None:
    """Say why this process cannot mount such a file system, whatever is installed."""
    if os.getuid() != 0:
        return "needs root"
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not os.access(device, os.R_OK | os.W_OK):
            return f"needs {device}"
    if modprobe := which("modprobe"):
        subprocess.run([modprobe, "-q", kind], env=environment(), check=False)
    if kind not in Path("/proc/filesystems").read_text().split():
        return f"the kernel has no {kind}"
    return None


def _unmount(folder: Path) -> None:
    """Unmount; where a file there stays open, as soon as it is closed. Raises AssertionError."""
    for _ in range(20):
        with suppress(AssertionError):  # other programs look at what is new, and let go of it
            run("umount", folder)
            return
        time.sleep(0.1)
    run("umount", "--lazy", folder)
    raise AssertionError(f"something under {folder} is still open")


@contextmanager
def in_memory(folder: Path) -> Iterator[Path]:
    """Make a folder in memory: a disk would have to do every sync of thousands."""
    folder.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "size=2g", "jrnl-tests", folder)
    try:
        yield folder
    finally:
        _unmount(folder)


@contextmanager
def mounted(
    file: Path, folder: Path, kind: str, options: str = "defaults", make: tuple[str, ...] = ()
) -> Iterator[Path]:
    """Mount a file by a loop device, on a folder that is made for it.

    With `make`, options of mkfs, the file system is made first.
    """
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        device = run("losetup", "--find", "--show", file)
        stack.callback(run, "losetup", "--detach", device)
        if make:
            run(f"mkfs.{kind}", *make, device)
        if kind == "btrfs":  # or the kernel minds that it has seen a newer state of it
            stack.callback(run, "btrfs", "device", "scan", "--forget", device)
        run("mount", "-t", kind, "-o", options, device, folder)
        stack.callback(_unmount, folder)
        yield folder


@contextmanager
def fused(uri: str, folder: Path) -> Iterator[Path]:
    """Offer an NBD export as a file in a folder that is made for it."""
    folder.mkdir()
    with ExitStack() as stack:
        file = folder / "disk"
        process = subprocess.Popen(command("nbdfuse", file, uri), env=environment())
        stack.callback(stop, process)
        until(file.exists, "nbdfuse", process)
        stack.callback(_unmount, folder)
        yield file
