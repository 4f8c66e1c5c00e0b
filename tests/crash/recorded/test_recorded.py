"""Recorded lives of real threads: a short run, and whether what is missing would be noticed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import jrnl
from jrnl import Kind
from tests.crash.expect import Failure
from tests.crash.recorded import campaign, crashes, recording
from tests.crash.recorded.campaign import Campaign
from tests.crash.recorded.disk import Body, Disk, digest, read_tree, write_tree
from tests.crash.recorded.history import Done, Entry, Life, World, content_of
from tests.crash.recorded.life import Host, Shape, Spec
from tests.crash.recorded.promises import Facts, Promise, Promises, found_in
from tests.crash.recorded.recording import Call, Missed, Record

CALLS = """
import ctypes, fcntl, os, sys
from pathlib import Path
from tests.crash.recorded.recording import Recorder
Recorder().begin(Path(sys.argv[1]), Path(sys.argv[2]), 1, 0)
os.chdir(sys.argv[2])
a = os.open("a", os.O_RDWR | os.O_CREAT); os.mkdir("d")
here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
os.ftruncate(a, 9000); os.pwrite(a, b"one" * 500, 100); os.pwritev(a, [b"two", b"three"], 7000)
os.write(a, b"written"); os.writev(a, [b"and", b"so on"]); os.fsync(a); os.fdatasync(a)
b = os.open("b", os.O_RDWR | os.O_CREAT, dir_fd=here); os.pwrite(b, b"x" * 5000, 0)
ctypes.CDLL(None).fallocate64(b, 3, ctypes.c_int64(4096), ctypes.c_int64(512))
os.ftruncate(b, 4500)
os.rename("b", "c", src_dir_fd=here, dst_dir_fd=here); os.link("c", "e"); os.unlink("c")
f = os.open("d/f", os.O_WRONLY | os.O_CREAT); os.pwrite(f, b"inner", 3); os.close(f)
os.mkdir("g"); os.rmdir("g"); os.fsync(here)
"""


def run_recorded(code: str, folder: Path) -> tuple[Path, Path, int]:
    """Run a program under the recorder; return its root, the recording and its exit code."""
    root, log = folder / "root", folder / "log"
    root.mkdir()
    under = {**os.environ, "LD_PRELOAD": recording.preloaded()}
    done = subprocess.run([sys.executable, "-c", code, log, root], env=under, check=False)
    return root, log, done.returncode


def followed(log: Path) -> Disk:
    """The disk that a recording leads to."""
    disk = Disk()
    for record in recording.read(log):
        disk.follow(record)
    return disk


def test_everything_that_changes_a_file_is_recorded(tmp_path: Path):
    root, log, code = run_recorded(CALLS, tmp_path)
    assert code == 0
    disk = followed(log)
    assert digest(disk.kept()) == digest(read_tree(root))
    assert read_tree(root).keys() == {"a", "d", "d/f", "e"}
    # Of what was not synced after it, nothing need be there; names are durable by their folder.
    left = disk.left([])
    assert left["a"].data == read_tree(root)["a"].data
    assert left["e"].data == b""


def test_a_call_that_is_not_modelled_is_refused(tmp_path: Path):
    code = (
        CALLS.split("a = ", maxsplit=1)[0]
        + "import mmap; f = os.open('m', os.O_RDWR | os.O_CREAT)\n"
    )
    code += "os.ftruncate(f, 4096); mmap.mmap(f, 4096)\n"
    _, log, ended = run_recorded(code, tmp_path)
    assert ended == 0
    with pytest.raises(Missed, match="mmap"):
        recording.read(log)


ENDING = """
import os, signal, sys, threading, time
from pathlib import Path
from tests.crash.recorded.recording import Recorder
recorder = Recorder()
recorder.begin(Path(sys.argv[1]), Path(sys.argv[2]), 1, 0)
file = os.open(sys.argv[2] + "/a", os.O_RDWR | os.O_CREAT)
def write():
    for k in range(40):
        os.pwrite(file, bytes([k + 1]) * (1 << 20), 0)
threading.Thread(target=write, daemon=True).start()
time.sleep(0.003)
recorder.stop()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("_", range(8))
def test_no_call_is_without_its_record_when_a_process_ends(tmp_path: Path, _: int):
    root, log, code = run_recorded(ENDING, tmp_path)
    assert code == -signal.SIGKILL
    assert digest(followed(log).kept()) == digest(read_tree(root))


