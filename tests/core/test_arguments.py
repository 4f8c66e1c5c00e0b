"""What the calls that move bytes take as offsets, lengths and buffers, and what they refuse."""

from __future__ import annotations

import array
import ctypes
import mmap
from collections.abc import Callable

import numpy as np
import pytest

import jrnl
from tests.model.fingerprint import unchanged

SIZE = 65536


class Index:
    """An int by its own account, or by raising."""

    def __init__(self, value: int | BaseException) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Index({self.value!r})"

    def __index__(self) -> int:
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value


@pytest.fixture
def store():
    with jrnl.create(size=SIZE, journal="256KiB") as made:
        made.volume.write(0, bytes(range(256)) * 16)
        made.mark("start")
        yield made


CALLS: dict[str, Callable[[jrnl.Store, object, object], object]] = {
    "read": lambda store, offset, length: store.volume.read(offset, length),
    "discard": lambda store, offset, length: store.volume.discard(offset, length),
    "write_zeroes": lambda store, offset, length: store.volume.write_zeroes(offset, length),
    "edit": lambda store, offset, length: store.volume.edit(offset, length).__enter__(),
    "view.read": lambda store, offset, length: store.view(0).read(offset, length),
    "recovery.read": lambda store, offset, length: store.recover(0).read(offset, length),
    "snapshot.read": lambda store, offset, length: store.snapshots["taken"].read(offset, length),
}
OFFSET_CALLS: dict[str, Callable[[jrnl.Store, object], object]] = {
    "write": lambda store, offset: store.volume.write(offset, b"x"),
    "write_many": lambda store, offset: store.volume.write_many([offset], b"x"),
    "readinto": lambda store, offset: store.volume.readinto(offset, bytearray(1)),
    "view.readinto": lambda store, offset: store.view(0).readinto(offset, bytearray(1)),
    "recovery.readinto": lambda store, offset: store.recover(0).readinto(offset, bytearray(1)),
    **{
        f"{name} offset": lambda store, offset, call=call: call(store, offset, 1)
        for name, call in CALLS.items()
    },
    **{
        f"{name} length": lambda store, length, call=call: call(store, 0, length)
        for name, call in CALLS.items()
    },
}
OUTSIDE = [
    -1,
    SIZE + 1,
    2**31,
    2**32,
    2**63 - 1,
    2**63,
    2**64 - 1,
    2**64,
    2**200,
    -(2**63),
    -(2**70),
]
NO_COUNTS = [True, False, 1.0, np.float64(1), "1", b"1", None, [1], np.array([1, 2]), int, 1j]


@pytest.mark.parametrize("call", OFFSET_CALLS)
@pytest.mark.parametrize("value", OUTSIDE, ids=str)
def test_a_range_outside_the_volume_is_refused_with_its_numbers(store, call, value):
    store.snapshot("taken")
    with unchanged(store), pytest.raises(jrnl.OutOfBounds) as caught:
        OFFSET_CALLS[call](store, value)
    assert str(value) in str(caught.value)
    assert str(SIZE) in str(caught.value)


NESTED = (
    list,
    np.ndarray,
)  # makes another shape of offsets, which write_many has its own tests for


@pytest.mark.parametrize(
    ("call", "value"),
    [
        (call, value)
        for call in OFFSET_CALLS
        for value in NO_COUNTS
        if call != "write_many" or not isinstance(value, NESTED)
    ],
    ids=repr,
)
def test_only_whole_numbers_count_bytes(store, call, value):
    store.snapshot("taken")
    with unchanged(store), pytest.raises(jrnl.InvalidType) as caught:
        OFFSET_CALLS[call](store, value)
    wanted = "integers" if call == "write_many" else type(value).__name__
    assert wanted in str(caught.value)


@pytest.mark.parametrize("call", OFFSET_CALLS)
@pytest.mark.parametrize("value", [10**5000, -(10**5000)], ids=["huge", "hugely negative"])
def test_a_number_too_long_to_print_is_refused_like_any_other(store, call, value):
    store.snapshot("taken")
    with unchanged(store), pytest.raises(jrnl.OutOfBounds, match=r"2\*\*16609 or"):
        OFFSET_CALLS[call](store, value)


@pytest.mark.parametrize("call", sorted(CALLS))
def test_a_range_may_end_at_the_end_of_the_volume_but_not_past_it(store, call):
    store.snapshot("taken")
    with unchanged(store):
        CALLS[call](store, SIZE, 0)
        for offset, length in [(SIZE, 1), (SIZE - 1, 2), (1, SIZE), (1, 2**63 - 1)]:
            with pytest.raises(jrnl.OutOfBounds, match=f"{length} bytes at offset {offset}"):
                CALLS[call](store, offset, length)


