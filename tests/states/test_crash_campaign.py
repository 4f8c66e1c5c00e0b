"""Crash states by id, the first bad one, the smallest bad one; campaigns, and what they leave."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path

import pytest

import jrnl
from jrnl import crash, logwrites


def records(size="64KiB", **options):
    """A toy store: records, and a count of them; the second record's flush is forgotten."""
    store = jrnl.create(size=size, journal="1MiB", **options)
    volume = store.volume
    volume.write(4096, b"a" * 512)
    store.flush()
    volume.write(0, b"\1" * 512)
    store.flush()
    volume.write(8192, b"b" * 1024)
    volume.write(12288, b"z" * 512)
    volume.write(0, b"\2" * 512)
    store.flush()
    return store


def is_sound(state):
    count = state.read(0, 1)[0]
    for k, (letter, length) in enumerate([(b"a", 512), (b"b", 1024)][:count], 1):
        assert state.read(4096 * k, length) == letter * length, f"record {k} is not there"
    assert count >= (state.acked >= 4) + (state.acked >= 8)


def test_a_campaign_finds_the_forgotten_flush_and_shrinks_it(tmp_path):
    store = records()
    summary = crash.campaign(store, is_sound, bundles=tmp_path, name="toy")
    assert not summary.ok
    assert [failure.id for failure in summary.failures] == ["7-s1", "7-s3"]
    first = summary.failures[0]
    assert first.shrunk == "7-s1"
    assert "record 2 is not there" in first.message
    assert "entry 5: write of 1024 bytes at offset 8192 of 'data', after flush 4" in str(summary)
    assert "10 states, all that there are" in str(summary)
    told = json.loads((tmp_path / "crash-7-s1" / "state.json").read_text())
    assert told["id"] == first.id
    assert first.bundle == str(tmp_path / "crash-7-s1")
    image = (tmp_path / "crash-7-s1" / "data.img").read_bytes()
    assert image == crash.state(store, first.id).read(0, store.volume.size)


def test_a_bundle_makes_the_state_again_from_itself(tmp_path, monkeypatch):
    store = records()
    summary = crash.campaign(store, is_sound, mode="torn", bundles=tmp_path)
    monkeypatch.chdir(summary.failures[0].bundle)
    told = json.loads(Path("state.json").read_text())
    again = eval(told["replay"], {"jrnl": jrnl})
    assert again.digest() == crash.state(store, told["id"]).digest()
    with pytest.raises(AssertionError):
        is_sound(again)


def test_entries_that_are_no_whole_sectors_come_back_from_a_bundle(tmp_path, monkeypatch):
    store = jrnl.create(size=10_000, journal="1MiB")
    store.volume.write(100, b"x" * 700)
    store.flush()
    store.volume.write(300, b"y" * 9_000)
    store.volume.discard(50, 333)
    store.volume.write(9_990, b"z" * 10)
    summary = crash.campaign(store, lambda s: s.read(9_999, 1) != b"z", bundles=tmp_path)
    monkeypatch.chdir(summary.failures[0].bundle)
    told = json.loads(Path("state.json").read_text())
    content = Path("data.img").read_bytes()
    assert len(content) == 10_000
    assert eval(told["replay"], {"jrnl": jrnl}).read(0, 10_000) == content


@pytest.mark.parametrize("damage", ["garbage", "unreadable"])
def test_a_damaged_state_leaves_a_bundle_too(damage, tmp_path, monkeypatch):
    store = jrnl.create(size=8192, journal="64KiB")
    store.volume.write(0, b"x" * 1024)
    check = partial(reads_old_or_new, size=1024)
    [failure, _] = crash.campaign(
        store, check, mode="torn", damage=damage, bundles=tmp_path
    ).failures  # fmt: skip
    monkeypatch.chdir(failure.bundle)
    told = json.loads(Path("state.json").read_text())
    again = eval(told["replay"], {"jrnl": jrnl})
    assert again.id == failure.id
    assert check(again) is False
    if damage == "garbage":
        assert Path("data.img").read_bytes() == again.read(0, 8192)
    else:
        assert Path("data.img").read_bytes() == bytes(512) + b"x" * 512 + bytes(7168)


def reads_old_or_new(state, size):
    try:
        return {*state.read(0, size)} <= {*b"x\0"}
    except OSError:
        return False


