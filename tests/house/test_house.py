"""The house: what files of the core use of each other, how long a function and a file may be.

Which Python file may import which is held against docs/design.md in test_design.py.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house import core_graph
from tests.model.places import ROOT

SOURCE = ROOT / "src" / "jrnl"

FUNCTION_LINES = 70
FILE_LINES = 800
MODULES = sorted(SOURCE.rglob("*.py"))
CYTHON = sorted(path for pattern in ("*.pyx", "*.pxi", "*.pxd") for path in SOURCE.rglob(pattern))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def cython_imported(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if match := re.match(r"\s*(?:from|import|cimport) jrnl\b\.?([\w.]*)", line):
            yield match[1] or "__init__"


@pytest.mark.parametrize("path", CYTHON, ids=lambda path: path.name)
def test_the_core_imports_only_errors_and_its_layout(path):
    data = {"kernel.format", "kernel.structs"}
    allowed = {
        "format.pxd": set(), "structs.pxd": {"kernel.format"}, "_core.pxd": data,
        "capi.pxi": {"api"},
    }.get(path.name, {"errors", *data})  # fmt: skip
    assert set(cython_imported(path.read_text())) <= allowed


def test_the_core_is_one_unit_that_includes_each_of_its_files_once():
    text = (SOURCE / "_core.pyx").read_text()
    included = re.findall(r'^include "(\w+/\w+)\.pxi"$', text, re.M)
    there = [str(path.relative_to(SOURCE).with_suffix("")) for path in SOURCE.rglob("*.pxi")]
    assert sorted(included) == sorted(there)
    contents = re.findall(r"^    (\w+) {2,}\S", text, re.M)
    assert contents == [name.partition("/")[2] for name in included]


def core_faults(change: dict[str, str]) -> list[str]:
    """What is wrong with the core once these texts are added to these files."""
    units = {
        path.stem: core_graph.read(path.stem, path.read_text() + change.get(path.stem, ""))
        for path in SOURCE.rglob("*.pxi")
    }
    return list(core_graph.faults(units, core_graph.order_of(SOURCE)))


def test_a_file_of_the_core_uses_only_what_stands_before_it_and_what_it_says_that_it_takes():
    assert core_faults({}) == []


@pytest.mark.parametrize(
    ("file", "call", "fault"),
    [
        ("ring", "core_write", "ring uses core_write of storage, which comes after it"),
        ("preserved", "ring_claim", None),  # it takes ring already
        ("hash", "jrnl_now", "hash uses jrnl_now of signal_poll, which comes after it"),
        ("capi", "fold_ask", "capi does not say that it takes fold_hook (fold_ask)"),
    ],
)
def test_a_use_that_goes_up_or_is_not_named_is_found(file, call, fault):
    planted = f"\n\ncdef void planted(Core* core) noexcept nogil:\n    {call}(core)\n"
    found = core_faults({file: planted})
    assert found[:1] == ([] if fault is None else [fault])


def test_what_a_file_takes_no_more_and_what_is_defined_twice_is_found():
    units = core_graph.units_of(SOURCE)
    order = core_graph.order_of(SOURCE)
    path = SOURCE / "kernel" / "ring.pxi"
    said = path.read_text().replace("# Takes: hash", "# Takes: hash, lock")
    found = core_graph.faults(units | {"ring": core_graph.read("ring", said)}, order)
    assert list(found) == ["ring says that it takes lock, and does not"]
    twice = core_graph.read("ring", path.read_text() + "\ncdef int core_write(int n):\n    pass\n")
    found = core_graph.faults(units | {"ring": twice}, order)
    assert "ring and storage both define core_write" in list(found)


def asks_where(texts: dict[str, str]) -> dict[str, int]:
    """How often each file asks whether a store is on disk, but for the door between the two."""
    asked = {name: len(re.findall(r"\bdisk is (?:not )?NULL|\bon_disk\(", text))
             for name, text in texts.items()}  # fmt: skip
    door = ("reading", "storage")
    made = {"lifetime": 4, "engine": 2}  # it is made and freed there; and Python may ask
    return {name: count for name, count in asked.items()
            if name not in door and count > made.get(name, 0)}  # fmt: skip


def test_nothing_but_the_door_asks_whether_a_store_is_on_disk():
    texts = {path.stem: path.read_text() for path in SOURCE.rglob("*.pxi")}
    assert asks_where(texts) == {}
    planted = "\n    if core.disk is not NULL:\n"
    assert asks_where({**texts, "fold": texts["fold"] + planted}) == {"fold": 1}
    assert asks_where({**texts, "engine": texts["engine"] + planted}) == {"engine": 3}


@pytest.mark.parametrize("path", [*MODULES, *CYTHON, *TESTS], ids=name_of)
def test_a_file_has_one_subject(path):
    assert len(path.read_text().splitlines()) <= FILE_LINES


@pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=name_of)
def test_a_function_is_read_without_scrolling(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = node.body[0].end_lineno if ast.get_docstring(node) else node.lineno
            lines = (node.end_lineno or 0) - (documented or 0)
            assert lines <= FUNCTION_LINES, f"{node.name} has {lines} lines"


def cython_functions(text: str) -> Iterator[tuple[str, int]]:
    """Name and length of each function, its docstring left out, by indentation."""
    lines = text.splitlines()
    starts = [
        (k, match[1], match[2])
        for k, line in enumerate(lines)
        if (match := re.match(r"( *)(?:cdef|cpdef|def)\b(?! class)[^=]*?(\w+)\(", line))
    ]
    for k, indent, name in starts:
        end = k + 1
        while end < len(lines) and (
            not lines[end].strip() or lines[end].startswith((indent + " ", indent + ")"))
        ):
            end += 1
        body = "\n".join(lines[k:end]).rstrip()
        yield name, len(re.sub(r'""".*?"""', "", body, count=1, flags=re.S).splitlines())


@pytest.mark.parametrize("path", CYTHON, ids=lambda path: path.name)
def test_a_function_of_the_core_is_read_without_scrolling(path):
    found = list(cython_functions(path.read_text()))
    assert found or path.suffix == ".pxd" or path.name == "_core.pyx"
    assert max((lines for _, lines in found), default=0) <= FUNCTION_LINES, max(
        found, key=lambda pair: pair[1]
    )


@pytest.mark.parametrize("path", [*MODULES, *CYTHON, *TESTS], ids=name_of)
def test_lines_have_at_most_100_columns(path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        assert len(line) <= 100, f"{path.name}:{number}"


def test_a_kernel_never_touches_a_python_object():
    """Without the GIL, a function takes it only to call what Python has put in.

    That is a hash (and the lock beside it), a clock, a device, the writer of the superblocks, and
    who brings a snapshot on.
    """
    taking = [
        (path.name, text.count("with gil"))
        for path in CYTHON
        if "with gil" in (text := path.read_text())
    ]
    assert taking == [
        ("commit.pxi", 1),
        ("device.pxi", 4),
        ("fold_hook.pxi", 1),
        ("hash.pxi", 1),
        ("lock.pxi", 1),
        ("ring.pxi", 1),
    ]


def test_every_status_has_its_exception():
    """One that has none is an internal error, whoever comes across it."""
    known = set(
        re.findall(r"^    (E_\w+) = -", (SOURCE / "kernel" / "structs.pxd").read_text(), re.M)
    )
    text = (SOURCE / "kernel" / "errors.pxi").read_text()
    table = set(re.findall(r"^    \((E_\w+), ", text, re.M))
    by_function = set(re.findall(r"^    if status == (E_\w+):\n        raise_", text, re.M))
    assert len(known) > 15
    assert table | by_function == known
    assert not table & by_function
