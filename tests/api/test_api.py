"""The public surface: every name of the contract, its signature, its fields, its documentation."""

from __future__ import annotations

import enum
import inspect
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

import jrnl

SIGNATURES = {
    "create": "path=None, *, size=None, volumes=None, source=None, journal='64MiB', images=None, "
    "overflow='evict', checksum=True, sync=None, overlay=None, clock=None, reclaim=None, low=None, "
    "on_low=None, keep_at_least=None, keep_at_most=None",
    "open": "path, mode='r+', *, overlay=None, clock=None, on_low=None",
    "wrap": "buffer, journal='64MiB', *, images=None, overflow='evict', checksum=True, clock=None, "
    "reclaim=None, low=None, on_low=None, keep_at_least=None, keep_at_most=None",
    "get_include": "",
    "Store.flush": "self",
    "Store.mark": "self, name=None, pinned=False, *, volumes=None, at=None",
    "Store.pin": "self, at",
    "Store.unpin": "self, name",
    "Store.retain": "self, at_least=None, at_most=None",
    "Store.snapshot": "self, name, volumes=None, pinned=False",
    "Store.plan": "self, to, base=None, *, volumes=None",
    "Store.recover": "self, to, base=None, undoable=False, *, volumes=None, progress=None",
    "Store.delete_recovery": "self, number",
    "Store.rewind": "self, to, close_views=False",
    "Store.savepoint": "self, name=None",
    "Store.view": "self, at, writable=False, *, volumes=None, pinned=False",
    "Store.states": "self, start=None, stop=None",
    "Store.bisect": "self, check, start=None, stop=None",
    "Store.diff": "self, a, b=None, volume=None, *, exact=False",
    "Store.history": "self, offset, length, volume=None",
    "Store.stats": "self, since=None, until=None, volume=None",
    "Store.digest": "self, at=None",
    "Store.verify": "self, progress=None",
    "Store.close": "self",
    "Volume.write": "self, offset, data",
    "Volume.write_many": "self, offsets, data",
    "Volume.read": "self, offset, length",
    "Volume.readinto": "self, offset, buffer",
    "Volume.discard": "self, offset, length",
    "Volume.write_zeroes": "self, offset, length",
    "Volume.edit": "self, offset, length",
    "Volume.as_array": "self",
    "Volume.as_file": "self",
    "Volume.path": "self",
    "State.read": "self, offset, length, volume=None",
    "State.readinto": "self, offset, buffer, volume=None",
    "State.as_file": "self, volume=None",
    "State.path": "self, volume=None",
    "State.diff": "self, other, volume=None, *, exact=True",
    "State.digest": "self",
    "StateVolume.read": "self, offset, length",
    "StateVolume.readinto": "self, offset, buffer",
    "StateVolume.as_file": "self",
    "StateVolume.path": "self",
    "StateVolume.write": "self, offset, data",
    "StateVolume.write_many": "self, offsets, data",
    "StateVolume.write_zeroes": "self, offset, length",
    "StateVolume.discard": "self, offset, length",
    "Snapshot.read": "self, offset, length, volume=None",
    "Snapshot.wait": "self, timeout=None",
    "Snapshot.verify": "self",
    "Snapshot.delete": "self",
    "Recovery.read": "self, offset, length, volume=None",
    "Recovery.readinto": "self, offset, buffer, volume=None",
    "Recovery.as_array": "self, volume=None",
    "Recovery.path": "self, volume=None",
    "Recovery.restore": "self, *, volumes=None, dry_run=False, everything=False",
    "Recovery.seek": "self, to, progress=None",
    "Recovery.again": "self, to=None, progress=None",
    "Recovery.close": "self",
    "View.read": "self, offset, length, volume=None",
    "View.readinto": "self, offset, buffer, volume=None",
    "View.as_file": "self, volume=None",
    "View.view": "self, writable=False",
    "View.diff": "self, other=None, volume=None, *, exact=True",
    "View.promote": "self, force=False",
    "View.write": "self, offset, data, volume=None",
    "View.write_zeroes": "self, offset, length, volume=None",
    "View.discard": "self, offset, length, volume=None",
    "View.close": "self",
    "Pin.release": "self",
    "Pin.close": "self",
    "Journal.between": "self, start=None, stop=None",
    "Journal.before": "self, seq",
    "Journal.after": "self, seq",
    "logwrites.replay": "path, volume, progress=None",
    "logwrites.attach": "path, size=None, source=None",
    "logwrites.LogHistory.view": "self, at, writable=False",
    "logwrites.LogHistory.recover": "self, at",
    "logwrites.LogHistory.diff": "self, a, b, volume=None, *, exact=False",
    "logwrites.LogHistory.digest": "self, at=None",
    "logwrites.LogHistory.states": "self, start=None, stop=None",
    "logwrites.LogHistory.bisect": "self, check, start=None, stop=None",
    "logwrites.LogHistory.history": "self, offset, length, volume=None",
    "logwrites.LogHistory.latest": "self, at, offset, length",
    "logwrites.LogHistory.content": "self, entry, offset, buffer",
    "logwrites.LogHistory.close": "self",
}
PROPERTIES = {
    "Store": "volumes volume seq window window_time marks pins snapshots recoveries",
    "Pin": "seq held needs",
    "Journal": "capacity used entries",
    "Volume": "name size",
    "Snapshot": "name seq time_ns volumes pinned complete",
    "Plan": "oldest_after_restore",
}
FIELDS = {
    "Window": ("oldest", "newest"),
    "WindowTime": ("oldest", "newest"),
    "Mark": ("name", "seq", "time_ns"),
    "Restore": ("first_seq", "last_seq", "bytes"),
    "Rewind": ("seq", "entries", "bytes"),
    "Report": ("ok", "problems", "entries", "snapshots", "volume_bytes"),
    "Stats": (
        *("since", "until", "entries", "writes", "bytes", "distinct_bytes", "rewritten_bytes"),
        *("discards", "discarded_bytes", "zeroes", "zeroed_bytes", "flushes", "marks", "rewinds"),
        *("journal_bytes", "write_amplification", "seconds"),
        *("evictions", "used", "capacity", "occupancy"),
    ),
}


