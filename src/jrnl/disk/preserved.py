"""What recoveries preserve of production in a store on disk (`kernel/preserved.pxi`)."""

from __future__ import annotations

from contextlib import suppress
from errno import EMFILE, ENFILE, ENOMEM
from typing import TYPE_CHECKING

import numpy as np

from jrnl._core import Image, PreservedState
from jrnl.disk import snapshot_files
from jrnl.disk.record import PreservedRow
from jrnl.errors import CorruptionError

if TYPE_CHECKING:
    from jrnl._core import Image, Log
    from jrnl.disk.folder import Place
    from jrnl.disk.superblock import Device


class PreservedStates:
    """Preserved states of a store, by the numbers of their files. Callers hold the engine's lock.

    Parameters
    ----------
    place : Place
    key : int
        The store's.
    rows : list of PreservedRow
        What the superblocks say of them.
    """

    def __init__(self, place: Place, key: int, rows: list[PreservedRow]) -> None:
        self._place = place
        self._key = key
        self._lost = {row.id: row for row in rows}  # until they are found
        self._rows: dict[int, PreservedRow] = {}
        self._states: dict[int, PreservedState] = {}
        self._images: dict[int, Image] = {}

    def __contains__(self, number: object) -> bool:
        return number in self._states

    def knows(self, number: int) -> bool:
        """Whether a number is that of a preserved state, be it lost."""
        return number in self._states or number in self._lost

    @property
    def numbers(self) -> set[int]:
        """The numbers of all."""
        return set(self._states)

    def load(self, log: Log, newest: int) -> list[str]:
        """Take them up again, before anything leaves the log; return what is wrong.

        Parameters
        ----------
        newest : int
            No later state has been durable.
        """
        problems = []
        for number, row in list(self._lost.items()):
            try:
                if row.lost or max(row.after, row.seq) > newest:
                    raise CorruptionError("what it preserves was in a part of the log that is lost")
                name = snapshot_files.preserved_name(number)
                device = self._place.open(name, not log.read_only)
                self._add(log, number, row, device)
                del self._lost[number]
            except CorruptionError as error:
                lost = "damaged" if "checksum" in str(error) else str(error)
                row.lost = True  # its seq may be given out again
                problems.append(f"preserved production {number}: {lost}")
            except OSError as error:
                if error.errno in (EMFILE, ENFILE, ENOMEM):
                    raise
                row.lost = True
                problems.append(f"preserved production {number}: {error}")
        return problems

    def _add(self, log: Log, number: int, row: PreservedRow, device: Device) -> PreservedState:
        seed = snapshot_files.seed_of(self._key, number)
        try:
            state = PreservedState(log.engine, device, seed, row.seq, row.after,
                              row.length, row.volumes)  # fmt: skip
        except BaseException:
            device.close()
            raise
        self._rows[number], self._states[number] = row, state
        return state

    def preserve(self, log: Log, number: int, image: Image) -> None:
        """Preserve the state of a live image from now on, durably but for the superblocks.

        What has left the log since is written to the file now.
        """
        engine, name = log.engine, snapshot_files.preserved_name(number)
        if name in self._place.names():
            self._place.remove(name)
        row = PreservedRow(number, image.seq, max(image.seq, engine.base_seq), 0)
        if image.followed is not None:
            row.volumes = image.followed
        state = self._add(log, number, row, self._place.create(name, 0))
        try:
            if image.seq < engine.base_seq:
                state.save(image, *_changed_since(image))
            self._place.sync()
        except BaseException:
            self.drop(number)
            raise

    def image(self, number: int) -> Image:
        """Return what a preserved state shows. Raises CorruptionError."""
        if number not in self._states:
            raise CorruptionError(f"preserved production {number} is lost")
        if number not in self._images:
            image = Image.of_preserved(self._states[number])
            image.tag = number
            self._images[number] = image
        return self._images[number]

    def rows(self, used: set[int | None]) -> list[PreservedRow]:
        """Return what the superblocks say of those that are used by what they say."""
        for number, state in self._states.items():
            row = self._rows[number]
            row.after, row.length = state.after, state.length
            if state.lost:
                row.lost = True
        known = {**self._lost, **self._rows}
        return [row for number, row in sorted(known.items()) if number in used]

    def drop(self, number: int) -> None:
        """Preserve a state no longer, and remove its file."""
        self._images.pop(number, None)
        state = self._states.pop(number, None)
        self._rows.pop(number, None)  # afterwards: each state has its row, whatever comes between
        if state is not None:
            state.close()
        with suppress(FileNotFoundError):
            self._place.remove(snapshot_files.preserved_name(number))

    def close(self) -> None:
        """Close all files."""
        for state in self._states.values():
            state.close()


def _changed_since(image: Image) -> tuple[np.ndarray, np.ndarray]:
    """Return the blocks, volume and number, that were written by what has left the log since."""
    noted = image.noted_blocks()
    if noted is not None:
        return noted
    engine = image.engine
    parts = [engine.data_blocks(volume) for volume in range(len(engine.sizes))]
    volumes = np.repeat(np.arange(len(parts)), [part.size for part in parts])
    return volumes.astype(np.int64), np.concatenate(parts)
