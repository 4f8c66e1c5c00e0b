"""Followers, promotions and restores that are killed at any moment: what is there is a state."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import xxhash

import jrnl
from tests.archive.killing import killed, started
from tests.archive.seaweed import SeaweedFS
from tests.model.amount import SHARE, more_in_long

SIZE = 40_000

HEAD = """
import json, os, sys, time
import jrnl, xxhash
url, path = sys.argv[1:]
options = json.loads(os.environ["OPTIONS"])
def told(state, seq):
    print(seq, xxhash.xxh3_64_hexdigest(state.volume.read(0, state.volume.size)), flush=True)
"""

FOLLOW = """
with jrnl.archive.follow(url, path, poll=0.005, **options) as standby:
    while True:
        with standby.view() as view:
            told(view, view.seq)
        time.sleep(0.01)
"""

PROMOTE = """
store = jrnl.archive.follow(url, path, poll=1, **options).promote(archive=False)
told(store, store.seq)
"""

RESTORE = """
store = jrnl.archive.restore(url, path + ".again", **options)
told(store, store.seq)
"""


class Original:
    """A store that is archived, and what each of its states was."""

    def __init__(self, path: Path, url: Any, options: dict[str, Any], seed: int) -> None:
        self.dice = random.Random(seed)
        self.url, self.options = url, options
        self.store = jrnl.create(path, size=SIZE, journal="128KiB")
        self.digests: dict[int, str] = {}
        self._note()
        self.begin()

    def begin(self) -> None:
        self.archive = self.store.archive(self.url, interval=0.01, snapshot_every=60_000,
                                          segment="64KiB", **self.options)  # fmt: skip

    def go_on(self) -> None:
        """Write; sometimes so much while nothing is archived that the log does not have it all.

        Raises Fenced, ArchiveUnfit: a standby was promoted.
        """
        gap = self.dice.random() < 0.3
        if gap:
            self.archive.close()
        for _ in range(80 if gap else 10):
            length = self.dice.choice([1, 700, 3000])
            self.store.volume.write(self.dice.randrange(SIZE - 3000), self.dice.randbytes(length))
            self._note()
            if self.dice.random() < 0.05:
                self.store.rewind(self.dice.choice(self.store.states()[-20:].tolist()))
                self._note()
        if gap:
            self.begin()
        self.archive.flush(60)

    def wanted(self, seq: int) -> str:
        """What the volume held at a state; a flush is an entry that changes nothing."""
        return self.digests[max(each for each in self.digests if each <= seq)]

    def check(self, lines: list[str]) -> int:
        """Hold what a process has shown against what there was; return the newest seq."""
        told = [line.split() for line in lines if len(line.split()) == 2]
        for seq, digest in told:
            if len(digest) == 16:
                assert self.wanted(int(seq)) == digest, f"state {seq}"
        return max((int(seq) for seq, _ in told), default=-1)

    def check_store(self, path: Path) -> None:
        with jrnl.open(path, "r") as store:
            seq = store.seq
            content = store.volume.read(0, SIZE)
            assert xxhash.xxh3_64_hexdigest(content) == self.wanted(seq)
            assert store.verify().ok
            for state in store.states()[-10:].tolist():
                with store.view(state) as view:
                    content = view.volume.read(0, SIZE)
                    assert xxhash.xxh3_64_hexdigest(content) == self.wanted(state)

    def _note(self) -> None:
        content = self.store.volume.read(0, SIZE)
        self.digests[self.store.seq] = xxhash.xxh3_64_hexdigest(content)


def lives(place: Path, url: Any, options: dict[str, Any], rounds: int, seed: int) -> None:
    shown, few = 0, rounds < 10
    for era in range(rounds):
        folder = place / str(era)
        folder.mkdir()
        original = Original(folder / "original", f"{url}-{era}", options, seed * 1000 + era)
        for _ in range(12):
            if rounds == 0:
                break
            rounds -= 1
            try:
                original.go_on()
                shown += follow_or_die(original, folder)
            except (jrnl.Fenced, jrnl.ArchiveUnfit):  # one was promoted, and killed or not
                break
        original.archive.close()
        check_all(original, folder)
        original.store.close()
        if rounds == 0:
            break
    assert shown or few


def follow_or_die(original: Original, folder: Path) -> int:
    """Have a program follow the archive, promote, or restore, and kill it; what it has shown."""
    dice, again = original.dice, folder / "standby.again"
    code = dice.choice([FOLLOW, FOLLOW, FOLLOW, PROMOTE, RESTORE])
    process = started(HEAD + code, original.options, original.url, folder / "standby")
    shown = 0
    try:
        if code == FOLLOW and dice.random() < 0.7:
            assert process.stdout is not None
            original.check([process.stdout.readline()])
            original.go_on()
            shown += 1
        shown += original.check(killed(process, dice.uniform(0, 1), may_end=True)) >= 0
    finally:
        process.kill()
        process.communicate()
    if again.exists():  # whole
        original.check_store(again)
        shutil.rmtree(again)
    return shown


def check_all(original: Original, folder: Path) -> None:
    """Whatever was killed, one follows, promotes and restores."""
    path, again = folder / "standby", folder / "standby.again"
    url, options = original.url, original.options
    with jrnl.archive.follow(url, path, poll=0.01, **options) as standby:
        newest = standby.update()
    original.check_store(path)
    with jrnl.archive.follow(url, path, **options).promote(archive=False) as store:
        assert store.seq == newest
    original.check_store(path)
    jrnl.archive.restore(url, again, **options).close()
    original.check_store(again)
    assert {each.name for each in folder.iterdir()} == {"original", "standby", "standby.again"}


@more_in_long("rounds", 3, 60 // SHARE)
def test_followers_on_a_folder_show_states_alone_whenever_they_are_killed(
    tmp_path: Path, rounds: int
):
    lives(tmp_path, tmp_path / "archive", {}, rounds, 11)


@more_in_long("rounds", 3, 200 // SHARE)
def test_followers_on_seaweedfs_show_states_alone_whenever_they_are_killed(
    tmp_path: Path, seaweed: SeaweedFS, rounds: int
):
    lives(tmp_path, seaweed.url("following"), seaweed.options, rounds, 12)
