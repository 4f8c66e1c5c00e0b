"""docs/recipes.md: every block runs as it stands, and every example that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs" / "recipes.md").read_text()
RECIPES = dict(part.split("\n", 1) for part in DOCUMENT.split("\n## ")[1:])


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_runs_as_it_stands(title, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", RECIPES[title], re.S)
    assert "assert " in block
    exec(compile(block, title, "exec"), {})


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_says_its_problem_first_and_names_an_example(title):
    assert re.match(r"\n[A-Z][^`]+\.\n\n```python", RECIPES[title])
    named = re.findall(r"`(examples/\w+\.py)`", RECIPES[title])
    assert named
    for path in named:
        assert (ROOT / path).is_file(), path


def test_every_example_in_python_is_named_by_a_recipe():
    for path in (ROOT / "examples").glob("*.py"):
        assert f"`examples/{path.name}`" in DOCUMENT
