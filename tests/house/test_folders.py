"""What the tests of one subject may take from those of another one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.model.places import ROOT

# A folder, then what it may take beside itself; only what stands above it.
MAY_TAKE = {
    "model": (),
    "core": ("model",),
    "api": ("model",),
    "states": ("model",),
    "crash": ("model", "conftest.PROFILE"),
    "snapshots": ("model", "crash.disk"),  # the simulated disk
    "disk": ("model", "states", "crash.disk"),  # plays on disk what was played in memory
    "cli": ("model",),
    "nbd": ("model",),
    "archive": ("model",),
    "docs": ("model", "archive.seaweed"),
    "plot": ("model",),
    "house": ("model",),
}
FILES = {folder: sorted((ROOT / "tests" / folder).rglob("*.py")) for folder in MAY_TAKE}


def taken(text: str) -> Iterator[str]:
    """What a file takes from tests, as a dotted name; in programs that stand in it, too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            for module, name in re.findall(r"^from (tests[.\w]*) import (\w+)", node.value, re.M):
                yield f"{module}.{name}"


def faults(folder: str, text: str) -> list[str]:
    """What a file of a folder takes and may not."""
    may = tuple(f"tests.{name}." for name in (folder, *MAY_TAKE[folder]))
    names = [name for name in taken(text) if name.partition(".")[0] == "tests"]
    return [name for name in names if not f"{name}.".startswith(may)]


@pytest.mark.parametrize("folder", MAY_TAKE)
def test_a_folder_takes_only_what_it_may(folder):
    assert FILES[folder]
    for path in FILES[folder]:
        assert faults(folder, path.read_text()) == [], path


def test_what_a_folder_may_take_is_taken():
    for folder, names in MAY_TAKE.items():
        text = "\n".join(path.read_text() for path in FILES[folder])
        assert [name for name in names if f"tests.{name.split('.')[0]}" not in text] == []


def test_every_folder_is_in_the_table_and_takes_only_what_stands_above_it():
    tests = ROOT / "tests"
    assert {path.parent.name for path in tests.glob("*/*.py")} == set(MAY_TAKE)
    assert [path.name for path in tests.glob("*.py")] == ["conftest.py"]
    order = ["conftest", *MAY_TAKE]
    for folder, names in MAY_TAKE.items():
        above = order[: order.index(folder)]
        assert {name.partition(".")[0] for name in names} <= set(above)


@pytest.mark.parametrize(
    ("folder", "planted", "fault"),
    [
        ("house", "from {}.crash.disk import SimDisk", "crash.disk.SimDisk"),
        ("disk", "from {}.crash import directed", "crash.directed"),
        ("disk", "from {}.crash.disk import SimDisk", None),
        ("model", "import {}.states.test_view", "states.test_view"),
        ("core", "P = 'import jrnl\\nfrom {}.disk import test_fuzz'", "disk.test_fuzz"),
        ("states", "def f():\n    from {}.disk import test_fuzz", "disk.test_fuzz"),
    ],
)
def test_a_planted_import_is_found(folder, planted, fault):
    text = f"{FILES[folder][-1].read_text()}\n\n{planted.format('tests')}\n"
    assert faults(folder, text) == ([] if fault is None else [f"tests.{fault}"])