def find(path: str) -> object:
    found: object = jrnl
    for name in path.split("."):
        found = getattr(found, name)
    return found


@pytest.fixture
def store() -> Iterator[jrnl.Store]:
    with jrnl.create(size=65536, journal="64KiB", images="both") as made:
        made.volume.write(0, b"first")
        yield made


@pytest.mark.parametrize("path", SIGNATURES)
def test_a_call_has_the_signature_of_the_contract(path):
    parameters = inspect.signature(find(path)).parameters.values()
    plain = inspect.Signature([one.replace(annotation=one.empty) for one in parameters])
    assert str(plain).replace(" ", "") == f"({SIGNATURES[path]})".replace(" ", "")


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_class_has_the_properties_of_the_contract(name):
    for attribute in PROPERTIES[name].split():
        assert inspect.isdatadescriptor(getattr(getattr(jrnl, name), attribute))


@pytest.mark.parametrize("name", FIELDS)
def test_a_result_is_a_named_tuple_with_the_fields_of_the_contract(name):
    kind = getattr(jrnl, name)
    assert issubclass(kind, tuple)
    assert kind._fields == FIELDS[name]


def public_members() -> Iterator[tuple[str, object]]:
    for name in jrnl.__all__:
        found = getattr(jrnl, name)
        if name == "__version__":
            continue
        yield name, found
        if not inspect.isclass(found) or issubclass(found, BaseException | enum.Enum):
            continue
        for attribute, member in vars(found).items():
            if not attribute.startswith("_") and attribute not in getattr(found, "_fields", ()):
                yield f"{name}.{attribute}", member
    for attribute, member in vars(jrnl.Volume.__base__).items():
        if not attribute.startswith("_"):
            yield f"Volume.{attribute}", member


def test_everything_public_is_documented():
    members = dict(public_members())
    assert len(members) > 80
    lacking = {name for name, member in members.items() if not (inspect.getdoc(member) or "")}
    assert lacking <= {
        "Mark.volumes",
        "Volume.engine",
        "Volume.index",
        "Volume.size",
    }  # in the class's docstring


def test_every_public_call_documents_what_it_raises():
    silent = {"get_include", "Store.close", "View.close", "Recovery.close", "Snapshot.verify"}
    silent |= {"Pin.release", "Pin.close"}
    for path in SIGNATURES:
        found = find(path)
        if path in silent or path.endswith((".as_array", ".as_file", ".path", ".flush", ".verify")):
            continue
        text = inspect.getdoc(found) or ""
        assert "aise" in text or "see `discard`" in text or "rewinds to its start" in text, path


