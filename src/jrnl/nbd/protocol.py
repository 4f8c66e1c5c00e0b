"""The numbers of the NBD protocol that are spoken here.

Source: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
"""

from __future__ import annotations

import errno
import struct

from jrnl.errors import (
    InvalidArgument,
    JournalFull,
    NameTaken,
    OutOfBounds,
    PointExpired,
    ReadOnlyStore,
    StoreClosed,
)

# The handshake.
GREETING = struct.pack(">8sQH", b"NBDMAGIC", int.from_bytes(b"IHAVEOPT"), 3)
OPTION = struct.Struct(">QII")  # magic, option, bytes that follow
OPTION_MAGIC = int.from_bytes(b"IHAVEOPT")
OPTION_REPLY = struct.Struct(">QIII")  # magic, option, kind of reply, bytes that follow
OPTION_REPLY_MAGIC = 0x3E889045565A9
CLIENT_FLAGS = struct.Struct(">I")
FIXED_NEWSTYLE, NO_ZEROES = 1, 2

EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO = 1, 2, 3, 5, 6, 7
STRUCTURED_REPLY, LIST_META_CONTEXT, SET_META_CONTEXT = 8, 9, 10

ACK, SERVER, INFO_REPLY, META_CONTEXT = 1, 2, 3, 4
ERR_UNSUP, ERR_POLICY, ERR_INVALID = 1 << 31 | 1, 1 << 31 | 2, 1 << 31 | 3
ERR_UNKNOWN, ERR_TOO_BIG = 1 << 31 | 6, 1 << 31 | 9

INFO_EXPORT, INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE = 0, 1, 2, 3
STRING_MAX_BYTES = 4096  # of a name or another string
OPTION_MAX_BYTES = 65536
OPTIONS_MAX = 1000  # of one handshake
CONTEXTS_MAX = 64  # of one connection
QUERIES_MAX = 64  # of one option
BLOCK_SIZES = (1, 4096, 32 << 20)  # smallest, preferred, largest

# What an export can do.
HAS_FLAGS, READ_ONLY, SEND_FLUSH, SEND_FUA = 1 << 0, 1 << 1, 1 << 2, 1 << 3
SEND_TRIM, SEND_WRITE_ZEROES, SEND_DF, CAN_MULTI_CONN = 1 << 5, 1 << 6, 1 << 7, 1 << 8
SEND_CACHE, SEND_FAST_ZERO = 1 << 10, 1 << 11

# Requests.
READ, WRITE, DISCONNECT, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS = range(8)
REQ_FUA, REQ_ONE = 1, 8  # flags of a request; the second of BLOCK_STATUS
HOLE, ZERO, DIRTY = 1, 2, 1  # what base:allocation says; what jrnl:changed says
EXTENT = struct.Struct(">II")
LENGTH_MAX = (1 << 32) - 1
EXTENTS_MAX = 1 << 15  # of one reply

_ERRORS = (
    (OutOfBounds, errno.EINVAL),
    ((NameTaken, InvalidArgument), errno.EINVAL),
    (JournalFull, errno.ENOSPC),
    (ReadOnlyStore, errno.EPERM),
    (StoreClosed, errno.ESHUTDOWN),
    (MemoryError, errno.ENOMEM),
    (PointExpired, errno.EIO),
)


def error_of(error: BaseException) -> int:
    """Return what NBD calls an exception: EIO where it has no name for it."""
    for kinds, number in _ERRORS:
        if isinstance(error, kinds):
            return number
    return errno.EIO