@pytest.mark.parametrize("call", sorted(OFFSET_CALLS.keys() - {"write_many"}))  # NumPy's business
def test_an_error_in_an_index_method_is_the_callers_own(store, call):
    store.snapshot("taken")
    with unchanged(store):
        with pytest.raises(ZeroDivisionError):
            OFFSET_CALLS[call](store, Index(ZeroDivisionError()))
        with pytest.raises(jrnl.InvalidType, match="not Index"):
            OFFSET_CALLS[call](store, Index(TypeError("no")))


@pytest.mark.parametrize("value", [Index(5), np.int8(5), np.uint64(5), np.array(5)], ids=repr)
def test_whatever_counts_as_an_index_is_an_offset(store, value):
    seq = store.volume.write(value, b"hello")
    assert store.volume.read(value, value) == b"hello"
    assert store.journal.entries[-1]["offset"] == 5
    assert store.volume.discard(value, value) == seq + 1


def strided() -> object:
    return np.arange(64, dtype=np.uint8)[::2]


def released() -> memoryview:
    view = memoryview(bytearray(8))
    view.release()
    return view


REFUSED_BUFFERS: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "strided": (strided, jrnl.InvalidArgument, "contiguous"),
    "reversed": (lambda: memoryview(b"abcd")[::-1], jrnl.InvalidArgument, "contiguous"),
    "fortran": (lambda: np.ones((3, 4), order="F"), jrnl.InvalidArgument, "contiguous"),
    "transposed": (lambda: np.ones((3, 4), np.uint8).T, jrnl.InvalidArgument, "contiguous"),
    "released": (released, jrnl.InvalidArgument, "released"),
    "objects": (lambda: np.array([1, "a"], object), jrnl.InvalidType, "Python objects"),
    "ctypes objects": (ctypes.py_object * 2, jrnl.InvalidType, "Python objects"),
    "object fields": (lambda: np.zeros(2, [("a", "O")]), jrnl.InvalidType, "Python objects"),
    "str": (lambda: "text", jrnl.InvalidType, "str"),
    "int": (lambda: 5, jrnl.InvalidType, "int"),
    "None": (lambda: None, jrnl.InvalidType, "NoneType"),
    "list": (lambda: [1, 2], jrnl.InvalidType, "list"),
}
BUFFER_CALLS: dict[str, Callable[[jrnl.Store, object], object]] = {
    "write": lambda store, data: store.volume.write(0, data),
    "write_many": lambda store, data: store.volume.write_many([0], data),
    "readinto": lambda store, data: store.volume.readinto(0, data),
    "view.readinto": lambda store, data: store.view(0).readinto(0, data),
    "recovery.readinto": lambda store, data: store.recover(0).readinto(0, data),
    "file.write": lambda store, data: store.volume.as_file().write(data),
    "file.readinto": lambda store, data: store.volume.as_file().readinto(data),
    "view.file.readinto": lambda store, data: store.view(0).as_file().readinto(data),
}


@pytest.mark.parametrize("call", BUFFER_CALLS)
@pytest.mark.parametrize("kind", REFUSED_BUFFERS)
def test_a_buffer_that_is_not_plain_contiguous_bytes_is_refused(store, call, kind):
    make, error, word = REFUSED_BUFFERS[kind]
    with unchanged(store), pytest.raises(error, match=word):
        BUFFER_CALLS[call](store, make())


@pytest.mark.parametrize("call", [name for name in BUFFER_CALLS if "readinto" in name])
@pytest.mark.parametrize("buffer", [b"bytes", memoryview(b"view"), np.frombuffer(b"an array")])
def test_nothing_is_read_into_a_buffer_that_is_read_only(store, call, buffer):
    with unchanged(store), pytest.raises(jrnl.InvalidArgument, match="writable"):
        BUFFER_CALLS[call](store, buffer)


def filled_map() -> mmap.mmap:
    made = mmap.mmap(-1, 24)
    made[:] = bytes(range(24))
    return made


CONTENT = bytes(range(24))
BUFFERS: dict[str, Callable[[], object]] = {
    "bytes": lambda: CONTENT,
    "bytearray": lambda: bytearray(CONTENT),
    "memoryview": lambda: memoryview(CONTENT),
    "slice": lambda: memoryview(b"x" + CONTENT + b"x")[1:-1],
    "array.array": lambda: array.array("B", CONTENT),
    "array of doubles": lambda: array.array("d", CONTENT),
    "ctypes": lambda: (ctypes.c_uint16 * 12).from_buffer_copy(CONTENT),
    "mmap": filled_map,
    "uint8": lambda: np.frombuffer(CONTENT, np.uint8),
    "complex": lambda: np.frombuffer(CONTENT[:16] + CONTENT[16:], np.complex64),
    "three dimensions": lambda: np.frombuffer(CONTENT, ">u2").reshape(2, 3, 2),
    "fortran and c": lambda: np.frombuffer(CONTENT, np.uint8).reshape(1, 24, order="F"),
    "void": lambda: np.frombuffer(CONTENT, "V24"),
    "a field called Offset": lambda: np.frombuffer(CONTENT, [("Offset", "<u8"), ("O", "<u4", 4)]),
    "bools": lambda: np.frombuffer(CONTENT, np.uint8).view(np.int8),
}