SHORT = """
import os, sys
from pathlib import Path
from tests.crash.recorded.recording import Recorder
recorder = Recorder()
recorder.begin(Path(sys.argv[1]), Path(sys.argv[2]), 1, 0)
recorder.fault("write", "SHORT", 0, -1)
file, left, at = os.open(sys.argv[2] + "/a", os.O_RDWR | os.O_CREAT), 1024, 0
while left:
    done = os.pwrite(file, bytes(left), at)
    left, at = left - done, at + done
"""


def test_writes_that_stay_short_come_to_their_end_in_few_calls(tmp_path: Path):
    _, log, code = run_recorded(SHORT, tmp_path)
    assert code == 0
    lengths = [record.result for record in recording.read(log) if record.call == Call.WRITTEN]
    assert sum(lengths) == 1024
    assert 1 < len(lengths) < 16


def written(node: int, offset: int, data: bytes) -> Record:
    return Record(Call.WRITTEN, 1, node, offset, len(data), len(data), data, b"")


def event(call: Call, node: int = 0, result: int = 0, first: bytes = b"") -> Record:
    return Record(call, 1, node, 0, 0, result, first, b"")


def test_a_sync_covers_what_was_written_before_it_began():
    disk = Disk()
    for record in (
        event(Call.CREATED, 5, first=b"a"), written(5, 0, b"1" * 512), event(Call.SYNC_BEGINS, 5),
        written(5, 512, b"2" * 512), event(Call.SYNC_ENDS, 5), event(Call.OPENED, 0, first=b""),
    ):  # fmt: skip
        disk.follow(record)
    assert len(disk.pending) == 2  # the name, and what was written meanwhile
    assert crashes.left(disk, "none", 0) == {}
    assert crashes.left(disk, "kill", 0)["a"].data == b"1" * 512 + b"2" * 512
    disk.follow(event(Call.SYNC_BEGINS))
    disk.follow(event(Call.SYNC_ENDS))
    assert crashes.left(disk, "none", 0)["a"].data == b"1" * 512


@pytest.mark.parametrize(("outcome", "closed"), [({"r": 0}, True), ({"x": "OSError"}, False)])
def test_only_a_close_that_succeeded_leaves_no_group_in_doubt(
    outcome: dict[str, Any], closed: bool
):
    facts = [{"opened": {}}, {"b": 1, "op": "close", "open": {}}, {"e": 1, **outcome}]
    life = Life([event(Call.MARK, first=json.dumps(fact).encode()) for fact in facts], [512])
    promises = Promises(life, World(0, {0: (bytes(512),)}), always=False, before=None)
    assert [promises.at(at).closed for at in (1, 2, 3)] == [False, False, closed]


def test_what_a_failed_sync_left_out_no_later_one_makes_durable():
    disk = Disk()
    for record in (
        event(Call.CREATED, 5, first=b"a"), written(5, 0, b"1" * 512), event(Call.SYNC_BEGINS, 5),
        event(Call.SYNC_ENDS, 5, result=-1), event(Call.SYNC_BEGINS, 5), event(Call.SYNC_ENDS, 5),
    ):  # fmt: skip
        disk.follow(record)
    assert [change.kind for change in disk.pending] == ["link", "write"]


def test_what_a_failed_sync_left_out_comes_not_back_over_what_is_durable_since():
    disk = Disk()
    for record in (
        event(Call.CREATED, 5, first=b"a"), event(Call.OPENED, 0, first=b""),
        event(Call.SYNC_BEGINS), event(Call.SYNC_ENDS), written(5, 0, b"1" * 2048),
        event(Call.SYNC_BEGINS, 5), event(Call.SYNC_ENDS, 5, result=-1),
        written(5, 512, b"2" * 512),
        event(Call.SYNC_BEGINS, 5), event(Call.SYNC_ENDS, 5),
    ):  # fmt: skip
        disk.follow(record)
    assert [(change.offset, len(change.data)) for change in disk.pending] == [
        (0, 512),
        (1024, 1024),
    ]
    seen = {bytes(crashes.left(disk, "random", n)["a"].data[512:1024]) for n in range(50)}
    assert seen == {b"2" * 512}
    assert crashes.left(disk, "kill", 0)["a"].data[:512] == bytes(512)  # clean pages are dropped