def test_annotations_can_be_looked_up():
    for path in SIGNATURES:
        if not inspect.isfunction(find(path)):
            assert path.split(".")[0] in ("Volume", "Recovery", "View")  # of the compiled core
            continue
        assert "return" in get_type_hints(find(path)), path
    for name, attributes in PROPERTIES.items():
        for attribute in attributes.split():
            member = getattr(getattr(jrnl, name), attribute)
            if isinstance(member, property):
                assert "return" in get_type_hints(member.fget), f"{name}.{attribute}"


def test_what_annotations_name_can_be_imported():
    assert get_type_hints(jrnl.Store.savepoint)["return"] is jrnl.Savepoint
    assert get_type_hints(jrnl.Store.recover)["to"] == jrnl.Point
    assert get_type_hints(jrnl.Volume.edit)["return"] is jrnl.Edit
    for kind in (jrnl.Volume, jrnl.View):
        assert get_type_hints(kind.as_file)["return"] is jrnl.VolumeFile


def test_what_the_module_offers_is_what_it_lists():
    assert len(set(jrnl.__all__)) == len(jrnl.__all__)
    modules = {name for name, found in vars(jrnl).items() if inspect.ismodule(found)}
    offered = {name for name in vars(jrnl) if not name.startswith("_")} - modules
    helpers = {"annotations", "IntEnum", "PackageNotFoundError", "version", "Path"}
    assert offered - helpers <= set(jrnl.__all__)
    raised = {name for name, found in vars(jrnl.errors).items() if inspect.isclass(found)}
    assert raised <= set(jrnl.__all__)
    for name in jrnl.__all__:
        assert hasattr(jrnl, name)


def test_star_import_and_plain_import_are_quiet():
    code = "from jrnl import *; import jrnl; print(len(jrnl.__all__))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_facts_cannot_be_assigned(store):
    taken = store.snapshot("taken")
    for thing, attribute in [
        *((taken, attribute) for attribute in PROPERTIES["Snapshot"].split()),
        *((store.volume, attribute) for attribute in PROPERTIES["Volume"].split()),
        *((store, attribute) for attribute in PROPERTIES["Store"].split()),
    ]:
        before = getattr(thing, attribute)
        with pytest.raises(AttributeError):
            setattr(thing, attribute, before)


def test_kinds_are_the_numbers_of_the_entries(store):
    assert {kind.name: kind.value for kind in jrnl.Kind} == {
        "WRITE": 1,
        "DISCARD": 2,
        "ZEROES": 3,
        "MARK": 4,
        "FLUSH": 5,
        "REWIND": 6,
    }
    volume = store.volume
    volume.discard(0, 10)
    volume.write_zeroes(0, 10)
    store.mark("m")
    store.flush()
    store.rewind(4)
    kinds = [jrnl.Kind(kind).name for kind in store.journal.entries["kind"]]
    assert kinds == ["WRITE", "DISCARD", "ZEROES", "MARK", "REWIND"]


def test_entries_are_a_structured_copy(store):
    entries = store.journal.entries
    assert entries.dtype == np.dtype(
        [
            ("seq", "<u8"),
            ("time_ns", "<i8"),
            ("kind", "u1"),
            ("volume", "<u2"),
            ("offset", "<u8"),
            ("length", "<u8"),
        ]
    )
    assert entries.tolist() == [(1, entries["time_ns"][0], 1, 0, 0, 5)]
    entries["seq"] = 9
    assert store.journal.entries["seq"].tolist() == [1]
    assert store.journal.before(1) == bytes(5)
    assert store.journal.after(1) == b"first"
    store.mark("named")
    assert (store.journal.before(2), store.journal.after(2)) == (b"", b"named")


def test_mappings_are_read_only_and_in_order(store):
    store.mark("b")
    store.mark("a")
    store.snapshot("y")
    store.snapshot("x")
    kept = store.recover(1)
    for mapping, names in [
        (store.volumes, ["data"]),
        (store.marks, ["b", "a"]),
        (store.snapshots, ["y", "x"]),
        (store.recoveries, [kept.id]),
    ]:
        assert isinstance(mapping, Mapping)
        assert list(mapping) == names
        with pytest.raises(TypeError):
            mapping["new"] = None
        with pytest.raises(AttributeError):
            mapping.pop(names[0])
    assert store.recoveries[kept.id] is kept
    assert list(store) == ["data"]
    assert store["data"] is store.volume is store.volumes["data"]
    assert "data" in list(store)