@pytest.mark.parametrize("kind", BUFFERS)
def test_any_contiguous_buffer_gives_and_takes_bytes(store, kind):
    data = BUFFERS[kind]()
    store.volume.write(7, data)
    assert store.volume.read(7, 24) == CONTENT
    rows = memoryview(data).shape[0]
    store.volume.write_many(1000 + np.arange(rows) * (24 // rows), data)
    assert store.volume.read(1000, 24) == CONTENT
    if not memoryview(data).readonly:
        store.volume.readinto(0, data)
        assert bytes(memoryview(data).cast("B")) == store.volume.read(0, 24)


@pytest.mark.parametrize("data", [b"", bytearray(), np.empty((0, 4)), np.empty((4, 0), ">u2")])
def test_nothing_is_written_for_an_empty_buffer(store, data):
    with unchanged(store):
        assert store.volume.write(SIZE, data) == store.seq
        assert store.volume.as_file().write(data) == 0
        if not memoryview(data).readonly:
            store.volume.readinto(SIZE, data)
            store.view(0).readinto(SIZE, data)
            assert store.volume.as_file().readinto(data) == 0
        with pytest.raises(jrnl.OutOfBounds):
            store.volume.write(SIZE + 1, data)


# write_many


def test_offsets_may_have_any_integer_dtype_and_any_stride(store):
    plain = np.array([0, 100, 200, 300])
    doubled = np.repeat(plain, 2)
    kinds: list[object] = [plain, plain.tolist(), tuple(plain.tolist()), range(0, 400, 100)]
    kinds += [doubled[::2], plain[::-1][::-1], memoryview(plain), array.array("l", plain)]
    kinds += [plain.astype(kind) for kind in ("<i2", ">i4", "<u2", "<u4", "<u8", ">u8", ">i8")]
    for number, offsets in enumerate(kinds, 1):
        blocks = np.full((4, 10), number, np.uint8)
        blocks[:, 0] = range(4)
        assert store.volume.write_many(offsets, blocks) == store.seq
        assert store.journal.entries[-4:]["offset"].tolist() == plain.tolist()
        for k in range(4):
            assert store.volume.read(k * 100, 10) == blocks[k].tobytes()


@pytest.mark.parametrize(
    ("offsets", "error", "word"),
    [
        (np.array([0.0, 1.0]), jrnl.InvalidType, "float64"),
        ([0, 1.5], jrnl.InvalidType, "float64"),
        (np.array([True, False]), jrnl.InvalidType, "bool"),
        ([True, False], jrnl.InvalidType, "bool"),
        (["0", "1"], jrnl.InvalidType, "<U1"),
        ([None, 1], jrnl.InvalidType, "object"),
        (np.array([0, 1], "m8[s]"), jrnl.InvalidType, "timedelta"),
        (np.zeros((2, 1), int), jrnl.InvalidArgument, "one dimension, not 2"),
        (np.array(5), jrnl.InvalidArgument, "one dimension, not 0"),
        (5, jrnl.InvalidArgument, "one dimension, not 0"),
        (None, jrnl.InvalidType, "NoneType"),
        ([[0], [1, 2]], jrnl.InvalidArgument, "one dimension"),
        ([0, 2**63], jrnl.OutOfBounds, "9223372036854775808"),
        ([-1, 2**64], jrnl.OutOfBounds, "18446744073709551616"),
        ([0, -(2**70)], jrnl.OutOfBounds, "-1180591620717411303424"),
        (np.array([0, 2**63], np.uint64), jrnl.OutOfBounds, "9223372036854775808"),
        (np.array([0, 2**64 - 1], ">u8"), jrnl.OutOfBounds, "18446744073709551615"),
        (np.array([0, 2**64], object), jrnl.OutOfBounds, "18446744073709551616"),
    ],
    ids=repr,
)
def test_write_many_refuses_what_are_no_offsets(store, offsets, error, word):
    with unchanged(store), pytest.raises(error, match=word):
        store.volume.write_many(offsets, b"ab")


def test_ints_in_an_object_array_are_offsets(store):
    store.volume.write_many(np.array([5, 7], object), b"ab")
    assert store.volume.read(5, 3)[::2] == b"ab"


@pytest.mark.parametrize("bad", [-1, SIZE - 9, SIZE, 2**31, 2**62, -(2**63), 2**63 - 1])
@pytest.mark.parametrize("place", range(8))
def test_one_offset_out_of_bounds_anywhere_stops_the_whole_batch(store, bad, place):
    offsets = np.arange(8) * 10
    offsets[place] = bad
    with unchanged(store), pytest.raises(jrnl.OutOfBounds, match=f"10 bytes at offset {bad} "):
        store.volume.write_many(offsets, np.ones((8, 10), np.uint8))


@pytest.mark.parametrize(
    ("count", "data", "word"),
    [
        (3, np.ones((2, 4), np.uint8), "3 offsets need 3 rows of data, not 2"),
        (2, np.ones((4, 2), np.uint8), "2 offsets need 2 rows of data, not 4"),
        (3, bytes(10), "10 bytes of data are not 3 equal blocks"),
        (0, b"abc", "3 bytes of data for no offsets"),
        (0, np.ones((1, 3), np.uint8), "0 offsets need 0 rows of data, not 1"),
    ],
)
def test_write_many_wants_a_row_for_each_offset(store, count, data, word):
    with unchanged(store), pytest.raises(jrnl.InvalidArgument, match=word):
        store.volume.write_many(np.zeros(count, int), data)


@pytest.mark.parametrize("data", [b"", np.empty((0, 4096), np.uint8), np.empty(0)])
@pytest.mark.parametrize("offsets", [[], np.empty(0, np.int64), np.empty(0), ()])
def test_an_empty_batch_changes_nothing(store, offsets, data):
    with unchanged(store):
        assert store.volume.write_many(offsets, data) == store.seq


def test_a_batch_of_empty_blocks_changes_nothing_but_is_still_checked(store):
    with unchanged(store):
        assert store.volume.write_many([0, SIZE], b"") == store.seq
        with pytest.raises(jrnl.OutOfBounds, match=f"0 bytes at offset {SIZE + 1} "):
            store.volume.write_many([0, SIZE + 1], b"")


@pytest.mark.parametrize("images", ["before", "both"])
def test_a_batch_that_the_journal_refuses_changes_nothing(images):
    with jrnl.create(size=SIZE, journal="16KiB", images=images, overflow="refuse") as store:
        store.volume.write(0, bytes(1000))
        for count in (14, 15, 1000):
            with unchanged(store), pytest.raises(jrnl.JournalFull, match="16384"):
                store.volume.write_many(np.arange(count) * 64, np.ones((count, 1024), np.uint8))
        fits = 12 if images == "before" else 6
        assert store.volume.write_many(np.arange(fits) * 1024, bytes(fits * 1024)) == fits + 1


@pytest.mark.parametrize("images", ["before", "after", "both"])
def test_a_block_larger_than_an_entry_is_refused_and_the_largest_is_not(images):
    with jrnl.create(size=SIZE, journal="16KiB", images=images) as store:
        largest = 3584 if images == "both" else 7168
        for call in (
            lambda data: store.volume.write(0, data),
            lambda data: store.volume.write_many([0, 1], data + data),
            lambda data: store.volume.edit(0, len(data)).__enter__(),
        ):
            with unchanged(store), pytest.raises(jrnl.EntryTooLarge, match=f"most {largest} bytes"):
                call(bytes(largest + 1))
        store.volume.write(0, bytes(largest))
        store.volume.write_many([0, 1], bytes(2 * largest))
        with store.volume.edit(0, largest) as lent:
            lent[:] = 1
        assert store.verify().ok


# Buffers that are production itself


@pytest.mark.parametrize("images", ["before", "after", "both"])
@pytest.mark.parametrize("shift", [1, 64, 1000, 5000])
def test_a_part_of_the_volume_may_be_written_over_another_part_that_overlaps_it(images, shift):
    content = np.random.default_rng(1).integers(0, 256, SIZE, np.uint8)
    with jrnl.wrap(content.copy(), images=images) as store:
        production = store.volume.as_array()
        store.volume.write(shift, production[:8192])
        assert store.volume.read(shift, 8192) == content[:8192].tobytes()
        again = production.tobytes()
        store.volume.write(0, production[shift : shift + 8192])
        assert store.volume.read(0, 8192) == again[shift : shift + 8192]
        assert store.verify().ok
        if images != "after":
            assert store.recover(0).as_array().tobytes() == content.tobytes()


def test_a_wrapped_buffer_may_be_read_into_itself():
    content = bytearray(np.random.default_rng(1).integers(0, 256, SIZE, np.uint8))
    before = bytes(content)
    with jrnl.wrap(content) as store:
        store.volume.readinto(100, memoryview(content)[:5000])
        assert content[:5000] == before[100:5100]
