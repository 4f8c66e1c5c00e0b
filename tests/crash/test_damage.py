"""Damage to a closed store: right bytes, or an exception of jrnl's own; never wrong bytes."""

from __future__ import annotations

import pytest

from tests.crash import damage

IMAGES = ("both", "after")


@pytest.mark.parametrize("images", IMAGES)
def test_a_sample_of_all_damages(images: str, seed: int):
    counts, failures = damage.run(images, step=997, first=seed % 997)
    assert not failures, "\n".join(failures)
    assert counts["damages"] > 100
    assert counts["states right"] > counts["states refused"] > 0


@pytest.mark.parametrize("kind", ["bit", "cut", "longer"])
@pytest.mark.parametrize("file", ["super.0", "super.1"])
def test_one_damaged_superblock_copy_costs_nothing(file: str, kind: str):
    target = damage.Target(damage.Shape())
    used = len(target.files[file].rstrip(b"\0"))
    for at in range(0, used, 23):
        outcome = target.check(damage.Case(kind, file, at or 1, at % 8))
        assert outcome is not None
        assert outcome.refused == []


STORIES = [name + end for name in (*damage.STORIES, damage.FOLDED) for end in ("", "-killed")]


@pytest.mark.parametrize("story", STORIES)
def test_a_sample_of_damages_behind_and_before_rewinds_restores_and_folds(story: str, seed: int):
    _, failures = damage.run("both", step=1499, first=seed % 1499, story=story)
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("story", [name for name in STORIES if name.startswith(("re", "again"))])
def test_every_older_version_of_every_sector(story: str):
    """Log, index and superblocks: a write of one sector never reached the disk."""
    counts, failures = damage.run("both", kinds="stale", story=story)
    assert not failures, "\n".join(failures)
    assert counts["damages"] > 40
