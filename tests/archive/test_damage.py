"""An archive with objects that are damaged or missing: what is told, and what is served still."""

from __future__ import annotations

import time

import pytest

import jrnl
from jrnl.archive.objects import from_url
from tests.archive.histories import Archived, content_of, new_url


@pytest.fixture(scope="module")
def archived(tmp_path_factory):
    with Archived(tmp_path_factory.mktemp("damage"), new_url(), 20, snapshot_every="50KiB") as made:
        made.rounds(4, 30)
        made.archive.close()
        yield made


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """An archive without any rewind."""
    with Archived(tmp_path_factory.mktemp("damage"), new_url(), 21, snapshot_every="50KiB") as made:
        made.rounds(3, 30, rewinds=False)
        made.archive.close()
        yield made


def copied(archived, change):
    """Another archive with the same objects, one of them changed: `change` of key and body."""
    url = new_url()
    objects = from_url(url)
    for listed in archived.objects.list(""):
        body = change(listed.key, archived.objects.get(listed.key))
        if body is not None:
            objects.create(listed.key, body)
    return url


def damaged(key, how):
    def change(other, body):
        if other != key:
            return body
        if how == "missing":
            return None
        if how == "cut":
            return body[: len(body) // 2]
        place = {"head": 3, "middle": len(body) // 2, "end": len(body) - 1}[how]
        return body[:place] + bytes([body[place] ^ 0x55]) + body[place + 1 :]

    return change


HOW = ["missing", "cut", "head", "middle", "end"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("prefix", ["seg/", "snap/", "pack/"])
@pytest.mark.parametrize("which", ["archived", "straight"])
def test_what_is_damaged_is_named_and_all_other_states_are_served(request, which, prefix, how):
    archived = request.getfixturevalue(which)
    keys = archived.keys(prefix)
    assert len(keys) > 2
    for key in (keys[0], keys[len(keys) // 2]):
        url = copied(archived, damaged(key, how))
        served = refused = 0
        for seq in [*archived.states][::7]:
            try:
                with jrnl.archive.open(url, seq) as state:
                    assert content_of(state) == archived.states[seq], (key, seq)
                    served += 1
            except jrnl.CorruptionError as error:
                assert key in str(error)
                assert "the states" in str(error)
                first, last = told_states(str(error))
                assert first <= seq <= last
                refused += 1
        if which == "straight":  # else a rewind may lead back to before all snapshots
            assert served
            assert refused or prefix != "seg/"


def told_states(message):
    words = message.split("the states ")[1].split()
    return int(words[0]), int(words[2])


def test_the_states_that_are_said_to_need_it_are_those_that_do(straight):
    key = straight.keys("seg/")[3]
    url = copied(straight, damaged(key, "missing"))
    refused = {}
    for seq in straight.states:
        try:
            with jrnl.archive.open(url, seq) as state:
                content_of(state)
        except jrnl.CorruptionError as error:
            refused[seq] = told_states(str(error))
    assert refused
    [(first, last)] = {*refused.values()}
    assert {*refused} == {seq for seq in straight.states if first <= seq <= last}


@pytest.mark.parametrize("how", ["missing", "middle"])
@pytest.mark.parametrize("prefix", ["seg/", "snap/", "pack/", "manifest/"])
def test_verifying_names_what_is_damaged(archived, prefix, how):
    for key in archived.keys(prefix)[1:-1:7]:
        url = copied(archived, damaged(key, how))
        report = jrnl.archive.verify(url)
        assert not report.ok
        if prefix == "manifest/" and how == "missing":
            assert any("1 are missing" in problem for problem in report.problems)
        else:
            assert any(problem.startswith(key) for problem in report.problems), report.problems


def test_verifying_reads_all_of_a_whole_archive(archived):
    told = []
    report = jrnl.archive.verify(archived.url, lambda done, total: told.append((done, total)))
    assert report.ok
    assert not report.problems
    total = sum(listed.bytes for listed in archived.objects.list(""))
    assert report.bytes == total
    assert told[-1] == (total, total)
    assert told == sorted(told)
    assert report.segments == len(archived.keys("seg/"))
    assert report.packs == len(archived.keys("pack/"))
    assert report.snapshots == len(archived.keys("snap/"))
    assert report.seq == archived.store.seq


def test_verifying_tells_of_what_nothing_names_once_it_is_old(archived):
    stray = "pack/00000009-000000000009"
    url = copied(archived, lambda key, body: body)
    from_url(url).create(stray, b"left behind")
    assert jrnl.archive.verify(url).ok
    time.sleep(0.01)
    from_url(url).create("pack/00000009-000000000010", b"left behind later")
    report = jrnl.archive.verify(url, grace=0.005)
    assert any(problem.startswith(stray) for problem in report.problems)


def test_verifying_tells_of_a_manifest_that_follows_another_one(archived):
    keys = archived.keys("manifest/")
    other = jrnl.archive.ledger.Ledger(archived.objects).read(4)
    forged = jrnl.archive.manifest.replace(other, writer="f00d").to_bytes()
    url = copied(archived, lambda key, body: forged if key == keys[3] else body)
    report = jrnl.archive.verify(url)
    assert any("does not follow" in problem for problem in report.problems)


def test_without_a_whole_manifest_there_is_no_archive(archived):
    url = copied(archived, lambda key, body: b"x" if key.startswith("manifest/") else body)
    with pytest.raises(jrnl.CorruptionError, match="manifest/"):
        jrnl.archive.open(url)
    with pytest.raises(jrnl.ArchiveError, match="no archive"):
        jrnl.archive.verify(url)
    with pytest.raises(jrnl.ArchiveError, match="no archive"):
        jrnl.archive.verify(new_url())
