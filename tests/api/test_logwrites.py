"""Replay of dm-log-writes logs: what is replayed, what is refused, and at what cost."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import tempfile
import tracemalloc
import warnings
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import jrnl
from jrnl import logwrites
from tests.model.logs import (
    DISCARD,
    ENTRY_FIELDS,
    FLUSH,
    FUA,
    MARK,
    METADATA,
    SUPER_FIELDS,
    Entry,
    FakeVolume,
    ForgetfulVolume,
    discard,
    draw_entries,
    entry_positions,
    flush,
    is_valid_name,
    mark,
    pack_log,
    pattern,
    plain_states,
    set_field,
    write,
)
from tests.model.places import DATA
from tests.model.traces import TRACES

MIB = 1 << 20


@pytest.fixture
def save(tmp_path):
    """A function that puts bytes into a file and gives its path."""

    def save_bytes(content: bytes, name: str = "a.log") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return save_bytes


def sector(seed: int) -> bytes:
    return pattern(512, seed)


FOUR = [write(0, sector(1)), write(2, sector(2) * 2), discard(0, 1), write(3, sector(3))]


def replay_quietly(path, volume, progress=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", logwrites.LogWarning)
        return logwrites.replay(path, volume, progress)


def refused(path, volume, match: str) -> str:
    """Check that a log is refused with nothing changed; give the message."""
    with pytest.raises(jrnl.FormatError, match=match) as caught:
        replay_quietly(path, volume)
    assert volume.calls == []
    assert str(path) in str(caught.value)
    return str(caught.value)


# --- what is replayed ---


@pytest.mark.parametrize("trace", TRACES)
def test_a_recorded_history_is_replayed_to_every_recorded_digest(trace):
    facts = json.loads((DATA / f"{trace}.json").read_text())
    volume = FakeVolume(facts["volume_size"])
    seqs = logwrites.replay(DATA / f"{trace}.log.xz", volume)
    assert len(seqs) == facts["entries"] + 1
    wanted = {int(k): digest for k, digest in facts["sha256_after_entries"].items()}
    states = volume.states(seqs[list(wanted)].tolist())
    assert {k: hashlib.sha256(next(states)).hexdigest() for k in wanted} == wanted


@pytest.mark.parametrize("trace", TRACES)
def test_a_store_holds_a_recorded_history_at_every_recorded_point(trace):
    facts = json.loads((DATA / f"{trace}.json").read_text())
    with jrnl.create(size=facts["volume_size"], journal="512MiB") as store:
        seqs = logwrites.replay(DATA / f"{trace}.log.xz", store.volume)
        assert seqs[-1] == store.seq
        for k, digest in facts["sha256_after_entries"].items():
            with closing(store.recover(int(seqs[int(k)]))) as recovery:
                assert hashlib.sha256(recovery.as_array()).hexdigest() == digest


def test_a_store_takes_a_discard_far_larger_than_its_ring(save):
    size = 320 * MIB
    entries = [write(8, sector(1)), discard(0, 300 * MIB // 512), write(9, sector(2))]
    with jrnl.create(size=size, journal="16MiB") as store:
        seqs = logwrites.replay(save(pack_log(entries)), store.volume)
        assert seqs[1] == 1
        assert seqs[2] > 2
        assert seqs[3] == seqs[2] + 1
        assert store.volume.read(8 * 512, 1024) == bytes(512) + sector(2)


def test_marks_and_flushes_of_a_log_are_marks_and_flushes_of_a_store(save):
    entries = [write(0, sector(1)), mark("before"), write(0, sector(2), flags=FLUSH | FUA)]
    with jrnl.create(size="1MiB", journal="1MiB") as store:
        seqs = logwrites.replay(save(pack_log(entries)), store.volume)
        assert store.marks["before"].seq == seqs[2]
        kinds = [jrnl.Kind(kind).name for kind in store.journal.entries["kind"]]
        assert kinds == ["WRITE", "MARK", "FLUSH", "WRITE", "FLUSH"]
        with closing(store.recover("before")) as recovery:
            assert recovery.read(0, 512) == sector(1)


@pytest.mark.parametrize(
    "text", ["", "7", "2024-01-01", "a/b@c\n", "x" * 300, "é" * 200, "0x1f", "nan"]
)
def test_a_store_takes_every_name_that_is_made_of_a_mark_text(save, text):
    log = pack_log([mark(text)] * 3)
    with jrnl.create(size="1MiB", journal="1MiB") as store:
        logwrites.replay(save(log), store.volume)
        assert len(store.marks) == 3


@pytest.mark.parametrize("sector_size", [512, 1024, 4096, 65536])
def test_places_and_lengths_are_counted_in_the_sectors_that_the_super_names(save, sector_size):
    data = pattern(3 * sector_size)
    volume = FakeVolume(16 * sector_size)
    entries = [write(2, data, sector_size), discard(3, 1)]
    logwrites.replay(save(pack_log(entries, sector_size)), volume)
    assert volume.calls[0][1:] == ("write", 2 * sector_size, data)
    assert volume.calls[1][1:] == ("discard", 3 * sector_size, sector_size)


@pytest.mark.parametrize("max_write", [300, 512, 1300, 4096, 3 * MIB])
def test_long_data_is_written_in_pieces_of_whole_sectors_that_the_ring_takes(save, max_write):
    data = pattern(5 * MIB // 2)
    volume = FakeVolume(4 * MIB, max_write)
    seqs = logwrites.replay(save(pack_log([write(1, data)])), volume)
    lengths = [len(call[3]) for call in volume.calls]
    assert max(lengths) <= min(max_write, MIB)
    assert all(length % 512 == 0 for length in lengths) or max_write < 512
    assert b"".join(call[3] for call in volume.calls) == data
    assert seqs.tolist() == [0, len(lengths)]


def test_item_k_of_the_seqs_is_the_seq_after_k_entries(save):
    entries = [write(0, sector(1)), flush(), flush(), discard(0, 0), mark("m"), write(1, sector(2))]
    volume = FakeVolume(8192, seq=40)
    seqs = logwrites.replay(save(pack_log(entries)), volume)
    assert seqs.dtype == np.uint64
    assert seqs.tolist() == [40, 41, 42, 42, 42, 43, 44]


@pytest.mark.parametrize(
    ("flags", "kinds"),
    [
        (0, ["write"]),
        (FLUSH, ["flush", "write"]),
        (FUA, ["write", "flush"]),
        (FLUSH | FUA, ["flush", "write", "flush"]),
        (METADATA, ["write"]),
        (METADATA | FLUSH | FUA, ["flush", "write", "flush"]),
        (DISCARD, ["discard"]),
        (DISCARD | FLUSH | FUA, ["flush", "discard", "flush"]),
        (MARK, ["write", "mark"]),
        (MARK | FLUSH | FUA | METADATA, ["flush", "write", "mark", "flush"]),
    ],
)
def test_a_flush_stands_before_its_data_and_fua_after(save, flags, kinds):
    data = b"" if flags & DISCARD else sector(2)
    entries = [write(0, sector(1)), Entry(1, 1, flags, data)]
    volume = FakeVolume(8192)
    logwrites.replay(save(pack_log(entries)), volume)
    assert volume.kinds() == ["write", *kinds]


def test_a_flush_without_data_and_a_discard_of_nothing_change_nothing(save):
    volume = FakeVolume(8192)
    entries = [flush(), flush(FUA), flush(FLUSH | FUA), discard(0, 0), Entry(5)]
    seqs = logwrites.replay(save(pack_log(entries)), volume)
    assert seqs.tolist() == [0] * 6


def test_a_log_of_no_entries_replays_to_the_seq_before_it(save):
    ticks = []
    seqs = logwrites.replay(save(pack_log([])), FakeVolume(512, seq=3), lambda *t: ticks.append(t))
    assert seqs.tolist() == [3]
    assert ticks == [(0, 0)]


# --- marks ---


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b"mkfs done", "mkfs done"),
        (b"a/b@c\n", "a_b_c_"),
        (b"", "mark"),
        (b"\0tail", "mark"),
        (b"up to\0here", "up to"),
        (b"production", "mark-production"),
        (b"17", "mark-17"),
        (b"-1.5", "mark--1.5"),
        (b"0x1F", "mark-0x1F"),
        (b"2024-02-03T04:05", "mark-2024-02-03T04:05"),
        (b"caf\xe9", "caf_"),
        ("é" * 200, "é" * 127),
        ("x" * 300, "x" * 255),
        ("7" * 300, "mark-" + "7" * 250),
    ],
)
def test_a_mark_text_becomes_a_valid_name(save, text, name):
    volume = FakeVolume(512)
    logwrites.replay(save(pack_log([mark(text)])), volume)
    assert volume.calls[0][3] == name


def test_repeated_marks_are_numbered(save):
    volume = FakeVolume(512)
    texts = ["a", "a", "a-2", "a", "x" * 255, "x" * 255, "2024-01"] + ["2024-01"] * 9
    logwrites.replay(save(pack_log([mark(text) for text in texts])), volume)
    names = [call[3] for call in volume.calls]
    assert names[:6] == ["a", "a-2", "a-2-2", "a-3", "x" * 255, "x" * 253 + "-2"]
    assert len(names) == len(set(names)) == len(texts)


def test_ten_thousand_equal_marks_take_ten_thousand_tries(save):
    volume = FakeVolume(512)
    logwrites.replay(save(pack_log([mark("same")] * 10_000)), volume)
    assert volume.calls[-1][3] == "same-10000"


@settings(deadline=None)
@given(st.lists(st.binary(max_size=480), min_size=1, max_size=8))
def test_any_mark_text_is_taken(tmp_path_factory, texts):
    path = tmp_path_factory.getbasetemp() / "marks.log"
    path.write_bytes(pack_log([mark(text) for text in texts]))
    volume = FakeVolume(512)
    logwrites.replay(path, volume)
    assert all(is_valid_name(call[3]) for call in volume.calls)
    assert len(volume.names) == len(texts)


# --- stale counts, torn entries, tails ---


def test_entries_beyond_a_stale_count_are_replayed_and_both_counts_said(save):
    volume = FakeVolume(8192)
    path = save(pack_log(FOUR, count=1) + bytes(2048))
    with pytest.warns(logwrites.LogWarning, match=r"counts 1 entries .* holds 4"):
        seqs = logwrites.replay(path, volume)
    assert seqs.tolist() == [0, 1, 2, 3, 4]


def test_a_whole_log_that_ends_in_zeroes_gives_no_warning(save):
    for zeroes in (0, 1, 511, 512, 5000):
        logwrites.replay(save(pack_log(FOUR) + bytes(zeroes)), FakeVolume(8192))


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (Entry(0, 1, 1 << 5, sector(1)).pack(512), "flags 0x20"),
        (Entry(15, 2, 0, sector(1) * 2).pack(512), "pass the volume's end at 8192"),
        (Entry(1 << 60, 1, 0, sector(1)).pack(512), "beyond 2\\*\\*63"),
        (Entry(3, 0, 0).pack(512), "neither sectors nor flags"),
        (Entry(0, 1, 0, sector(1), b"text").pack(512), "not padded"),
        (Entry(flags=MARK, text=bytes(481)).pack(512)[:512], "mark text takes 481"),
        (b"\xff" * 1024, "flags 0xffff"),
    ],
)
def test_what_is_no_entry_ends_the_log_and_is_said(save, tail, reason):
    volume = FakeVolume(8192)
    log = pack_log(FOUR)
    path = save(log + tail + write(0, sector(9)).pack(512))
    with pytest.warns(logwrites.LogWarning, match=f"entry 5 .*byte {len(log)}: .*{reason}"):
        assert len(logwrites.replay(path, volume)) == 5
    assert len(volume.calls) == 4


@pytest.mark.parametrize("cut", [1, 511, 512, 700, 1023])
@pytest.mark.parametrize("count", [4, 2])
def test_a_torn_last_entry_is_dropped_and_said(save, count, cut):
    volume = FakeVolume(8192)
    log = pack_log(FOUR, count=count)
    with pytest.warns(logwrites.LogWarning) as said:
        seqs = logwrites.replay(save(log[:-cut]), volume)
    assert len(seqs) == 4
    assert any("cut by the end of the file; the entry was dropped, 3 entries" in str(w.message)
               for w in said)  # fmt: skip


def test_a_last_counted_entry_that_is_missing_or_zeroes_is_dropped_and_said(save):
    whole = pack_log(FOUR[:3], count=4)
    for log, reason in ((whole, "the file ends before it"), (whole + bytes(4096), "all zeroes")):
        with pytest.warns(logwrites.LogWarning, match=f"entry 4 .*{reason}"):
            assert len(logwrites.replay(save(log), FakeVolume(8192))) == 4


def test_a_log_that_misses_more_than_its_last_entry_is_refused(save):
    whole = pack_log(FOUR)
    second, third = entry_positions(FOUR)[1:3]
    for end in (second, second + 1, second + 512, third - 1):
        refused(save(whole[:end]), FakeVolume(8192), r"entry 2 \(4 counted\), byte 1536")
    message = refused(save(whole[:second] + bytes(4096)), FakeVolume(8192), "all zeroes")
    assert "set the count at byte 16 to 1 and cut the file at byte 1536" in message
    logwrites.replay(save(set_field(whole, 0, SUPER_FIELDS["count"], 1)[:1536]), FakeVolume(8192))


def test_a_warning_made_an_error_stops_the_replay_before_anything_changed(save):
    volume = FakeVolume(8192)
    with warnings.catch_warnings(), pytest.raises(logwrites.LogWarning):
        warnings.simplefilter("error")
        logwrites.replay(save(pack_log(FOUR, count=2)), volume)
    assert volume.calls == []


def test_the_warning_names_the_line_that_called(save):
    path = save(pack_log(FOUR, count=2))
    with pytest.warns(logwrites.LogWarning) as said:
        logwrites.replay(path, FakeVolume(8192))
        logwrites.read_log(path).close()
    assert {Path(warning.filename).name for warning in said} == {Path(__file__).name}


# --- what is refused ---


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("magic", 0, "magic 0x0 at byte 0, expected 0x6a736677736872"),
        ("magic", 0x6A736677736873, "magic"),
        ("version", 0, "version 0 at byte 8"),
        ("version", 2, "version 2"),
        ("size", 0, "sector size 0 at byte 24"),
        ("size", 256, "sector size 256"),
        ("size", 513, "sector size 513"),
        ("size", 1 << 17, "sector size 131072"),
        ("size", (1 << 32) - 1, "sector size"),
        ("size", 65536, "inside its first sector of 65536"),
        ("count", 6, "entry 5"),
        ("count", (1 << 64) - 1, "entry 5"),
    ],
)
def test_a_bad_super_is_refused(save, field, value, reason):
    log = set_field(pack_log(FOUR), 0, SUPER_FIELDS[field], value)
    refused(save(log), FakeVolume(8192), reason)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("sector", 16, "replay onto a volume of at least"),
        ("sector", 1 << 54, r"ends beyond 2\*\*63"),
        ("sector", (1 << 55) - 1, r"ends beyond 2\*\*63"),
        ("sector", (1 << 64) - 1, r"ends beyond 2\*\*63"),
        ("sectors", 17, "replay onto a volume of at least"),
        ("sectors", 1 << 54, r"ends beyond 2\*\*63"),
        ("sectors", (1 << 64) - 1, r"ends beyond 2\*\*63"),
        ("flags", 1 << 5, r"flags 0x20 have bits beyond the known 0x1f"),
        ("flags", 1 << 63, "flags 0x8000000000000000"),
    ],
)
def test_a_damaged_counted_entry_is_refused(save, number, field, value, reason):
    position = entry_positions(FOUR)[number - 1]
    log = set_field(pack_log(FOUR), position, ENTRY_FIELDS[field], value)
    refused(
        save(log), FakeVolume(8192), rf"entry {number} \(4 counted\), byte {position}: .*{reason}"
    )


@pytest.mark.parametrize("length", [481, 1 << 31, (1 << 64) - 1])
def test_a_mark_text_longer_than_its_sector_is_refused(save, length):
    log = set_field(pack_log([mark("m")]), 512, ENTRY_FIELDS["text"], length)
    refused(save(log), FakeVolume(8192), f"mark text takes {length} bytes, and its sector has 480")


def test_the_message_says_how_large_the_volume_must_be_for_the_whole_log(save):
    path = save(pack_log([write(0, sector(1)), discard(20, 4), write(90, sector(2))]))
    refused(path, FakeVolume(8192), f"entry 2 .*at least {91 * 512} bytes")
    logwrites.replay(path, FakeVolume(91 * 512))


def test_a_log_without_data_length_is_not_trusted_about_it(save):
    log = set_field(pack_log(FOUR), 512, ENTRY_FIELDS["text"], (1 << 64) - 1)
    logwrites.replay(save(log), FakeVolume(8192))


@pytest.mark.parametrize("length", [0, 1, 27, 28, 511])
def test_a_file_shorter_than_a_super_is_refused(save, length):
    refused(save(pack_log(FOUR)[:length]), FakeVolume(8192), f"ends at byte {length}")


def test_what_is_no_file_is_refused(tmp_path):
    refused(tmp_path, FakeVolume(8192), "a directory")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", FakeVolume(8192), "neither a file nor a block device")
    with pytest.raises(FileNotFoundError):
        logwrites.replay(tmp_path / "missing", FakeVolume(8192))


def test_wrong_types_are_refused_before_the_file_is_opened(tmp_path):
    missing = tmp_path / "missing"
    for arguments in ((missing, object()), (missing, FakeVolume(512), 7), (7, FakeVolume(512))):
        with pytest.raises(jrnl.InvalidType):
            logwrites.replay(*arguments)


def test_a_log_that_shrinks_during_the_replay_is_an_error(save):
    path = save(pack_log([write(0, sector(1))] * 300))
    volume = FakeVolume(8192)
    with pytest.raises(jrnl.FormatError, match="nobody writes to"):
        logwrites.replay(path, volume, lambda done, total: os.truncate(path, 1024))
    assert len(volume.calls) == 256


# --- progress ---


@pytest.mark.parametrize("entries", [1, 255, 256, 257, 512])
def test_progress_is_told_every_256_entries_and_at_the_end(save, entries):
    ticks = []
    path = save(pack_log([write(0, sector(1))] * entries))
    logwrites.replay(path, FakeVolume(8192), lambda done, total: ticks.append((done, total)))
    wanted = [*range(256, entries, 256), entries]
    assert ticks == [(done, entries) for done in wanted]


def test_an_exception_of_progress_stops_the_replay_between_entries(save):
    class Stop(Exception):
        pass

    def stop(done, total):
        raise Stop

    volume = FakeVolume(8192)
    with pytest.raises(Stop):
        logwrites.replay(save(pack_log([write(0, sector(1))] * 600)), volume, stop)
    assert len(volume.calls) == 256


# --- packed logs ---


def test_a_packed_log_is_known_by_its_content(save):
    seqs = logwrites.replay(save(lzma.compress(pack_log(FOUR)), "a.bin"), FakeVolume(8192))
    assert len(seqs) == 5


def test_runs_of_zeroes_in_a_packed_log_stay_zeroes(save):
    data = bytes(3 * MIB) + pattern(MIB) + bytes(2 * MIB)
    volume = FakeVolume(8 * MIB)
    logwrites.replay(save(lzma.compress(pack_log([write(0, data)]))), volume)
    assert b"".join(call[3] for call in volume.calls) == data


def test_damaged_packing_is_refused(save):
    packed = lzma.compress(pack_log(FOUR))
    volume = FakeVolume(8192)
    refused(save(packed[:-20]), volume, "cut short")
    refused(save(packed[:6]), volume, "cut short")
    refused(save(packed[:30] + b"\xff\xff" + packed[32:]), volume, "bad xz packing")
    refused(save(packed + packed), volume, "more follows")
    refused(save(lzma.compress(b"no log at all" * 9)), volume, "magic")
    refused(save(lzma.compress(b"")), volume, "ends at byte 0")


def test_a_packed_disk_image_is_refused_before_it_is_unpacked(save, monkeypatch):
    written = []
    temporary = tempfile.TemporaryFile

    def watched(**options):
        written.append(temporary(**options))
        return written[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", watched)
    refused(save(lzma.compress(pattern(MIB) * 8, preset=1)), FakeVolume(8192), "magic")
    assert written[0].closed


def test_a_packed_log_that_grows_past_the_bound_is_refused(save, monkeypatch):
    monkeypatch.setattr(logwrites.read, "_XZ_OUTPUT_MAX", 4 * MIB)
    packed = lzma.compress(pack_log([write(0, bytes(8 * MIB))]))
    refused(save(packed), FakeVolume(16 * MIB), f"over {4 * MIB} bytes unpacked")


def test_a_packed_log_that_asks_for_a_large_dictionary_is_refused(save):
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 256 * MIB, "mf": lzma.MF_HC3}]
    packed = lzma.compress(pack_log(FOUR), filters=filters)
    refused(save(packed), FakeVolume(8192), "Memory usage limit")


# --- read_log ---


def test_a_log_is_read_without_a_volume(save):
    entries = [write(3, sector(1)), mark("m"), discard(100, 8, FUA), mark(b"caf\xe9\0x")]
    with logwrites.read_log(save(pack_log(entries))) as log:
        assert (log.sector_size, log.counted, len(log.entries)) == (512, 4, 4)
        assert log.extent == 108 * 512
        assert log.entries["offset"].tolist() == [1536, 0, 51200, 0]
        assert log.entries["length"].tolist() == [512, 0, 4096, 0]
        assert log.entries["flags"].tolist() == [0, MARK, DISCARD | FUA, MARK]
        assert log.entries["data"].tolist() == [1024, 2048, 2560, 3072]
        assert [log.mark(k) for k in range(4)] == [None, "m", None, "caf\ufffd"]
        data = bytearray(512)
        log.readinto(1024, memoryview(data))
        assert data == sector(1)
        with pytest.raises(ValueError, match="read-only"):
            log.entries["flags"] = 0
        with pytest.raises(jrnl.FormatError, match="now ends at byte 3072"):
            log.readinto(3000, memoryview(data))


def test_a_volume_size_given_to_read_log_bounds_the_entries(save):
    path = save(pack_log(FOUR))
    logwrites.read_log(path, 2048).close()
    with pytest.raises(jrnl.FormatError, match="at least 2048 bytes"):
        logwrites.read_log(path, 2047)


# --- cost ---


def peak_bytes(path, volume) -> int:
    """Replay, refused or not, and give the largest memory that was in use at once."""
    tracemalloc.start()
    try:
        replay_quietly(path, volume)
    except jrnl.FormatError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize("field", [*ENTRY_FIELDS, "count"])
@pytest.mark.parametrize("value", [(1 << 64) - 1, 1 << 53, 1 << 40, 1 << 31])
def test_no_field_of_a_log_makes_a_large_allocation(save, field, value):
    log = pack_log([*FOUR, mark("m")])
    if field == "count":
        log = set_field(log, 0, SUPER_FIELDS[field], value)
    else:
        for position in entry_positions([*FOUR, mark("m")])[:-1]:
            log = set_field(log, position, ENTRY_FIELDS[field], value)
    path = save(log)
    os.truncate(path, 1 << 41)  # a hole: the data that a length asks for can be there
    assert peak_bytes(path, ForgetfulVolume(1 << 62)) < 3 * MIB


def test_a_long_write_from_a_hole_is_copied_in_bounded_pieces(save):
    path = save(pack_log([Entry(0, 256 * MIB // 512)]))
    os.truncate(path, path.stat().st_size + 256 * MIB)
    volume = ForgetfulVolume(1 << 40, max_write=1 << 31)
    assert peak_bytes(path, volume) < 3 * MIB
    assert sum(call[3] for call in volume.calls) == 256 * MIB


def test_the_index_takes_a_small_part_of_the_size_of_the_log(save):
    path = save(pack_log([discard(0, 1)] * 20_000, count=0))
    volume = ForgetfulVolume(8192)
    volume._add = lambda *_: 0
    assert peak_bytes(path, volume) < path.stat().st_size // 4 + 2 * MIB


# --- properties ---


@st.composite
def logs(draw):
    """Give a sector size, a number of sectors in the volume, and entries that fit it."""
    sector_size = draw(st.sampled_from([512, 4096]))
    sectors = draw(st.integers(1, 12))
    entries = draw_entries(draw, sector_size, sectors, 12)
    return sector_size, sectors, entries


@settings(deadline=None)
@given(logs(), st.integers(100, 70_000), st.integers(0, 12), st.sampled_from([0, 1, 900, 8192]))
def test_a_random_log_replays_like_a_plain_copy_at_every_entry(
    tmp_path_factory, log, max_write, stale, zeroes
):
    sector_size, sectors, entries = log
    size = sectors * sector_size
    path = tmp_path_factory.getbasetemp() / "random.log"
    count = max(0, len(entries) - stale)
    path.write_bytes(pack_log(entries, sector_size, count) + bytes(zeroes))
    volume = FakeVolume(size, max_write)
    seqs = replay_quietly(path, volume)
    assert len(seqs) == len(entries) + 1
    wanted = plain_states(entries, size, sector_size)
    assert [bytes(state) for state in volume.states(seqs.tolist())] == wanted


@settings(deadline=None)
@given(logs())
def test_a_random_log_is_a_history_of_a_store(tmp_path_factory, log):
    sector_size, sectors, entries = log
    size = sectors * sector_size
    path = tmp_path_factory.getbasetemp() / "store.log"
    path.write_bytes(pack_log(entries, sector_size))
    with jrnl.create(size=size, journal="4MiB") as store:
        seqs = logwrites.replay(path, store.volume)
        for seq, wanted in zip(
            seqs.tolist(), plain_states(entries, size, sector_size), strict=True
        ):
            with closing(store.recover(seq)) as recovery:
                assert recovery.read(0, size) == wanted


@settings(deadline=None, max_examples=300)
@given(
    logs(),
    st.lists(st.tuples(st.integers(0, 13), st.integers(0, 40), st.integers(1, 255)), max_size=3),
    st.one_of(st.none(), st.integers(0, 10_000)),
)
@example((512, 1, [flush(), flush()]), [(1, 8, 1)], None)
def test_a_damaged_log_is_refused_or_replayed_up_to_the_damage(
    tmp_path_factory, log, flips, cut_bytes
):
    sector_size, sectors, entries = log
    size = sectors * sector_size
    positions = [0, *entry_positions(entries, sector_size)]
    content = bytearray(pack_log(entries, sector_size))
    damaged_at = len(content)
    for header, byte, flip in flips:
        at = positions[header % len(positions)] + byte
        if at < len(content):
            content[at] ^= flip
            damaged_at = min(damaged_at, at)
    if cut_bytes is not None:
        damaged_at = min(damaged_at, max(0, len(content) - cut_bytes))
        del content[len(content) - min(cut_bytes, len(content)) :]
    path = tmp_path_factory.getbasetemp() / "damaged.log"
    path.write_bytes(content)
    volume = FakeVolume(size)
    try:
        seqs = replay_quietly(path, volume)
    except jrnl.FormatError:
        assert volume.calls == []
        return
    whole = sum(end <= damaged_at for end in positions[2:])
    if damaged_at >= sector_size:
        assert len(seqs) > whole
        wanted = plain_states(entries[:whole], size, sector_size)
        states = volume.states(seqs[: whole + 1].tolist())
        assert [bytes(state) for state in states] == wanted
