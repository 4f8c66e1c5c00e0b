"""docs/operating.md: its tables are those of the code, its examples run."""

from __future__ import annotations

import logging
import re

import pytest

from jrnl.events import EVENTS
from jrnl.metrics import ARCHIVED, METRICS, ON_DISK
from tests.model.places import ROOT

PAGE = (ROOT / "docs" / "operating.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.S)


def table(name: str) -> list[list[str]]:
    """The cells of a table's rows, less its head."""
    text = PAGE.partition(f"<!-- {name}:begin -->\n")[2].partition(f"<!-- {name}:end -->")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_every_event_is_in_the_table_with_its_logger_its_level_and_its_message():
    assert table("events") == [
        [f"`{name}`", f"`{event.logger}`", logging.getLevelName(event.level), event.message]
        for name, event in EVENTS.items()
    ]


def test_every_metric_is_in_the_table_with_its_kind_and_its_unit():
    assert table("metrics") == [
        [f"`{name}`", metric.kind, metric.unit, metric.text]
        for name, metric in {**METRICS, **ON_DISK, **ARCHIVED}.items()
    ]


@pytest.mark.parametrize("example", EXAMPLES, ids=["logging", "metrics", "prometheus"])
def test_the_examples_run(example, monkeypatch, capsys):
    monkeypatch.setattr(logging, "basicConfig", lambda **how: None)  # of the whole process
    monkeypatch.setattr(logging.Logger, "setLevel", lambda logger, level: None)
    if "prometheus" in example.lower() or "serve_metrics" in example:
        pytest.importorskip("prometheus_client")
    assert len(example.splitlines()) <= 12
    exec(compile(example, "operating.md", "exec"), {})
