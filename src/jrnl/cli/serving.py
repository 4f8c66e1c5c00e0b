"""The command that serves a store to NBD clients, and to the other commands."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import ExitStack
from threading import Thread
from typing import TYPE_CHECKING

import rich_click as click

from jrnl.api import create as create_store
from jrnl.api import open_store
from jrnl.cli.common import command, say
from jrnl.cli.progress import Shown
from jrnl.cli.stopping import Stopping
from jrnl.cli.tell import log_to_stderr
from jrnl.cli.units import DURATION, PATH, SIZE, URL, size_text
from jrnl.control import ControlServer
from jrnl.watch import serve_metrics

if TYPE_CHECKING:
    from jrnl.nbd import Server
    from jrnl.store import Store

_PORT_MAX = 65535


@command(
    "jrnlctl serve disk.jrnl --unix disk.sock",
    "jrnlctl serve disk.jrnl --port 10809 --read-only",
    "jrnlctl serve --memory 1GiB --journal 256MiB --unix scratch.sock",
    "jrnlctl serve disk.jrnl --unix disk.sock --archive s3://backups/disk --lag-at-most 5s",
    "nbdcopy -- [ jrnlctl serve disk.jrnl ] out.img",
)
@click.argument("path", type=PATH, required=False)
@click.option("--memory", type=SIZE, help="Serve a new store in memory, with one volume, 'data'.")
@click.option("--journal", type=SIZE, help="The journal of that store.  [default: 64MiB]")
@click.option("--unix", type=PATH, help="Listen on this Unix socket.")
@click.option("--port", type=click.IntRange(0, _PORT_MAX), help="Listen on TCP; 0: a free port.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address of that port.")
@click.option("--read-only", is_flag=True, help="Take no writes, and write nothing.")
@click.option(
    "--metrics", type=click.IntRange(0, _PORT_MAX), metavar="PORT",
    help="Serve its metrics to Prometheus on this port of the machine's own, 0: a free one.",
)  # fmt: skip
@click.option(
    "--archive", "url", type=URL, metavar="URL",
    help="Archive it meanwhile: s3://bucket/prefix or a folder; see 'archive'.",
)  # fmt: skip
@click.option(
    "--interval", type=DURATION, metavar="DURATION",
    help="With --archive: how often what is durable is sent.  [default: 1s]",
)  # fmt: skip
@click.option(
    "--lag-at-most", type=DURATION, metavar="DURATION",
    help="With --archive: clients wait while the archive is further behind.",
)  # fmt: skip
@click.option("-v", "--verbose", is_flag=True, help="Log what happens on standard error.")
@click.option(
    "--max-connections", type=click.IntRange(1), default=64, show_default=True,
    help="How many clients there may be at a time.",
)  # fmt: skip
def serve(
    path: str | None,
    memory: int | None,
    journal: int | None,
    unix: str | None,
    port: int | None,
    host: str,
    read_only: bool,
    metrics: int | None,
    url: str | None,
    interval: float | None,
    lag_at_most: float | None,
    verbose: bool,
    max_connections: int,
) -> None:
    """Serve a store by NBD, and to the other commands meanwhile.

    Exports are VOLUME, VOLUME@POINT for reading, VOLUME@POINT+rw for a scratch branch, and @mark,
    whose writes set marks; an empty name is the only volume. Without --unix and --port it serves
    the sockets that systemd hands over, or one client on standard input and output. SIGTERM and
    Ctrl-C end it: what was written is made durable. TCP is not encrypted, and whoever connects may
    write.
    """
    if (path is None) == (memory is None):
        raise click.UsageError("say what to serve: a PATH, or --memory SIZE")
    if journal is not None and memory is None:
        raise click.UsageError("--journal is for --memory; a store on disk has its own")
    if url is None and (interval, lag_at_most) != (None, None):
        raise click.UsageError("--interval and --lag-at-most are for --archive")
    from jrnl import nbd

    log_to_stderr(logging.INFO if verbose else logging.WARNING)
    with ExitStack() as restoring, ExitStack() as closing:
        store = closing.enter_context(_store(path, memory, journal, read_only=read_only))
        if path is not None and not read_only:
            closing.enter_context(ControlServer(store))
        archive = None
        if url is not None:
            with Shown("opening the archive"):
                options = {} if interval is None else {"interval": interval}
                archive = closing.enter_context(
                    store.archive(url, lag_at_most=lag_at_most, **options)
                )
        sockets = nbd.inherited() if unix is None and port is None else []
        listens = bool(sockets) or unix is not None or port is not None
        server = closing.enter_context(nbd.serve(
            store, unix, port, host=host, sockets=sockets, stdio=not listens,
            read_only=read_only, max_connections=max_connections,
        ))  # fmt: skip
        if not listens:
            os.dup2(sys.stderr.fileno(), 1)  # the server has its own: nothing else goes there
        stopping = Stopping(restoring)
        _end_with(server, stopping, restoring)
        where = " and ".join(server.uris) or "inherited sockets"
        if metrics is not None:
            watched = closing.enter_context(serve_metrics(store, metrics))
            where += f", metrics at http://{watched.host}:{watched.port}/metrics"
        if archive is not None:
            where += f", archived at {archive.url}"
        if listens:
            volumes = (f"{name} of {size_text(v.size)}" for name, v in store.volumes.items())
            say(f"{path or 'memory'}: {', '.join(volumes)} at {where}")
            sys.stdout.flush()
        stopping.wait()


def _store(path: str | None, memory: int | None, journal: int | None, *, read_only: bool) -> Store:
    if path is None:
        return create_store(size=memory, journal="64MiB" if journal is None else journal)
    with Shown("opening the store"):
        return open_store(path, "r" if read_only else "r+")


def _end_with(server: Server, stopping: Stopping, restoring: ExitStack) -> None:
    """Have it end when the server does."""

    def wait() -> None:
        server.wait()
        stopping.end()

    thread = Thread(target=wait, daemon=True)
    thread.start()
    restoring.callback(thread.join)  # the server is closed before
