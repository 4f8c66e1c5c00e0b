"""Metrics of a store, served to Prometheus; takes ``pip install 'jrnl-engine[metrics]'``."""

from __future__ import annotations

import ipaddress
import socket
import threading
from typing import TYPE_CHECKING, Any

from jrnl.closeable import ClosesItself
from jrnl.errors import InvalidArgument, InvalidType, StoreBusy, StoreClosed, StoreLocked
from jrnl.extras import need
from jrnl.metrics import ARCHIVED, COUNTER, METRICS, ON_DISK
from jrnl.sizes import as_flag

if TYPE_CHECKING:
    from collections.abc import Iterator
    from wsgiref.simple_server import WSGIServer

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from jrnl.store import Store

_PORT_MAX = 65535
_PREFIX = "jrnl_"


class MetricsServer(ClosesItself):
    """An HTTP server of one store's metrics, on a thread of its own; made by `serve_metrics`.

    Attributes
    ----------
    host : str
    port : int
        Where it listens: ``http://host:port/metrics``.
    """

    def __init__(self, server: WSGIServer, thread: threading.Thread) -> None:
        self._server, self._thread = server, thread
        self._closing = threading.Lock()
        self._open = True
        self.host, self.port = str(server.server_address[0]), int(server.server_address[1])

    def __repr__(self) -> str:
        return f"<jrnl.MetricsServer at {self.host}:{self.port}{'' if self._open else ', closed'}>"

    def close(self) -> None:
        """Listen no more. Closing twice is fine; the store stays as it is."""
        with self._closing:
            if not self._open:
                return
            self._open = False
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Collector:
    """Reads a store's metrics when it is asked for them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        try:
            numbers = self._store.metrics()
        except (StoreClosed, StoreLocked, StoreBusy):
            numbers = {}
        yield GaugeMetricFamily(_PREFIX + "up", "1: the store is open.", int(bool(numbers)))
        for name, metric in {**METRICS, **ON_DISK, **ARCHIVED}.items():
            if name in numbers:
                family: Any = CounterMetricFamily if metric.kind == COUNTER else GaugeMetricFamily
                yield family(_PREFIX + name, f"{metric.text} [{metric.unit}]", numbers[name])


def registry(store: Store) -> CollectorRegistry:
    """Return a registry of prometheus-client with a store's metrics, read when it is asked.

    Raises
    ------
    MissingPackage
        prometheus-client is not installed.
    """
    made: CollectorRegistry = need("prometheus_client", "metrics").CollectorRegistry(
        auto_describe=False
    )
    made.register(_Collector(store))
    return made


def serve_metrics(
    store: Store, port: int, host: str = "127.0.0.1", *, anywhere: bool = False
) -> MetricsServer:
    """Serve a store's metrics to Prometheus, over HTTP, until the server is closed.

    All are named ``jrnl_...``; ``jrnl_up`` is 0 once the store is closed, and the others are gone.
    There is no password: who can connect can read the numbers.

    Parameters
    ----------
    store : Store
    port : int
        0: one that is free; `MetricsServer.port` tells which.
    host : str
        An address, or a name.
    anywhere : bool
        Allow a `host` that others than this machine's own programs can reach.

    Raises
    ------
    InvalidArgument, InvalidType
        No port, or a host that is not this machine's alone.
    MissingPackage
        prometheus-client is not installed.
    OSError
        The port is taken, or the host unknown.
    """
    if isinstance(port, bool) or not isinstance(port, int):
        raise InvalidType(f"a port is an int, not {type(port).__name__}")
    if not 0 <= port <= _PORT_MAX:
        raise InvalidArgument(f"a port is between 0, for any, and {_PORT_MAX}, not {port}")
    if not isinstance(host, str):
        raise InvalidType(f"a host is a str, not {type(host).__name__}")
    address = _address_of(host, port)
    if not as_flag(anywhere, "anywhere") and not ipaddress.ip_address(address).is_loopback:
        raise InvalidArgument(
            f"{host!r} is not this machine's alone, and the numbers have no password: take "
            "'127.0.0.1', or pass anywhere=True"
        )
    made = registry(store)
    from prometheus_client import start_http_server

    return MetricsServer(*start_http_server(port, address, made))


def _address_of(host: str, port: int) -> str:
    """Return the address that a host has, as a number: what is checked is what is listened at."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return str(found[0][4][0])
