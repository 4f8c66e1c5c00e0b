"""A store that breaks a promise an archive stands on is refused, with what was seen."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

import jrnl
from jrnl.archive import preflight
from jrnl.archive.objects import KeyTaken, ObjectMissing, from_url


@pytest.fixture(params=["memory", "folder", "seaweed"])
def objects(request, tmp_path):
    if request.param == "seaweed":
        return request.getfixturevalue("seaweed").objects("preflight")
    return from_url(tmp_path / "a") if request.param == "folder" else in_memory(tmp_path)


def in_memory(tmp_path):
    return from_url(f"memory://preflight-{tmp_path}")


class Wrapped:
    """A store that does as another one, but for what a test changes."""

    def __init__(self, objects):
        self.objects = objects
        self.url = objects.url

    def create(self, key, body):
        self.objects.create(key, body)

    def get(self, key, most=1 << 30):
        return self.objects.get(key, most)

    def get_range(self, key, start, length):
        return self.objects.get_range(key, start, length)

    def list(self, prefix, after=""):
        return self.objects.list(prefix, after)

    def delete(self, keys):
        self.objects.delete(keys)


def test_a_good_store_passes_and_nothing_is_left(objects):
    preflight.check(objects)
    preflight.check(Wrapped(objects))
    assert list(objects.list("")) == []


class Overwrites(Wrapped):
    def create(self, key, body):
        self.objects.delete([key])
        self.objects.create(key, body)


class OverwritesAndSaysNo(Wrapped):
    def create(self, key, body):
        try:
            self.objects.create(key, body)
        except KeyTaken:
            self.objects.delete([key])
            self.objects.create(key, body)
            raise


class LooksThenPuts(Wrapped):
    """Two requests: whoever looks before the other has put wins, too."""

    def __init__(self, objects):
        super().__init__(objects)
        self.line = threading.Barrier(preflight.RACERS)

    def create(self, key, body):
        try:
            self.objects.get(key)
        except ObjectMissing:
            if "race" in key:
                self.line.wait()
            self.objects.delete([key])
            with suppress(KeyTaken):
                self.objects.create(key, body)
        else:
            raise KeyTaken(key)


class NobodyWins(Wrapped):
    def create(self, key, body):
        self.objects.create(key, body)
        if "race" in key:
            raise KeyTaken(key)


class LoserStands(Wrapped):
    turn = threading.Lock()

    def create(self, key, body):
        with self.turn:
            try:
                self.objects.create(key, body)
            except KeyTaken:
                if "race" in key:
                    self.objects.delete([key])
                    self.objects.create(key, b"the loser's")
                raise


class ListsStale(Wrapped):
    def list(self, prefix, after=""):
        return iter(list(self.objects.list(prefix, after))[:-1])


class ListsAll(Wrapped):
    def list(self, prefix, after=""):
        return self.objects.list(prefix)


class ListsBackwards(Wrapped):
    def list(self, prefix, after=""):
        return iter(list(self.objects.list(prefix, after))[::-1])


class Forgets(Wrapped):
    def get(self, key, most=0):
        raise ObjectMissing(key)


class ChangesBytes(Wrapped):
    def get(self, key, most=1 << 30):
        return self.objects.get(key)[:-1] + b"?"


class WrongPart(Wrapped):
    def get_range(self, key, start, length):
        return self.objects.get_range(key, start + 1, length)


class KeepsAll(Wrapped):
    def delete(self, keys):
        pass


@pytest.mark.parametrize(
    ("bad", "seen"),
    [
        (Overwrites, "second object was created"),
        (OverwritesAndSaysNo, "replaced the first"),
        (LooksThenPuts, "8 were taken"),
        (NobodyWins, "0 were taken"),
        (LoserStands, "lost a race"),
        (ListsStale, "showed 2 of 3"),
        (ListsAll, "behind a key"),
        (ListsBackwards, "showed 3 of 3"),
        (Forgets, "is not there"),
        (ChangesBytes, "not those that were put"),
        (WrongPart, "part of an object"),
        (KeepsAll, "after their deletion"),
    ],
)
def test_a_store_that_breaks_a_promise_is_refused(bad, seen, tmp_path):
    objects = in_memory(tmp_path)
    with pytest.raises(jrnl.ArchiveUnfit, match=seen) as caught:
        preflight.check(bad(objects))
    assert isinstance(caught.value, jrnl.ArchiveError)
    if bad is not KeepsAll:
        assert list(objects.list("")) == []
