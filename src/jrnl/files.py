"""File systems inside volumes, read by the dissect packages: ext2 to ext4, XFS and btrfs.

A file system is not believed: what it says is looked at under bounds, and what does not hold is a
`FormatError`. The dissect packages (AGPL-3.0) come with the extra ``files``, and are imported when
a file system of theirs is opened.
"""

from __future__ import annotations

import io
import logging
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol

from jrnl.errors import FormatError, InvalidType, JrnlError, UnknownPath
from jrnl.ext_journal import Journal, Overlaid
from jrnl.extras import need
from jrnl.sizes import Size, as_flag, parse_size
from jrnl.state import State, StateVolume
from jrnl.volume_file import VolumeFile

Path = str | bytes

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PIECE_BYTES: Final = 1 << 20
_LINKS_MOST: Final = 40  # on one way, as in the kernel
_RECOVER: Final = 4  # a feature of ext: the journal holds something
_READ_LEAST: Final = 512
_SLACK_BYTES: Final = 16 << 20
_SILENT: Final = logging.NullHandler()
_TYPES: Final = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "link",
    stat.S_IFBLK: "block",
    stat.S_IFCHR: "char",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


class Entry(NamedTuple):
    """What a directory has under one name.

    Attributes
    ----------
    name : str
        Bytes that are not UTF-8 are surrogates, as `os.fsencode` takes them.
    type : str
        "file", "dir", "link", "block", "char", "fifo", "socket" or "unknown".
    size : int or None
        Bytes; None where what the name leads to cannot be read.
    mtime : datetime or None
        When its content was last changed, UTC; None also where that is no date.
    """

    name: str
    type: str
    size: int | None
    mtime: datetime | None


class Writes(Protocol):
    """What `FileSystem.cat` writes to."""

    def write(self, data: bytes, /) -> object:
        """Take bytes."""


