"""The house: which file may import which, and how long a function and a file may be."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "jrnl"

# A file may import what stands before it.
ORDER = [
    ["errors", "closing"],
    ["sizes"],
    ["points"],
    ["_format"],
    ["_core"],
    ["limits"],
    ["folder", "superblock", "document"],
    ["catalog"],
    ["plan"],
    ["files", "sources", "journal", "copies", "patches", "shared"],
    ["copier"],
    ["options"],
    ["volume", "snapshot"],
    ["recovery", "view"],
    ["folding", "pins"],
    ["history"],
    ["keeper"],
    ["opening"],
    ["checking", "taking"],
    ["store"],
    ["filestore"],
    ["making"],
    ["logwrites"],
    ["__init__"],
    ["demo"],
    ["cli"],
    ["__main__"],
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
FUNCTION_LINES = 70
FILE_LINES = 800
MODULES = sorted(path for path in SOURCE.glob("*.py"))
CYTHON = sorted(path for pattern in ("*.pyx", "*.pxi", "*.pxd") for path in SOURCE.glob(pattern))
TESTS = sorted((ROOT / "tests").glob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules of jrnl that run when `tree` is imported; not those for type checkers only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "jrnl":
                yield from (
                    alias.name if (SOURCE / f"{alias.name}.py").exists() else "__init__"
                    for alias in node.names
                )
            elif node.module.startswith("jrnl."):
                yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (
                alias.name.partition(".")[2] or "__init__"
                for alias in node.names
                if alias.name.split(".")[0] == "jrnl"
            )
        yield from imported(node)


def cython_imported(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if match := re.match(r"\s*(?:from|import|cimport) jrnl\b\.?(\w*)", line):
            yield match[1] or "__init__"


def test_every_file_has_its_place_in_the_house():
    names = {path.stem for path in MODULES} | {"_core", "_format"}
    assert names == set(RANK)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_file_imports_only_what_stands_before_it(path):
    for name in imported(ast.parse(path.read_text())):
        if path.stem == "__init__" and name == "__init__":
            continue
        assert RANK[name] < RANK[path.stem], f"{path.stem} imports {name}"


@pytest.mark.parametrize("path", CYTHON, ids=lambda path: path.name)
def test_the_core_imports_only_errors_and_its_layout(path):
    allowed = {"_format.pxd": set(), "_core.pxd": {"_format"}}.get(path.name, {"errors", "_format"})
    assert set(cython_imported(path.read_text())) <= allowed


def test_the_core_is_one_unit_that_includes_each_of_its_files_once():
    text = (SOURCE / "_core.pyx").read_text()
    included = re.findall(r'^include "(\w+\.pxi)"$', text, re.M)
    assert sorted(included) == sorted(path.name for path in SOURCE.glob("*.pxi"))
    contents = re.findall(r"^    (_\w+) {2,}\S", text, re.M)
    assert [f"{name}.pxi" for name in contents] == included


@pytest.mark.parametrize("path", [*MODULES, *CYTHON, *TESTS], ids=lambda path: path.name)
def test_a_file_has_one_subject(path):
    assert len(path.read_text().splitlines()) <= FILE_LINES


@pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=lambda path: path.name)
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
        if (match := re.match(r"( *)(?:cdef|cpdef|def)\b[^=]*?(\w+)\(", line))
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


@pytest.mark.parametrize("path", [*MODULES, *CYTHON, *TESTS], ids=lambda path: path.name)
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
        ("_device.pxi", 3),
        ("_fold.pxi", 1),
        ("_hash.pxi", 1),
        ("_lifetime.pxi", 1),
        ("_log.pxi", 1),
        ("_ring.pxi", 1),
    ]
