"""The exceptions of jrnl. Every message says what was asked, what is possible, what to change."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SHOWN_BITS = 256  # longer ints are told by their size


def shown(value: object) -> str:
    """Return `value` as a message shows it; Python refuses to write out an int of any length."""
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        power = f"2**{value.bit_length() - 1}"
        return f"-{power} or less" if value < 0 else f"{power} or more"
    return repr(value)


@contextmanager
def naming(path: Callable[[], str]) -> Iterator[None]:
    """Have what the system refuses name the file: a call by its descriptor does not."""
    try:
        yield
    except OSError as error:
        error.filename = path()
        raise


class JrnlError(Exception):
    """Base of every exception that jrnl raises itself."""


class InvalidArgument(JrnlError, ValueError):
    """A value that no call accepts: a malformed size or name, a strided buffer."""


class InvalidType(JrnlError, TypeError):
    """An argument of the wrong type: text as data, a bool as a point, floats as offsets."""


class OutOfBounds(JrnlError, ValueError):
    """A range that does not lie inside the volume."""


class EntryTooLarge(JrnlError, ValueError):
    """One write larger than the journal takes as one entry."""


class NameTaken(JrnlError, ValueError):
    """The name already belongs to a mark or a snapshot."""


class JournalFull(JrnlError):
    """The journal has no room, and its oldest entries may not leave."""


class CatalogFull(JrnlError):
    """On disk: names, pins, snapshots and recoveries take all the room that a superblock has."""


class UnknownPoint(JrnlError, LookupError):
    """A point that names no state: no such mark or snapshot, or a seq not given out yet."""


class UnknownVolume(JrnlError, KeyError):
    """No volume has that name, or there are several and none was named."""

    __str__ = Exception.__str__  # KeyError would show the message quoted


class PointExpired(JrnlError, LookupError):
    """A state that existed but has left the window, or was dropped by a rewind."""


class PinnedPoint(JrnlError):
    """What an open view or recovery needs, or a pin keeps, would go: by a rewind, say."""


class ProductionChanged(JrnlError):
    """Production was written to since the state that a view stands on, which is to be promoted."""


class StoreBusy(JrnlError):
    """A call from inside another one on the same thread, which must not be disturbed just then.

    From a signal's handler, a finalizer that the collector runs, a callback. Nothing has changed.
    """


class EditOpen(JrnlError):
    """The calling thread has an ``edit`` open, and this call needs a settled state."""


class CorruptionError(JrnlError):
    """Stored bytes do not match their checksum, or two routes to one state disagree."""


class FormatError(JrnlError, ValueError):
    """A file that is not what it should be."""


class StoreExists(JrnlError, FileExistsError):
    """There is something at the path where a store was to be created."""


class MissingPackage(JrnlError, ImportError):
    """A package is not installed that an optional part needs; the message names the extra."""


class UnknownPath(JrnlError, LookupError):
    """A path that names nothing in a file system inside a volume, or not what was asked for."""


class PathExists(JrnlError, FileExistsError):
    """There is something at the path where a file was to be written."""


class StoreLocked(JrnlError):
    """The store is open in another process, twice in this one, or in a forked child's parent."""


class StoreClosed(JrnlError, ValueError):
    """The store, or the object taken from it, is closed."""


class ReadOnlyStore(JrnlError):
    """A write to something that can only be read."""


class StorePoisoned(JrnlError):
    """A write or sync has failed; nothing more is written until the store is opened again."""


class ArchiveError(JrnlError):
    """An archive's object store does not do what is asked; the classes below say which way."""


class ArchiveUnreachable(ArchiveError):
    """An object store did not answer in time, however often it was asked."""


class ArchiveRefused(ArchiveError):
    """An object store, or a folder, does not take the credentials, or they may not do this."""


class ArchiveFull(ArchiveError):
    """An object store takes no more."""


class ArchiveUnfit(ArchiveError):
    """An object store that breaks a promise which an archive stands on; says what was seen."""


class ArchiveLagging(ArchiveError, TimeoutError):
    """What is durable was not archived in the time that was given."""


class Fenced(JrnlError):
    """Another writer has taken the archive over; this one has stopped."""
