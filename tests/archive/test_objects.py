"""The door to an object store, the same for memory, a folder and SeaweedFS."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import threading
import time
from itertools import count

import pytest

import jrnl
from jrnl.archive.objects import KeyTaken, ObjectMissing, from_url
from jrnl.errors import ArchiveRefused, CorruptionError, InvalidArgument, InvalidType
from tests.model import tools

_names = count()


@pytest.fixture(params=["memory", "folder", "seaweed"])
def objects(request, tmp_path):
    if request.param == "memory":
        return from_url(f"memory://objects-{next(_names)}")
    if request.param == "seaweed":
        return request.getfixturevalue("seaweed").objects(f"objects/{next(_names)}")
    return from_url(tmp_path / "made" / "archive")


def test_what_was_created_is_there_and_stays_as_it_is(objects):
    objects.create("seg/1", b"first")
    with pytest.raises(KeyTaken, match="seg/1"):
        objects.create("seg/1", b"other")
    assert objects.get("seg/1") == b"first"
    objects.create("seg/1", b"first")  # our own, as far as can be told


def test_any_bytes_are_taken(objects):
    body = os.urandom(3 << 20)
    objects.create("pack/1", memoryview(body)[5:])
    objects.create("pack/2", b"")
    assert objects.get("pack/1") == body[5:]
    assert objects.get("pack/2") == b""


def test_parts_come_back_and_a_part_behind_the_end_is_damage(objects):
    body = bytes(range(256)) * 100
    objects.create("pack/1", body)
    assert objects.get_range("pack/1", 300, 50) == body[300:350]
    parts = [(0, 10), (25_000, 600), (7, 0), (100, 1)]
    assert objects.get_ranges("pack/1", parts) == [body[a : a + n] for a, n in parts]
    assert objects.get_ranges("pack/1", []) == []
    for start, length in ((25_599, 2), (25_600, 1), (1 << 40, 5), (0, 25_601)):
        with pytest.raises(CorruptionError, match="pack/1"):
            objects.get_range("pack/1", start, length)
    with pytest.raises(InvalidArgument):
        objects.get_range("pack/1", -1, 5)


def test_what_is_missing_is_told_so(objects):
    for read in (
        lambda: objects.get("seg/9"),
        lambda: objects.get_range("seg/9", 0, 1),
        lambda: objects.get_ranges("seg/9", [(0, 1), (5, 5)]),
    ):
        with pytest.raises(ObjectMissing, match="seg/9"):
            read()


def test_what_is_larger_than_it_may_be_is_not_read(objects):
    objects.create("manifest/1", bytes(1001))
    assert objects.get("manifest/1", most=1001) == bytes(1001)
    with pytest.raises(CorruptionError, match="1001 bytes"):
        objects.get("manifest/1", most=1000)


def test_a_listing_rises_and_begins_behind_a_key(objects):
    before = time.time_ns()
    assert list(objects.list("seg/")) == []
    for number in (5, 1, 3, 10, 2):
        objects.create(f"seg/{number:02}", bytes(number))
    objects.create("segments/1", b"")
    found = list(objects.list("seg/"))
    assert [listed.key for listed in found] == ["seg/01", "seg/02", "seg/03", "seg/05", "seg/10"]
    assert [listed.bytes for listed in found] == [1, 2, 3, 5, 10]
    assert all(before - 2e9 <= listed.time_ns <= time.time_ns() + 2e9 for listed in found)
    assert list(objects.list("seg/", after="seg/03")) == found[3:]
    assert list(objects.list("seg/", after="seg/04")) == found[3:]
    assert list(objects.list("seg/", after="seg/10")) == []
    assert {listed.key for listed in objects.list("")} >= {"seg/01", "segments/1"}
    with pytest.raises(InvalidArgument, match="prefix"):
        list(objects.list("seg"))


def test_deleting_what_is_not_there_is_no_error(objects):
    objects.delete(["seg/1"])
    for number in range(4):
        objects.create(f"seg/{number}", b"x")
    objects.delete(["seg/0", "seg/9", "seg/2", "seg/0"])
    objects.delete([])
    assert [listed.key for listed in objects.list("seg/")] == ["seg/1", "seg/3"]


def test_of_racing_threads_one_creates(objects):
    for turn in range(3 if objects.url.startswith("s3:") else 20):  # it takes seconds there
        won = race(objects, f"manifest/{turn}")
        assert len(won) == 1
        assert objects.get(f"manifest/{turn}") == bytes(won)


def race(objects, key: str) -> list[int]:
    won: list[int] = []
    line = threading.Barrier(8)

    def create(number: int) -> None:
        line.wait()
        try:
            objects.create(key, bytes([number]))
        except KeyTaken:
            return
        won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


RACER = """
import sys
from jrnl.archive.objects import KeyTaken, from_url

