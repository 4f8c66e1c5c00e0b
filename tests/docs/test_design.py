"""docs/design.md tells of what there is: examples run, tests and files exist, the order holds."""

from __future__ import annotations

import ast
import re

import pytest

from tests.model.places import ROOT

SOURCE = ROOT / "src" / "jrnl"
DOCUMENT = (ROOT / "docs" / "design.md").read_text()
TESTS = "\n".join(path.read_text() for path in sorted((ROOT / "tests").rglob("test_*.py")))
ROOMS = re.findall(r"^([a-z_.]+(?:  [a-z_.]+)*)  ", DOCUMENT.partition("## The rooms")[2], re.M)
ORDER = [name.removesuffix(".pxd") for line in ROOMS for name in line.split()]
FILES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in SOURCE.rglob("*.py")
    if path.parent != SOURCE or not path.stem.startswith("__")
}


def test_the_example_of_the_four_routes_is_true():
    exec(DOCUMENT.partition("```python\n")[2].partition("```")[0], {})


def test_every_test_that_is_named_exists():
    named = re.findall(r"`(test_\w+)`", DOCUMENT)
    assert len(named) > 6
    for name in named:
        assert f"def {name}(" in TESTS, name


@pytest.mark.parametrize("number", [1, 2, 3, 6, 7, 8, 9, 10])
def test_every_invariant_has_tests_of_its_number(number):
    assert f"**I{number} " in DOCUMENT
    assert re.search(rf"def test_(i\d+_to_)?i{number}_", TESTS)


def test_every_file_that_is_named_exists():
    for path in re.findall(r"`((?:tests|examples)/[\w/.]+)`", DOCUMENT):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"`((?:disk/|kernel/|bind/|_)?\w+\.(?:py|pyx|pxd|pxi))`", DOCUMENT):
        assert (SOURCE / name).exists(), name


def walks() -> list[tuple[str, str, str]]:
    """(section, function, file) wherever a walk names a function and, beside it, its file."""
    sections = re.findall(r"^## (One \w+), followed\n(.*?)(?=^## )", DOCUMENT, re.M | re.S)
    pair = re.compile(r"`(\w+)`(?:,\s+| \(|\s\()`([\w/]+\.(?:pxi|py|h))`")
    return [(section, *found) for section, text in sections for found in pair.findall(text)]


def test_what_the_walks_name_is_where_they_say():
    assert {section for section, _, _ in walks()} == {
        "One write", "One flush", "One restore", "One opening"
    }  # fmt: skip
    for section, name, file in walks():
        text = (SOURCE / file).read_text()
        assert re.search(rf"^\s*(?:cdef|def|class)\b[^\n=]*\b{name}\b", text, re.M), (
            f"{section}: {name} is not in {file}"
        )


def test_every_room_is_named_once():
    assert sorted(ORDER) == sorted({*FILES, "_core"})


def imports_that_go_up(room: str, text: str) -> list[str]:
    """What a file imports, wherever in it, of what does not stand before it."""
    found = run_time_imports(ast.parse(text))
    return sorted(name for name in found if ORDER.index(name) >= ORDER.index(room))


@pytest.mark.parametrize("room", [name for name in ORDER if not name.startswith("_")])
def test_a_file_imports_only_what_stands_before_it(room):
    assert imports_that_go_up(room, FILES[room].read_text()) == []


@pytest.mark.parametrize(
    "planted", ["from jrnl.store import Store", "from jrnl import store", "import jrnl.store"]
)
def test_an_import_that_goes_up_is_found(planted):
    text = (SOURCE / "plan.py").read_text()
    assert imports_that_go_up("plan", f"{text}\n\ndef planted():\n    {planted}\n") == ["store"]


def run_time_imports(tree: ast.AST) -> set[str]:
    """The rooms that a file imports when it runs, wherever in it; not those for types only."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jrnl":
            taken = {f"{node.module}.{alias.name}".removeprefix("jrnl.") for alias in node.names}
            module = str(node.module).removeprefix("jrnl").removeprefix(".")
            found |= taken & set(ORDER) or ({module} - {""})
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("jrnl.")]
            found |= {name.removeprefix("jrnl.") for name in names}
        else:
            found |= run_time_imports(node)
    return found
