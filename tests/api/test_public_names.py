"""What looks public is what `help(jrnl)` begins with, and nothing else."""

from __future__ import annotations

import dataclasses
import inspect
import io
import re
from collections.abc import Iterator

import pytest

import jrnl

GUIDE = jrnl.__doc__
HEADING = re.compile(r"(\w[\w, ]*?)(?:   .*)?")
NAMES = re.compile(r"    (\w+(?:, \w+)*)(?:   .*)?")


def sections() -> dict[str, list[str]]:
    """The names under each heading of the guide."""
    found: dict[str, list[str]] = {}
    names: list[str] = []
    for line in GUIDE.splitlines():
        if match := NAMES.fullmatch(line):
            names += match[1].split(", ")
        elif match := HEADING.fullmatch(line):
            names = found.setdefault(match[1].split(",")[0], [])
    return found


def public(thing: object) -> list[str]:
    return [name for name in dir(thing) if not name.startswith("_")]


class Nothing(jrnl.State):
    """A state of no volume."""

    seq = 0

    def _size(self, index: int) -> int:
        raise AssertionError("there is no volume to ask for")

    def _readinto(self, index: int, offset: int, buffer: memoryview) -> None:
        raise AssertionError("there is no volume to ask for")


@pytest.fixture
def objects() -> Iterator[dict[str, object]]:
    """One of each."""
    with jrnl.create(size="64KiB", journal="64KiB") as store:
        store.volume.write(0, b"x")
        yield {
            "Store": store,
            "Volume": store.volume,
            "State": Nothing(),
            "StateVolume": store.view(0)["data"],
            "Snapshot": store.snapshot("s"),
            "Recovery": store.recover(0),
            "View": store.view(0),
            "Mark": store.mark("m"),
            "Pin": store.pin(0),
            "Journal": store.journal,
            "Savepoint": store.savepoint(),
            "Edit": store.volume.edit(0, 1),
            "VolumeFile": store.volume.as_file(),
            "Plan": store.plan(0),
            "Restore": jrnl.Restore(1, 2, 3),
            "Rewind": jrnl.Rewind(1, 2, 3),
            "Window": store.window,
            "WindowTime": store.window_time,
            "Report": store.verify(),
            "Stats": store.stats(),
            "Options": store.options,
            "Parent": store.fork().parent,
        }


def fields_of(thing: object) -> set[str]:
    """What a named tuple or a dataclass is documented by in its class."""
    if dataclasses.is_dataclass(thing):
        fields = {field.name for field in dataclasses.fields(thing)}
        told = {name for name, member in vars(type(thing)).items() if isinstance(member, property)}
        return {name for name in fields | told if not name.startswith("_")}
    return set(getattr(thing, "_fields", ()))


def inherited(thing: object) -> set[str]:
    """What Python's own classes bring along."""
    bases = [kind for kind in (tuple, io.RawIOBase) if isinstance(thing, kind)]
    return {name for kind in bases for name in dir(kind)}


def test_each_object_shows_what_the_guide_names(objects):
    listed = sections()
    for name, thing in objects.items():
        shown = set(public(thing)) - inherited(thing)
        if name in listed:
            assert len(set(listed[name])) == len(listed[name])
            assert shown == set(listed[name]), name
        else:
            assert shown == fields_of(thing), name


def test_the_module_shows_what_it_lists_and_the_guide_names_it_all():
    assert set(public(jrnl)) == set(jrnl.__all__) - {"__version__"}
    assert set(sections()["Errors"]) == {
        name for name in jrnl.__all__
        if inspect.isclass(getattr(jrnl, name)) and issubclass(getattr(jrnl, name), Exception)
    }  # fmt: skip
    for name in public(jrnl):
        assert re.search(rf"\b{name}\b", GUIDE), name


def test_every_object_of_the_module_is_looked_at(objects):
    classes = {
        name for name in jrnl.__all__
        if inspect.isclass(found := getattr(jrnl, name)) and not issubclass(found, Exception)
    }  # fmt: skip
    assert classes - {"Kind"} == set(objects)


def test_the_guide_is_read_in_a_few_minutes_and_comes_first():
    assert len(GUIDE.splitlines()) <= 134
    text = inspect.getdoc(jrnl)
    assert text.startswith("jrnl gives block volumes a memory")


def test_the_guides_example_runs():
    example = GUIDE.split("\n\n")[1]
    names = {"jrnl": jrnl}
    exec(compile(inspect.cleandoc(example), "help(jrnl)", "exec"), names)
    assert names["vol"].read(4096, 5) == b"hello"
    names["store"].close()
