"""Other programs that tests run, and the Debian packages that they come in."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

PATIENCE = 120  # seconds, for anything that may hang
SYSTEM_PYTHON = "/usr/bin/python3"
PACKAGES = {
    "btrfs": "btrfs-progs",
    "e2fsck": "e2fsprogs",
    "fio": "fio",
    "losetup": "mount",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mount": "mount",
    "nbdcopy": "libnbd-bin",
    "nbdfuse": "libnbd-bin",
    "nbdinfo": "libnbd-bin",
    "qemu-img": "qemu-utils",
    "qemu-io": "qemu-utils",
    "qemu-nbd": "qemu-utils",
    "setpriv": "util-linux",
    "umount": "mount",
    "xfs_repair": "xfsprogs",
}


def which(tool: str) -> str | None:
    """Return the path of a tool, also of those that only root has on its path."""
    return shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def lacking(*tools: str) -> list[str]:
    """Return the Debian packages of those that are not installed."""
    return sorted({PACKAGES[tool] for tool in tools if which(tool) is None})


def lacking_binding() -> tuple[str, ...]:
    """Return libnbd's Python binding where it is missing: Debian's, for the system's own Python."""
    if os.access(SYSTEM_PYTHON, os.X_OK):
        done = subprocess.run(
            [SYSTEM_PYTHON, "-I", "-c", "import nbd"], capture_output=True, check=False,
            env=environment(),
        )  # fmt: skip
        if done.returncode == 0:
            return ()
    return ("python3-libnbd",)


def need(*tools: str, right: str | None = None, packages: tuple[str, ...] = ()) -> None:
    """Skip where this machine cannot do it; in CI, packages have to be there.

    Parameters
    ----------
    *tools : str
    right : str, optional
        What this process may not do, whatever is installed.
    packages : tuple of str
        More packages that are lacking.
    """
    missing = sorted({*lacking(*tools), *packages})
    reasons = [right] if right else []
    if missing:
        reasons.append("needs the Debian packages " + ", ".join(missing))
    if missing and not right and os.environ.get("CI"):
        pytest.fail(reasons[0])
    if reasons:
        pytest.skip("; ".join(reasons))


def command(name: str, *arguments: object) -> list[str]:
    """Return what runs a tool."""
    return [which(name) or name, *map(str, arguments)]


def environment() -> dict[str, str]:
    """Return that of a tool: what a sanitized build needs is not for them."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def attempt(name: str, *arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a tool, which may fail."""
    return subprocess.run(
        command(name, *arguments), input=stdin, capture_output=True, text=True,
        env=environment(), timeout=PATIENCE, check=False,
    )  # fmt: skip


def run(name: str, *arguments: object, stdin: str = "") -> str:
    """Run a tool; return what it printed. Raises AssertionError with what it said."""
    done = attempt(name, *arguments, stdin=stdin)
    assert done.returncode == 0, f"{name} {arguments}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def until(
    condition: Callable[[], object], what: str, process: subprocess.Popen[bytes] | None = None
) -> None:
    """Wait for something, as long as the process that does it is there."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        if process is not None:
            assert process.poll() is None, f"{what} ended with {process.returncode}"
        assert time.monotonic() < limit, f"{what} is not ready after {PATIENCE} s"
        time.sleep(0.01)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process, by force where it does not end itself."""
    with suppress(subprocess.TimeoutExpired):
        process.terminate()
        process.wait(5)
    process.kill()
    process.wait()


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
