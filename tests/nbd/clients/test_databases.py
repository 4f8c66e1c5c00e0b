"""SQLite and PostgreSQL on ext4 over NBD, when the server is killed: what was committed is there.

    database -> ext4 -> loop device -> nbdfuse -> the server, in a process of its own

A flush has to come through all of it. Needs root, FUSE, loop devices and the Debian packages
libnbd-bin, e2fsprogs and postgresql.
"""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

import jrnl
from tests.model.mounts import TOOLS, lacking_right, mounted
from tests.model.tools import PATIENCE, command, environment, need, run, until

CLIENTS = 4  # of pgbench
EXT4 = ("-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0")
SQLITE = """
import sqlite3, sys
path, mode = sys.argv[1:]
db = sqlite3.connect(path, isolation_level=None)
db.execute(f"PRAGMA journal_mode={mode}")
db.execute("PRAGMA synchronous=EXTRA")   # FULL does not sync the folder of a removed journal
db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, content BLOB)")
for n in range(1, 100_000):
    db.execute("INSERT INTO t VALUES (?, randomblob(3000))", (n,))
    print(n, flush=True)
"""


@pytest.fixture(autouse=True)
def may_mount():
    need("mkfs.ext4", "e2fsck", *TOOLS, right=lacking_right("ext4"))


@contextmanager
def ext4(outside, folder: Path, make: tuple[str, ...] = ()) -> Iterator[Path]:
    with ExitStack() as stack:
        disk = outside.fused("data", stack)
        yield stack.enter_context(mounted(disk, folder, "ext4", make=make))


def checked(outside) -> None:
    """The file system is whole, and so is the store."""
    with ExitStack() as stack:
        run("e2fsck", "-f", "-n", outside.fused("data", stack))
    outside.stop()
    with jrnl.open(outside.path, mode="r") as store:
        assert store.verify().ok


# SQLite.


