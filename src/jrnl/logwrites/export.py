"""A log made of a journal: what a store remembers of a volume, for whatever replays such logs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jrnl.compare import PIECE_BYTES
from jrnl.errors import InvalidArgument, InvalidType, PointExpired, naming
from jrnl.logwrites.layout import ENTRY_MAX_BYTES, Slot, header, lay_out
from jrnl.logwrites.read import DISCARD, FLUSH, MAGIC, MARK, SUPER, VERSION
from jrnl.sizes import as_int, check_callable
from jrnl.state import StateVolume
from jrnl.store import Store
from jrnl.whole_file import whole_file
from jrnl.window import present_seq

if TYPE_CHECKING:
    from jrnl.points import Mark
    from jrnl.recovery import Recovery
    from jrnl.view import View

    Progress = Callable[[int, int], object] | None

_SECTOR_SIZES: Final = tuple(1 << shift for shift in range(9, 13))
_RUN_BYTES: Final = 4096  # what the first state is written in: shorter zeroes are written, too
_OWN_MAX_BYTES: Final = 64 << 20  # of a view that goes from entry to entry
_PROGRESS_ENTRIES: Final = 256
_MARK, _REWIND = 4, 6


class Exported(NamedTuple):
    """Which states a log that was made of a journal has, and where.

    Attributes
    ----------
    seqs : numpy.ndarray
        int64: the states of the store, which rise.
    counts : numpy.ndarray
        int64, as long: state ``seqs[k]`` is that after the log's first ``counts[k]`` entries.
    """

    seqs: NDArray[np.int64]
    counts: NDArray[np.int64]


def export(
    store: Store,
    path: str | os.PathLike[str],
    volume: str | StateVolume | None = None,
    progress: Callable[[int, int], object] | None = None,
    *,
    sector_size: int = 512,
) -> Exported:
    """Write what the journal holds of a volume as a dm-log-writes log.

    Replayed onto zeroes it goes through every state of ``store.window``. Where the oldest one is
    not all zeroes, or not state 0, the log begins with what that holds, a flush, and a mark
    ``jrnl-state-SEQ``. Then each entry of the journal becomes one of the log (one of over 32 MiB
    becomes several): a write or zeroes a write, a discard a discard, a flush FLUSH alone, a mark
    MARK alone with its name, behind the state that it names. With ``sync="always"`` what was
    written has FUA. What a rewind dropped is not in the journal, so it is not in the log: the
    REWIND itself adds nothing. Nor do entries of other volumes.

    A log has whole sectors. A write of a part of one has the rest of it as it was then; a discard
    of a part is a write; behind a volume that does not end with a sector come zeroes.

    The file is made whole or not at all, and durable. It takes time and room for what was written,
    and memory: some 300 bytes for each entry of the journal, and at most about 64 MiB.

    Parameters
    ----------
    store : Store
        Others may go on writing to it; where that pushes entries out of the journal which are yet
        to be read, the export ends with PointExpired. In a block ``with
        store.pin(store.window.oldest):`` they stay.
    path : str or path-like
        There must be nothing there.
    volume : str, optional
        Where there are several.
    progress : callable, optional
        Called as ``progress(done, total)``, in entries and pieces of the first state; at the end
        both are equal. An exception from it ends the export, and leaves no file.
    sector_size : int
        512, 1024, 2048 or 4096 bytes; replayers count in it.

    Returns
    -------
    Exported

    Raises
    ------
    PathExists
        There is something at the path.
    PointExpired
        Entries have left the journal meanwhile.
    UnknownVolume, InvalidArgument, InvalidType, CorruptionError, EditOpen, StoreClosed, OSError
    """
    if not isinstance(store, Store):
        raise InvalidType(f"export takes a store, not {type(store).__name__}")
    check_callable(progress, "progress")
    sector = as_int(sector_size, "sector_size must be an int (bytes)")
    if sector not in _SECTOR_SIZES:
        raise InvalidArgument(f"sector_size is one of {_SECTOR_SIZES}, not {sector}")
    index = store._find(volume)
    with whole_file(path) as file, naming(lambda: os.fsdecode(path)):
        return _Export(store, [*store.volumes][index], sector, file.fileno(), progress).write()


class _Export:
    """One log on its way into a file."""

    def __init__(
        self, store: Store, name: str, sector: int, descriptor: int, progress: Progress
    ) -> None:
        self.store, self.name = store, name
        self.index, self.size = [*store.volumes].index(name), store.volumes[name].size
        self.sector, self.descriptor, self.progress = sector, descriptor, progress
        self.position, self.count = sector, 0  # where the log ends by now, and its entries
        self.done = self.total = 0
        self.memory = memoryview(bytearray(PIECE_BYTES))
        self.buffer = np.frombuffer(self.memory, np.uint8)  # the same bytes

    def write(self) -> Exported:
        store = self.store
        both_ways = store.options.images != "after"
        marks = dict(store.marks)  # before any that come meanwhile
        # Opened first: it keeps a rewind from dropping what is read from here on.
        with self._look(store.seq, both_ways) if both_ways else nullcontext(store) as newest:
            last, oldest = newest.seq, store.window.oldest
            rows = store.journal.between(oldest + 1, last)
            if store.window.oldest > oldest:
                raise PointExpired(
                    f"entries after state {oldest} have left the journal meanwhile; try again, or "
                    "have store.pin(store.window.oldest) keep them while it is exported"
                )
            later = self._marks_of_earlier(rows, oldest)
            with self._look(oldest, both_ways) as state:
                texts = self._marks_left(marks, oldest, later.pop(0, []))
                self._write_first(state, rows.size, texts)
            before = self.count
            counts = np.zeros(rows.size, np.int64)
            for k, texts in later.items():
                counts[k - 1] = len(texts)
            slots = lay_out(
                rows,
                self.index,
                self.size,
                self.sector,
                self.position,
                counts,
                durable=store.options.sync == "always",
            )
            del rows
            self._write_entries(slots, oldest, both_ways)
        for k, texts in later.items():
            self._write_marks(texts, int(slots["end"][k - 1]))
        counts += slots["entries"]
        self.count += int(counts.sum())
        self._finish(slots, later)
        self._tell(self.total)
        seqs = np.concatenate([np.array([oldest], np.int64), slots["seq"]])
        return Exported(seqs, before + np.concatenate([[0], np.cumsum(counts)]))

    def _marks_of_earlier(self, rows: NDArray[Any], oldest: int) -> dict[int, list[bytes]]:
        """Return the names of marks by the states that they name, where these are earlier ones.

        The states are counted: 0 is the oldest one, k that after the k-th of the rows. In these
        such a mark is made what a log leaves out.
        """
        journal = self.store.journal
        states = np.concatenate([np.array([oldest], np.int64), rows["seq"].astype(np.int64)])
        found: dict[int, list[bytes]] = {}
        for k in np.flatnonzero(rows["kind"] == _MARK).tolist():
            seq = int(states[k + 1])
            named = journal._state_named(seq)
            if named is None or named >= seq:
                continue
            rows["kind"][k] = _REWIND
            at = present_seq(self.store._engine, named)
            if at is not None and at >= oldest:  # else it has left the window, and the mark with it
                place = int(np.searchsorted(states, at))
                found.setdefault(place, []).append(journal.after(seq))
        return found

    def _marks_left(self, marks: dict[str, Mark], oldest: int, found: list[bytes]) -> list[bytes]:
        """Return the names of the oldest state's marks: also of that whose entry has just left.

        `found` are those of which there are entries.
        """
        engine = self.store._engine
        names = [
            name.encode()
            for name, mark in marks.items()
            if mark.seq <= oldest and present_seq(engine, mark.seq) == oldest
        ]
        return [name for name in names if name not in found] + found

    def _write_marks(self, texts: list[bytes], position: int) -> None:
        heads = (header(0, 0, MARK, self.sector, text) for text in texts)
        os.pwrite(self.descriptor, b"".join(heads), position)

    def _look(self, seq: int, both_ways: bool) -> View | Recovery:
        """Return a state to read; with after-images alone there may be no view of it."""
        look = self.store.view if both_ways else self.store.recover
        return look(seq, volumes=[self.name])

    def _finish(self, slots: NDArray[Any], later: dict[int, list[bytes]]) -> None:
        """Write the super, and be as long as the entries say, whatever zeroes were left out."""
        super_ = SUPER.pack(MAGIC, VERSION, self.count, self.sector)
        os.pwrite(self.descriptor, super_.ljust(self.sector, b"\0"), 0)
        if slots.size:
            behind = len(later.get(slots.size, []))
            self.position = int(slots["end"][-1]) + behind * self.sector
        os.ftruncate(self.descriptor, self.position)

    # The first state.

    def _write_first(self, state: View | Recovery, entry_count: int, marks: list[bytes]) -> None:
        """Write what the window's oldest state holds, if anything, what it is, and its marks."""
        held = [column.tolist() for column in state._held(self.index)]
        pieces = [
            (start, min(PIECE_BYTES, offset + length - start))
            for offset, length in zip(*held, strict=True)
            for start in range(offset, offset + length, PIECE_BYTES)
        ]
        self.total = len(pieces) + entry_count
        for k, (start, count) in enumerate(pieces):
            self._write_piece(state, start, count)
            if k % _PROGRESS_ENTRIES == 0:
                self._tell(k)
        if self.count or state.seq:
            self._add(header(0, 0, FLUSH, self.sector))
            text = f"jrnl-state-{state.seq}".encode()
            marks = [text, *marks]
        for text in marks:
            self._add(header(0, 0, MARK, self.sector, text))

    def _write_piece(self, state: View | Recovery, start: int, count: int) -> None:
        """Write what is not zero of a piece, which begins with a block."""
        self.buffer[count : count + _RUN_BYTES] = 0
        state._readinto(self.index, start, self.memory[:count])
        blocks = self.buffer[: -(-count // _RUN_BYTES) * _RUN_BYTES].reshape(-1, _RUN_BYTES)
        held = blocks.any(axis=1)
        if not held.any():
            return
        steps = np.flatnonzero(np.diff(held, prepend=False, append=False)) * _RUN_BYTES
        end = -(-count // self.sector) * self.sector
        for first, last in steps.reshape(-1, 2).tolist():
            stop = min(last, end)
            head = header(start + first, start + stop, 0, self.sector)
            self._add(head, self.memory[first:stop])

    def _add(self, head: bytes, data: memoryview | bytes = b"") -> None:
        """Write the next entry behind the others."""
        os.pwritev(self.descriptor, [head, data], self.position)
        self.position += len(head) + len(data)
        self.count += 1

    # The entries.

    def _write_entries(self, slots: NDArray[Any], oldest: int, both_ways: bool) -> None:
        """Write each entry to its place.

        What it wrote is what stood there after it. A view goes through these states: from the
        newest one back over before-images, or with after-images alone from the oldest one on.
        """
        if not slots.size:
            return
        walk = self._back if both_ways else self._on
        done = self.total - slots.size
        for k, (slot, view) in enumerate(walk(slots, oldest)):
            if slot.length and not slot.flags & DISCARD:
                self._write_range(slot, view)
            elif slot.flags & MARK:
                text = self.store.journal.after(slot.seq)
                os.pwrite(self.descriptor, header(0, 0, MARK, self.sector, text), slot.position)
            elif slot.entries:
                self._write_heads(slot)
            if k % _PROGRESS_ENTRIES == 0:
                self._tell(done + k)

    def _back(self, slots: NDArray[Any], oldest: int) -> Iterator[tuple[Slot, View]]:
        """Yield each entry, the newest first, and a view of the state after it."""
        with _Walk(partial(self._scratch, int(slots["seq"][-1]))) as walk:
            for k in range(slots.size - 1, -1, -1):
                slot = Slot(*slots[k].tolist())
                yield slot, walk.view
                if slot.length:
                    walk.view.write(slot.offset, self.store.journal.before(slot.seq), self.name)
                    before = int(slots["seq"][k - 1]) if k else oldest
                    walk.renew(partial(self._scratch, before))

    def _on(self, slots: NDArray[Any], oldest: int) -> Iterator[tuple[Slot, View]]:
        """Yield each entry, the oldest first, and a view of the state after it."""
        with _Walk(partial(self._scratch, oldest)) as walk:
            for row in slots:
                slot = Slot(*row.tolist())
                if slot.length:
                    walk.view.write(slot.offset, self.store.journal.after(slot.seq), self.name)
                yield slot, walk.view
                walk.renew(partial(self._scratch, slot.seq))

    def _scratch(self, seq: int) -> View:
        return self.store.view(seq, writable=True, volumes=[self.name])

    def _write_heads(self, slot: Slot) -> None:
        """Write headers that no data follows."""
        heads = [
            header(start, min(start + ENTRY_MAX_BYTES, slot.stop), slot.flags, self.sector)
            for start in range(slot.start, slot.stop, ENTRY_MAX_BYTES)
        ] or [header(0, 0, slot.flags, self.sector)]
        os.pwrite(self.descriptor, b"".join(heads), slot.position)

    def _write_range(self, slot: Slot, view: View) -> None:
        """Write the entries for a range of whole sectors, as the view has them."""
        position = slot.position
        for start in range(slot.start, slot.stop, ENTRY_MAX_BYTES):
            stop = min(start + ENTRY_MAX_BYTES, slot.stop)
            head = header(start, stop, slot.flags, self.sector)
            for at in range(start, stop, PIECE_BYTES):
                length = min(PIECE_BYTES, stop - at)
                inside = min(length, self.size - at)
                self.buffer[inside:length] = 0
                view._readinto(self.index, at, self.memory[:inside])
                data = self.memory[:length]
                if not self.buffer[:inside].any():
                    data = data[:0]  # it stays a hole
                if head or data:
                    os.pwritev(self.descriptor, [head, data], position)
                position += len(head) + length
                head = b""

    def _tell(self, done: int) -> None:
        if self.progress is not None:
            self.progress(done, self.total)


class _Walk:
    """A writable view that goes from state to state, opened anew once much was written to it."""

    def __init__(self, look: Callable[[], View]) -> None:
        self.view = look()

    def renew(self, look: Callable[[], View]) -> None:
        if self.view.own_bytes > _OWN_MAX_BYTES:
            self.view.close()
            self.view = look()

    def __enter__(self) -> _Walk:
        return self

    def __exit__(self, *exc: object) -> None:
        self.view.close()
