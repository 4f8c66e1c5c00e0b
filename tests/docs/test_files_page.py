"""docs/files.md: its blocks run, one after the other, and its tables are true."""

from __future__ import annotations

import os
import re
import shutil

import pyarrow.parquet as pq
import pytest

from tests.model.places import ROOT

DOCUMENT = (ROOT / "docs" / "files.md").read_text()


def test_every_block_runs(tmp_path, monkeypatch):
    if shutil.which("mkfs.ext4") is None:
        if os.environ.get("CI"):
            pytest.fail("needs the Debian package e2fsprogs")
        pytest.skip("needs the Debian package e2fsprogs")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT, re.S)
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/files.md", "exec"), names)
    columns = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", DOCUMENT.partition("as a table")[2], re.M)
    told = {name for column in columns for name in re.findall(r"`(\w+)`", column)}
    assert told == set(pq.read_schema("entries.parquet").names)


def test_the_licence_of_what_reads_file_systems_is_told():
    assert "AGPL-3.0" in DOCUMENT