class FileSystem:
    """A file system in one state of a volume, to be read; `open_file_system` makes it.

    Paths begin at its root, with or without a slash; links are followed inside it.

    Attributes
    ----------
    kind : str
        "ext2", "ext3", "ext4", "xfs" or "btrfs".
    unclean : bool or None
        Whether it was in use, so that its journal may hold what is not in place yet; None: XFS
        does not say.
    applied : int
        How many blocks are shown as its journal has them.
    """

    def __init__(
        self, file: _Bounded, kind: str, unclean: bool | None, opened: Any, applied: int
    ) -> None:
        self.kind, self.unclean, self.applied = kind, unclean, applied
        self._file, self._opened = file, opened

    def __repr__(self) -> str:
        return f"<jrnl.FileSystem, {self.kind}>"

    def ls(self, path: Path = "/") -> list[Entry]:
        """Return what a directory has, by name; of anything else, itself.

        Raises
        ------
        UnknownPath
            There is nothing at the path.
        FormatError, and what reading the state raises.
        """
        with self._reading():
            node, name = self._find(_text(path))
            if _type_of(node) != "dir":
                return [_entry(name, node)]
            found = [_entry(name, child) for name, child in self._children(node)]
        return sorted(found, key=lambda entry: entry.name)

    def cat(self, path: Path, out: Writes, size_max: Size | None = None) -> int:
        """Write a file's content to `out`, 1 MiB at a time; return how many bytes there were.

        Parameters
        ----------
        path : str or bytes
        out : what takes bytes by ``write``
        size_max : int or str, optional
            The longest file that is read; by default the volume's size. A longer one is sparse, or
            its length is not to be believed.

        Raises
        ------
        UnknownPath
            There is nothing at the path, or no file.
        FormatError
            Also for a file that is longer than `size_max`.
        What reading the state raises, and what ``out.write`` does.
        """
        most = self._file.size if size_max is None else parse_size(size_max, "size_max")
        shown = _text(path)
        with self._reading():
            node, _ = self._find(shown)
            if _type_of(node) != "file":
                raise UnknownPath(f"{shown!r} is not a file but of type {_type_of(node)!r}")
            size = int(node.size)
            if size > most:
                raise FormatError(
                    f"{shown!r} says that it has {size} bytes, and the volume has "
                    f"{self._file.size}; pass size_max= where it is a sparse file of that size"
                )
            content = node.open()
        done = 0
        while done < size:
            with self._reading(done):
                piece = content.read(min(_PIECE_BYTES, size - done))
            if not piece:
                raise FormatError(f"{shown!r} ends at byte {done} of {size}: damaged")
            out.write(piece)
            done += len(piece)
        return done

    def walk(self, path: Path = "/") -> Iterator[tuple[str, Entry]]:
        """Yield the path and the entry of all that is below a directory; links are not followed.

        A directory comes before what it has, and one that was seen before is not entered again.

        Raises
        ------
        As `ls`; UnknownPath also where the path is not a directory's.
        """
        top = _text(path)
        with self._reading():
            node, _ = self._find(top)
            if _type_of(node) != "dir":
                raise UnknownPath(f"{top!r} is not a directory")
        seen = {_identity(node)}
        waiting = [("/" + "/".join(part for part in top.split("/") if part), node)]
        while waiting:
            parent, node = waiting.pop()
            below = []
            with self._reading(2 * len(seen) * _READ_LEAST):
                children = sorted(self._children(node), key=lambda pair: pair[0])
                found = [(name, child, _entry(name, child)) for name, child in children]
            for name, child, entry in found:
                place = f"{parent.rstrip('/')}/{name}"
                yield place, entry
                if entry.type == "dir" and _identity(child) not in seen:
                    seen.add(_identity(child))
                    below.append((place, child))
            waiting += reversed(below)

    def _find(self, path: str) -> tuple[Any, str]:
        """Return what is at a path, and its last name."""
        trail = [("/", self._opened.root)]
        parts = [part for part in reversed(path.split("/")) if part]
        links = 0
        while parts:
            part = parts.pop()
            if part == ".":
                continue
            if part == "..":
                del trail[max(1, len(trail) - 1) :]
                continue
            node = trail[-1][1]
            if _type_of(node) != "dir":
                raise UnknownPath(f"{path!r}: {trail[-1][0]!r} is not a directory")
            child = next((child for name, child in self._children(node) if name == part), None)
            if child is None:
                raise UnknownPath(f"{path!r}: there is no {part!r} in {trail[-1][0]!r}")
            if _type_of(child) == "link":
                links += 1
                if links > _LINKS_MOST:
                    raise UnknownPath(f"{path!r}: more than {_LINKS_MOST} links, one to another")
                self._check_size(child)
                target = str(child.link)
                if target.startswith("/"):
                    del trail[1:]
                parts += [part for part in reversed(target.split("/")) if part]
                continue
            trail.append((part, child))
        name, node = trail[-1]
        return node, name

    def _children(self, node: Any) -> Iterator[tuple[str, Any]]:
        """Yield the names in a directory and what they lead to."""
        self._check_size(node)
        for found in node.iterdir():
            name, child = found if isinstance(found, tuple) else (found.filename, found)
            if name not in (".", ".."):
                yield name, child

    def _check_size(self, node: Any) -> None:
        """Raise FormatError where what is to be read whole says that it is larger than that."""
        if not 0 <= node.size <= self._file.size:
            raise FormatError(
                f"{self.kind}: {node!r} says that it has {node.size} bytes, more than the volume"
            )

    def _reading(self, more: int = 0) -> Any:
        return _reading(self._file, self.kind, more)


def open_file_system(
    volume: StateVolume | State | VolumeFile, *, journal: bool = True
) -> FileSystem:
    """Open the file system in a volume of any state, for reading.

    Parameters
    ----------
    volume : StateVolume, State of one volume, or VolumeFile
        Such as ``store.view(at).volume``: the file system is read through it as long as it is used.
        A partition is ``view.as_file().part(offset, length)``.
    journal : bool
        Show what the journal of an ext file system holds in place, as mounting would put it; False:
        the file system as it lies. What the logs of XFS and btrfs hold is never shown.

    Returns
    -------
    FileSystem

    Raises
    ------
    FormatError
        There is no file system that can be read: what the superblock says is not so, or it has
        features that dissect does not know.
    MissingPackage
        The extra ``files`` is not installed.
    UnknownVolume, and what reading the state raises.
    """
    journal = as_flag(journal, "journal")
    if not isinstance(volume, StateVolume | State | VolumeFile):
        raise InvalidType(
            f"a file system is in a volume of a state, such as view.volume, not in "
            f"{type(volume).__name__}"
        )
    whole = volume if isinstance(volume, VolumeFile) else volume.as_file()
    file = _Bounded(whole.part(0, whole._size))
    kind, module, name = _detect(file)
    dissect = need(module, "files")
    logging.getLogger("dissect").addHandler(_SILENT)  # what it finds is told by its exceptions
    with _reading(file, kind, 0):
        opened = getattr(dissect, name)(file)
        if _type_of(opened.root) != "dir":
            raise FormatError(f"the root of the {kind} file system is not a directory")
        unclean, applied = None, 0
        if kind == "ext":
            kind = f"ext{_ext_version(opened)}"
            unclean = bool(opened.sb.s_feature_incompat & _RECOVER)
            if unclean and journal:
                over = Overlaid(file, _journal(file, opened))
                opened, applied = dissect.ExtFS(over), over.block_count
        elif kind == "btrfs":
            unclean = bool(opened.sb.log_root)
    return FileSystem(file, kind, unclean, opened, applied)


