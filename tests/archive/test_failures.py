"""An object store that answers badly: what is tried again, what is not, and what is told."""

from __future__ import annotations

import errno
import random
import threading
import time

import pytest

import jrnl
from jrnl.archive.failures import Patience, TryAgain
from jrnl.archive.objects import KeyTaken, ObjectMissing, from_url
from jrnl.control import archiving
from jrnl.control.report import Silent
from jrnl.errors import (
    ArchiveError,
    ArchiveFull,
    ArchiveRefused,
    ArchiveUnreachable,
    CorruptionError,
)
from tests.archive.bad_server import QUICK, BadServer
from tests.archive.seaweed import free_ports

BODY = bytes(range(256)) * 40
PASSING = ["500", "502", "503", "504", "429", "408", "400/RequestTimeout", "cut", "late"]
REFUSED = ["401", "403"]
WRONG = ["400", "405"]


@pytest.fixture
def server():
    it = BadServer()
    yield it
    it.close()


def calls(objects):
    return {
        "PUT": lambda: objects.create("seg/1", BODY),
        "GET": lambda: objects.get("seg/2"),
        "LIST": lambda: list(objects.list("seg/")),
        "DELETE": lambda: objects.delete(["seg/2"]),
    }


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("method", ["PUT", "GET", "LIST", "DELETE"])
def test_what_passes_is_tried_again(server, method, fault):
    server.objects["seg/2"] = BODY
    server.plan.extend([(method, fault)] * (1 if fault == "late" else 3))
    found = calls(server.reached())[method]()
    assert not server.plan
    if method == "PUT":
        assert server.objects["seg/1"] == BODY
    elif method == "GET":
        assert found == BODY
    elif method == "LIST":
        assert [(each.key, each.bytes) for each in found] == [("seg/2", len(BODY))]
        assert found[0].time_ns == 1_796_056_442_125_000_000
    else:
        assert "seg/2" not in server.objects


@pytest.mark.parametrize("fault", ["half", "cut", "503", "short"])
def test_a_body_that_breaks_off_is_read_again(server, fault):
    server.objects["seg/2"] = BODY
    objects = server.reached()
    if fault != "short":  # a whole body that says that it is shorter is taken for the object
        server.plan.extend([("GET", fault)] * 2)
        assert objects.get("seg/2") == BODY
    server.plan.extend([("GET", fault)] * 2)
    assert objects.get_range("seg/2", 100, 5000) == BODY[100:5100]
    assert not server.plan


@pytest.mark.parametrize("fault", ["done-503", "done-cut", "done-500"])
def test_a_create_that_was_made_and_not_answered_counts(server, fault):
    server.plan.append(("PUT", fault))
    server.reached().create("seg/1", BODY)
    assert server.objects["seg/1"] == BODY
    assert server.seen == ["PUT seg/1", "PUT seg/1", "GET seg/1"]


def test_a_create_that_another_one_was_faster_with_does_not(server):
    server.plan.append(("PUT", "503"))
    server.objects["seg/1"] = b"another's"
    with pytest.raises(KeyTaken, match="seg/1"):
        server.reached().create("seg/1", BODY)
    assert server.objects["seg/1"] == b"another's"
    server.objects["seg/1"] = BODY[:-1] + b"?"
    with pytest.raises(KeyTaken):
        server.reached().create("seg/1", BODY)


@pytest.mark.parametrize("status", ["409", "412"])
def test_a_conflict_over_nothing_is_tried_again(server, status):
    server.plan.append(("PUT", status))
    server.reached().create("seg/1", BODY)
    assert server.objects["seg/1"] == BODY
    assert server.seen == ["PUT seg/1", "GET seg/1", "PUT seg/1"]


def test_reading_back_is_tried_again_too(server):
    server.objects["seg/1"] = BODY
    server.plan.extend([("GET", "503"), ("GET", "half")])
    server.reached().create("seg/1", BODY)
    assert server.objects["seg/1"] == BODY


@pytest.mark.parametrize("status", REFUSED)
@pytest.mark.parametrize("method", ["PUT", "GET", "LIST", "DELETE"])
def test_refused_credentials_are_told_at_once(server, method, status):
    server.plan.extend([(method, status)] * 9)
    with pytest.raises(ArchiveRefused, match="AWS_ACCESS_KEY_ID") as caught:
        calls(server.reached())[method]()
    assert len(server.seen) == 1
    check_silent(caught.value)