@pytest.mark.parametrize(
    ("options", "without"),
    [
        ({"mode": "subset"}, set()),
        ({"mode": "torn"}, set()),
        (
            {"mode": "torn", "damage": "garbage"},
            {"1-g0", "3-g0", "3-g1", "5-g2", "5-g3", "6-g4", "6-g6"},
        ),
    ],
)
def test_every_state_comes_back_from_its_bundle(options, without, tmp_path, monkeypatch):
    store = jrnl.create(size=5_000, journal="1MiB")
    store.volume.write(100, b"w" * 300)
    store.flush()
    store.volume.write(700, b"x" * 700)
    store.mark("what changes nothing is in no bundle")
    store.volume.write(900, b"y" * 300)
    store.volume.discard(1_100, 1_000)
    summary = crash.campaign(
        store, lambda state: False, bundles=tmp_path, failures_max=1000, shrink_max=0, **options
    )
    for failure in summary.failures:
        monkeypatch.chdir(failure.bundle)
        told = json.loads(Path("state.json").read_text())
        if failure.id in without:  # a part of a sector is damaged
            assert "replay" not in told
            continue
        assert "replay" in told, failure.id
        content = eval(told["replay"], {"jrnl": jrnl}).read(0, 5_000)
        assert content == crash.state(store, failure.id).read(0, 5_000), failure.id


def test_a_long_entry_is_torn_in_a_bundle_as_in_its_history(tmp_path, monkeypatch):
    store = jrnl.create(size="1MiB", journal="8MiB")
    store.volume.write(100, b"w" * (512 << 10))
    state = crash.state(store, "1-t2")
    monkeypatch.chdir(crash.bundle.write_bundle(state, "", tmp_path))
    told = json.loads(Path("state.json").read_text())
    assert eval(told["replay"], {"jrnl": jrnl}).digest() == state.digest()


@pytest.mark.parametrize("jobs", [1, 2, 3])
@pytest.mark.parametrize("mode", ["prefix", "subset", "torn"])
def test_jobs_side_by_side_find_what_one_finds(jobs, mode):
    store = records()
    one = crash.campaign(store, is_sound, mode=mode, failures_max=10**6)
    more = crash.campaign(store, is_sound, jobs, mode=mode, failures_max=10**6)
    assert more.failures == one.failures
    assert more.coverage == one.coverage


def test_a_command_is_a_check_and_its_words_are_told(tmp_path):
    store = records()
    for jobs in (1, 2):
        summary = crash.campaign(store, "grep -q b {}", jobs)
        assert [failure.id for failure in summary.failures][:3] == ["0", "2", "4"]
        assert "grep ended with status 1" in summary.failures[0].message
    assert crash.campaign(store, ["test", "-r", "{}"], 2).ok
    with pytest.raises(jrnl.InvalidArgument, match=r"has no \{\}"):
        crash.campaign(store, "grep b")
    with pytest.raises(jrnl.InvalidType, match="a check is a callable or a command"):
        crash.campaign(store, 7)


def test_a_check_that_dies_is_a_failure_of_its_state():
    def check(state):
        if state.id == "6":
            os.kill(os.getpid(), signal.SIGKILL)

    summary = crash.campaign(records(), check, 2)
    assert [(bad.id, bad.shrunk) for bad in summary.failures] == [("6", None)]
    assert "exit code -9" in summary.failures[0].message


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_every_state_is_looked_at_though_checks_die_or_hang(jobs):
    def check(state):
        if state.id in ("2", "4"):
            os.kill(os.getpid(), signal.SIGKILL)
        while state.id in ("6", "6-s1"):
            time.sleep(1)
        return state.id != "8"

    summary = crash.campaign(records(), check, jobs, timeout=0.5)
    assert [bad.id for bad in summary.failures] == ["2", "4", "6", "6-s1", "8"]
    assert summary.coverage.looked == 10
    said = [bad.message for bad in summary.failures]
    assert "exit code -9" in said[0] and "has not ended after 0.5 s" in said[2]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_command_that_hangs_is_ended_and_its_state_bad(jobs):
    command = ["sh", "-c", "grep -q b $0 || exec sleep 60", "{}"]
    began = time.monotonic()
    summary = crash.campaign(records(), command, jobs, timeout=0.5)
    assert summary.failures and time.monotonic() - began < 50
    assert all("has not ended after 0.5 s" in bad.message for bad in summary.failures)


