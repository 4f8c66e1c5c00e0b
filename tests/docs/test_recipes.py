"""docs/recipes.md: every block runs as it stands, and every example that it names is there."""

from __future__ import annotations

import random
import re

import pytest

import jrnl
from tests.model.places import ROOT

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


def resolved(store, seq):
    """The digest of a state, None where it is not there."""
    try:
        return store.digest(seq)
    except jrnl.PointExpired:
        return None


@pytest.mark.parametrize("images", ["before", "after", "both"])
@pytest.mark.parametrize("seed", range(4))
def test_the_states_that_the_recipe_bisects_are_those_that_are_there(images, seed):
    numbers = random.Random(seed)
    store = jrnl.create(size=8192, journal="16KiB", images=images)
    for round_ in range(60):
        kind = numbers.randrange(8)
        oldest, newest = store.window
        if kind == 0 and images != "after":
            to = numbers.randint(max(oldest, newest - 6), newest)
            if resolved(store, to) is not None:
                store.rewind(to)
        elif kind == 1:
            store.flush()
        elif kind == 2 and images == "after":
            for snapshot in store.snapshots.values():
                snapshot.delete()
            store.snapshot(f"s{round_}")
        else:
            store.volume.write(numbers.randrange(4096), numbers.randbytes(numbers.randrange(900)))
        oldest, seqs = store.window.oldest, store.journal.entries["seq"]
        states = [oldest, *seqs[seqs > oldest].tolist()]
        assert states == sorted(set(states))
        digests = [resolved(store, seq) for seq in states]
        assert None not in digests
        # What else is there is a state of these by another seq, one that a rewind went to; or it
        # is older than the window, and a snapshot's.
        copied = {snapshot.seq for snapshot in store.snapshots.values()}
        others = set(range(store.seq + 1)) - set(states) - copied
        assert {resolved(store, seq) for seq in others} <= {None, *digests}
        assert digests[-1] == store.digest()
    store.close()


def test_a_prepared_state_outlives_a_test_that_fills_the_journal():
    with jrnl.create(size="1MiB", journal="64KiB") as store:
        store.volume.write(0, b"prepared")
        store.mark("prepared", pinned=True)
        with pytest.raises(jrnl.JournalFull):
            for k in range(64):
                store.volume.write(4096 * k, b"x" * 4096)
        store.rewind("prepared")
        assert store.volume.read(0, 8) == b"prepared"
        assert store.diff("prepared", store.seq).size == 0
        store.unpin("prepared")
        store.snapshot("copied")
        for k in range(64):
            store.volume.write(4096 * k, b"x" * 4096)
        with store.recover("copied") as recovery:
            recovery.restore()
        assert store.volume.read(0, 8) == b"prepared"
        assert not any(store.volume.read(8, store.volume.size - 8))