def test_a_tree_comes_back_from_its_files_and_zeroes_can_become_holes(tmp_path: Path):
    body = Body(b"x" * 4096 + bytes(8192) + b"y" * 100, range(4))
    for dig in (False, True):
        write_tree({"f": body, "d": None}, tmp_path / str(dig), dig)
        assert digest(read_tree(tmp_path / str(dig))) == digest({"f": body, "d": None})
    blocks = [(tmp_path / name / "f").stat().st_blocks for name in ("False", "True")]
    assert blocks[1] <= blocks[0]


class Starved(BaseException):
    """Stands for a thread that never gets its turn again."""


class Notes:
    """A recorder of marks; one call's thread stops just before its second one."""

    def __init__(self, starved: int) -> None:
        self.facts: list[dict[str, Any]] = []
        self.starved = starved

    def mark(self, **facts: Any) -> None:
        if facts.get("e") == self.starved:
            raise Starved
        self.facts.append(facts)


def test_headers_are_noted_until_they_are_in_the_recording(tmp_path: Path):
    notes = Notes(starved=2)
    host = Host(Spec(1, Shape(), 1, True), notes, tmp_path)
    host.store = jrnl.create(size=4096, journal="64KiB")
    for length in (10, 20, 30, 40):
        try:
            host.call("write", lambda q, n=length: host.store.volume.write(0, content_of(q, n)))
        except Starved:
            continue
    noted = [[row[0] for row in fact["rows"]] for fact in notes.facts if "e" in fact]
    assert noted == [[1], [2, 3], [4]]


def life_of(*facts: dict[str, Any]) -> World:
    marks = [event(Call.MARK, first=json.dumps(fact).encode()) for fact in facts]
    return Life(marks, [64]).world(World(0, {0: (bytes(64),)}))[0]


def test_what_an_entry_did_is_unknown_where_a_call_that_never_told_may_have_made_it():
    def begins(number: int, op: str = "write") -> dict[str, Any]:
        return {"b": number, "op": op, "v": 0, "o": number, "n": 8}

    ends = {"e": 2, "r": 2, "old": 0, "rows": [[2, 1, 0, 2, 8]]}
    wanted = bytes(2) + content_of(2, 8) + bytes(54)
    told = begins(1), {"e": 1, "x": "JournalFull"}, begins(2), ends
    assert life_of(*told).states == {0: (bytes(64),), 1: (bytes(64),), 2: (wanted,)}
    later = begins(2), ends, begins(1)
    assert life_of(*later).states[2] == (wanted,)
    for op in ("write", "discard"):
        starved = begins(1, op), begins(2), ends
        assert life_of(*starved).states == {0: (bytes(64),), 1: None, 2: None}
    broken = begins(1), begins(2), {"e": 1, "x": "OSError"}, ends
    assert life_of(*broken).states[2] is None
    seen = {**ends, "rows": [[1, 1, 0, 1, 8], [2, 1, 0, 2, 8]]}
    both = bytes(1) + content_of(1, 8)[:1] + content_of(2, 8) + bytes(54)
    assert life_of(begins(1), begins(2), seen).states[2] == (both,)


def silent(number: int, op: str = "write", **args: int) -> dict[str, Any]:
    return {"b": number, "op": op, **(args or {"v": 0, "o": 20, "n": 8})}


def test_an_entry_that_several_calls_may_have_made_is_of_one_that_can_have():
    row = [1, Kind.WRITE, 0, 20, 8]
    ends = {"e": 9, "r": 2, "old": 0, "rows": [row, [2, Kind.WRITE, 0, 1, 8]]}
    another = silent(9, v=0, o=1, n=8)
    wanted = bytes(20) + content_of(2, 8) + bytes(36)
    refused = silent(1), {"e": 1, "x": "JournalFull"}, silent(2), another, ends
    assert life_of(*refused).states[1] == (wanted,)
    assert life_of(silent(2), another, ends, silent(1)).states[1] == (wanted,)  # seen before it
    assert life_of(silent(1), silent(2), another, ends).states[1] is None
    undone = silent(1), silent(3, "restore", to=0, rid=5), another, ends  # it is as it was already
    assert life_of(*undone).states[1] == (bytes(20) + content_of(1, 8) + bytes(36),)