def test_what_hangs_is_shrunk_all_the_same():
    def check(state):
        while state.lost:
            time.sleep(1)

    summary = crash.campaign(records(), check, failures_max=1, timeout=0.2, mode="subset")
    whole = crash.campaign(records(), lambda state: not state.lost, failures_max=1)
    assert summary.failures[0].shrunk == whole.failures[0].shrunk is not None
    with pytest.raises(jrnl.InvalidArgument, match="timeout must be"):
        crash.campaign(records(), check, timeout=0)


@pytest.mark.parametrize("leave", [os._exit, sys.exit])
def test_a_check_that_leaves_its_process_is_a_failure_whatever_its_exit_code(leave):
    def check(state):
        if state.id == "6":
            leave(0)

    summary = crash.campaign(records(), check, 2)
    assert [bad.id for bad in summary.failures] == ["6"]
    assert "exit code 0" in summary.failures[0].message


def test_a_report_is_xml_whatever_a_check_says():
    def check(state):
        raise ValueError(f"\033[31m<{state.id}> & \0\ud800\"'\n]]>\033[0m")

    summary = crash.campaign(records(), check, failures_max=3, name='a "name"')
    suite = ET.fromstring(summary.junit().encode())
    assert suite.get("failures") == "3"
    assert len(suite.findall("testcase/failure")) == 3


def test_progress_is_told_and_what_it_raises_ends_the_campaign():
    told = []
    crash.campaign(records(), is_sound, progress=lambda *count: told.append(count))
    assert told[-1] == (10, 2)

    def stop(looked, failed):
        raise KeyboardInterrupt

    for jobs in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            crash.campaign(records(), is_sound, jobs, progress=stop)


def test_bisect_finds_the_first_prefix_that_is_bad():
    store = records()
    bad = crash.bisect(store, lambda state: state.read(0, 1) != b"\2")
    assert (bad.seq, bad.id, bad.lost) == (7, "7", ())
    assert crash.bisect(store, lambda state: True) is None
    assert crash.bisect(store, lambda state: False).seq == 0
    assert crash.bisect(store, lambda state: False, start=3).seq == 3


def test_shrink_keeps_only_what_has_to_be_lost():
    store = jrnl.create(size="1MiB", journal="4MiB")
    for k in range(12):
        store.volume.write(k * 4096, bytes([k + 1]) * 4096)
    bad = crash.state(store, "12-sfff")

    def check(state):
        return state.read(3 * 4096, 1) == b"\4" or state.read(9 * 4096, 1) == b"\n"

    smaller = crash.shrink(bad, check)
    assert [lost.entry for lost in smaller.lost] == [4, 10]
    with pytest.raises(jrnl.InvalidArgument, match="the check passes on 12"):
        crash.shrink(crash.state(store, "12"), check)
    torn = crash.state(store, f"2-t{(1 << 16) - 1:x}")
    smaller = crash.shrink(torn, lambda state: state.read(4096 + 1024, 1) == b"\2")
    assert [(lost.entry, lost.offset, lost.length) for lost in smaller.lost] == [(2, 5120, 512)]


def test_shrinking_mends_a_damaged_sector_only_where_the_check_fails_all_the_same():
    store = records()
    state = crash.state(store, "5-g1")
    written = crash.state(store, "5").read(8704, 512)
    assert crash.shrink(state, lambda state: state.read(8704, 512) == written).id == "5-g1"
    assert crash.shrink(state, lambda state: False).id == "5"


def test_a_fork_is_a_store_whose_crash_states_nest():
    store = records()
    state = crash.state(store, "7-s1")

    def recover(fork):
        fork.volume.write(8192, b"b" * 1024)
        fork.volume.write(100, b"recovered")
        fork.flush()

    fork = state.fork()
    assert fork.view(0).read(0, store.volume.size) == state.read(0, store.volume.size)
    recover(fork)
    ids = [each.id for each in crash.states(fork, mode="subset")]
    assert sorted(ids) == ["7-s1:0", "7-s1:1", "7-s1:2-s1", "7-s1:3"]
    for id in ids:
        content = crash.state(fork, id).read(0, store.volume.size)
        assert crash.state(store, id, recover=recover).read(0, store.volume.size) == content
    deep = crash.state(fork, "7-s1:1").fork()
    deep.volume.write(0, b"!")
    assert [each.id for each in crash.states(deep)] == ["7-s1:1:0", "7-s1:1:1"]
    with pytest.raises(jrnl.InvalidArgument, match="pass recover="):
        crash.state(store, "7-s1:1")
    assert state.read(100, 9) == b"\2" * 9  # what it was forked from is as it was


