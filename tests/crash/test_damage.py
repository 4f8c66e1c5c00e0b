"""Damage to a closed store: right bytes, or an exception of jrnl's own; never wrong bytes."""

from __future__ import annotations

import pytest

from tests.crash import damage
from tests.model.amount import more_in_long

IMAGES = ("both", "after")


@more_in_long("step", 2991, 997)
@pytest.mark.parametrize("images", IMAGES)
def test_a_sample_of_all_damages(images: str, step: int, seed: int):
    counts, failures = damage.run(images, step=step, first=seed % step)
    assert not failures, "\n".join(failures)
    assert counts["damages"] > 100_000 // step
    assert counts["states right"] > counts["states refused"] > 0


@more_in_long("step", 69, 23)
@pytest.mark.parametrize("kind", ["bit", "cut", "longer"])
@pytest.mark.parametrize("file", ["super.0", "super.1"])
def test_one_damaged_superblock_copy_costs_nothing(file: str, kind: str, step: int):
    target = damage.target_of()
    used = len(target.files[file].rstrip(b"\0"))
    for at in range(0, used, step):
        outcome = target.check(damage.Case(kind, file, at or 1, at % 8))
        assert outcome is not None
        assert outcome.refused == []


STORIES = [name + end for name in (*damage.STORIES, damage.FOLDED) for end in ("", "-killed")]


@more_in_long("step", 4497, 1499)
@pytest.mark.parametrize("story", STORIES)
def test_a_sample_of_damages_behind_and_before_rewinds_restores_and_folds(
    story: str, step: int, seed: int
):
    _, failures = damage.run("both", step=step, first=seed % step, story=story)
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("story", [name for name in STORIES if name.startswith(("re", "again"))])
def test_every_older_version_of_every_sector(story: str):
    """Log, index and superblocks: a write of one sector never reached the disk."""
    counts, failures = damage.run("both", kinds=("stale",), story=story)
    assert not failures, "\n".join(failures)
    assert counts["damages"] > 40
