"""The main job on real input, in a dozen lines: what ``jrnlctl demo LOG`` shows."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from jrnl import logwrites
from jrnl.api import create
from jrnl.errors import CorruptionError, FormatError
from jrnl.recovery import Recovery
from jrnl.store import Store

_JOURNAL_MAX_BYTES = 4 << 30
_BLOCK_BYTES = 4096
_DAMAGED_BLOCKS = 200
_EXT_MAGIC_AT = 1080
_EXT_FEATURES_AT = 1120
_EXT4_EXTENTS = 0x40


def run(log: str | os.PathLike[str] | None = None) -> None:
    """Replay a dm-log-writes log into a store and go back and forth in it, printing what happens.

    Without a log it is one that is made up for this. Where a JSON file of the same name stands
    beside the log (``sha256_after_entries`` maps a number of entries to the SHA-256 of the volume
    after them), states are held against it.

    Raises
    ------
    FormatError
        The log is not one, or touches no byte.
    CorruptionError
        A rebuilt state is not what it should be.
    OSError
        The log cannot be read.
    """
    if log is None:
        with tempfile.TemporaryDirectory() as folder:
            run(_made_up(os.path.join(folder, "made-up.log")))
        return
    with logwrites.read_log(log) as parsed:
        size, entry_count = parsed.extent, len(parsed.entries)
    if size == 0:
        raise FormatError(f"{os.fspath(log)!r} writes to no byte of any volume")
    recorded = _recorded_digests(Path(log))
    journal = min(_JOURNAL_MAX_BYTES, max(64 << 20, 2 * size))
    with create(size=size, journal=journal) as store:
        _say("log", f"{Path(log).name}: {entry_count:,} entries over {_mib(size)}")
        store.snapshot("start")
        _say("snapshot", "'start' holds state 0, from before the first write")
        seqs = _replay(store, log)
        middle = _middle(store, seqs, recorded)
        _go_back_and_forth(store, seqs, middle, recorded)


def _made_up(path: str) -> str:
    """Write a log of what a small database might do: pages all over, its own log, flushes."""
    random = np.random.default_rng(2)
    with create(size="64MiB", journal="64MiB") as store:
        volume = store.volume
        for transaction in range(200):
            entry = random.bytes(_BLOCK_BYTES)
            volume.write(transaction % 64 * _BLOCK_BYTES, entry)
            store.flush()
            pages = random.zipf(1.5, 4) % (volume.size // _BLOCK_BYTES - 64) + 64
            for page in pages.tolist():
                volume.write(page * _BLOCK_BYTES, random.bytes(_BLOCK_BYTES))
            store.flush()
        logwrites.export(store, path)
    return path


def _replay(store: Store, log: str | os.PathLike[str]) -> np.ndarray:
    with warnings.catch_warnings(record=True) as notes, _timed() as took:
        warnings.simplefilter("always")
        seqs = logwrites.replay(log, store.volume)
    for note in notes:
        _say("note", str(note.message))
    _say("replay", f"{_file_system(store)}; {len(store.journal.entries):,} journal entries", took)
    oldest, newest = store.window
    _say("window", f"states {oldest:,}..{newest:,}, in {_mib(store.journal.used)} of journal")
    return seqs


def _go_back_and_forth(
    store: Store, seqs: np.ndarray, middle: int, recorded: dict[int, str]
) -> None:
    volume = store.volume
    end = int(seqs[-1])
    at_end = _production_digest(store)
    target = int(seqs[middle])
    plan = store.plan(target)
    _say(
        "plan",
        f"state {target:,}: {plan.route} from {plan.base!r}, "
        f"{plan.bytes:,} bytes out of {plan.entries:,} entries",
    )
    with _timed() as took:
        recovery = store.recover(target)
    wanted = _check_recovery(recovery, recorded.get(middle), took)

    elsewhere = "start" if plan.base == "production" else "production"
    with _timed() as took:
        other = store.recover(target, base=elsewhere)
    _check(wanted, _digest_of(other))
    _say("cross-check", f"{other.plan.route} from {elsewhere!r} leads to the same bytes", took)
    other.close()

    with _timed() as took:
        restored = recovery.restore()
    _check(wanted, _production_digest(store))
    _say("restore", f"production is state {target:,} again, {restored.bytes:,} bytes written", took)

    random = np.random.default_rng(1)
    last_block = max(1, volume.size // _BLOCK_BYTES)
    for block in random.integers(0, last_block, _DAMAGED_BLOCKS):
        length = min(_BLOCK_BYTES, volume.size - int(block) * _BLOCK_BYTES)
        volume.write(int(block) * _BLOCK_BYTES, random.bytes(length))
    volume.discard(0, min(volume.size, 1 << 20))
    damaged = _production_digest(store)
    _say("damage", f"{_DAMAGED_BLOCKS} blocks of noise, the first MiB discarded")

    with _timed() as took:
        again = recovery.again().restore()
    _check(wanted, _production_digest(store))
    _say("re-recover", f"from the preserved copy: {again.bytes:,} bytes, exact", took)

    with _timed() as took, store.recover(again.first_seq - 1) as undo:
        undone = undo.restore()
    _check(damaged, _production_digest(store))
    _say("undo", f"the damage is back: {undone.bytes:,} bytes; a restore can be undone", took)

    for open_recovery in store.recoveries.values():
        open_recovery.close()
    with _timed() as took:
        rewound = store.rewind(end)
    _check(at_end, _production_digest(store))
    _say("rewind", f"to the log's end: {rewound.entries:,} entries dropped, in place", took)


def _check_recovery(recovery: Recovery, recorded: str | None, took: list[float]) -> str:
    digest = _digest_of(recovery)
    against = "no recorded digest"
    if recorded is not None:
        _check(recorded, digest)
        against = "as recorded"
    _say("recover", f"state {recovery.seq:,}: sha256 {digest[:12]}.., {against}", took)
    return digest


def _digest_of(recovery: Recovery) -> str:
    return hashlib.sha256(recovery.as_array().data).hexdigest()


def _production_digest(store: Store) -> str:
    return hashlib.sha256(store.volume.as_array().data).hexdigest()


def _check(wanted: str, found: str) -> None:
    if wanted != found:
        raise CorruptionError(f"the state's SHA-256 is {found}, and should be {wanted}")


def _middle(store: Store, seqs: np.ndarray, recorded: dict[int, str]) -> int:
    """Choose a number of log entries near the middle, recorded if possible, still in the window."""
    half = (len(seqs) - 1) // 2
    oldest = store.window.oldest
    known = [k for k in recorded if k < len(seqs) and int(seqs[k]) >= oldest]
    if known:
        return min(known, key=lambda k: abs(k - half))
    return max(half, int(np.searchsorted(seqs, oldest)))


def _recorded_digests(log: Path) -> dict[int, str]:
    name = log.name.removesuffix(".xz").removesuffix(".log")
    try:
        facts = json.loads(log.with_name(f"{name}.json").read_text())
        return {int(k): str(digest) for k, digest in facts["sha256_after_entries"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _file_system(store: Store) -> str:
    volume = store.volume
    if volume.size < _EXT_FEATURES_AT + 4 or volume.read(_EXT_MAGIC_AT, 2) != b"\x53\xef":
        return "no file system that this demo knows"
    features = int.from_bytes(volume.read(_EXT_FEATURES_AT, 4), "little")
    return "an ext4 file system" if features & _EXT4_EXTENTS else "an ext2 or ext3 file system"


@contextmanager
def _timed() -> Iterator[list[float]]:
    took: list[float] = []
    start = time.perf_counter()
    yield took
    took.append(time.perf_counter() - start)


def _say(what: str, text: str, took: list[float] | None = None) -> None:
    print(f"{what:<12} {text}" + (f" ({took[0] * 1000:.1f} ms)" if took else ""))


def _mib(length_bytes: int) -> str:
    return f"{length_bytes / 2**20:,.1f} MiB"