def test_a_call_under_way_makes_its_entry_once_and_a_restore_may_make_another_like_it():
    rows = [[1, Kind.WRITE, 0, 20, 8], [2, Kind.WRITE, 0, 1, 8]]
    facts = [
        {"opened": {}}, silent(1), silent(2, v=0, o=1, n=8),
        {"e": 2, "r": 2, "old": 0, "rows": rows}, silent(3, "restore", to=0, rid=5),
    ]  # fmt: skip
    life = Life([event(Call.MARK, first=json.dumps(fact).encode()) for fact in facts], [64])
    promise = Promises(life, World(0, {0: (bytes(64),)}), always=False, before=None).at(9)
    entries = [Entry(*row) for row in rows]
    world = found_in(promise, shows(0, 3, {}, *entries, Entry(3, Kind.WRITE, 0, 20, 8)))
    assert world.states[3] == (bytes(1) + content_of(2, 8) + bytes(55),)


@pytest.mark.parametrize(
    ("kind", "target", "known"),
    [
        (Kind.WRITE, bytes(20) + b"x" * 8 + bytes(36), False),  # one of the two has written this
        (Kind.WRITE, bytes(19) + b"x" * 9 + bytes(36), True),  # a restore would begin before it
        (Kind.WRITE, bytes(21) + b"x" * 7 + bytes(36), True),  # or after
        (Kind.ZEROES, bytes(20) + b"x" * 8 + bytes(36), True),
    ],
    ids=["both", "from before", "from after", "zeroes"],
)
def test_a_call_and_a_restore_under_way_leave_open_what_an_entry_did_where_both_can_have_made_it(
    kind: Kind, target: bytes, known: bool
):
    op = "write" if kind == Kind.WRITE else "zero"
    calls = [Done(1, op, {"v": 0, "o": 20, "n": 8}, 0), Done(2, "restore", {"rid": 5}, 0)]
    recoveries = {"recoveries": {5: (3, (target,))}}
    promise = Promise(World(5, {5: (bytes(64),)}), {}, 5, 5, calls, recoveries, {"recoveries": {}})
    data = content_of(1, 8) if kind == Kind.WRITE else bytes(8)
    wanted = (bytes(20) + data + bytes(36),) if known else None
    world = found_in(promise, shows(5, 6, {}, Entry(6, kind, 0, 20, 8)))
    assert world.states[6] == wanted


def lived(tmp_path: Path, states: int, deaf: str = "", seed: int = 0) -> Campaign:
    run = Campaign(states, 0, 1, seed, tmp_path / "kept", deaf)
    run.run(1)
    return run


def test_a_sync_that_does_nothing_is_noticed_and_can_be_replayed(tmp_path: Path):
    run = lived(tmp_path, 3000, "log")
    assert run.failures, "no flush was missed"
    folder = Path(run.failures[0].split("--replay ")[1].split()[0])
    assert campaign.replayed(folder, "log") == 1
    shutil.rmtree(folder)


def shows(oldest: int, seq: int, marks: dict[str, int], *rows: Entry) -> Facts:
    return Facts(seq, oldest, list(rows), {}, marks, {}, {}, [])


def test_entries_of_calls_under_way_may_have_left_the_journal_before_anybody_saw_them():
    calls = [Done(1, "write_many", {"v": 0, "o": [0, 8], "n": 4}, 0)]
    promise = Promise(World(5, {5: (bytes(64),)}), {}, 5, 5, calls)
    assert found_in(promise, shows(7, 7, {})).states.get(7) is None
    rewound = Promise(promise.world, {}, 5, 5, [*calls, Done(2, "restore", {"rid": 1}, 0)])
    assert found_in(rewound, shows(7, 9, {}, Entry(9, 6, 0, 7, 0))).seq == 9
    with pytest.raises(Failure, match="begins at 10, known are 5 and 4 under way"):
        found_in(promise, shows(10, 10, {}))


def test_of_several_marks_under_way_one_entry_is_one():
    calls = [Done(k, "mark", {"name": f"m-{k}"}, 0) for k in (1, 2)]
    promise = Promise(World(5, {5: (bytes(64),)}), {}, 5, 5, calls)
    mark = Entry(6, 4, 0, 0, 3)
    assert found_in(promise, shows(5, 6, {"m-2": 6}, mark)).marks == {"m-2": 6}
    assert found_in(promise, shows(5, 6, {}, mark)).marks == {"m-1": 6}
