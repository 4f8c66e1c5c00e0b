"""The bench finds what is wrong: each rule that is removed is missed, for its own reason.

Rules of the core are removed in a build of its own: `make sabotage`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jrnl import _core
from tests.crash import switches
from tests.crash.disk import Op
from tests.crash.expect import World
from tests.crash.oracle import OrderOracle
from tests.crash.removed import RULES, RULES_FILE
from tests.crash.switches import COUNTED, COVERED, SWITCHES
from tests.model.places import ROOT
from tests.model.whole import START_NS, Model

PAGE = ROOT / "docs" / "testing.md"
SOURCE = ROOT / "src" / "jrnl"


@pytest.mark.sabotage
@pytest.mark.parametrize("name", COUNTED)
def test_a_missing_rule_is_noticed_for_its_own_reason(name: str):
    assert switches.found_without(SWITCHES[name].case) == ""
    failure = switches.noticed(name)
    assert re.search(SWITCHES[name].says, failure), f"python -m tests.crash.switches {name}"


@pytest.mark.sabotage
@pytest.mark.parametrize("name", COVERED)
def test_a_rule_that_another_makes_up_for_is_not_missed(name: str):
    assert switches.noticed(name) == "", f"python -m tests.crash.switches {name}"


CORE = Path(_core.__file__).read_bytes()


def test_a_build_that_ships_has_nothing_that_removes_a_rule():
    assert b"jrnl_rules_off" not in CORE


@pytest.mark.sabotage
def test_the_build_that_removes_rules_has_what_does_it():
    assert b"jrnl_rules_off" in CORE


def test_each_rule_of_the_core_is_asked_for_and_in_no_way_but_one():
    """`holds` is a constant in a build that ships; what else asks for a rule might not be."""
    asked = set()
    for path in [*SOURCE.rglob("*.pyx"), *SOURCE.rglob("*.px[di]")]:
        text = path.read_text() if path != RULES_FILE else ""
        rules = re.findall(r"\bin_force\(RULE_(\w+)\)", text)
        assert text.count("RULE_") == len(rules), path.name
        asked.update(rule.lower() for rule in rules)
    assert asked == set(RULES)


def test_there_are_enough():
    assert len(COUNTED) >= 30
    assert all(SWITCHES[name].says for name in COUNTED)


def test_the_page_lists_every_switch():
    rest = PAGE.read_text().split("<!-- switches -->")[1].split("<!-- /switches -->")[0]
    for name, switch in SWITCHES.items():
        assert f"| `{name}` | {switch.rule} | {switch.what} | " in rest, name


def test_every_rule_of_the_protocol_has_a_switch():
    page = (ROOT / "docs" / "durability.md").read_text()
    named = set(re.findall(r"\bR\d+\b", page.replace("R13 to R19", "")))
    assert named == {switch.rule for switch in SWITCHES.values()} - {"F"}
    findings = page.partition("## Findings")[2]
    switches_named = re.findall(r"`(\w+)`[,)]", findings)
    assert len(switches_named) > 8
    assert set(switches_named) <= set(COUNTED)


def a_write(number: int, file: str, data: bytes, offset: int = 0) -> Op:
    return Op(number, "pwrite", f"s/{file}", offset, data)


def test_the_order_oracle_refuses_a_sector_whose_entry_is_not_synced():
    model = Model([2048], 65536, "both", START_NS)
    oracle = OrderOracle(["v0"], lambda: [World(model)])
    model.write(0, 0, b"a" * 512, START_NS)
    oracle.see(a_write(1, "log", b"group"))
    oracle.see(a_write(2, "v0.img", b"a" * 512))
    assert len(oracle.problems) == 1
    oracle.see(Op(3, "sync", "s/log"))
    oracle.see(a_write(4, "v0.img", b"a" * 512 + bytes(1536)))
    oracle.see(a_write(5, "snapshot-n-v0.img", b"?" * 512))
    assert len(oracle.problems) == 1
    model.write(0, 512, b"b" * 512, START_NS)
    oracle.see(Op(6, "sync", "s/log"))
    oracle.see(a_write(7, "v0.img", b"b" * 512, 512))
    assert len(oracle.problems) == 2
    oracle.see(a_write(8, "v0.img", b"a" * 100))
    assert "whole sectors" in oracle.problems[-1]
