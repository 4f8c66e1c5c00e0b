"""docs/nbd.md: its commands and programs run as they stand, on a store that is served."""

from __future__ import annotations

import configparser
import os
import random
import re
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import jrnl
from jrnl.nbd import protocol
from tests.model.mounts import TOOLS, lacking_right
from tests.model.places import ROOT
from tests.model.tools import PATIENCE, SYSTEM_PYTHON, lacking_binding, need

DOCUMENT = (ROOT / "docs" / "nbd.md").read_text()
SHELL, PYTHON, INI = (re.findall(rf"```{kind}\n(.*?)```", DOCUMENT, re.S)
                      for kind in ("sh", "python", "ini"))  # fmt: skip
SERVE, BACKUP, START, MOUNT, THEN = SHELL
# A tool is no part of a sanitized build; the command may be.
COMMAND = '#!/bin/sh\nLD_PRELOAD="$JRNL_PRELOAD" exec {} -m jrnl "$@"\n'
BEGIN = """
set -euo pipefail
end() {
    umount old mnt; losetup --noheadings --output NAME -j then/disk -j nbd/disk |
        xargs --no-run-if-empty losetup --detach
    umount then nbd marks; kill $server; wait $server
}
"""
WAIT = """
server=$!
trap 'end 2> /dev/null || true' EXIT
until [ -S disk.sock ]; do kill -0 $server; sleep 0.05; done
"""
WRITE = "qemu-io -f raw -c 'write -P {} {}' 'nbd+unix:///data?socket=disk.sock' > written\n"


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short name, and the command in it."""
    with tempfile.TemporaryDirectory(prefix="jrnl-") as folder:
        command = Path(folder) / "bin" / "jrnlctl"
        command.parent.mkdir()
        command.write_text(COMMAND.format(shlex.quote(sys.executable)))
        command.chmod(0o755)
        yield Path(folder)


def run(place: Path, *blocks: str) -> str:
    """Run blocks of commands in one shell, after those that serve the store."""
    paths = [*filter(None, map(os.path.abspath, sys.path)), str(ROOT / "src")]
    surrounding = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(
        ["bash", "-c", BEGIN + SERVE + WAIT + "".join(blocks)], cwd=place, capture_output=True,
        text=True, timeout=PATIENCE, check=False,
        env=surrounding | {
            "PATH": f"{place / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin",
            "JRNL_PRELOAD": os.environ.get("LD_PRELOAD", ""),
            "PYTHONPATH": os.pathsep.join(paths),
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def with_writes(seed: int) -> str:
    """The block of the backup, with writes before and after its marks."""
    rng = random.Random(seed)
    days = [
        "".join(
            WRITE.format(rng.randrange(1, 256), f"{512 * rng.randrange(131_000)} 4k")
            for _ in range(4)
        )
        for _ in range(3)
    ]
    before, after = BACKUP.split("# a day later\n")
    return days[0] + before + days[1] + after.replace("changed monday", days[2] + "changed monday")


def test_a_full_and_an_incremental_backup_run_as_they_stand(place, seed):
    need("nbdcopy", "qemu-img", "qemu-io")
    assert "identical" in run(place, with_writes(seed), START)
    assert (place / "empty.img").stat().st_size == 64 << 20


def test_the_same_by_libnbd_runs_as_it_stands(place, seed):
    need("nbdcopy", "qemu-img", "qemu-io", packages=lacking_binding())
    backup = with_writes(seed).partition("changed monday tuesday\n")
    program = place / "changed.py"
    program.write_text(PYTHON[0])
    only = backup[0] + f"env -u PYTHONPATH {SYSTEM_PYTHON} -I {program}\n" + backup[2]
    assert "identical" in run(place, only)


def test_a_file_system_is_mounted_and_marked_from_inside(place):
    need("mkfs.ext4", *TOOLS, right=lacking_right("ext4"))
    assert run(place, MOUNT, THEN).splitlines()[-1] == "kept"
    with jrnl.open(place / "disk.jrnl", mode="r") as store:
        assert [*store.marks] == ["before-upgrade"]


def test_systemd_starts_the_server_with_its_socket(place):
    listen, service = (configparser.ConfigParser() for _ in INI)
    for parser, text in zip((listen, service), INI, strict=True):
        parser.read_string(text)
    words = shlex.split(service["Service"]["ExecStart"])
    assert words[:2] == ["jrnlctl", "serve"] and len(words) == 3
    assert listen["Socket"]["SocketMode"] == "0600"
    jrnl.create(place / "s.jrnl", size="1MiB", journal="1MiB").close()
    hand_over = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True);"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
        "os.execv(sys.executable, [sys.executable, '-m', 'jrnl', *sys.argv[2:]])"
    )
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(place / "sock"))
        listener.listen()
        process = subprocess.Popen(
            [sys.executable, "-c", hand_over, str(listener.fileno()), words[1], place / "s.jrnl"],
            pass_fds=[listener.fileno()], stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            client.settimeout(PATIENCE)
            client.connect(str(place / "sock"))
            assert client.recv(8) == b"NBDMAGIC"
        finally:
            process.terminate()
            process.wait(PATIENCE)


def test_the_program_in_python_runs_as_it_stands(capsys):
    exec(PYTHON[1], {})
    assert capsys.readouterr().out.startswith("nbd://127.0.0.1:")


def test_every_block_is_run_by_a_test():
    assert (len(SHELL), len(PYTHON), len(INI)) == (5, 2, 2)
    assert len(re.findall(r"^```\w", DOCUMENT, re.M)) == 10  # and the command line of a guest


def test_the_limits_are_those_that_are_told():
    told = DOCUMENT.partition("Limits, so that")[2].partition("\n\n")[0]
    assert f"names of {protocol.STRING_MAX_BYTES >> 10} KiB" in told
    assert f"options of {protocol.OPTION_MAX_BYTES >> 10} KiB" in told
    assert f"{protocol.OPTIONS_MAX:,} options" in told
    assert f"{protocol.EXTENTS_MAX:,} extents" in told
