"""An archive of a store, on an object store, from which any machine goes on.

::

    store.archive("s3://bucket/disk")                      # follows the store from now on
    with jrnl.archive.open("s3://bucket/disk", at="good") as state:
        state.read(0, 512)                                 # any archived state, from anywhere
    store = jrnl.archive.restore("s3://bucket/disk", "disk.jrnl")     # a store again
    standby = jrnl.archive.follow("s3://bucket/disk", "standby.jrnl")
    store = standby.promote()                              # takes over

open        a state of an archive, read-only and at once
restore     a store again, with its window
follow      a store that is kept up to date, and takes over
verify      every byte against its checksum
drill       a recovery rehearsed: restored, checked, removed, on record

It takes the extra ``archive``: ``pip install 'jrnl-engine[archive]'``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from jrnl.archive.drilling import Check, Drilled
    from jrnl.archive.standby import Standby
    from jrnl.archive.state import ArchiveState
    from jrnl.archive.verifying import ArchiveReport
    from jrnl.points import Point
    from jrnl.retention import Duration
    from jrnl.sizes import Size
    from jrnl.store import Store

    Url = str | os.PathLike[str]
    Progress = Callable[[int, int], object]

__all__ = ["drill", "follow", "open", "restore", "verify"]


def open(
    url: Url, at: Point | None = None, *, cache: Size = "256MiB", **options: Any
) -> ArchiveState:
    """Open one state of an archive for reading, at once: what is read of it is fetched then.

    Parameters
    ----------
    url : str or path
        As `Store.archive` was given it.
    at : point, optional
        A seq, the name of a mark, or an aware datetime: the last state at or before it. By default
        the newest state that is archived.
    cache : int or str
        Bytes of what was read that are kept in memory; what was not used for longest leaves first.
    **options
        Of the object store, as for `Store.archive`.

    Returns
    -------
    ArchiveState

    Raises
    ------
    UnknownPoint
        There is no such mark, no such state yet, or nothing is archived yet.
    PointExpired
        The state was dropped by a rewind, is not kept any more, or had left the journal before it
        was archived; the message says what there is.
    CorruptionError
        An object that it takes is damaged or missing: the message has its key, and which states
        cannot be read without it. Reading raises it, too.
    FormatError
        An object is of a newer version.
    ArchiveError
        The object store refuses or does not answer, or there is no archive.
    InvalidArgument, InvalidType, MissingPackage
    """
    from jrnl.archive.state import open_state

    return open_state(url, at, cache=cache, **options)


def restore(
    url: Url,
    path: Url | None,
    at: Point | None = None,
    *,
    window: bool = True,
    progress: Progress | None = None,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> Store:
    """Make a store of an archive: whole, or not at all.

    Its states have the seqs and times that they had. All that is read is held against its checksum.
    It is a store of its own: it can be archived to another address. To go on in the same archive,
    `follow` it and promote that.

    Parameters
    ----------
    url, at, **options
        As for `open`. The state is the new store's newest one.
    path : str or path, or None
        A folder that is made for it; None: in memory.
    window : bool
        Take earlier states along, as far as the journal holds and the archive has them. False: take
        those since the snapshot before, which is the quickest.
    progress : callable, optional
        Called as ``progress(done, total)``, in bytes that are read.
    settings : dict, optional
        What `jrnl.create` takes: journal, images, overflow, sync, and so on. By default they are
        those of the original; the journal up to four times that, where a rewind goes back to what
        would have left it.

    Returns
    -------
    Store
        Open.

    Raises
    ------
    StoreExists
        There is something at `path`.
    UnknownPoint, PointExpired, CorruptionError, FormatError, ArchiveError, InvalidArgument,
    InvalidType, MissingPackage
        As `open`.
    OSError
    """
    from jrnl.archive.restoring import restore as made

    return made(url, path, at, window=window, progress=progress, settings=settings, **options)


def follow(
    url: Url,
    path: Url,
    *,
    poll: float = 1.0,
    settings: dict[str, Any] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Standby:
    """Keep a store on disk up to date from an archive, until it is closed or promoted.

    If it is closed or killed, following into the same path again goes on from there.

    Parameters
    ----------
    url, **options
        As for `open`.
    path : str or path
        A folder that is made for the store; or one that followed before, or the archive's own
        store, as long as it has no entry that the archive has not.
    poll : float
        Seconds between two looks at what is new.
    settings, progress
        As for `restore`, where the store is made.

    Returns
    -------
    Standby

    Raises
    ------
    InvalidArgument
        What is at `path` is another store, or was written to.
    StoreLocked
        Somebody else follows into `path`, or has that store open.
    UnknownPoint, CorruptionError, FormatError, ArchiveError, InvalidType, MissingPackage
        As `open`.
    OSError
    """
    from jrnl.archive.standby import follow as followed

    return followed(url, path, poll=poll, settings=settings, progress=progress, **options)


def verify(
    url: Url,
    progress: Progress | None = None,
    *,
    grace: Duration = 86400.0,
    **options: Any,
) -> ArchiveReport:
    """Read all of an archive, and hold every byte against its checksum.

    What a manifest names has to be there; what no manifest names may be there only while it is
    younger than the grace period. Nothing is changed.

    Parameters
    ----------
    url, **options
        As for `open`.
    progress : callable, optional
        Called as ``progress(done, total)``, in bytes.
    grace : timedelta, or seconds as int or float
        As for `Store.archive`.

    Returns
    -------
    ArchiveReport

    Raises
    ------
    ArchiveError
        The object store refuses or does not answer, or there is no archive.
    InvalidArgument, InvalidType, MissingPackage
    """
    from jrnl.archive.verifying import verify as verified

    return verified(url, progress, grace=grace, **options)


def drill(
    url: Url,
    at: Point | None = None,
    check: Check | None = None,
    scratch: Url | None = None,
    progress: Progress | None = None,
    *,
    timeout: float | None = None,
    **options: Any,
) -> Drilled:
    """Restore a state from an archive into scratch, verify it, run a check on it, and remove it.

    Parameters
    ----------
    url : str or path
        The archive.
    at : point, optional
        The newest state by default.
    check : callable or command, optional
        What says whether the state is good. A callable gets the restored store; the state is bad
        where it returns what is false, but for None, or raises. A command is a str or its words,
        in which ``{}`` stands for the path of the volume's file, ``{name}`` for one of several; it
        may write to it. The state is bad where it ends with another exit status than 0.
    scratch : path, optional
        An existing folder for the restored store; where the system has temporary files by default.
        It needs room for the state and its journal.
    progress : callable, optional
        ``progress(done, total)``, of the restore, then of the verification.
    timeout : float, optional
        Seconds, after which a command is killed, and the state is bad.
    **options
        Of the object store, as for `Store.archive`.

    Returns
    -------
    Drilled
        A drill that fails is no exception: `Drilled.ok` is false, and it says why.

    Raises
    ------
    InvalidArgument, InvalidType
        The address or the check is none. All else is in what is returned.
    MissingPackage
    """
    from jrnl.archive.drilling import drill as drilled

    return drilled(url, at, check, scratch, progress, timeout=timeout, **options)
