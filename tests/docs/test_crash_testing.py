"""docs/crash-testing.md: every block runs, in its order, and prints what stands below it."""

from __future__ import annotations

import re
from itertools import pairwise

from tests.model.places import DATA, ROOT

DOCUMENT = (ROOT / "docs" / "crash-testing.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", DOCUMENT, re.S)
TIMING = re.compile(r"[\d.]+ s, [\d,]+ a second")


def test_every_block_runs_and_prints_what_stands_below_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for log in DATA.glob("*.log.xz"):
        (tmp_path / log.name).symlink_to(log)
    names: dict[str, object] = {}
    for (kind, block), (next_kind, shown) in pairwise([*BLOCKS, ("", "")]):
        if kind != "python":
            continue
        exec(compile(block, f"docs/crash-testing.md: {block[:60]}", "exec"), names)
        printed = capsys.readouterr().out
        expected = shown if next_kind == "text" else ""
        assert TIMING.sub("", printed) == TIMING.sub("", expected), block


def test_the_first_bug_takes_ten_lines():
    (_, first), *_ = BLOCKS
    assert len(first.splitlines()) == 10


def test_the_path_of_every_example_and_page_that_it_names_is_there():
    named = re.findall(r"`(examples/\w+\.py)`|\]\(([^)]+)\)", DOCUMENT)
    assert named
    for example, page in named:
        assert (ROOT / example if example else ROOT / "docs" / page).exists(), example or page
