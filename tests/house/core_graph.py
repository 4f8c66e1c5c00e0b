"""Which file of the core uses names of which other one, computed from the sources."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# What begins at the left margin defines a name.
DEFINED = [
    re.compile(pattern, re.M)
    for pattern in (
        r"^(?:cdef|cpdef) class (\w+)",
        r"^(?:def|class) (\w+)",
        r"^cdef (?:packed )?(?:struct|enum|union) (\w+)",
        r"^ctypedef [^\n]*\(\*(\w+)\)",
        r"^cdef (?:(?:inline|const) )*(?:[\w\*\[\], ]+?[ \*])?(\w+)\([^\n]*",
        r"^cdef [\w\*\[\] ]+?(\w+)(?: = [^\n]*)?$",
        r"^([A-Za-z_]\w*) = ",
    )
]
CONSTANTS = re.compile(r"^cdef enum:\n((?:    [^\n]*\n)+)", re.M)
CONSTANT = re.compile(r"^    ([A-Z]\w*) *=", re.M)
VERBATIM = re.compile(r'(cdef extern from \*:\n\s*)"""(.*?)"""', re.S)
C_NAME = re.compile(r"\b(jrnl_\w+)(?:\(|;| =)")
HEAD = re.compile(r"\A(?:#[^\n]*\n)+")
TAKES = re.compile(r"^# Takes:((?:[^\n]*,\n#)*[^\n]*)$", re.M)


@dataclass(frozen=True)
class Unit:
    """One file: what it defines, what it mentions, and what it says that it takes."""

    name: str
    defines: frozenset[str]
    mentions: frozenset[str]
    takes: tuple[str, ...]


def read(name: str, text: str) -> Unit:
    """Return what a file's text says."""
    head = HEAD.match(text)
    said = TAKES.search(head[0]) if head else None
    takes = re.findall(r"\w+", said[1]) if said else []
    verbatim = " ".join(match[2] for match in VERBATIM.finditer(text))
    code = VERBATIM.sub(r"\1", text)
    code = re.sub(r'""".*?"""', "", code, flags=re.S)
    code = re.sub(r'#[^\n]*|"[^"\n]*"', "", code)
    verbatim = re.sub(r"/\*.*?\*/|#include[^\n]*", "", verbatim, flags=re.S)
    defines = {match[1] for pattern in DEFINED for match in pattern.finditer(code)}
    defines |= {name for block in CONSTANTS.finditer(code) for name in CONSTANT.findall(block[1])}
    # Of C's names these are the file's own that its block defines at the margin.
    defines |= set(re.findall(r"^    [^\s#}/*][^\n]*?\b(jrnl_\w+)(?:\(|;| =|\[)", verbatim, re.M))
    defines -= {"nogil", "gil", "from"}
    mentions = set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", f"{code} {verbatim}"))
    return Unit(name, frozenset(defines), frozenset(mentions), tuple(takes))


def uses(units: Mapping[str, Unit]) -> dict[str, dict[str, set[str]]]:
    """By file and by the file that it uses: the names."""
    owner = {name: unit.name for unit in units.values() for name in unit.defines}
    found: dict[str, dict[str, set[str]]] = {name: {} for name in units}
    for unit in units.values():
        for name in unit.mentions - unit.defines:
            if name in owner:
                found[unit.name].setdefault(owner[name], set()).add(name)
    return found


def faults(units: Mapping[str, Unit], order: list[str]) -> Iterator[str]:
    """Say what is wrong: a name defined twice, a use of a later file, a use that was not named."""
    rank = {name: k for k, name in enumerate(order)}
    owners: dict[str, str] = {}
    for unit in units.values():
        for name in sorted(unit.defines):
            if name in owners:
                yield f"{owners[name]} and {unit.name} both define {name}"
            owners[name] = unit.name
    for name, used in uses(units).items():
        for other, names in sorted(used.items()):
            if rank[other] >= rank[name]:
                yield f"{name} uses {', '.join(sorted(names))} of {other}, which comes after it"
            if other not in units[name].takes:
                yield f"{name} does not say that it takes {other} ({', '.join(sorted(names))})"
        for other in units[name].takes:
            if other not in used:
                yield f"{name} says that it takes {other}, and does not"


def units_of(folder: Path) -> dict[str, Unit]:
    """Return all files of the core."""
    return {path.stem: read(path.stem, path.read_text()) for path in sorted(folder.rglob("*.pxi"))}


def order_of(folder: Path) -> list[str]:
    """Return the files in the order in which they are compiled, which is the written one."""
    return re.findall(r'^include "\w+/(\w+)\.pxi"$', (folder / "_core.pyx").read_text(), re.M)
