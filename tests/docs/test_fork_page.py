"""docs/fork.md: its blocks run as they stand."""

from __future__ import annotations

import re

from tests.model.places import ROOT


def test_every_block_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "fork.md").read_text(), re.S)
    assert len(blocks) == 2
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/fork.md", "exec"), names)
