"""An object store that speaks S3 and answers badly when it is told to: late, wrong, by half."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.sax.saxutils import escape

from jrnl.archive.objects import Objects, Patience, from_url

QUICK = Patience(deadline_s=3, request_s=1, first_s=0.01, longest_s=0.05)


class BadServer:
    """Objects in memory behind HTTP.

    Attributes
    ----------
    objects : dict
    plan : deque of (method, str)
        What goes wrong next with requests of a method, one by one: a status such as "503" or
        "400/WithCode", "late", "half" (a body that breaks off), "short" (a body that is shorter
        than it may be, and says so), "cut" (no answer), "done-503" and "done-cut" (the request is
        carried out, and that is not said).
    seen : list of str
        Method and key of each request.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.plan: deque[tuple[str, str]] = deque()
        self.seen: list[str] = []
        self._lock = threading.Lock()
        self._server = _Listener(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def reached(self, patience: Patience = QUICK, **options: str) -> Objects:
        """Return the objects in it."""
        return from_url(
            "s3://bucket/prefix",
            patience=patience,
            **{
                "endpoint": f"http://127.0.0.1:{self._server.server_port}",
                "access_key_id": "KEYID",
                "secret_access_key": "hunter2",
                "region": "us-east-1",
                **options,
            },
        )

    def next_fault(self, method: str) -> str:
        with self._lock:
            if self.plan and self.plan[0][0] == method:
                return self.plan.popleft()[1]
        return ""

    def create(self, key: str, body: bytes, *, only_new: bool) -> int:
        with self._lock:
            if only_new and key in self.objects:
                return 412
            self.objects[key] = body
        return 200


def _error(code: str) -> bytes:
    return (
        f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>about hunter2</Message>'
        "<AWSAccessKeyId>KEYID</AWSAccessKeyId></Error>"
    ).encode()


CODES = {
    400: "InvalidRequest", 401: "Unauthorized", 403: "InvalidAccessKeyId", 404: "NoSuchKey",
    405: "MethodNotAllowed", 408: "RequestTimeout", 409: "ConditionalRequestConflict",
    412: "PreconditionFailed", 416: "InvalidRange", 429: "SlowDown", 500: "InternalError",
    502: "BadGateway", 503: "SlowDown", 504: "GatewayTimeout", 507: "InsufficientStorage",
}  # fmt: skip


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, bad: BadServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bad = bad

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients go away in the middle of it."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve("LIST" if "list-type=2" in self.path else "GET")

    def do_HEAD(self) -> None:
        self._serve("HEAD")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def do_POST(self) -> None:
        self._serve("DELETE")

    def _serve(self, method: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        key = self.path.partition("?")[0].removeprefix("/bucket/").removeprefix("prefix/")
        self.server.bad.seen.append(f"{method} {key}")
        fault = self.server.bad.next_fault(method)
        if fault == "late":
            time.sleep(1.5)
        if fault == "cut":
            self.close_connection = True
            return
        if fault[:3].isdigit():
            status, _, code = fault.partition("/")
            self._answer(int(status), _error(code or CODES[int(status)]))
            return
        done, answer, headers = self._carry_out(method, key, body)
        if fault == "done-cut":
            self.close_connection = True
            return
        if fault.startswith("done-"):
            done, answer = int(fault[5:]), _error(CODES[int(fault[5:])])
        self._answer(done, answer, headers, half=fault == "half", short=fault == "short")

    def _carry_out(self, method: str, key: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        if method == "PUT":
            only_new = self.headers.get("If-None-Match") == "*"
            status = self.server.bad.create(key, body, only_new=only_new)
            return status, b"" if status == 200 else _error(CODES[status]), {}
        if method == "LIST":
            return 200, _listing(self.server.bad.objects), {}
        if method == "DELETE":
            told = ""
            for name in re.findall(r"<Key>prefix/([^<]+)</Key>", body.decode()):
                self.server.bad.objects.pop(name, None)
                told += f"<Deleted><Key>prefix/{name}</Key></Deleted>"
            return 200, f"<DeleteResult>{told}</DeleteResult>".encode(), {}
        found = self.server.bad.objects.get(key)
        if found is None:
            return 404, _error("NoSuchKey"), {}
        wanted = self.headers.get("Range")
        if wanted is None:
            return 200, found, {}
        first, last = (int(part) for part in wanted.removeprefix("bytes=").split("-"))
        if first >= len(found):
            return 416, _error("InvalidRange"), {}
        last = min(last, len(found) - 1)
        place = {"Content-Range": f"bytes {first}-{last}/{len(found)}"}
        return 206, found[first : last + 1], place

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, *,
        half: bool = False, short: bool = False,
    ) -> None:  # fmt: skip
        if short:
            body = body[: len(body) // 2]
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Mon, 30 Nov 2026 16:34:02 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if half else body)
        self.close_connection = half


def _listing(objects: dict[str, bytes]) -> bytes:
    found = "".join(
        f"<Contents><Key>prefix/{escape(key)}</Key><LastModified>2026-11-30T16:34:02.125Z"
        f'</LastModified><ETag>"1"</ETag><Size>{len(body)}</Size></Contents>'
        for key, body in sorted(objects.items())
    )
    return (
        '<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>'
        f"{found}</ListBucketResult>"
    ).encode()