objects, me = from_url(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for turn in range(100):
    try:
        objects.create(f"manifest/{turn}", f"{turn} {me}".encode() * 1000)
    except KeyTaken:
        continue
    print(turn)
"""


def test_of_racing_processes_one_creates_in_a_folder(tmp_path):
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path / "archive"), str(me)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for me in range(4)
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    told = [racer.communicate(timeout=tools.PATIENCE)[0].split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 4
    assert sorted(int(turn) for won in told for turn in won) == list(range(100))


def test_an_address_names_one_store_in_memory():
    name = f"memory://shared-{next(_names)}"
    from_url(name).create("seg/1", b"here")
    assert from_url(name).get("seg/1") == b"here"
    assert list(from_url(name + "x").list("")) == []


def test_a_folder_that_is_not_there_is_empty_and_stays_away(tmp_path):
    for address in (tmp_path / "no", str(tmp_path / "no"), (tmp_path / "no").as_uri()):
        objects = from_url(address)
        assert list(objects.list("")) == []
        objects.delete(["seg/1"])
        with pytest.raises(ObjectMissing):
            objects.get("seg/1")
        assert not (tmp_path / "no").exists()
    other = from_url(tmp_path / "no")
    other.create("seg/1", b"here")
    assert objects.get("seg/1") == b"here"


def test_a_folder_holds_one_file_an_object_and_nothing_else(tmp_path):
    objects = from_url(tmp_path)
    objects.create("seg/1", b"here")
    with pytest.raises(KeyTaken):
        objects.create("seg/1", b"there")
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert [str(path) for path in files] == ["seg/1"]
    left = tmp_path / "staging" / "left"
    left.write_bytes(b"by a crash")
    fresh = tmp_path / "staging" / "fresh"
    fresh.write_bytes(b"by somebody at work")
    os.utime(left, (time.time() - 90_000,) * 2)
    from_url(tmp_path).create("seg/2", b"here")
    assert not left.exists()
    assert fresh.exists()


def test_a_folder_is_synced_with_what_was_created(tmp_path, monkeypatch):
    synced = []
    sync = os.fsync

    def noted(descriptor):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        synced.append((path, sorted(os.listdir(tmp_path / "a" / "seg")) if path else []))
        return sync(descriptor)

    objects = from_url(tmp_path / "a")
    objects.create("seg/1", b"first")
    monkeypatch.setattr(os, "fsync", noted)
    objects.create("seg/2", b"second")
    assert "/a/staging/" in synced[0][0]
    assert synced[0][1] == ["1"]  # the file is synced before it has its name
    assert [path for path, _ in synced[1:]] == [str(tmp_path / "a" / "seg"), str(tmp_path / "a")]
    assert synced[1][1] == ["1", "2"]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_what_could_not_be_synced_is_synced_before_it_counts(tmp_path, monkeypatch, failing):
    synced = []
    sync = os.fsync
    objects = from_url(tmp_path / "a")
    objects.create("seg/1", b"first")

    def noted(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        if len(synced) == failing + 1:
            raise OSError(errno.EIO, "planted")
        return sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    objects.create("seg/2", b"second")
    assert objects.get("seg/2") == b"second"
    after = synced[failing + 1 :]
    assert after[-2:] == [str(tmp_path / "a" / "seg"), str(tmp_path / "a")]
    assert "/a/staging/" in after[0]


@pytest.mark.parametrize(
    "key", ["../seg", "/seg/1", "seg/../../1", "seg//1", "seg/./1", "Seg/1", "seg/1\n", "seg/", ""]
)
def test_a_key_names_nothing_outside(objects, key):
    for call in (
        lambda: objects.get(key),
        lambda: objects.create(key, b""),
        lambda: objects.get_range(key, 0, 1),
        lambda: objects.delete([key]),
    ):
        with pytest.raises(InvalidArgument, match="key"):
            call()


@pytest.mark.parametrize(
    "url",
    [
        "s3://", "s3:///prefix", "s3://bucket/a//b", "s3://bucket/../a", "s3://b",
        "s3://KEYID:hunter2@bucket/prefix", "s3://bucket/prefix?secret=hunter2",
        "s3://bucket/prefix#hunter2", "https://KEYID:hunter2@host/bucket", "memory://",
        "file://host/path", "file:///path?hunter2", "ftp://KEYID:hunter2@host/x", "", "a\0b",
    ],
)  # fmt: skip
def test_a_wrong_address_is_refused_and_not_quoted(url):
    with pytest.raises(InvalidArgument) as caught:
        from_url(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_wrong_options_are_refused():
    for url, options in (
        ("memory://x", {"endpoint": "http://x"}),
        ("/tmp", {"region": "x"}),
        ("s3://bucket", {"no_such_option": "hunter2"}),
        ("s3://bucket", {"endpoint": "ftp://x"}),
        ("s3://bucket", {"endpoint": "https://KEYID:hunter2@host"}),
        ("s3://bucket", {"endpoint": "host:9000"}),
    ):
        with pytest.raises(InvalidArgument) as caught:
            from_url(url, **options)
        assert "hunter2" not in str(caught.value)
    with pytest.raises(InvalidType):
        from_url(b"/tmp")


def test_credentials_are_not_shown(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    objects = from_url(
        "s3://bucket/some/prefix/", access_key_id="KEYID", secret_access_key="hunter2"
    )
    assert repr(objects) == "<objects at 's3://bucket/some/prefix'>"
    assert objects.url == "s3://bucket/some/prefix"


def test_a_folder_that_may_not_be_written_refuses(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(jrnl.ArchiveError):
        from_url(tmp_path / "file" / "below").create("seg/1", b"")
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    (tmp_path / "shut").mkdir(mode=0o500)
    with pytest.raises(ArchiveRefused):
        from_url(tmp_path / "shut").create("seg/1", b"")


@pytest.mark.parametrize("seed", range(4))
def test_ranges_in_any_order_over_each_other_and_behind_the_end(objects, seed, capfd):
    dice = random.Random(seed)
    body = dice.randbytes(3 << 20)
    objects.create(f"pack/{seed}", body)
    ranges = [(dice.randrange(len(body)), dice.randrange(100_000)) for _ in range(30)]
    ranges = [(start, min(length, len(body) - start)) for start, length in ranges]
    found = objects.get_ranges(f"pack/{seed}", ranges)
    assert [*map(bytes, found)] == [body[start : start + length] for start, length in ranges]
    for start in (len(body) - 5, len(body), len(body) + 5, len(body) + (5 << 20)):
        with pytest.raises(CorruptionError, match="is damaged"):
            objects.get_ranges(f"pack/{seed}", [*ranges, (start, 10)])
    assert capfd.readouterr() == ("", "")  # the library says so there where it panics