def _journal(file: _Bounded, opened: Any) -> Journal:
    """Return the journal of an ext file system."""
    if not opened.sb.s_journal_inum:
        raise FormatError("its journal is on another device; journal=False does without")
    node = opened.get_inode(opened.sb.s_journal_inum)
    if not 0 <= node.size <= file.size:
        raise FormatError(f"its journal says that it has {node.size} bytes; pass journal=False")
    update, inverted = need("dissect.util.hash", "files").crc32c.update, 0xFFFFFFFF
    return Journal(node.open(), lambda value, data: update(value ^ inverted, data) ^ inverted)


def _detect(file: _Bounded) -> tuple[str, str, str]:
    """Return the kind of a file system, and dissect's module and class that read it."""
    for offset, magic, *found in (
        (0, b"XFSB", "xfs", "dissect.xfs.xfs", "XFS"),
        (0x10040, b"_BHRfS_M", "btrfs", "dissect.btrfs.btrfs", "Btrfs"),
        (0x438, b"\x53\xef", "ext", "dissect.extfs.extfs", "ExtFS"),
    ):
        file.allow(0)
        file.seek(offset)
        if file.read(len(magic)) == magic:
            return found[0], found[1], found[2]
    raise FormatError(
        "there is no file system that can be read: neither ext2, ext3 or ext4, nor XFS, nor btrfs; "
        "where it has partitions, pass view.as_file().part(offset, length)"
    )


def _ext_version(opened: Any) -> int:
    extents, journal = 0x40, 0x4
    if opened.sb.s_feature_incompat & extents:
        return 4
    return 3 if opened.sb.s_feature_compat & journal else 2


class _Bounded(io.RawIOBase):
    """A volume's file that stops once more was read of it than a sound file system takes.

    A tree that leads back into itself, or many times to the same block, would be read for ever.
    """

    def __init__(self, file: VolumeFile) -> None:
        super().__init__()
        self._file = file
        self.size = file.seek(0, io.SEEK_END)
        self._left = 0
        self.failure: BaseException | None = None

    def allow(self, more: int) -> None:
        """Let so much be read as the whole volume has, and some more."""
        self._left = self.size + _SLACK_BYTES + more
        self.failure = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        self._left -= max(len(buffer), _READ_LEAST)
        if self._left < 0:
            raise FormatError("more was read than the volume has: it leads back into itself")
        try:
            return self._file.readinto(buffer)
        except BaseException as error:
            self.failure = error  # of the state, and no fault of the file system
            raise


@contextmanager
def _reading(file: _Bounded, kind: str, more: int) -> Iterator[None]:
    """Let a bounded amount be read, and make one error of all that dissect raises."""
    file.allow(more)
    try:
        yield
    except Exception as error:
        if file.failure is not None:
            raise file.failure from None
        if isinstance(error, FormatError | UnknownPath | MemoryError):
            raise
        told = str(error) or type(error).__name__
        if isinstance(error, RecursionError):
            told = "it leads back into itself"
        raise FormatError(f"the {kind} file system cannot be read: {told}") from error


def _text(path: Path) -> str:
    return path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else path


def _type_of(node: Any) -> str:
    mode = node.filetype if hasattr(type(node), "filetype") else node.type
    return _TYPES.get(int(mode), "unknown")


def _identity(node: Any) -> tuple[int, int]:
    subvolume = getattr(node, "subvolume", None)
    return (0 if subvolume is None else subvolume.objectid), node.inum


def _entry(name: str, node: Any) -> Entry:
    """Return an entry; what its inode would say is None where that cannot be read."""
    kind = _tried(lambda: _type_of(node))
    size = _tried(lambda: int(node.size))
    time_ns = _tried(lambda: int(node.mtime_ns))
    mtime = None
    if time_ns is not None:
        mtime = _tried(lambda: _EPOCH + timedelta(microseconds=time_ns // 1000))
    return Entry(name, kind or "unknown", size, mtime)


def _tried(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (JrnlError, OSError, MemoryError):
        raise
    except Exception:
        return None