def test_a_fork_outlives_its_state_and_the_walk_goes_on():
    store = records()
    forks = []
    for state in crash.states(store, mode="subset"):
        fork = state.fork(journal="64KiB")
        fork.volume.write(0, b"mine")
        forks.append((state.id, fork))
    for id, fork in forks:
        assert fork.view(0).read(0, 64 << 10) == crash.state(store, id).read(0, 64 << 10)


def test_paths_and_forks_leave_no_files_open_and_are_made_of_few():
    store = records()
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    inodes = set()
    for state in crash.states(store, mode="torn"):
        inodes.add(os.stat(state.path()).st_ino)
        fork = state.fork(journal="64KiB")
        fork.volume.write(0, b"mine")
        fork.close()
        del fork
    assert len(inodes) <= 4
    del state
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_states_that_are_held_keep_their_paths():
    store = records()
    held = [(state, state.path()) for state in crash.states(store, mode="torn", limit=40)]
    for state, path in held:
        with open(path, "rb") as file:
            assert file.read() == state.read(0, 64 << 10)


# Not under the sanitizer's libraries, in a run of these: dd gets no memory there.
_WRITES = (
    "env -u LD_PRELOAD sh -c "
    "'grep -q written {} && exit 1; echo written | dd of={} conv=notrunc status=none'"
)


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_a_program_writes_to_a_path_no_other_state_sees(jobs):
    store = records()
    for state in crash.states(store, mode="torn"):
        with open(state.path(), "r+b") as file:
            assert file.read() == state.read(0, 64 << 10), state.id
            file.seek(40_000)
            file.write(b"written by a program")
        assert state.read(40_000, 4) == bytes(4)
    summary = crash.campaign(store, _WRITES, jobs)
    assert summary.ok, str(summary)
    path = crash.state(store, "5").path()
    with pytest.raises(OSError, match="not permitted"):
        os.truncate(path, 0)


def test_volumes_of_a_group_crash_together():
    store = jrnl.create(volumes={"root": 4096, "log": 8192}, journal="1MiB")
    store["root"].write(0, b"r" * 512)
    store["log"].write(4096, b"l" * 512)
    store.flush()
    store["root"].write(0, b"R" * 512)
    store["log"].write(4096, b"L" * 512)
    seen = set()
    for state in crash.states(store, mode="subset"):
        assert list(state.volumes) == ["root", "log"]
        seen.add((state["root"].read(0, 1), state["log"].read(4096, 1)))
        with open(state["log"].path(), "rb") as file:
            assert file.read() == state.read(0, 8192, "log")
    assert seen == {(a, b) for a in (b"\0", b"r") for b in (b"\0", b"l")} | {
        (a, b) for a in (b"r", b"R") for b in (b"l", b"L")
    }
    fork = crash.state(store, "5-s1").fork()
    assert (fork["root"].read(0, 1), fork["log"].read(4096, 1)) == (b"r", b"L")
    fork["root"].write(0, b"x")
    assert {each["root"].read(0, 1) for each in crash.states(fork)} == {b"r", b"x"}
    assert crash.campaign(store, "test -r {root} -a -r {log}").ok
    with pytest.raises(jrnl.InvalidArgument, match="several volumes"):
        crash.campaign(store, "true {}")


def test_a_tag_says_what_is_lost_and_patterns_go_by_it():
    store = records()
    tag = {0: "count", 4096: "record", 8192: "record"}.get
    state = crash.state(store, "7-s3", tag=tag)
    assert [lost.tag for lost in state.lost] == ["record", None]
    assert "(record)" in state.explain()
    states = crash.states(store, mode="torn", reduce="pattern", tag=tag)
    few = [each.id for each in states]
    all_of_them = [each.id for each in crash.states(store, mode="torn")]
    assert {*few} < {*all_of_them}
    assert states.coverage.patterns == len(few)
    assert states.coverage.reduced == len(all_of_them) - len(few)
    assert not states.coverage.exact
    more = crash.states(store, mode="torn", reduce="pattern", tag=tag, limit=len(few) + 3)
    ids = [each.id for each in more]
    assert ids[: len(few)] == few
    assert len({*ids}) == len(few) + 3