def committed(process: subprocess.Popen[str], count: int) -> int:
    """Read what was committed until it is so many, or to the end."""
    assert process.stdout is not None
    last = 0
    while last < count and (line := process.stdout.readline()):
        last = int(line)
    return last


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_what_sqlite_has_committed_outlives_a_killed_server(outside, tmp_path, mode):
    jrnl.create(outside.path, size="32MiB", journal="64MiB").close()
    outside.start()
    with ext4(outside, tmp_path / "mnt", EXT4) as root:
        writer = subprocess.Popen(
            [sys.executable, "-c", SQLITE, root / "db", mode],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip
        try:
            assert committed(writer, 40) == 40
            outside.kill()
            last = max(40, committed(writer, sys.maxsize))
            assert writer.wait(PATIENCE) != 0  # its disk is gone
        finally:
            writer.kill()
            writer.communicate()
    outside.start()
    with ext4(outside, tmp_path / "mnt") as root:
        db = sqlite3.connect(root / "db")
        found = db.execute("SELECT count(*), max(n), sum(length(content)) FROM t").fetchall()
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        db.close()
    ((count, largest, length),) = found
    assert last <= count == largest <= last + 1
    assert length == 3000 * count
    checked(outside)


# PostgreSQL.


def programs() -> Path | None:
    """Return where PostgreSQL's are."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))
    return found[-1].parent if found else None


class Cluster:
    """A PostgreSQL server, which runs as the user that Debian makes for it."""

    def __init__(self, data: Path, sockets: Path) -> None:
        self.data, self.sockets = data, sockets
        self._process: subprocess.Popen[bytes] | None = None

    def command(self, name: str, *arguments: object) -> list[str]:
        path = programs()
        assert path is not None
        who = ["--reuid=postgres", "--regid=postgres", "--init-groups"]
        return command("setpriv", *who, path / name, *arguments)

    def run(self, name: str, *arguments: object) -> str:
        done = subprocess.run(
            self.command(name, *arguments), capture_output=True, text=True, cwd=self.sockets,
            env=environment(), timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def create(self) -> None:
        self.data.mkdir()
        shutil.chown(self.data, "postgres", "postgres")
        options = ("-A", "trust", "--no-sync", "--wal-segsize=1", "--no-locale", "-E", "UTF8")
        self.run("initdb", *options, "-D", self.data)
        run("sync", "--file-system", self.data)

    @contextmanager
    def started(self) -> Iterator[None]:
        """Serve on a Unix socket alone; at the end it is stopped without a checkpoint."""
        settings = {"listen_addresses": "", "unix_socket_directories": self.sockets,
                    "shared_buffers": "16MB", "max_wal_size": "16MB", "fsync": "on",
                    "checkpoint_timeout": "30s", "restart_after_crash": "off"}  # fmt: skip
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with open(self.sockets / "log", "ab") as log:
            self._process = subprocess.Popen(
                self.command("postgres", "-D", self.data, *words), stdout=log, stderr=log,
                cwd=self.sockets, env=environment(),
            )  # fmt: skip
        try:
            try:
                until(self._is_ready, "postgres", self._process)
            except AssertionError as error:
                error.add_note((self.sockets / "log").read_text())
                raise
            yield
        finally:
            self._stop()

    def _is_ready(self) -> bool:
        done = subprocess.run(
            self.command("pg_isready", "-h", self.sockets), capture_output=True,
            env=environment(), timeout=PATIENCE, check=False,
        )  # fmt: skip
        return done.returncode == 0

    def _stop(self) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(20)
        self._process.kill()
        self._process.wait()

    def query(self, text: str) -> list[str]:
        return self.run("psql", "-h", self.sockets, "-At", "-c", text, "postgres").split("|")


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder of the user postgres: a socket's path must be short."""
    with tempfile.TemporaryDirectory(prefix="jrnl-") as folder:
        shutil.chown(folder, "postgres", "postgres")
        yield Path(folder)


@pytest.fixture
def postgresql():
    need("setpriv", packages=() if programs() else ("postgresql",))


def test_what_pgbench_has_committed_outlives_a_killed_server(postgresql, outside, sockets):
    jrnl.create(outside.path, size="192MiB", journal="256MiB").close()
    cluster = Cluster(sockets / "mnt" / "data", sockets)
    outside.start()
    with ext4(outside, sockets / "mnt", EXT4):
        cluster.create()
        with cluster.started():
            bench = ("pgbench", "-h", sockets)
            cluster.run(*bench, "-i", "-s", "1", "-q", "--no-vacuum", "postgres")
            load = subprocess.Popen(
                cluster.command(*bench, "-n", "-c", CLIENTS, "-T", "60", "-l", "postgres"),
                cwd=sockets, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(),
            )  # fmt: skip
            try:
                until(lambda: int(cluster.query("SELECT count(*) FROM pgbench_history")[0]) > 200,
                      "pgbench", load)  # fmt: skip
                outside.kill()
                said = load.communicate(timeout=PATIENCE)[0].decode()
            finally:
                load.kill()
                load.wait()
            assert load.returncode != 0, said
    # A line for each transaction whose end the client was told.
    told = sum(len(path.read_text().splitlines()) for path in sockets.glob("pgbench_log*"))
    assert told > 0
    outside.start()
    with ext4(outside, sockets / "mnt"):
        assert "in production" in cluster.run("pg_controldata", cluster.data)
        with cluster.started():
            found = cluster.query("SELECT count(*), sum(delta) FROM pgbench_history")
            assert told <= int(found[0]) <= told + CLIENTS
            for name in ("account", "teller", "branch"):
                table = f"pgbench_{name}es" if name == "branch" else f"pgbench_{name}s"
                assert cluster.query(f"SELECT sum({name[0]}balance) FROM {table}") == found[1:]
            cluster.run("pg_amcheck", "-h", sockets, "--install-missing", "postgres")
    assert "redo done" in (sockets / "log").read_text()
    checked(outside)