@pytest.mark.parametrize("status", WRONG)
@pytest.mark.parametrize("method", ["PUT", "GET", "LIST"])
def test_what_is_never_taken_is_told_at_once(server, method, status):
    server.plan.extend([(method, status)] * 9)
    with pytest.raises(ArchiveError, match=f"HTTP {status}") as caught:
        calls(server.reached())[method]()
    assert len(server.seen) == 1
    check_silent(caught.value)


@pytest.mark.parametrize("fault", ["507/Whatever", "500/XMinioStorageFull", "403/QuotaExceeded"])
def test_a_full_store_is_told_at_once(server, fault):
    server.plan.append(("PUT", fault))
    with pytest.raises(ArchiveFull, match=fault.partition("/")[2]) as caught:
        server.reached().create("seg/1", BODY)
    check_silent(caught.value)


def test_a_listing_begins_behind_a_key_whatever_is_answered(server):
    server.objects.update({f"seg/{k}": BODY for k in range(5)})
    found = [each.key for each in server.reached().list("seg/", after="seg/2")]
    assert found == ["seg/3", "seg/4"]


def check_silent(error):
    """Neither the message nor what a traceback shows has a credential."""
    while error is not None:
        for secret in ("KEYID", "hunter2", "Signature", "127.0.0.1"):
            assert secret not in str(error).replace("AWS_ACCESS_KEY_ID", "")
            assert secret not in repr(error).replace("AWS_ACCESS_KEY_ID", "")
        assert error.__cause__ is None
        error = None if error.__suppress_context__ else error.__context__


@pytest.mark.parametrize("fault", ["503", "cut", "late"])
def test_what_never_ends_is_given_up_in_time(server, fault):
    server.plan.extend([("PUT", fault)] * 1000)
    begun = time.monotonic()
    with pytest.raises(ArchiveUnreachable, match="given up after") as caught:
        server.reached().create("seg/1", BODY)
    assert time.monotonic() - begun < QUICK.deadline_s + 2 * QUICK.request_s
    check_silent(caught.value)


def test_where_nobody_listens_it_is_told_so():
    [port] = free_ports(1)
    patience = Patience(deadline_s=0.3, request_s=1, first_s=0.01)
    objects = from_url(
        "s3://bucket", patience=patience, endpoint=f"http://127.0.0.1:{port}",
        access_key_id="KEYID", secret_access_key="hunter2",
    )  # fmt: skip
    with pytest.raises(ArchiveUnreachable, match="Connection refused") as caught:
        objects.get("seg/1")
    assert "s3://bucket" in str(caught.value)
    check_silent(caught.value)


def test_the_environment_says_where_and_who(server, monkeypatch):
    endpoint = server.reached()._store.config["endpoint"]
    for name, value in (
        ("AWS_ENDPOINT_URL", endpoint), ("AWS_ACCESS_KEY_ID", "KEYID"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2"), ("AWS_REGION", "us-east-1"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    from_url("s3://bucket/prefix", patience=QUICK).create("seg/1", BODY)
    assert server.objects["seg/1"] == BODY


def test_plain_http_is_used_only_where_the_endpoint_says_so(server, monkeypatch):
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    endpoint = server.reached()._store.config["endpoint"].replace("http://", "https://")
    objects = server.reached(Patience(0.2, 0.2, 0.01), endpoint=endpoint)
    with pytest.raises(ArchiveUnreachable):
        objects.get("seg/1")
    assert server.seen == []


class Clock:
    """Time that passes where somebody sleeps."""

    def __init__(self):
        self.now = 0.0
        self.pauses = []

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


def patience_of(clock, chance, **options):
    return Patience(clock=lambda: clock.now, sleep=clock.sleep, chance=chance, **options)


def failing():
    raise TryAgain("half a body")


@pytest.mark.parametrize("chance", [lambda: 0.0, lambda: 1.0, random.random])
def test_pauses_double_with_some_chance_in_them_up_to_the_longest(chance):
    clock = Clock()
    patience = patience_of(clock, chance, deadline_s=30, first_s=0.1, longest_s=5)
    with pytest.raises(ArchiveUnreachable, match="half a body") as caught:
        patience.persist("get seg/1", failing)
    assert "get seg/1" in str(caught.value)
    whole = [min(0.1 * 2**k, 5) for k in range(len(clock.pauses))]
    assert all(w / 2 <= pause <= w for pause, w in zip(clock.pauses, whole, strict=True))
    assert 20 < clock.now <= 30
    assert f"{len(clock.pauses) + 1} attempts" in str(caught.value)


def test_a_sleep_that_raises_ends_it():
    def stop(seconds):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Patience(sleep=stop).persist("get seg/1", failing)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, ArchiveFull), (errno.EDQUOT, ArchiveFull), (errno.EACCES, ArchiveRefused),
        (errno.EROFS, ArchiveRefused), (errno.ENOENT, ObjectMissing), (errno.ENOTDIR, ArchiveError),
        (errno.EIO, ArchiveUnreachable), (errno.EMFILE, ArchiveUnreachable),
    ],
)  # fmt: skip
def test_what_a_folder_refuses_is_told_by_its_kind(number, kind):
    def refused():
        raise OSError(number, "as the system says", "/some/path")

    clock = Clock()
    with pytest.raises(ArchiveError) as caught:
        patience_of(clock, lambda: 1.0, deadline_s=5).persist("create seg/1", refused)
    assert type(caught.value) is kind
    assert (kind is ArchiveUnreachable) == bool(clock.pauses)


