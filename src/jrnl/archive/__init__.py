"""An archive of a store, on an object store, from which any machine goes on.

::

    store.archive("s3://bucket/disk")                      # follows the store from now on
    with jrnl.archive.open("s3://bucket/disk", at="good") as state:
        state.read(0, 512)                                 # any archived state, from anywhere

open        a state of an archive, read-only and at once
verify      every byte against its checksum

It takes the extra ``archive``: ``pip install 'jrnl-engine[archive]'``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from jrnl.archive.state import ArchiveState
    from jrnl.archive.verifying import ArchiveReport
    from jrnl.points import Point
    from jrnl.retention import Duration
    from jrnl.sizes import Size

    Url = str | os.PathLike[str]
    Progress = Callable[[int, int], object]

__all__ = ["open", "verify"]


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