@pytest.mark.parametrize("limit", [0, 1, 7, 20, 10**9])
@pytest.mark.parametrize("damage", [None, "garbage"])
def test_a_limit_holds_and_its_states_are_spread_over_the_history(limit, damage):
    store = records()
    all_of_them = [each.id for each in crash.states(store, mode="torn", damage=damage)]
    states = crash.states(store, mode="torn", limit=limit, damage=damage)
    ids = [each.id for each in states]
    assert len(ids) <= limit
    assert {*ids} <= {*all_of_them}
    assert states.coverage.looked == len(ids)
    assert states.coverage.exact == (len(ids) == len(all_of_them))
    if limit == 7:
        assert len({id.partition("-")[0] for id in ids}) > 2
        other = crash.states(store, mode="torn", limit=limit, damage=damage, seed=1)
        assert [each.id for each in other] != ids


@pytest.mark.parametrize("damage", ["garbage", "unreadable"])
def test_a_sector_under_way_may_be_neither_old_nor_new(damage):
    store = records()
    whole = {each.id for each in crash.states(store, mode="torn")}
    states = crash.states(store, mode="torn", damage=damage)
    found = {each.id: each for each in states if each.id not in whole}
    assert set(found) == {f"{seq}-{damage[0]}{k}" for seq, k in
                          [(1, 0), (3, 0), (5, 0), (5, 1), (6, 2), (7, 3)]}  # fmt: skip
    state = found[f"5-{damage[0]}1"]
    before = crash.state(store, "5").read(0, 64 << 10)
    assert [(lost.offset, lost.length) for lost in state.lost] == [(8704, 512)]
    assert damage in state.explain()
    assert crash.state(store, state.id).damage == damage
    assert state.read(0, 8704) == before[:8704]
    if damage == "unreadable":
        with pytest.raises(OSError, match="byte 8704") as error:
            state.read(8000, 2000)
        assert error.value.errno == 5
        with pytest.raises(jrnl.InvalidArgument, match="a file cannot show that"):
            state.path()
        return
    content = state.read(0, 64 << 10)
    assert content == crash.state(store, state.id).read(0, 64 << 10)
    assert content[:8704] + content[9216:] == before[:8704] + before[9216:]
    assert content[8704:9216] not in (before[8704:9216], bytes(512))
    with open(state.path(), "rb") as file:
        assert file.read() == content
    assert state.digest() != crash.state(store, "5").digest()


def test_a_disk_that_showed_garbage_shows_the_next_state_without_it():
    store = records()
    for state in crash.states(store, mode="torn", damage="garbage"):
        with open(state.path(), "rb") as file:
            assert file.read() == state.read(0, 64 << 10), state.id


def test_a_fingerprint_is_of_the_content_alone():
    store = records()
    found = {}
    for state in crash.states(store, mode="torn", damage="garbage"):
        print_, content = state.fingerprint(), state.read(0, 64 << 10)
        assert found.setdefault(print_, content) == content
        assert len(print_) == 32
    assert len({*found.values()}) == len(found)
    walk = crash.states(store, start=5, mode="subset")
    assert {state.fingerprint() for state in walk} < {*found}
    other = jrnl.create(size="64KiB", journal="1MiB")
    other.volume.write(0, crash.state(store, "7-s1").read(0, 64 << 10)[:20_000])
    [_, same] = crash.states(other)
    assert same.fingerprint() == crash.state(store, "7-s1").fingerprint()
    [*_, unreadable] = crash.states(store, mode="torn", damage="unreadable", stop=7)
    with pytest.raises(OSError, match="cannot be read"):
        unreadable.fingerprint()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "any"}, "mode must be one of prefix, subset, torn"),
        ({"reduce": "much"}, "reduce must be 'pattern'"),
        ({"limit": -1}, "limit must be at least 0"),
        ({"damage": "fire"}, "damage must be one of garbage, unreadable"),
        ({"damage": "garbage"}, "takes mode='torn'"),
        ({"start": 5, "stop": 3}, "start=5 is later than stop=3"),
    ],
)
def test_what_cannot_be_is_refused_at_once(arguments, message):
    with pytest.raises(jrnl.InvalidArgument, match=message):
        crash.states(records(), **arguments)


@pytest.mark.parametrize("id", ["", "x", "7-", "7-q1", "-7", "7-s8", "7-t10", "7-g4", "7 ", "7:"])
def test_what_is_no_id_of_the_history_is_refused(id):
    store = records()
    if id == "7:":
        assert crash.state(store, id).id == "7"
        return
    with pytest.raises(jrnl.InvalidArgument):
        crash.state(store, id)
    with pytest.raises(jrnl.UnknownPoint):
        crash.state(store, "99")
    with pytest.raises(jrnl.InvalidType):
        crash.state(store, 7)
    with pytest.raises(jrnl.InvalidType, match="a history is a store"):
        crash.states([])