def test_damage_is_not_tried_again(server):
    server.objects["seg/1"] = BODY
    objects = server.reached()
    with pytest.raises(CorruptionError):
        objects.get("seg/1", most=10)
    assert len(server.seen) == 1
    with pytest.raises(CorruptionError):
        objects.get_range("seg/1", len(BODY), 10)
    assert server.seen[1:] == ["GET seg/1", "HEAD seg/1"]


def test_a_store_that_is_away_for_a_while_is_waited_for(seaweed):
    objects = seaweed.objects("away", Patience(deadline_s=60, request_s=2))
    objects.create("seg/1", BODY)
    seaweed.pause()
    with pytest.raises(jrnl.ArchiveUnreachable):
        seaweed.objects("away", Patience(deadline_s=1, request_s=1)).get("seg/1")
    seaweed.resume()
    assert objects.get("seg/1") == BODY
    seaweed.stop()
    with pytest.raises(jrnl.ArchiveUnreachable, match="refused"):
        seaweed.objects("away", Patience(deadline_s=1, request_s=1)).get("seg/1")
    seaweed.start()
    objects.create("seg/2", BODY)
    assert objects.get("seg/1") == objects.get("seg/2") == BODY


def test_what_is_wrong_is_told_while_a_request_is_made_again(seaweed, tmp_path):
    with (
        jrnl.create(tmp_path / "s", size=30_000) as store,
        store.archive(seaweed.url("told"), interval=0.01, **seaweed.options) as archive,
    ):
        archive.flush(60)
        assert archive.problem is None
        seaweed.stop()
        store.volume.write(0, b"news")
        with pytest.raises(jrnl.ArchiveLagging, match="tried again"):
            archive.flush(1)  # within the first call: it goes on for a minute
        assert isinstance(archive.problem, jrnl.ArchiveUnreachable)
        assert "hunter2" not in str(archive.problem)
        assert store.metrics()["archive_failing"] == 1
        seaweed.start()
        archive.flush(60)
        until = time.monotonic() + 60
        while archive.problem is not None and time.monotonic() < until:
            time.sleep(0.01)
        assert archive.problem is None
        assert store.metrics()["archive_failing"] == 0


def test_wrong_credentials_are_refused_by_a_real_store(seaweed):
    options = {**seaweed.options, "secret_access_key": "wrong-hunter3"}
    objects = from_url(seaweed.url("refused"), patience=QUICK, **options)
    with pytest.raises(ArchiveRefused, match="SignatureDoesNotMatch") as caught:
        objects.create("seg/1", BODY)
    assert "hunter" not in str(caught.value)


def test_archiving_once_waits_for_a_store_that_is_away_for_a_moment(seaweed, tmp_path):
    url, back = seaweed.url("once"), threading.Timer(1.5, seaweed.start)
    with (
        jrnl.create(tmp_path / "s", size=30_000) as store,
        store.archive(url, interval=0.01, **seaweed.options) as archive,
    ):
        archive.flush(60)
        seaweed.stop()
        store.volume.write(0, b"news")
        back.start()
        told = archiving.archive(store, Silent(), url, once=True)
        back.join()
        assert told["seq"] == store.seq
