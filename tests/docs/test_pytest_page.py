"""docs/pytest.md: every block of Python is a file of tests that passes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from tests.model.places import ROOT

DOCUMENT = (ROOT / "docs" / "pytest.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", DOCUMENT, re.S)
TESTS = {0: 2, 1: 26, 2: 2}


@pytest.mark.parametrize("block", TESTS)
def test_a_block_runs_as_it_stands(block, tmp_path):
    (tmp_path / "test_it.py").write_text(BLOCKS[block])
    loaded = [] if "jrnl" in entry_points(group="pytest11").names else ["-p", "_jrnl_pytest"]
    paths = [*filter(None, map(os.path.abspath, sys.path)), str(ROOT / "src")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *loaded, "-q", "-W", "error", "test_it.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert f"{TESTS[block]} passed in" in done.stdout, done.stdout + done.stderr


def test_there_is_no_other_block():
    assert len(BLOCKS) == len(TESTS)