def test_a_store_on_disk_is_a_history(tmp_path):
    with jrnl.create(tmp_path / "s.jrnl", size="64KiB", journal="1MiB") as store:
        store.volume.write(0, b"a" * 512)
        store.flush()
        store.volume.write(0, b"b" * 512)
        store.volume.write(512, b"c" * 512)
        ids = [state.id for state in crash.states(store, mode="subset")]
        assert ids == ["0", "2", "3", "4", "4-s1"]
        with pytest.raises(jrnl.InvalidArgument, match="pass jobs=1 and no timeout"):
            crash.campaign(store, lambda state: True, 2)
        assert crash.campaign(store, "test -r {}", 2).ok
    with jrnl.create(tmp_path / "a.jrnl", size="64KiB", journal="1MiB", sync="always") as store:
        store.volume.write(0, b"a" * 512)
        store.volume.write(512, b"c" * 512)
        assert [state.id for state in crash.states(store, mode="torn")] == ["0", "1", "2"]


def test_an_id_never_means_another_state_once_entries_have_left():
    store = jrnl.create(size="64KiB", journal="16KiB")
    for k in range(1, 13):
        store.volume.write(512 * k, bytes([k]) * 512)
    ids = {s.id: s.read(0, 64 << 10) for s in crash.states(store, mode="subset", limit=200)}
    while store.window.oldest == 0:
        store.volume.write(0, b"x" * 512)
    oldest = store.window.oldest
    for id, content in ids.items():
        if "-" not in id and int(id) >= oldest:
            assert crash.state(store, id).read(0, 64 << 10) == content
        elif int(id.partition("-")[0]) >= oldest:
            with pytest.raises(jrnl.PointExpired, match=f"now begins at {oldest}"):
                crash.state(store, id)
    later = [s for s in crash.states(store, mode="subset", limit=50) if s.lost]
    assert all(f"@{oldest}-s" in state.id for state in later)
    for state in later:
        assert crash.state(store, state.id).lost == state.lost
    found = crash.campaign(store, lambda state: not state.lost, limit=50)
    assert len(found.failures) > 1
    assert found.failures[0].shrunk.partition("-")[0].endswith(f"@{oldest}")


def test_a_long_epoch_costs_about_as_much_as_it_has_entries():
    store = jrnl.create(size="8MiB", journal="32MiB")
    for k in range(4000):
        store.volume.write(k % 2000 * 4096, bytes([k % 255 + 1]) * 16)
    states = crash.states(store, mode="subset", limit=100)
    assert 50 < len(list(states)) <= 100
    assert not states.coverage.exact
    assert states.coverage.legal == 1 << 4000


def test_ids_and_their_states_are_the_same_in_every_version():
    """Golden: whoever has written an id down finds the state again."""
    store = records()
    golden = {
        "7-s5": b"\1bz"[0:1] + b"\0" + b"z",
        "7-t3": b"\2" + b"\0" + b"z",
        "7-t2": b"\2" + b"b" + b"z",
    }
    for id, expected in golden.items():
        state = crash.state(store, id)
        assert state.id == id
        assert state.read(0, 1) + state.read(8192, 1) + state.read(12288, 1) == expected
    with logwrites.attach("tests/data/ext4-sqlite.log.xz") as log:
        ids = [state.id for state in crash.states(log, mode="torn", limit=6, seed=3)]
        assert all(crash.state(log, id).id == id for id in ids)


def test_a_check_that_mends_what_it_is_given_does_not_mend_it_for_the_next_one():
    with jrnl.create(size=8192, journal="64KiB") as store:
        store.volume.write(0, b"first")
        store.volume.write(4096, b"second")

        def check(state):
            with open(state.path(), "r+b") as file:
                found = file.read(5)
                file.seek(0)
                file.write(b"first")
            return found == b"first"

        found = crash.campaign(store, check, start=2, mode="subset", failures_max=1)
        assert found.failures[0].shrunk == "2-s1"
        state = crash.state(store, "2-s3")
        assert crash.shrink(state, check).id == "2-s1"
        assert state.read(0, 5) == bytes(5)
