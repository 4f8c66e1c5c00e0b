"""docs/archive.md: its blocks run as they stand, its figures are those of the code."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.archive import seaweed
from tests.model.places import ROOT

pytest.importorskip("obstore")
pytest.importorskip("zstandard")

from jrnl.archive import collector, lists, packs, table, writer

DOCUMENT = (ROOT / "docs" / "archive.md").read_text()
SHELL, PYTHON = (re.findall(rf"```{kind}\n(.*?)```", DOCUMENT, re.S) for kind in ("sh", "python"))
COMMAND = '#!/bin/sh\nLD_PRELOAD="$JRNL_PRELOAD" exec {} -m jrnl "$@"\n'
BEGIN = "set -euo pipefail\n"
SERVED = "weed server -s3 -dir=seaweed -ip=127.0.0.1"


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short name, and the command in it."""
    with tempfile.TemporaryDirectory(prefix="jrnl-") as folder:
        command = Path(folder) / "bin" / "jrnlctl"
        command.parent.mkdir()
        command.write_text(COMMAND.format(shlex.quote(sys.executable)))
        command.chmod(0o755)
        yield Path(folder)


def run(place: Path, block: str) -> str:
    paths = [*filter(None, map(os.path.abspath, sys.path)), str(ROOT / "src")]
    surrounding = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    shell = subprocess.Popen(
        ["bash", "-c", BEGIN + block], cwd=place, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=surrounding | {
            "PATH": f"{place / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "JRNL_PRELOAD": os.environ.get("LD_PRELOAD", ""),
            "PYTHONPATH": os.pathsep.join(paths),
        },
    )  # fmt: skip
    try:
        shell.wait(300)
    finally:
        with suppress(ProcessLookupError):  # what it has left running
            os.killpg(shell.pid, signal.SIGKILL)
        said, wrong = shell.communicate()
    assert shell.returncode == 0, said + wrong
    return said


def test_the_ten_lines_on_a_folder_run_as_they_stand(place):
    said = run(place, SHELL[0])
    assert "again.jrnl: state 1 of" in said
    assert "all is well" in said
    assert said.endswith("the drill has passed\n")
    assert (place / "drill.json").exists()


def test_the_ten_lines_on_s3_run_as_they_stand_but_for_the_ports(place):
    seaweed.need()
    assert SERVED in SHELL[1]
    names = ("master", "volume", "filer", "s3")
    ports = seaweed.free_ports(2 * len(names))
    told = [f"-{name}.port{kind}={ports.pop()}" for name in names for kind in ("", ".grpc")]
    told += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # another one may have them, too
    told += [f"-{name}.localSocket={place}/{name}.sock" for name in ("filer", "s3")]
    block = SHELL[1].replace(SERVED, " ".join([SERVED, *told]))
    [port] = re.findall(r"-s3.port=([0-9]+)", block)
    assert "standby.jrnl: state 0 of" in run(place, block.replace(":8333", f":{port}"))


def test_the_programs_run_as_they_stand(place, monkeypatch):
    monkeypatch.chdir(place)
    names: dict[str, object] = {}
    for block in PYTHON:
        exec(compile(block, "docs/archive.md", "exec"), names)


def test_every_block_is_run_and_the_ten_lines_are_ten():
    assert (len(SHELL), len(PYTHON)) == (2, 2)
    assert len(re.findall(r"^```\w", DOCUMENT, re.M)) == 4
    assert all(len(block.splitlines()) <= 10 for block in SHELL)


@pytest.mark.parametrize(
    "told",
    [
        f"up to {writer.SEGMENT_BYTES >> 20} MiB",
        f"after {writer.SNAPSHOT_BYTES >> 20} MiB of segments",
        f"(`snapshot_every=`) or {lists.NAMED_MOST} of them",
        f"at most {table.PIECE_BYTES >> 10} KiB",
        f"about {packs.PACK_BYTES >> 20} MiB",
        f"A list of {lists.LISTED} older segments",
    ],
)
def test_the_figures_are_those_of_the_code(told):
    assert told in DOCUMENT
    assert collector.GRACE_SECONDS == 24 * 3600  # "a day"


def test_every_file_that_it_links_to_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", DOCUMENT):
        assert (ROOT / "docs" / target).exists(), target
    for name in re.findall(r"`(examples/\w+\.py)`", DOCUMENT):
        assert (ROOT / name).exists(), name