def test_a_plan_says_what_then_moves(store):
    plan = store.plan(0)
    assert (plan.route, plan.base, plan.entries, plan.bytes) == ("backward", "production", 1, 5)
    assert plan.oldest_after_restore == 0
    with pytest.raises(AttributeError):
        plan.bytes = 3
    with store.recover(0) as recovery:
        assert recovery.plan == plan
        assert (recovery.seq, recovery.base, recovery.id) == (0, "production", 1)
        restored = recovery.restore()
    assert restored == (2, 2, 5)
    assert store.rewind(1) == (3, 1, 5)


def test_a_restore_of_what_is_there_already_adds_nothing(store):
    with store.recover(store.seq) as recovery:
        assert recovery.restore() == (2, 1, 0)


def test_recoveries_are_listed_while_they_are_held_and_kept_once_restored(store):
    first, second = store.recover(0), store.recover(1)
    first.restore()
    assert list(store.recoveries) == [first.id, second.id] == [1, 2]
    del first, second
    assert list(store.recoveries) == [1]
    again = store.recoveries[1].again()
    assert again.id == 3
    store.recoveries[1].close()
    assert list(store.recoveries) == [3]


def test_a_mark_is_a_tuple_and_a_point(store):
    mark = store.mark("here")
    bookmark = store.mark()
    assert mark == store.marks["here"]
    assert (mark.name, mark.seq) == ("here", 2)
    assert (bookmark.name, bookmark.seq) == (None, 2)
    assert bookmark.time_ns >= mark.time_ns
    store.volume.write(0, b"later")
    for point in (mark, bookmark, "here", 2, np.int64(2)):
        assert store.recover(point).seq == 2
    assert store.recover(datetime.max.replace(tzinfo=UTC)).seq == 3


def test_digests_are_32_hex_digits_equal_for_equal_states(store):
    first = store.digest()
    assert len(first) == 32
    assert int(first, 16) >= 0
    store.volume.write(0, b"other")
    assert store.digest() != first
    assert store.digest(1) == first
    store.volume.write(0, b"first")
    assert store.digest() == first
    with jrnl.create(volumes={"a": 65536 - 4096, "b": 4096}) as other:
        other["a"].write(0, b"first")
        assert other.digest() == first  # over all volumes, one after the other


def test_verify_reports_and_tells_its_progress(store):
    store.snapshot("s")
    told: list[tuple[int, int]] = []
    report = store.verify(lambda done, total: told.append((done, total)))
    assert report == (True, [], 1, 1, 65536)
    assert told[0] == (0, 2)
    assert told[-1] == (2, 2)
    assert store.snapshots["s"].verify() == (True, [], 0, 1, 0)


def test_representations_say_what_a_thing_is(store):
    store.snapshot("s")
    assert repr(store) == "<jrnl.Store {data: 65536}, Window(oldest=0, newest=1)>"
    assert repr(store.volume) == "<jrnl.Volume 'data', 65536 bytes>"
    assert repr(store.journal) == "<jrnl.Journal, 192 of 65536 bytes used>"
    assert repr(store.snapshots["s"]) == "<jrnl.Snapshot 's' at 1>"
    assert repr(store.view(0)) == "<jrnl.View at 0>"
    assert repr(store.recover(0, base="s")) == "<jrnl.Recovery 1 at 0 from 's'>"
    assert repr(store.plan(0, "s")) == "Plan(route='backward', base='s', entries=1, bytes=5)"


def test_a_volume_is_made_by_its_store_only():
    for arguments in [(), (None, 0), (1, 2)]:
        with pytest.raises(TypeError):
            jrnl.Volume.__new__(jrnl.Volume, *arguments)


def test_the_include_folder_has_the_header_for_c():
    assert (Path(jrnl.get_include()) / "jrnl.h").is_file()
    package = Path(jrnl.__file__).parent
    for name in ("_core.pyi", "api.pxd", "py.typed"):
        assert (package / name).is_file()


def test_time_comes_from_the_injected_clock_and_never_runs_back():
    times = iter([1000, 5000, 3000, 9000, 2**62, 1, 2])
    with jrnl.create(size=10, clock=lambda: next(times)) as store:
        for _ in range(4):
            store.volume.write(0, b"x")
        assert store.mark().time_ns == 2**62
        assert store.journal.entries["time_ns"].tolist() == [5000, 5000, 9000, 2**62]
        at = datetime.fromtimestamp(0, UTC).replace(microsecond=4)
        assert store.recover(at).seq == 0
        assert store.recover(at.replace(microsecond=5)).seq == 2
